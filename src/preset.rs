//! The policy of the original service: a customer portal's lists of support cases and the messages
//! of a case, which nothing announces changes of.

use std::time::Duration;

use crate::{
    error::Pending,
    handle::SupportCacheHandle,
    key::{KeyText, push_value},
    layer::{SupportCacheLayer, SupportCacheLayerBuilder},
    route::{CacheRoute, InvalidateRoute},
    store::Store,
};

/// How long a list of cases is fresh: 2 minutes, since customers look at the state of their cases
/// now and then. From the original service.
pub const CASE_LIST_TTL: Duration = Duration::from_secs(120);

/// How long the messages of a case are fresh: 1 minute, since conversations are more active. From
/// the original service.
pub const CASE_MESSAGES_TTL: Duration = Duration::from_secs(60);

const CASE_LIST: &str = "support:cases:";
const CASE_MESSAGES: &str = "support:messages:";

impl<St: Store> SupportCacheLayer<St> {
    /// Creates a layer with the policy of the original service: lists of cases
    /// (`support:cases:{account}`, bucket `case_list`, 120 s) and messages of a case
    /// (`support:messages:{case}`, bucket `messages`, 60 s), both invalidated by what a customer
    /// writes.
    ///
    /// | Request | |
    /// |---|---|
    /// | `GET /accounts/{account}/cases` | cached as the account's list |
    /// | `GET /accounts/{account}/cases/{case}/messages` | cached as the case's messages |
    /// | `POST /accounts/{account}/cases` | invalidates the list |
    /// | `POST /accounts/{account}/cases/{case}/comments`, `…/messages` | invalidates both |
    ///
    /// ```
    /// use tower_support_cache::{Credentials, MemoryStore, SupportCacheLayer};
    ///
    /// let layer = SupportCacheLayer::new(MemoryStore::new()).credentials(Credentials::CoveredByKey);
    /// ```
    pub fn new(store: St) -> Self {
        policy(Self::builder(store)).build().expect("the original policy is valid")
    }
}

impl SupportCacheHandle {
    /// Invalidates the list of an account's cases: `support:cases:{account}`.
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate).
    pub async fn invalidate_case_list(&self, account: &str) -> Result<(), Pending> {
        self.invalidate_value(CASE_LIST, account).await
    }

    /// Invalidates the messages of a case: `support:messages:{case}`.
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate).
    pub async fn invalidate_case_messages(&self, case: &str) -> Result<(), Pending> {
        self.invalidate_value(CASE_MESSAGES, case).await
    }

    /// Invalidates the list of an account's cases and, if given, the messages of one case.
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate), if either is not acknowledged.
    pub async fn invalidate_all_for_account(
        &self,
        account: &str,
        case: Option<&str>,
    ) -> Result<(), Pending> {
        let list = self.invalidate_case_list(account).await;
        let messages = match case {
            Some(case) => self.invalidate_case_messages(case).await,
            None => Ok(()),
        };
        list.and(messages)
    }

    /// Escapes `value` as the layer does, so that both make one key.
    async fn invalidate_value(&self, prefix: &str, value: &str) -> Result<(), Pending> {
        let mut key = KeyText::from(prefix).expect("a prefix is shorter than a key may be");
        match push_value(&mut key, value) {
            Some(()) => self.invalidate(&key).await,
            // No request makes a key of a blank or an overlong value, so nothing is stored for it.
            None => Ok(()),
        }
    }
}

fn policy<St: Store>(builder: SupportCacheLayerBuilder<St>) -> SupportCacheLayerBuilder<St> {
    let list = format!("{CASE_LIST}{{account}}");
    let messages = format!("{CASE_MESSAGES}{{case}}");
    let both = |route: InvalidateRoute| route.key(&messages).key(&list);
    builder
        .cache(
            CacheRoute::get("/accounts/{account}/cases")
                .bucket("case_list")
                .key(&list)
                .ttl(CASE_LIST_TTL),
        )
        .cache(
            CacheRoute::get("/accounts/{account}/cases/{case}/messages")
                .bucket("messages")
                .key(&messages)
                .ttl(CASE_MESSAGES_TTL),
        )
        .invalidate(InvalidateRoute::post("/accounts/{account}/cases").key(&list))
        .invalidate(both(InvalidateRoute::post("/accounts/{account}/cases/{case}/comments")))
        .invalidate(both(InvalidateRoute::post("/accounts/{account}/cases/{case}/messages")))
}

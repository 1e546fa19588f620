//! The policy of the original service: a customer portal's lists of support cases and the messages
//! of a case, which nothing announces changes of.

use std::time::Duration;

use crate::{
    handle::{Invalidation, SupportCacheHandle},
    key::key,
    layer::{SupportCacheLayer, SupportCacheLayerBuilder},
    route::{CacheRoute, InvalidateRoute},
    store::Store,
};

/// Lifetime of a list of cases: 2 minutes, since customers look at their cases now and then.
///
/// ```
/// use tower_support_cache::{CASE_LIST_TTL, CacheRoute};
///
/// CacheRoute::get("/drafts").key("drafts").ttl(CASE_LIST_TTL);
/// ```
pub const CASE_LIST_TTL: Duration = Duration::from_secs(120);

/// Lifetime of the messages of a case: 1 minute, since conversations are more active.
///
/// ```
/// use tower_support_cache::{CASE_MESSAGES_TTL, CacheRoute};
///
/// CacheRoute::get("/notes").key("notes").ttl(CASE_MESSAGES_TTL);
/// ```
pub const CASE_MESSAGES_TTL: Duration = Duration::from_secs(60);

const CASE_LIST: &str = "support:cases:{account}";
const CASE_MESSAGES: &str = "support:messages:{case}";

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
    pub fn invalidate_case_list(&self, account: &str) -> Invalidation {
        self.invalidate(key(CASE_LIST).with("account", account))
    }

    /// Invalidates the messages of a case: `support:messages:{case}`.
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate).
    pub fn invalidate_case_messages(&self, case: &str) -> Invalidation {
        self.invalidate(key(CASE_MESSAGES).with("case", case))
    }

    /// Invalidates the list of an account's cases and, if given, the messages of one case.
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate), if either is not acknowledged.
    pub fn invalidate_all_for_account(&self, account: &str, case: Option<&str>) -> Invalidation {
        let list = key(CASE_LIST).with("account", account);
        let messages = case.map(|case| key(CASE_MESSAGES).with("case", case));
        self.invalidate_many([list].into_iter().chain(messages))
    }
}

fn policy<St: Store>(builder: SupportCacheLayerBuilder<St>) -> SupportCacheLayerBuilder<St> {
    let both = |route: InvalidateRoute| route.key(CASE_MESSAGES).key(CASE_LIST);
    builder
        .cache(
            CacheRoute::get("/accounts/{account}/cases")
                .bucket("case_list")
                .key(CASE_LIST)
                .ttl(CASE_LIST_TTL),
        )
        .cache(
            CacheRoute::get("/accounts/{account}/cases/{case}/messages")
                .bucket("messages")
                .key(CASE_MESSAGES)
                .ttl(CASE_MESSAGES_TTL),
        )
        .invalidate(InvalidateRoute::post("/accounts/{account}/cases").key(CASE_LIST))
        .invalidate(both(InvalidateRoute::post("/accounts/{account}/cases/{case}/comments")))
        .invalidate(both(InvalidateRoute::post("/accounts/{account}/cases/{case}/messages")))
}

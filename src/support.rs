//! The policy of the original service: a customer portal's lists of support cases and the messages
//! of a case, which nothing announces changes of.

use std::time::Duration;

use crate::{
    layer::Builder,
    route::{CacheRoute, InvalidateRoute},
    store::Store,
};

/// How long a list of cases is fresh: 2 minutes, since customers look at the state of their cases
/// now and then. From the original service.
pub const CASE_LIST_TTL: Duration = Duration::from_secs(120);

/// How long the messages of a case are fresh: 1 minute, since conversations are more active. From
/// the original service.
pub const CASE_MESSAGES_TTL: Duration = Duration::from_secs(60);

pub(crate) const CASE_LIST: &str = "support:cases:";
pub(crate) const CASE_MESSAGES: &str = "support:messages:";

pub(crate) fn policy<St: Store>(builder: Builder<St>) -> Builder<St> {
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

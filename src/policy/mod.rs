//! Rules of HTTP caching: pure functions of message heads, settings and time.
//!
//! They decide and never act. A route embeds the settings that a rule needs, such as
//! [`StoragePolicy`], so nothing here knows of routes.

mod cache_control;
mod cache_groups;
mod cache_tags;
mod directive;
mod entity_tag;
mod field_line;
mod freshness;
mod http_date;
mod quota_fields;
mod range;
mod request_directives;
mod request_fields;
mod response_policy;
mod storability;
mod targeted;
mod upgrade;
mod url_variation;
mod validation;
mod write_effect;

pub use cache_tags::CacheTags;
pub use freshness::Freshness;
pub use request_directives::RequestDirectives;
pub use response_policy::ResponsePolicy;
pub use write_effect::WriteEffect;

pub(crate) use cache_control::Directives;
pub(crate) use cache_groups::{CACHE_GROUP_INVALIDATION, CACHE_GROUPS, groups};
pub(crate) use cache_tags::named_tags;
pub(crate) use entity_tag::made_entity_tag;
pub(crate) use freshness::Lifetimes;
pub(crate) use http_date::date_value;
pub(crate) use quota_fields::{is_overloaded, stated_left, stated_pause};
pub(crate) use range::{RangeAsked, Selected};
pub use request_directives::ForceRefresh;
pub(crate) use request_directives::Wishes;
pub(crate) use request_fields::{CredentialFields, RequestFields};
pub(crate) use response_policy::HeadRule;
pub(crate) use storability::{
    Reception, StoragePolicy, Terms, declared_length, may_be_remembered, unfit_status,
};
pub(crate) use upgrade::asks_for_upgrade;
pub(crate) use url_variation::UrlVariation;
pub(crate) use validation::{
    CONTENT_DIGEST, Conditions, DIGESTS_OF_THE_WHOLE, Validators, confirms, contradicts, describes,
    freshened, retain_not_modified,
};
#[cfg(any(fuzzing, test))]
pub(crate) use {
    cache_control::Extent, directive::DirectiveName, freshness::Arrival, targeted::Targeted,
};

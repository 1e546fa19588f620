//! Rules: pure functions of heads, routes and time that decide and never act.

mod admission;
mod cache_control;
mod credentials;
mod facts;
mod freshness;
mod groups;
mod range;
mod request_directives;
mod stated;
mod storability;
mod targeted;
mod validation;

pub use credentials::{Caller, Credentials};
pub use freshness::Freshness;
pub use request_directives::RequestDirectives;

pub(crate) use admission::{Admitted, CREDENTIAL_FIELDS, Denied, Identity, Scope, admit};
pub(crate) use facts::{Facts, Watched};
pub(crate) use groups::{CACHE_GROUP_INVALIDATION, CACHE_GROUPS, groups};
pub(crate) use range::{RangeAsked, Selected};
pub(crate) use request_directives::Wishes;
pub(crate) use storability::{Asked, Terms, declared_length, judge, may_be_remembered};
pub(crate) use validation::{
    Conditions, Validators, confirms, contradicts, date_value, freshened, retain_not_modified,
};
#[cfg(any(fuzzing, test))]
pub(crate) use {
    cache_control::Directives, freshness::Arrival, stated::Stated, targeted::Targeted,
};

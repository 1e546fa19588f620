//! Rules: pure functions of heads, routes and time that decide and never act.

mod admission;
mod cache_control;
mod credentials;
mod facts;
mod request_directives;
mod storability;
mod validation;

pub use credentials::{Caller, Credentials};
pub use request_directives::RequestDirectives;

pub(crate) use admission::{CREDENTIAL_FIELDS, Denied, Identity, Scope, admit};
#[cfg(any(fuzzing, test))]
pub(crate) use cache_control::Directives;
pub(crate) use facts::{Facts, Watched};
pub(crate) use request_directives::Wishes;
pub(crate) use storability::{declared_length, judge, may_be_remembered};
pub(crate) use validation::{Conditions, retain_not_modified};

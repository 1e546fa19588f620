//! Rules: pure functions of heads, routes and time that decide and never act.

mod admission;
mod cache_control;
mod credentials;
mod storability;

pub use credentials::{Caller, Credentials};

pub(crate) use admission::{Scope, admit};
pub(crate) use storability::{declared_length, judge, may_be_remembered};

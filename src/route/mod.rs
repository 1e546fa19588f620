//! Routes: which requests a rule is for, and which key they have.

mod cache;
mod invalidate;
mod pattern;
mod reference;
mod request;
mod rule;
mod table;
mod template;

pub use cache::{CacheRoute, Coalescing, QueryPolicy};
pub use invalidate::InvalidateRoute;
pub use request::KeyRequest;

pub(crate) use reference::Target;
pub(crate) use request::{Extract, HeadRef, RequestView};
pub(crate) use rule::CacheRule;
pub(crate) use table::{Concern, Matched, Table};

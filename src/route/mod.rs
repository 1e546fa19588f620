//! Routes: which requests a rule is for, and which key they have.

mod cache;
mod invalidate;
mod pattern;
mod request;
mod table;
mod template;

pub use cache::{CacheRoute, Coalescing, QueryPolicy};
pub use invalidate::InvalidateRoute;
pub use request::KeyRequest;

pub(crate) use cache::CacheRule;
pub(crate) use request::{Extract, HeadRef, RequestView};
pub(crate) use table::{Matched, Table};

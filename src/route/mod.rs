//! Routes: the requests that a rule is for, their keys and their variants.

mod admission;
mod cache_route;
mod cache_rule;
mod change;
mod content;
mod content_setters;
mod credentials;
mod host;
mod invalidate_route;
mod key_builder;
mod pattern;
mod query;
mod reference;
mod request;
mod route_check;
mod routes;
mod table;
mod template;
mod variations;

pub use cache_route::CacheRoute;
pub use cache_rule::Coalescing;
pub use credentials::{Caller, Credentials};
pub use host::HostPolicy;
pub use invalidate_route::InvalidateRoute;
pub use query::QueryPolicy;
pub use request::KeyRequest;
pub use routes::Routes;

pub(crate) use admission::{Identity, admit};
pub(crate) use cache_rule::CacheRule;
pub(crate) use change::{Changes, WriteChange};
#[cfg(any(fuzzing, test))]
pub(crate) use content::ContentRule;
pub(crate) use content::{Denied, RequestContent};
pub(crate) use reference::Target;
pub(crate) use request::{HeadRef, RequestHead, RequestView};
pub(crate) use table::{EncodingRoute, Matched, RouteTable, WriteMatch};
pub(crate) use variations::Variations;

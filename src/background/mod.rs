//! Work that goes on without a caller: completion after cancellation, revalidation, early refresh.

pub(crate) mod detach;
pub(crate) mod early_refresh;
pub(crate) mod revalidation;
pub(crate) mod runtime;

pub(crate) use self::{
    detach::{Detachable, DetachedPermit, Detachments},
    early_refresh::EarlyRefresh,
    revalidation::{Revalidation, Revalidations},
    runtime::runtime,
};

//! Times that are recorded with the `metrics` facade as they occur. Counts are copied out by
//! [`publish_metrics`](crate::SupportCacheHandle::publish_metrics). Without the feature `metrics` these
//! functions do nothing.

#[cfg(feature = "metrics")]
mod enabled;
#[cfg(feature = "metrics")]
pub(crate) use enabled::*;

#[cfg(not(feature = "metrics"))]
mod disabled;
#[cfg(not(feature = "metrics"))]
pub(crate) use disabled::*;

use std::{sync::Arc, time::Duration};

pub(crate) fn origin_request(_: &Arc<str>, _: &Arc<str>, _: Duration) {}

#[cfg(feature = "redis")]
pub(crate) fn store_operation(
    _: crate::metrics::operations::Operation,
    _: crate::metrics::operations::OperationEnd,
    _: Duration,
    _: u64,
) {
}

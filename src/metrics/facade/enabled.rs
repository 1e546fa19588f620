use std::{sync::Arc, time::Duration};

use metrics::histogram;

pub(crate) const ORIGIN_SECONDS: &str = "support_cache_origin_seconds";
pub(crate) const STORE_OPERATION_SECONDS: &str = "support_cache_store_operation_seconds";

/// Records the time that an origin request took.
pub(crate) fn origin_request(cache: &Arc<str>, bucket: &Arc<str>, took: Duration) {
    let (cache, bucket) = (Arc::clone(cache), Arc::clone(bucket));
    histogram!(ORIGIN_SECONDS, "cache" => cache, "bucket" => bucket).record(took);
}

/// Records the time that `number` operations of a store took together.
#[cfg(feature = "redis")]
pub(crate) fn store_operation(
    operation: crate::metrics::operations::Operation,
    end: crate::metrics::operations::OperationEnd,
    took: Duration,
    number: u64,
) {
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    histogram!(
        STORE_OPERATION_SECONDS,
        "operation" => operation.as_str(),
        "result" => end.as_str(),
    )
    .record_many(took, number);
}

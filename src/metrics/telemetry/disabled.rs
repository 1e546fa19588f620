use crate::metrics::outcome::Outcome;

pub(crate) fn credentials_bypassed(_: &str) {}

pub(crate) fn timers_missing() {}

pub(crate) fn bucket_unreached(_: &str) {}

pub(crate) fn layer_nested(_: &str) {}

pub(crate) fn invalidation_failed(_: &str) {}

pub(crate) fn invalidation_unmatched(_: &str) {}

pub(crate) fn ended(_: &str, _: &Outcome) {}

#[cfg(feature = "redis")]
pub(crate) fn store_lost() {}

#[cfg(feature = "redis")]
pub(crate) fn store_unreachable(_: &str) {}

#[cfg(feature = "redis")]
pub(crate) fn store_linked() {}

#[cfg(feature = "redis")]
pub(crate) fn record_unreadable() {}

#[cfg(feature = "redis")]
pub(crate) fn near_cache_off() {}

use crate::{
    key::Strength,
    metrics::{outcome::Outcome, switch::Switch},
};

pub(crate) fn credentials_bypassed(_: &str) {}

pub(crate) fn content_unread(_: &str) {}

pub(crate) fn timers_missing() {}

pub(crate) fn bucket_unreached(_: &str) {}

pub(crate) fn layer_nested(_: &str) {}

pub(crate) fn audits_impossible() {}

pub(crate) fn invalidation_failed(_: &str) {}

pub(crate) fn invalidation_unmatched(_: &str) {}

pub(crate) fn ended(_: Option<&str>, _: &Outcome) {}

pub(crate) fn invalidated<'t, M>(_: &str, _: Strength, _: impl FnOnce() -> M)
where
    M: Iterator<Item = (&'t str, &'t str)>,
{
}

pub(crate) fn hook_panicked() {}

pub(crate) fn reloaded() {}

pub(crate) fn switched(_: &str, _: Switch) {}

pub(crate) fn in_current_span<F>(future: F) -> F {
    future
}

#[cfg(feature = "redis")]
pub(crate) fn store_lost() {}

#[cfg(feature = "redis")]
pub(crate) fn store_unreachable(_: &str) {}

#[cfg(feature = "redis")]
pub(crate) fn store_linked() {}

#[cfg(feature = "redis")]
pub(crate) fn record_unreadable() {}

#[cfg(feature = "redis")]
pub(crate) fn capabilities_missing(_: &str) {}

#[cfg(feature = "redis")]
pub(crate) fn namespace_shared(_: &str) {}

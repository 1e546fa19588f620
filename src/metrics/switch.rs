//! Switch of a bucket.

/// State of a bucket: cached, off, or in shadow.
///
/// ```
/// use tower_support_cache::{MemoryStore, SupportCacheLayer, Switch};
///
/// let cache = SupportCacheLayer::new(MemoryStore::new()).handle();
/// assert!(cache.switch("case_list", Switch::Off));
/// assert_eq!(cache.metrics().bucket("case_list").unwrap().switch, Switch::Off);
/// assert!(!cache.switch("no such bucket", Switch::Off));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Switch {
    /// The bucket is cached.
    #[default]
    On,
    /// Every request of the bucket is forwarded from now on and stores nothing; what was forwarded
    /// before may still be stored. Invalidations run, so what is stored is safe to use once the
    /// bucket is switched on again.
    Off,
    /// Every request of the bucket is forwarded and answered with the origin's own response. Responses are
    /// stored and invalidated, and looked up: [`BucketSnapshot::shadow`](crate::BucketSnapshot::shadow)
    /// counts what would have been a hit, and whether it was what the origin said.
    ///
    /// A request is forwarded as it came, and shares no other's response. Nothing is rescued, revalidated
    /// or refused. Only `Cache-Status` is added, and the
    /// [field](crate::SupportCacheLayerBuilder::surrogate_key_field) for a CDN where one is set.
    Shadow,
}

impl Switch {
    const ALL: [Self; 3] = [Self::On, Self::Off, Self::Shadow];

    /// Returns the state of a number that was made by `as u8`.
    pub(super) fn of(number: u8) -> Self {
        Self::ALL[usize::from(number)]
    }

    /// Returns its name, as metrics and logs show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Shadow => "shadow",
        }
    }
}

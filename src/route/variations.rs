//! Memory of what the responses of a route say about the query.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::{key::Variant, policy::UrlVariation};

/// Number of paths that are remembered at most. Two with one place take turns, which costs misses.
const PLACES: usize = 1024;

/// Variations of the responses that were stored last, by authority and path.
///
/// It only says where to look. A response is stored under the variation that it declares itself, which is
/// part of its variant. So a request finds nothing that declares another, whatever is remembered.
pub(crate) struct Variations(Box<[ArcSwapOption<Known>]>);

struct Known {
    path: u64,
    variation: Arc<UrlVariation>,
}

impl Variations {
    /// Returns the variation of the response that was stored last for a path. `None` if that declared none.
    pub(super) fn known(&self, path: u64) -> Option<Arc<UrlVariation>> {
        let known = self.place(path).load();
        let known = known.as_ref().filter(|known| known.path == path)?;
        Some(Arc::clone(&known.variation))
    }

    /// Remembers the variation of a response that was stored.
    pub(crate) fn learn(&self, variant: &Variant, variation: Option<&Arc<UrlVariation>>) {
        let path = variant.path_hash();
        if variation.is_none() && self.known(path).is_none() {
            return;
        }
        let known = variation.map(|variation| Known { path, variation: Arc::clone(variation) });
        self.place(path).store(known.map(Arc::new));
    }

    fn place(&self, path: u64) -> &ArcSwapOption<Known> {
        &self.0[path as usize % PLACES]
    }
}

impl Default for Variations {
    fn default() -> Self {
        Self((0..PLACES).map(|_| ArcSwapOption::empty()).collect())
    }
}

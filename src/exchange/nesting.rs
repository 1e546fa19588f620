//! Layers within layers.
//!
//! The origin of one layer may have another within it. If both have one store and the same rules, the
//! inner one would wait for the fill of the outer one, which waits for the inner one. So a request that
//! a fill forwards carries what the fill holds, and an inner layer does not wait for that.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use http::Extensions;

use crate::{
    fence::Sequence,
    key::{Token, Variant, VariantRef},
};

/// Number of fills of a route that are marked, at first and after a request has waited to its deadline.
/// A mark costs allocations, and a layer that is not within itself at first is not later.
const MARKED: u32 = 16;

const FOR_GOOD: u32 = u32::MAX;

/// Marks that fills of a route put on what they forward.
#[derive(Debug)]
pub(crate) struct Nesting {
    /// Number of fills that are still to be marked.
    marks: AtomicU32,
}

/// Fills that have forwarded a request, from the outermost layer on; an extension of the request.
#[derive(Clone, Debug)]
pub(crate) struct OuterFills(Arc<Vec<OuterFill>>);

#[derive(Clone, Debug)]
struct OuterFill {
    /// Variant of the request, without values that responses nominate.
    base: Variant,
    /// Address of the sequence of its store.
    store: usize,
    token: Option<Token>,
    nesting: Arc<Nesting>,
}

impl Nesting {
    pub(crate) fn new() -> Self {
        Self { marks: AtomicU32::new(MARKED) }
    }

    /// Marks a request that a fill forwards, while that may find a layer within itself.
    pub(crate) fn mark(
        self: &Arc<Self>,
        request: &mut Extensions,
        base: &Variant,
        sequence: &Sequence,
        token: Option<Token>,
    ) {
        let is_due = |marks| match marks {
            0 | FOR_GOOD => None,
            marks => Some(marks - 1),
        };
        let marks = self.marks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_due);
        if marks == Err(0) {
            return;
        }
        let outer = request.get::<OuterFills>().map(|outer| outer.0.to_vec()).unwrap_or_default();
        let (base, store, nesting) = (base.clone(), address(sequence), Arc::clone(self));
        let own = OuterFill { base, store, token, nesting };
        request.insert(OuterFills(Arc::new([outer, vec![own]].concat())));
    }

    /// Marks further fills: a request has waited for one to its deadline.
    pub(crate) fn suspect(&self) {
        let is_over = |marks| (marks == 0).then_some(MARKED);
        let _ = self.marks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_over);
    }
}

impl OuterFills {
    /// Returns whether one of them fills the slot of a request in this store. Its fills are marked for
    /// good then.
    pub(crate) fn hold(&self, base: VariantRef<'_>, sequence: &Sequence) -> bool {
        let store = address(sequence);
        let outer = self.0.iter().find(|fill| fill.store == store && fill.base.borrowed() == base);
        outer.inspect(|fill| fill.nesting.marks.store(FOR_GOOD, Ordering::Relaxed)).is_some()
    }

    /// Returns whether one of them has the right to fill that a store has shown. Its fills are marked for
    /// good then.
    pub(crate) fn have(&self, token: Token) -> bool {
        let outer = self.0.iter().find(|fill| fill.token == Some(token));
        outer.inspect(|fill| fill.nesting.marks.store(FOR_GOOD, Ordering::Relaxed)).is_some()
    }
}

fn address(sequence: &Sequence) -> usize {
    std::ptr::from_ref(sequence).addr()
}

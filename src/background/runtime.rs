//! Runtime of the caller, as far as work can be bounded there.

use std::{cell::Cell, panic::catch_unwind, time::Duration};

use tokio::{
    runtime::{Handle, Id},
    time::sleep,
};

use crate::metrics::telemetry;

/// Returns the current runtime, on which work may be spawned and waited for; `None` if there is none, or
/// none with a time driver: nothing there would ever end. That is logged once for each runtime and thread.
pub(crate) fn runtime() -> Option<Handle> {
    thread_local! {
        static KNOWN: Cell<Option<(Id, bool)>> = const { Cell::new(None) };
    }
    let runtime = Handle::try_current().ok()?;
    let id = runtime.id();
    let has_timers = match KNOWN.get() {
        Some((known, has_timers)) if known == id => has_timers,
        _ => has_timers(),
    };
    KNOWN.set(Some((id, has_timers)));
    has_timers.then_some(runtime)
}

/// Tries a timer: a runtime does not say whether it has any.
#[cold]
fn has_timers() -> bool {
    // Where a panic ends the process nothing can be tried.
    let has_timers = cfg!(panic = "abort") || catch_unwind(|| drop(sleep(Duration::ZERO))).is_ok();
    if !has_timers {
        telemetry::timers_missing();
    }
    has_timers
}

//! The system of record: a version for each case, and the versions that were acknowledged.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, State},
    routing::get,
};
use tokio::{net::TcpListener, time::sleep};

/// Cases of an account.
pub(crate) const CASES: usize = 20;
/// Time that the origin takes.
const WORK: Duration = Duration::from_millis(4);

/// A number for each case, which only grows.
#[derive(Debug)]
pub(crate) struct Versions(Vec<AtomicU32>);

impl Versions {
    pub(crate) fn new(cases: usize) -> Self {
        Self((0..cases).map(|_| AtomicU32::new(0)).collect())
    }

    pub(crate) fn of(&self, case: usize) -> u32 {
        self.0[case].load(Ordering::Acquire)
    }

    pub(crate) fn raise(&self, case: usize, version: u32) {
        self.0[case].fetch_max(version, Ordering::AcqRel);
    }

    pub(crate) fn raise_all(&self, others: &Self) {
        for (case, other) in others.0.iter().enumerate() {
            self.raise(case, other.load(Ordering::Acquire));
        }
    }
}

/// What the origin has, and how often it was asked.
#[derive(Debug)]
pub(crate) struct Truth {
    current: Versions,
    pub(crate) reads: AtomicU64,
}

impl Truth {
    pub(crate) fn new(cases: usize) -> Arc<Self> {
        Arc::new(Self { current: Versions::new(cases), reads: AtomicU64::new(0) })
    }

    fn change(&self, case: usize) -> u32 {
        self.current.0[case].fetch_add(1, Ordering::AcqRel) + 1
    }
}

/// Serves the origin: `GET` and `PUT /cases/{case}`, and `PUT /accounts/{account}` for all cases of an account.
pub(crate) async fn serve(listener: TcpListener, truth: Arc<Truth>) {
    let app = Router::new()
        .route("/cases/{case}", get(read).put(change))
        .route("/accounts/{account}", axum::routing::put(change_all))
        .with_state(truth);
    let _ = axum::serve(listener, app).await;
}

async fn read(State(truth): State<Arc<Truth>>, Path(case): Path<usize>) -> String {
    truth.reads.fetch_add(1, Ordering::Relaxed);
    let version = truth.current.of(case);
    sleep(WORK).await;
    version.to_string()
}

async fn change(State(truth): State<Arc<Truth>>, Path(case): Path<usize>) -> String {
    sleep(WORK).await;
    format!("{case}:{}", truth.change(case))
}

async fn change_all(State(truth): State<Arc<Truth>>, Path(account): Path<usize>) -> String {
    sleep(WORK).await;
    let cases = account * CASES..(account + 1) * CASES;
    cases.map(|case| format!("{case}:{}", truth.change(case))).collect::<Vec<_>>().join(",")
}

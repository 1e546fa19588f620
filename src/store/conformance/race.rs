//! Races of fills, reads and invalidations.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::{
    task::{JoinSet, yield_now},
    time::timeout,
};

use super::{
    sample::{PATIENCE, Sample},
    tags::Tagged,
};
use crate::{
    key::Tag,
    store::{Begin, PrimaryKey, Store, Strength},
};

/// Checks that no look-up after an acknowledged invalidation finds a response that was made before it,
/// while fills, reads and invalidations by key and by tag race.
pub(super) async fn invalidations_win_races<St: Store>(store: St) {
    const ROUNDS: u64 = 300;
    const SAMPLES: [Tagged; 3] = [
        Tagged { sample: Sample("a", "/1"), known: &[], named: &[] },
        Tagged { sample: Sample("a", "/2"), known: &["t"], named: &[] },
        Tagged { sample: Sample("a", "/3"), known: &[], named: &["t"] },
    ];
    let race = Arc::new(Race { store, version: AtomicU64::new(0), settled: Default::default() });
    let mut tasks = JoinSet::new();
    let invalidating = Arc::clone(&race);
    tasks.spawn(async move {
        for round in 0..ROUNDS {
            invalidating.invalidate(round % 2 == 0).await;
            yield_now().await;
        }
    });
    for tagged in SAMPLES {
        let (filling, reading) = (Arc::clone(&race), Arc::clone(&race));
        let tagged = Arc::new(tagged);
        let filled = Arc::clone(&tagged);
        tasks.spawn(async move {
            for _ in 0..ROUNDS {
                filling.fill(&filled).await;
            }
        });
        tasks.spawn(async move {
            for _ in 0..ROUNDS {
                reading.read(&tagged).await;
                yield_now().await;
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        if let Err(error) = task {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// Resource that changes, and the store in front of it.
struct Race<St> {
    store: St,
    version: AtomicU64,
    /// The versions that the last acknowledged invalidations followed: of the key, and of the tag.
    settled: [AtomicU64; 2],
}

impl<St: Store> Race<St> {
    fn version(&self) -> String {
        self.version.load(Ordering::SeqCst).to_string()
    }

    async fn invalidate(&self, is_by_tag: bool) {
        let version = self.version.fetch_add(1, Ordering::SeqCst) + 1;
        let acknowledged = match is_by_tag {
            true => self.store.invalidate(&Tag::new("t").into(), Strength::Hard).await,
            false => self.store.invalidate(&PrimaryKey::new("a").into(), Strength::Hard).await,
        };
        if acknowledged.is_ok() {
            self.settled[usize::from(is_by_tag)].fetch_max(version, Ordering::SeqCst);
        }
    }

    async fn read(&self, tagged: &Tagged) {
        let has_tag = !tagged.known.is_empty() || !tagged.named.is_empty();
        let settled = self.settled.iter().take(1 + usize::from(has_tag));
        let settled = settled.map(|version| version.load(Ordering::SeqCst)).max();
        let Some(body) = tagged.find(&self.store).await else { return };
        let version: u64 = body.parse().expect("the body is a version");
        let rule = "no look-up finds what was made before an acknowledged invalidation";
        assert!(Some(version) >= settled, "{rule}: found version {version}, settled {settled:?}");
    }

    async fn fill(&self, tagged: &Tagged) {
        let fence = self.store.sequence().begin();
        let begun =
            timeout(PATIENCE, self.store.begin(&tagged.slot(), self.store.token(), None)).await;
        let Ok(Begin::Granted(lease)) = begun else { return yield_now().await };
        let body = self.version();
        yield_now().await;
        tagged.commit(&self.store, lease, fence, &body).await;
    }
}

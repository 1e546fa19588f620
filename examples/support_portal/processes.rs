//! The portal's processes on one Redis, as each tells the others of itself.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::interval;
use tower_support_cache::{Snapshot, StoreSnapshot, SupportCacheHandle};

use crate::{crm::Crm, server::Server};

const EVERY: Duration = Duration::from_millis(500);

/// What is known of the processes, this one included; empty without a Redis.
#[derive(Clone, Default)]
pub(crate) struct Processes(Arc<Mutex<Vec<Value>>>);

impl Processes {
    pub(crate) fn all(&self) -> Vec<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells the others of this process, and takes note of what they tell, for ever.
    pub(crate) async fn exchange(
        self,
        server: Server,
        own: String,
        cache: SupportCacheHandle,
        crm: Arc<Crm>,
    ) {
        let mut ticks = interval(EVERY);
        loop {
            ticks.tick().await;
            let told = tell(&own, &cache.metrics(), crm.usage().calls);
            // Without a server there are no others to be seen; this one goes on.
            let mut all = server.announce(&own, &told).await.unwrap_or_default();
            all.push(mark(told));
            all.sort_by_key(|process| process["name"].to_string());
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = all;
        }
    }
}

fn mark(mut told: Value) -> Value {
    told["is_this"] = true.into();
    told
}

fn tell(name: &str, counts: &Snapshot, calls: u64) -> Value {
    let hits: u64 = counts.buckets.values().map(|bucket| bucket.hits).sum();
    json!({ "name": name, "hits": hits, "calls": calls, "store": counts.store.as_ref().map(store) })
}

/// The counts of a store over a network; those of its operations are of what it has answered.
pub(crate) fn store(counts: &StoreSnapshot) -> Value {
    let operations: Value = counts
        .operations
        .iter()
        .map(|(operation, counts)| (operation.as_str(), counts.answered))
        .collect();
    json!({
        "is_linked": counts.is_linked,
        "links_lost": counts.links_lost,
        "pending": counts.pending,
        "operations": operations,
        "near": {
            "is_proven": counts.near.is_proven,
            "hits": counts.near.hits,
            "pushes": counts.near.pushes,
            "silenced": counts.near.silenced,
        },
    })
}

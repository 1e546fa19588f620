//! The portal's processes on one Redis, as each tells the others of itself.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use redis::{Client, Pipeline, RedisResult, cmd};
use serde_json::{Value, json};
use tokio::time::interval;
use tower_support_cache::{Snapshot, StoreSnapshot, SupportCacheHandle};

use crate::crm::Crm;

const NAMES: &str = "support_portal:processes";
const EVERY: Duration = Duration::from_millis(500);
/// Who has not told anything for so long is gone.
const SECONDS: u64 = 2;

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
        client: Client,
        own: String,
        (cache, crm): (SupportCacheHandle, Arc<Crm>),
    ) {
        let mut ticks = interval(EVERY);
        loop {
            ticks.tick().await;
            let told = tell(&own, &cache.metrics(), crm.usage().calls);
            // Without a server there are no others to be seen; this one goes on.
            let mut all = others(&client, &own, &told).await.unwrap_or_default();
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

async fn others(client: &Client, own: &str, told: &Value) -> RedisResult<Vec<Value>> {
    let mut connection = client.get_multiplexed_async_connection().await?;
    let key = |name: &str| format!("{NAMES}:{name}");
    let mut pipeline = Pipeline::new();
    pipeline.cmd("SET").arg(key(own)).arg(told.to_string()).arg("EX").arg(SECONDS).ignore();
    pipeline.cmd("SADD").arg(NAMES).arg(own).ignore().cmd("SMEMBERS").arg(NAMES);
    let (mut names,): (Vec<String>,) = pipeline.query_async(&mut connection).await?;
    names.retain(|name| name != own);
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<_> = names.iter().map(|name| key(name)).collect();
    let texts: Vec<Option<String>> = cmd("MGET").arg(keys).query_async(&mut connection).await?;
    let mut others = Vec::new();
    for (name, text) in names.iter().zip(texts) {
        match text {
            Some(text) => others.extend(serde_json::from_str::<Value>(&text)),
            None => cmd("SREM").arg(NAMES).arg(name).query_async(&mut connection).await?,
        }
    }
    Ok(others)
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

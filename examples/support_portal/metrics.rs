//! `GET /metrics`: what the cache counted, and what reached the CRM.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Router, http::header::CONTENT_TYPE, response::IntoResponse, routing::get};
use serde_json::{Map, Value, json};
use tower_support_cache::{
    Alone, BucketSnapshot, Bypass, OriginSnapshot, Refusal, Snapshot, SparedCall, Stale,
    SupportCacheHandle,
};

use crate::{
    crm::{Crm, Usage},
    processes::{self, Processes},
};

pub(crate) fn router(cache: SupportCacheHandle, crm: Arc<Crm>, processes: Processes) -> Router {
    let metrics = async move || show(&cache.metrics(), &crm.usage(), &processes.all());
    Router::new().route("/metrics", get(metrics))
}

fn show(cache: &Snapshot, crm: &Usage, processes: &[Value]) -> impl IntoResponse + use<> {
    let Usage { calls, calls_a_day, left } = crm;
    let shown = json!({
        "cache": snapshot(cache),
        "processes": processes,
        "crm": { "calls": calls, "calls_a_day": calls_a_day, "left": left },
    });
    // Indented: it is read in a terminal.
    ([(CONTENT_TYPE, "application/json")], format!("{shown:#}\n"))
}

/// Copies the counts into JSON. With the crate's feature `serde`, `Json(cache.metrics())` does it.
fn snapshot(counts: &Snapshot) -> Value {
    let buckets: Map<String, Value> =
        counts.buckets.iter().map(|(name, counts)| (name.clone(), bucket(counts))).collect();
    json!({
        "buckets": buckets,
        "flights": counts.flights,
        "writes": counts.writes,
        "invalidations": counts.invalidations,
        "invalidation_failures": counts.invalidation_failures,
        "detached_dropped": counts.detached_dropped,
        "origin": counts.origin.as_ref().map(origin),
        "store": counts.store.as_ref().map(processes::store),
    })
}

fn origin(counts: &OriginSnapshot) -> Value {
    json!({
        "name": counts.name,
        "budget": counts.budget,
        "burst": counts.burst,
        "calls_left": counts.left,
        "spared": by_reason(&counts.spared, SparedCall::as_str),
    })
}

fn bucket(counts: &BucketSnapshot) -> Value {
    json!({
        "hits": counts.hits,
        "misses": counts.misses,
        "coalesced": counts.coalesced,
        "stale": by_reason(&counts.stale, Stale::as_str),
        "stored": counts.stored,
        "fenced": counts.fenced,
        "alone": by_reason(&counts.alone, Alone::as_str),
        "bypassed": by_reason(&counts.bypassed, Bypass::as_str),
        "refused": by_reason(&counts.refused, Refusal::as_str),
        "evicted": counts.evicted,
        "entries": counts.entries,
        "bytes": counts.bytes,
    })
}

fn by_reason<R: Copy>(counts: &BTreeMap<R, u64>, name: fn(R) -> &'static str) -> Value {
    counts.iter().map(|(reason, count)| (name(*reason), *count)).collect()
}

//! Our columns.

use std::{sync::Arc, time::Duration};

use tower::Layer;
use tower_support_cache::{
    CacheRoute, Credentials, MemoryStore, RedisStore, Store, SupportCacheHandle, SupportCacheLayer,
};

use crate::{
    columns::{Column, Keeps, TTL},
    origin::Origin,
    server::PATIENCE,
    site::{AnySite, Grouping, Plan, site},
};

const SAFETY: &str = "variant: target, authority, what `Vary` nominates, the caller; `no-store`, `private`, \
                      `Set-Cookie` and the like are kept out; fills are fenced by invalidations";

/// Enough for an entry of the work with all that is kept of it.
const ENTRY_BYTES: u64 = 4096;

pub struct InMemory;

impl Column for InMemory {
    const NAME: &'static str = "ours";
    const KEEPS: Keeps = Keeps::Memory;
    const SAFETY: &'static str = SAFETY;

    async fn build(plan: Plan) -> AnySite {
        let capacity = (plan.entries as u64 * ENTRY_BYTES).max(64 << 20);
        let store = MemoryStore::builder().capacity(capacity).build().expect("such a capacity");
        over(store, &plan).0
    }
}

pub struct OnRedis;

impl Column for OnRedis {
    const NAME: &'static str = "ours-redis";
    const KEEPS: Keeps = Keeps::Redis;
    const SAFETY: &'static str = SAFETY;

    async fn build(plan: Plan) -> AnySite {
        linked(&plan, 0).await
    }
}

pub struct OnRedisNear;

impl Column for OnRedisNear {
    const NAME: &'static str = "ours-redis-near";
    const KEEPS: Keeps = Keeps::Redis;
    const SAFETY: &'static str = SAFETY;

    async fn build(plan: Plan) -> AnySite {
        linked(&plan, 32 << 20).await
    }
}

/// Over the server, once the link is proven.
async fn linked(plan: &Plan, near_capacity: u64) -> AnySite {
    // Under callgrind everything takes its time.
    let store = RedisStore::builder(plan.redis())
        .lookup_budget(PATIENCE)
        .invalidate_budget(PATIENCE)
        .heartbeat_timeout(Duration::from_secs(8))
        .near_cache_capacity(near_capacity)
        .near_cache_limit(TTL)
        .build()
        .expect("these are settings");
    let (site, handle) = over(store, plan);
    let is_linked = || {
        let Some(store) = handle.metrics().store else { return false };
        store.is_linked && (near_capacity == 0 || store.near.is_proven)
    };
    let linked = tokio::time::timeout(PATIENCE, async {
        while !is_linked() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    linked.await.expect("there is a link");
    site
}

fn over<St: Store>(store: St, plan: &Plan) -> (AnySite, SupportCacheHandle) {
    let key = match plan.grouping {
        Grouping::KeyPerTarget => "case:{case}",
        Grouping::OneKey => "cases",
    };
    let mut builder = SupportCacheLayer::builder(store)
        .cache(CacheRoute::get("/cases/{case}").bucket("cases").key(key).ttl(TTL))
        .credentials(Credentials::CoveredByKey);
    for other in 1..plan.routes {
        let pattern = format!("/oth{other}/{{case}}/notes");
        let route = CacheRoute::get(pattern).bucket("others").key("other:{case}");
        builder = builder.cache(route.ttl(TTL));
    }
    let layer = builder.build().expect("the routes are valid");
    let (handle, other) = (layer.handle(), layer.handle());
    let grouping = plan.grouping;
    let site = site(layer.layer(Origin(plan.script))).invalidated_by(move |number| {
        let handle = handle.clone();
        Box::pin(async move {
            let key = match grouping {
                Grouping::KeyPerTarget => format!("case:{number}"),
                Grouping::OneKey => "cases".to_owned(),
            };
            handle.invalidate(&key).await.expect("it is acknowledged");
        })
    });
    (Arc::new(site), other)
}

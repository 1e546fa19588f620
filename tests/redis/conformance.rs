//! The exported suite, over a real server.

use std::sync::atomic::{AtomicU64, Ordering};

use tower_support_cache::{
    RedisStore,
    store::{PrimaryKey, Store, Strength, conformance},
    testing::{Chaos, Fault},
};

use crate::{
    patient,
    server::{PATIENCE, Server, until},
};

/// Makes stores that see nothing of each other.
struct Stores {
    server: Server,
    made: AtomicU64,
}

impl Stores {
    async fn new() -> Self {
        Self { server: Server::start().await, made: AtomicU64::new(0) }
    }

    async fn make(&self) -> RedisStore {
        let namespace = format!("{}:", self.made.fetch_add(1, Ordering::SeqCst));
        let store = patient(&self.server.url()).namespace(namespace).build().unwrap();
        until(PATIENCE, "the store is linked", async || {
            store.invalidate(&PrimaryKey::new("another").into(), Strength::Hard).await.ok()
        })
        .await;
        store
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_redis_store_conforms() {
    let stores = Stores::new().await;
    conformance::check(async || stores.make().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_redis_store_in_chaos_that_has_no_fault_conforms() {
    let stores = Stores::new().await;
    conformance::check(async || Chaos::new(stores.make().await, |_, _| Fault::None)).await;
}

//! The columns. Each is a name, what there is to say of it, and how its service is built over the
//! shared origin: another peer is another such block, and a line in [`ALL`].

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use hitbox_backend::format::BincodeFormat;
use http::{HeaderName, HeaderValue, Method};
use tower::Layer;

use crate::{
    minimum::{Minimum, Moka, Quick},
    origin::{Blank, Origin, Storable},
    ours, raw,
    site::{AnySite, Plan, Site as _, Wish, axum_site, path, site},
};

pub const TTL: Duration = Duration::from_secs(3600);

/// Where a column keeps what it stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    Nothing,
    Memory,
    Redis,
    /// No column of caches: a command of the client crate.
    RawRedis,
}

pub trait Column {
    const NAME: &'static str;
    const KEEPS: Keeps;
    /// What its key and its policy leave out, for the table.
    const SAFETY: &'static str;

    fn build(plan: Plan) -> impl Future<Output = AnySite> + Send;
}

/// A [`Column`] as a value.
pub struct Entry {
    pub name: &'static str,
    pub keeps: Keeps,
    pub safety: &'static str,
    pub build: fn(Plan) -> BoxFuture<'static, AnySite>,
}

const fn entry<C: Column + 'static>() -> Entry {
    Entry {
        name: C::NAME,
        keeps: C::KEEPS,
        safety: C::SAFETY,
        build: |plan| Box::pin(C::build(plan)),
    }
}

pub const ALL: &[Entry] = &[
    entry::<Harness>(),
    entry::<Bare>(),
    entry::<MinimumQuick>(),
    entry::<MinimumMoka>(),
    entry::<ours::InMemory>(),
    entry::<AxumResponseCache>(),
    entry::<TowerHttpCache>(),
    entry::<HitboxMoka>(),
    entry::<HttpCacheTower>(),
    entry::<raw::Get>(),
    entry::<raw::Hget>(),
    entry::<raw::Hmget>(),
    entry::<ours::OnRedis>(),
    entry::<ours::OnRedisNear>(),
    entry::<TowerHttpCacheRedis>(),
    entry::<HitboxRedis>(),
];

/// Finds a column.
pub fn named(name: &str) -> Option<&'static Entry> {
    ALL.iter().find(|entry| entry.name == name)
}

// ===== what the others are compared with =====

/// What every column pays: the request made and dropped, a body read.
struct Harness;

impl Column for Harness {
    const NAME: &'static str = "harness";
    const KEEPS: Keeps = Keeps::Nothing;
    const SAFETY: &'static str = "";

    async fn build(_: Plan) -> AnySite {
        Arc::new(site(Blank))
    }
}

struct Bare;

impl Column for Bare {
    const NAME: &'static str = "bare";
    const KEEPS: Keeps = Keeps::Nothing;
    const SAFETY: &'static str = "";

    async fn build(plan: Plan) -> AnySite {
        Arc::new(site(Origin(plan.script)))
    }
}

const MINIMUM: &str = "all of it: the path alone is the key, nothing expires, everything is stored";

struct MinimumQuick;

impl Column for MinimumQuick {
    const NAME: &'static str = "minimum-quick_cache";
    const KEEPS: Keeps = Keeps::Memory;
    const SAFETY: &'static str = MINIMUM;

    async fn build(plan: Plan) -> AnySite {
        let minimum = Minimum::<_, Quick>::new(Origin(plan.script), plan.entries);
        let entries = minimum.entries.clone();
        Arc::new(site(minimum).invalidated_by(move |number| {
            crate::minimum::Entries::remove(&entries, &path(number));
            Box::pin(async {})
        }))
    }
}

struct MinimumMoka;

impl Column for MinimumMoka {
    const NAME: &'static str = "minimum-moka";
    const KEEPS: Keeps = Keeps::Memory;
    const SAFETY: &'static str = MINIMUM;

    async fn build(plan: Plan) -> AnySite {
        let minimum = Minimum::<_, Moka>::new(Origin(plan.script), plan.entries);
        let entries = minimum.entries.clone();
        Arc::new(site(minimum).invalidated_by(move |number| {
            crate::minimum::Entries::remove(&entries, &path(number));
            Box::pin(async {})
        }))
    }
}

// ===== axum-response-cache =====

struct AxumResponseCache;

impl Column for AxumResponseCache {
    const NAME: &'static str = "axum-response-cache";
    const KEEPS: Keeps = Keeps::Memory;
    const SAFETY: &'static str = "key: method and URI; `Authorization`, `Cookie`, `Vary`, `Cache-Control` \
                                  and `Set-Cookie` are ignored; no bound on entries with its own TTL cache";

    async fn build(plan: Plan) -> AnySite {
        let layer = axum_response_cache::CacheLayer::with_lifespan(TTL).allow_invalidation();
        let service = layer.layer(AxumOrigin(Origin(plan.script)));
        let other = axum_site(service.clone());
        let clear = (HeaderName::from_static("x-invalidate-cache"), HeaderValue::from_static("1"));
        Arc::new(axum_site(service).invalidated_by(move |number| {
            let wish = Wish { field: Some(clear.clone()), ..Wish::get() };
            let asked = other.ask(wish, number);
            Box::pin(async move { drop(asked.await) })
        }))
    }
}

/// The origin as axum's services are: with its body boxed.
#[derive(Clone)]
struct AxumOrigin(Origin);

impl tower::Service<http::Request<axum::body::Body>> for AxumOrigin {
    type Response = axum::response::Response;
    type Error = std::convert::Infallible;
    type Future = futures_util::future::MapOk<
        crate::origin::Answer,
        fn(http::Response<crate::origin::OriginBody>) -> axum::response::Response,
    >;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<axum::body::Body>) -> Self::Future {
        use futures_util::TryFutureExt as _;
        let answer = tower::Service::call(&mut self.0, request);
        answer.map_ok(|response| response.map(axum::body::Body::new))
    }
}

// ===== tower-http-cache =====

struct TowerHttpCache;

impl Column for TowerHttpCache {
    const NAME: &'static str = "tower-http-cache";
    const KEEPS: Keeps = Keeps::Memory;
    const SAFETY: &'static str = "key: path and query, also for HEAD; `Authorization`, `Cookie`, `Vary`, \
                                  `Host` and `Set-Cookie` are ignored; `no-store` and `private` are kept";

    async fn build(plan: Plan) -> AnySite {
        let backend = tower_http_cache::backend::memory::InMemoryBackend::new(plan.entries as u64);
        tower_http_cache_over(backend, &plan)
    }
}

struct TowerHttpCacheRedis;

impl Column for TowerHttpCacheRedis {
    const NAME: &'static str = "tower-http-cache-redis";
    const KEEPS: Keeps = Keeps::Redis;
    const SAFETY: &'static str = TowerHttpCache::SAFETY;

    async fn build(plan: Plan) -> AnySite {
        let client = redis::Client::open(plan.redis()).expect("an address");
        let patience = redis::aio::ConnectionManagerConfig::new()
            .set_response_timeout(Some(Duration::from_secs(20)))
            .set_connection_timeout(Some(Duration::from_secs(20)));
        let manager = client.get_connection_manager_with_config(patience).await;
        let manager = manager.expect("the server is there");
        tower_http_cache_over(tower_http_cache::backend::redis::RedisBackend::new(manager), &plan)
    }
}

fn tower_http_cache_over<B: tower_http_cache::backend::CacheBackend>(
    backend: B,
    plan: &Plan,
) -> AnySite {
    let layer = tower_http_cache::prelude::CacheLayer::builder(backend.clone()).ttl(TTL).build();
    Arc::new(site(layer.layer(Origin(plan.script))).invalidated_by(move |number| {
        let backend = backend.clone();
        Box::pin(async move {
            backend.invalidate(&path(number)).await.expect("it is invalidated");
        })
    }))
}

// ===== hitbox =====

struct HitboxMoka;

impl Column for HitboxMoka {
    const NAME: &'static str = "hitbox-moka";
    const KEEPS: Keeps = Keeps::Memory;
    const SAFETY: &'static str = "key: what its extractors name, here method and path; the rest is for whoever \
                                  writes the predicates, `no-store` and `private` included";

    async fn build(plan: Plan) -> AnySite {
        let backend = hitbox_moka::MokaBackend::builder()
            .max_entries(plan.entries as u64)
            .value_format(BincodeFormat)
            .build();
        hitbox_over(backend, &plan)
    }
}

struct HitboxRedis;

impl Column for HitboxRedis {
    const NAME: &'static str = "hitbox-redis";
    const KEEPS: Keeps = Keeps::Redis;
    const SAFETY: &'static str = HitboxMoka::SAFETY;

    async fn build(plan: Plan) -> AnySite {
        let mode = hitbox_redis::ConnectionMode::single(plan.redis());
        let backend = hitbox_redis::RedisBackend::builder()
            .connection(mode)
            .connection_timeout(Duration::from_secs(20))
            .response_timeout(Duration::from_secs(20))
            .build();
        hitbox_over(backend.expect("an address"), &plan)
    }
}

fn hitbox_over<B>(backend: B, plan: &Plan) -> AnySite
where
    B: hitbox_backend::CacheBackend + Clone + Send + Sync + 'static,
{
    use hitbox::{policy::PolicyConfig, predicate::PredicateExt as _};
    use hitbox_http::{
        extractors::{Method as MethodOf, path::PathExtractor as _},
        predicates::{
            header::{Header, Operation},
            request::Method as OnlyMethod,
            response::StatusCode as OnlyStatus,
        },
    };
    use http::header::CACHE_CONTROL;

    let policy = PolicyConfig::builder()
        .ttl(TTL)
        .concurrency(1.try_into().expect("one is within its bounds"))
        .build();
    // Where the origin says `no-store`, its user has to look for that.
    let forbidden = match plan.script.storable {
        Storable::Yes => "no-such-directive",
        Storable::No => "no-store",
    };
    let config = hitbox::Config::builder()
        .request_predicate(OnlyMethod::new(Method::GET).expect("a method"))
        .response_predicate(
            OnlyStatus::new(http::StatusCode::OK)
                .and(Header::new(Operation::Contains(CACHE_CONTROL, forbidden.into())).not()),
        )
        .extractor(MethodOf::new().path("/cases/{case}"))
        .policy(policy)
        .build();
    let layer = hitbox_tower::Cache::builder()
        .backend(backend.clone())
        .config(config)
        .concurrency_manager(hitbox::concurrency::BroadcastConcurrencyManager::new())
        .build();
    let service = layer.layer(Origin(plan.script));
    Arc::new(site(service).invalidated_by(move |number| {
        let backend = backend.clone();
        Box::pin(async move {
            let number = number.to_string();
            let parts = [("method", Some("GET")), ("case", Some(number.as_str()))];
            let key = hitbox::CacheKey::from_slice(&parts);
            backend
                .delete(&key, &mut hitbox::context::CacheContext::default().boxed())
                .await
                .expect("it is deleted");
        })
    }))
}

// ===== http-cache-tower =====

struct HttpCacheTower;

impl Column for HttpCacheTower {
    const NAME: &'static str = "http-cache-tower";
    const KEEPS: Keeps = Keeps::Memory;
    const SAFETY: &'static str = "RFC 9111 by `http-cache-semantics`, `Vary` and `Authorization` included; \
                                  takes only absolute URIs, so a server's requests need rewriting";

    async fn build(plan: Plan) -> AnySite {
        let manager = http_cache::MokaManager::new(http_cache::MokaCache::new(plan.entries as u64));
        let service = http_cache_tower::HttpCacheLayer::new(manager).layer(Origin(plan.script));
        let other = site(service.clone()).absolute();
        Arc::new(site(service).absolute().invalidated_by(move |number| {
            let asked = other.ask(Wish { method: Method::POST, ..Wish::get() }, number);
            Box::pin(async move { drop(asked.await) })
        }))
    }
}

//! The origin: a handler that reads the register, takes its time, and now and then fails.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use tower::Service;

use crate::{
    random::Random,
    server::pause,
    worker::life::Posted,
    world::{GROUPED, TAGS, World},
};

/// Message of a handler that panics.
pub(crate) const PANIC: &str = "a handler panics now and then";

#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) world: Arc<World>,
    pub(crate) seed: Arc<AtomicU64>,
    pub(crate) posted: Arc<Posted>,
}

type Answer = Result<Response<Full<Bytes>>, Infallible>;

impl<B: Send + 'static> Service<Request<B>> for Origin {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (world, posted) = (Arc::clone(&self.world), Arc::clone(&self.posted));
        let mut random = Random(self.seed.fetch_add(0x1234_5677, Relaxed));
        Box::pin(async move {
            let (kind, key) = place(request.uri().path());
            if kind.ends_with("doubted") {
                // It is committed by the task that has asked.
                return Ok(Response::builder().status(503).body(Full::default()).unwrap());
            }
            if kind == "accepted" {
                return Ok(Response::builder().status(202).body(Full::default()).unwrap());
            }
            if *request.method() == Method::POST {
                let version = world.write(key);
                posted.note(key, version);
                // Its client may leave meanwhile.
                let slowest = if random.below(4) == 0 { 40_000 } else { 4000 };
                pause(Duration::from_micros(random.below(slowest))).await;
                let mut response = Response::builder().status(201);
                if kind == "grouped" {
                    response = response.header("cache-group-invalidation", group(key));
                }
                return Ok(response.body(Full::from(version.to_string())).unwrap());
            }
            // Read first and slow afterwards: what is answered may be old by then.
            let version = world.version(key);
            let slowest = if random.below(20) == 0 { 40_000 } else { 4000 };
            pause(Duration::from_micros(random.below(slowest))).await;
            if random.below(200) == 0 {
                panic!("{PANIC}");
            }
            let caller = request.headers().get("x-caller").map_or("", |c| c.to_str().unwrap());
            let body = body(kind, key, caller, version);
            let mut response = Response::builder();
            if GROUPED.contains(&key) {
                response = response.header("cache-groups", group(key));
            }
            if random.below(100) == 0 {
                response = response.header("cache-control", "no-store");
            }
            Ok(response.body(Full::from(body)).unwrap())
        })
    }
}

fn place(path: &str) -> (&str, usize) {
    let (kind, place) = path.trim_start_matches('/').split_once('/').expect("/kind/tag/key");
    let (_, key) = place.split_once('/').expect("/kind/tag/key");
    (kind, key.parse().expect("a key is a number"))
}

/// Returns the group of a key, as a field lists it.
fn group(key: usize) -> String {
    format!("\"{}\"", key % TAGS)
}

/// Returns what the origin answers. Two kilobytes, as a list of cases may have.
fn body(kind: &str, key: usize, caller: &str, version: u64) -> String {
    format!("{kind} {key} {caller} {version} {}", ".".repeat(2000))
}

/// Returns the version in a body of this key and caller; `None` if it is another's.
pub(crate) fn version_of(body: &str, kind: &str, key: usize, caller: &str) -> Option<u64> {
    body.strip_prefix(&format!("{kind} {key} {caller} "))?.split(' ').next()?.parse().ok()
}

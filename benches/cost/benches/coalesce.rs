//! 1,000 requests at once for one cold key, beside the bare origin. The handler yields, so that all
//! have come before it answers.

#[path = "../../support/mod.rs"]
mod support;

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use http::{Method, Request, Response};
use http_body::Body;
use http_body_util::{Empty, Full};
use tokio::{task::JoinSet, task::yield_now};
use tower::{Layer, Service, ServiceExt};

use support::{Mode, layer, origin, read, request, runtime};

const REQUESTS: usize = 1000;

criterion_group!(benches, coalesce);
criterion_main!(benches);

/// How often the handler of [`Yielding`] was called.
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// The origin, after everything else that can run has run.
#[derive(Clone)]
struct Yielding;

impl Service<Request<Empty<Bytes>>> for Yielding {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Empty<Bytes>>) -> Self::Future {
        CALLS.fetch_add(1, Ordering::Relaxed);
        Box::pin(async {
            yield_now().await;
            Ok(origin::response(0))
        })
    }
}

fn coalesce(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("coalesce");
    group.bench_function("bare", |bencher| {
        bencher.iter(|| runtime.block_on(crowd(&Yielding, "/cases/0")));
    });
    let cache = layer(Mode::Hit).layer(Yielding);
    let mut number = 0;
    group.bench_function("cache", |bencher| {
        bencher.iter(|| {
            number += 1;
            let before = CALLS.load(Ordering::Relaxed);
            runtime.block_on(crowd(&cache, &format!("/cases/{number}")));
            assert_eq!(CALLS.load(Ordering::Relaxed) - before, 1, "one call for all");
        });
    });
    group.finish();
}

/// Sends the requests, each on a task of its own, and reads every response to its end.
async fn crowd<S, B>(service: &S, target: &str)
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send,
{
    let mut tasks = JoinSet::new();
    for _ in 0..REQUESTS {
        let (service, request) = (service.clone(), request(Method::GET, target));
        tasks.spawn(async move {
            let Ok(response) = service.oneshot(request).await;
            read(response.into_body()).await
        });
    }
    let lengths = tasks.join_all().await;
    assert!(lengths.iter().all(|length| *length == origin::BODY_LENGTH), "all are whole");
}

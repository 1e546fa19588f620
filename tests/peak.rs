//! A body too large to store streams through: what it occupies on its way, as the allocator sees it.
//! A binary of its own: the allocator counts for the whole process, and so does its peak.

#![allow(clippy::unwrap_used)] // clippy.toml lets tests unwrap, but not what they call.

use std::{
    alloc::System,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tower::{Layer, ServiceExt};
use tower_support_cache::{CacheRoute, MemoryStore, SupportCacheLayer};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CHUNK: usize = 64 * 1024;
const LIMIT: usize = 1024 * 1024;
const BODY: usize = 10 * 1024 * 1024;
/// What a request occupies besides its body: futures, heads, maps.
const SLACK: usize = 32 * 1024;

fn live() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// A body that makes its chunks when it is asked for them.
struct Made {
    left: usize,
    is_declared: bool,
}

impl Body for Made {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let at = BODY - self.left;
        let length = self.left.min(CHUNK);
        self.left -= length;
        let chunk = (length > 0).then(|| Bytes::from(vec![(at / CHUNK) as u8; length]));
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_declared { SizeHint::with_exact(self.left as u64) } else { SizeHint::new() }
    }
}

/// Requests the body once and returns the most bytes that were alive at any chunk of it.
async fn peak(is_declared: bool) -> usize {
    let route = CacheRoute::get("/").key("k").ttl(Duration::from_secs(60));
    let layer = SupportCacheLayer::builder(MemoryStore::new())
        .cache(route.body_limit(LIMIT as u64))
        .build()
        .unwrap();
    let service = layer.layer(tower::service_fn(move |_: Request<Empty<Bytes>>| async move {
        Ok::<_, Infallible>(Response::new(Made { left: BODY, is_declared }))
    }));
    let before = live();
    let response = service.oneshot(Request::new(Empty::new())).await.unwrap();
    let mut body = response.into_body();
    let (mut most, mut at) = (live() - before, 0);
    while let Some(frame) = body.frame().await {
        let chunk = frame.unwrap().into_data().unwrap();
        assert!(chunk.iter().all(|byte| *byte == (at / CHUNK) as u8), "byte for byte");
        at += chunk.len();
        most = most.max(live() - before);
    }
    assert_eq!(at, BODY);
    assert_eq!(layer.handle().metrics().bucket("default").unwrap().stored, 0);
    most
}

/// One test, so that no other allocates meanwhile.
#[test]
fn a_body_over_the_limit_occupies_the_limit_and_two_chunks_and_a_declared_one_a_chunk() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        peak(false).await;
        let (unknown, declared) = (peak(false).await, peak(true).await);
        println!("10 MiB of unknown length: {unknown} bytes; declared: {declared} bytes");
        assert!(unknown <= LIMIT + 2 * CHUNK + SLACK, "{unknown}");
        assert!(declared <= CHUNK + SLACK, "{declared}");
    });
}

//! Writes with an unknown outcome: the origin fails, and commits within the window of the rule.
//!
//! After the window no read may be of an older version. Where nothing else goes wrong, none is a hit within
//! it, and the process that wrote may have ended by then: the server's word is enough.

use std::{sync::Arc, time::Duration};

use http::{Method, Request};
use http_body_util::Empty;
use tower::{Layer, ServiceExt};

use super::{Bytes, FLUSH, Run, builder, life::layer_over, path};
use crate::{
    origin::Origin,
    random::Random,
    scenario::Load,
    server::pause,
    world::{BARE, By, micros, softly},
};

pub(super) const WINDOW: Duration = Duration::from_millis(400);
/// Time after a window in which its writer has invalidated again, on a busy machine.
const MARGIN: Duration = Duration::from_secs(1);
/// Difference of two clocks: without faults nothing else is waited for.
const SLACK: Duration = Duration::from_millis(100);
/// Time before the end of a window in which the origin commits, in microseconds: a fill takes longer.
const LAST: u64 = 60_000;

impl Run {
    /// Writes now and then what the origin commits later.
    pub(super) async fn doubt(self: Arc<Self>, mut random: Random) {
        let rest = if self.load == Load::Doubts { 100 } else { 500 };
        loop {
            pause(Duration::from_millis(rest + random.below(rest))).await;
            let key = self.world.own(random.next());
            let rule = match random.below(4) {
                0 if key < BARE => "tag_doubted",
                1 => "softly_doubted",
                2 => "accepted",
                _ => "doubted",
            };
            let commit = match random.in_percent(50) {
                true => random.below(WINDOW.as_micros() as u64 / 2),
                false => WINDOW.as_micros() as u64 - random.below(LAST),
            };
            tokio::spawn(Arc::clone(&self).doubt_one(rule, key, Duration::from_micros(commit)));
        }
    }

    async fn doubt_one(self: Arc<Self>, rule: &'static str, key: usize, commit: Duration) {
        let begun = micros();
        let window = begun + WINDOW.as_micros() as u64;
        let delivering = tokio::spawn(Arc::clone(&self).deliver_doubt(rule, key, window));
        pause(commit).await;
        let version = self.world.write(key);
        let is_within = micros() < window;
        self.counters.doubts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if !delivering.await.unwrap() {
            return;
        }
        pause(WINDOW + if self.load == Load::Doubts { SLACK } else { MARGIN }).await;
        if is_within && self.handle.flush_pending(FLUSH).await.is_ok() {
            let register = if rule == "softly_doubted" { softly(key) } else { key };
            self.counters.settled.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            self.world.acknowledge(register, version, By::Owner);
        }
    }

    /// Sends the write. Returns whether the server has acknowledged what it means.
    async fn deliver_doubt(self: Arc<Self>, rule: &'static str, key: usize, until: u64) -> bool {
        let is_delivered = match self.load {
            Load::Doubts => {
                let (url, origin) = (self.url.clone(), self.origin());
                let ended = move || write_and_end(&url, origin, &path(rule, key));
                tokio::task::spawn_blocking(ended).await.unwrap()
            }
            Load::Crowd | Load::Rests | Load::Late => {
                let request = Request::builder().method(Method::POST).uri(path(rule, key));
                let request = request.body(Empty::<Bytes>::new()).unwrap();
                self.cache.clone().oneshot(request).await.expect("it is infallible");
                self.handle.flush_pending(FLUSH).await.is_ok()
            }
        };
        if is_delivered && self.load == Load::Doubts {
            self.world.doubt(key, until);
        }
        is_delivered
    }
}

/// Writes through a layer of its own, whose tasks end with the call.
fn write_and_end(url: &str, origin: Origin, uri: &str) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = builder(url).near_cache_capacity(0).build().unwrap();
        let layer = layer_over(store);
        let request = Request::builder().method(Method::POST).uri(uri);
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        layer.layer(origin).oneshot(request).await.expect("it is infallible");
        layer.handle().flush_pending(FLUSH).await.is_ok()
    })
}

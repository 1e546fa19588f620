//! Reloads, and the end of a process.

use std::{
    io::BufRead,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::Duration,
};

use http::StatusCode;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tower_support_cache::{
    CacheRoute, Caller, CallerKey, Credentials, InvalidateRoute, RedisStore, Routes,
    SupportCacheLayer,
};

use super::{LIFETIME, Run, doubts::WINDOW};
use crate::{
    server::pause,
    world::{By, KEYS},
};

/// Word of the parent: replace the rules.
pub(crate) const RELOAD: &str = "reload";

/// Time in which a process that ends waits for what it owes: longer than an invalidation of everything takes
/// where the register of heartbeats was lost, which is 10 s.
const DRAIN: Duration = Duration::from_secs(15);

/// Newest version of each key that a request has written.
#[derive(Debug, Default)]
pub(crate) struct Posted([Mutex<u64>; KEYS]);

impl Posted {
    pub(crate) fn note(&self, key: usize, version: u64) {
        let mut newest = self.0[key].lock().unwrap();
        *newest = version.max(*newest);
    }
}

/// Returns the layer of a process that begins.
pub(super) fn layer_over(store: RedisStore) -> SupportCacheLayer<RedisStore> {
    SupportCacheLayer::builder(store)
        .caller_key(CallerKey::new([7; 32]))
        .routes(routes(0))
        .build()
        .unwrap()
}

/// Rules of the `number`th version of the service. Versions differ in lifetimes, and every second one in
/// what its routes mean.
pub(super) fn routes(number: u32) -> Routes {
    let route = |kind: &str| {
        let lifetime = LIFETIME / (1 + number % 3);
        let route = CacheRoute::get(format!("/{kind}/{{tag}}/{{key}}"))
            .bucket(kind)
            .key("k:{key}")
            .ttl(lifetime)
            .stale_while_revalidate(lifetime)
            .stale_if_error(lifetime);
        match number % 2 {
            0 => route,
            _ => route.statuses([StatusCode::OK]),
        }
    };
    let per_caller = || {
        Credentials::PerCaller(Caller::with(|request| {
            Some(request.headers().get("x-caller")?.to_str().ok()?.to_owned())
        }))
    };
    let post = |rule: &str| {
        let rule = InvalidateRoute::post(format!("/{rule}/{{tag}}/{{key}}"));
        rule.unknown_for(WINDOW).accepted_for(WINDOW)
    };
    Routes::new()
        .cache(route("shared").tag("t:{tag}"))
        .cache(route("mine").tag("t:{tag}").credentials(per_caller()))
        .cache(route("bare"))
        .cache(route("bare_mine").credentials(per_caller()))
        .invalidate(post("written").key("k:{key}"))
        .invalidate(post("tagged").tag("t:{tag}"))
        .invalidate(post("grouped").groups())
        .invalidate(post("doubted").key("k:{key}"))
        .invalidate(post("accepted").key("k:{key}"))
        .invalidate(post("tag_doubted").tag("t:{tag}"))
        .invalidate(post("softly_doubted").key("k:{key}").soft())
}

impl Run {
    /// Does as the parent says until it says no more: it has seen enough, or has died.
    pub(super) async fn live(&self) {
        let (sender, mut words) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            let lines = std::io::stdin().lock().lines().map_while(Result::ok);
            lines.map(|line| sender.send(line)).all(|sent| sent.is_ok())
        });
        let mut version = 0;
        loop {
            match timeout(Duration::from_millis(100), words.recv()).await {
                Ok(None) => return,
                Ok(Some(word)) if word == RELOAD => {
                    version += 1;
                    self.handle.reload(routes(version)).unwrap();
                }
                Ok(Some(_)) | Err(_) => {}
            }
            println!("{}", self.tally().line());
        }
    }

    /// Ends as a service does that is told to: its clients leave, also during their writes, and what these
    /// have written is invalidated before the process ends.
    pub(super) async fn end(self: &Arc<Self>, mut tasks: Vec<JoinHandle<()>>) {
        for key in self.world.all_own() {
            let run = Arc::clone(self);
            tasks.push(tokio::spawn(async move { run.post("written", key).await }));
        }
        // These have been sent by now, and most are not answered.
        pause(Duration::from_millis(2)).await;
        tasks.iter().for_each(JoinHandle::abort);
        for task in tasks {
            let _ = task.await;
        }
        if let Err(unfinished) = self.handle.drain(DRAIN).await {
            println!("drain: {unfinished}");
            return;
        }
        self.counters.drained.fetch_add(1, Relaxed);
        for (key, newest) in self.posted.0.iter().enumerate() {
            let newest = *newest.lock().unwrap();
            if newest > 0 {
                self.world.acknowledge(key, newest, By::Owner);
            }
        }
    }
}

//! The works whose cost is counted, one after the other on one thread: in instructions by callgrind,
//! in allocations by an allocator that counts.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::{self, Runtime},
    task::{JoinSet, yield_now},
};

use crate::{
    columns::{Entry, Keeps},
    origin::Script,
    site::{AnySite, Grouping, Plan, Wish},
};

/// Numbers in targets begin here, so that all have the same length.
pub const FIRST: u32 = 100_000;
const STREWN: u32 = 4_000;
/// Numbers of targets that are asked for beforehand.
const OTHERS: u32 = 900_000;
/// How many requests over Redis are on their way at once where they are counted.
pub const COUNTED_IN_FLIGHT: usize = 64;
/// How many targets are asked for over Redis, in turn.
pub const SPREAD: u32 = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Hit,
    /// Hits strewn over 4,000 keys: for a profile of what they find in the processor's caches.
    StrewnHit,
    /// Each request for another target, each response stored.
    Miss,
    /// GET that no route is for.
    Unmatched,
    /// POST that no rule is for.
    Post,
    /// Hits over Redis, [`COUNTED_IN_FLIGHT`] at a time, on [`SPREAD`] keys in turn.
    RedisHit,
}

impl Work {
    pub const ALL: [Self; 6] =
        [Self::Hit, Self::StrewnHit, Self::Miss, Self::Unmatched, Self::Post, Self::RedisHit];

    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::StrewnHit => "strewn-hit",
            Self::Miss => "miss",
            Self::Unmatched => "unmatched",
            Self::Post => "post",
            Self::RedisHit => "redis-hit",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|work| work.name() == name)
    }

    fn wish(self) -> Wish {
        match self {
            Self::Unmatched => Wish::unmatched(),
            Self::Post => Wish::post(),
            _ => Wish::get(),
        }
    }

    /// Says what is wrong where the origin is not called as often as it should be.
    fn fault(self) -> &'static str {
        match self {
            Self::Hit | Self::StrewnHit | Self::RedisHit => "calls the origin again",
            Self::Miss => "does not call the origin once",
            Self::Unmatched => "has no routes: caches it",
            Self::Post => "answers it from its store",
        }
    }

    /// Returns how often one request reaches the origin once the service is warm.
    fn calls(self) -> u64 {
        match self {
            Self::Hit | Self::StrewnHit | Self::RedisHit => 0,
            _ => 1,
        }
    }
}

/// A warm service of a column, and a work that it is to do.
pub struct Course {
    work: Work,
    site: AnySite,
    wish: Wish,
    variants: u32,
    next: u32,
}

/// What of a plan a growth curve changes.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub routes: usize,
    /// Variants of one key that hits go round.
    pub variants: u32,
}

impl Size {
    pub const ONE: Self = Self { routes: 1, variants: 1 };
}

impl Course {
    /// Builds the service, warms it up, and tells where it does not do what the work says.
    pub async fn new(column: &Entry, work: Work, size: Size) -> Result<Self, String> {
        const WARM_UP: usize = 256;
        let script = Script::work();
        let mut plan = Plan { routes: size.routes, ..Plan::new(script) };
        if size.variants > 1 {
            plan.grouping = Grouping::OneKey;
        }
        if work == Work::StrewnHit {
            plan.entries = 4 * STREWN as usize;
        }
        let site = (column.build)(plan).await;
        let wish = work.wish();
        let mut course = Self { work, site, wish, variants: size.variants, next: 0 };
        // As a service in use has: other responses before those that are asked for.
        let others: Vec<u32> = (OTHERS..OTHERS + 64).collect();
        course.site.run(&Wish::get(), &others).await;
        let strewn = match work {
            Work::StrewnHit => STREWN as usize,
            Work::RedisHit => 2 * SPREAD as usize,
            _ => 0,
        };
        course.run(WARM_UP.max(2 * size.variants as usize).max(strewn)).await;
        let before = script.calls();
        course.run(size.variants as usize).await;
        let calls = (script.calls() - before) / u64::from(size.variants);
        // What caches nothing, and what is no service, cannot do otherwise.
        if matches!(column.keeps, Keeps::Memory | Keeps::Redis) && calls != work.calls() {
            return Err(work.fault().to_owned());
        }
        Ok(course)
    }

    /// Does the work so many times more.
    pub async fn run(&mut self, count: usize) {
        let numbers = self.numbers(count);
        self.send(&numbers).await;
    }

    /// Returns the numbers of the next targets, which [`send`](Self::send) asks for.
    pub fn numbers(&mut self, count: usize) -> Vec<u32> {
        let from = self.next;
        self.next += count as u32;
        let number = |n: u32| match self.work {
            Work::Miss => FIRST + n,
            Work::StrewnHit => FIRST + n.wrapping_mul(7919) % STREWN,
            Work::RedisHit => FIRST + n % SPREAD,
            _ => FIRST + n % self.variants,
        };
        (from..self.next).map(number).collect()
    }

    pub async fn send(&self, numbers: &[u32]) {
        match self.work {
            Work::RedisHit => share(&self.site, &self.wish, numbers, COUNTED_IN_FLIGHT).await,
            _ => self.site.run(&self.wish, numbers).await,
        }
    }
}

/// Shares the numbers out among clients.
pub async fn share(site: &AnySite, wish: &Wish, numbers: &[u32], in_flight: usize) {
    let mut clients = JoinSet::new();
    for own in numbers.chunks(numbers.len().div_ceil(in_flight)) {
        let (site, wish, own) = (Arc::clone(site), wish.clone(), own.to_vec());
        clients.spawn(async move {
            for some in own.chunks(64) {
                site.run(&wish, some).await;
                // A hit in memory never waits, and a heartbeat has to.
                yield_now().await;
            }
        });
    }
    clients.join_all().await;
}

/// What callgrind collects: the name is what it is told to look for.
#[inline(never)]
pub fn counted_section(runtime: &Runtime, course: &Course, numbers: &[u32]) {
    runtime.block_on(course.send(numbers));
}

/// One thread, as all that is counted runs on.
pub fn runtime() -> Runtime {
    runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built")
}

/// Two threads, as what is timed together runs on.
pub fn runtime_of_two() -> Runtime {
    let mut builder = runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("a runtime can be built")
}

/// Lets time pass.
pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// A clock that runs while this thread does: what else the machine does costs it little.
pub struct Spent(f64);

impl Spent {
    pub fn begin() -> Self {
        Self(thread_seconds())
    }

    /// Returns nanoseconds of work since then.
    pub fn nanoseconds(&self) -> f64 {
        (thread_seconds() - self.0) * 1e9
    }
}

fn thread_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

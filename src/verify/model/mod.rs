//! A model of flights × sequence × cancellation × invalidation, under a scheduler that chooses the
//! interleavings (`tests/model.sh`).
//!
//! Readers do what `exchange.rs` does with the mechanisms; the resource is a version that only
//! grows. After an invalidation is acknowledged no read that starts later may be older than what
//! was true when it was called, whoever led, followed, or died in between.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Response;
use shuttle::{
    future::block_on,
    rand::{Rng, thread_rng},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use crate::{
    clock::now,
    entry::{Entry, Head, Provenance, Timing},
    fence::Fence,
    flight::{Flights, Limits, Settled, Turn},
    key::{PrimaryKey, Slot, Strength, Subject, Tag, Tags},
    store::{Begin, Commit, MemoryStore, Store},
};

mod crowded;

struct World {
    store: MemoryStore,
    flights: Arc<Flights<u64>>,
    /// The origin's current answer.
    version: AtomicU64,
    /// The version at the last invalidation that was acknowledged.
    acknowledged: AtomicU64,
    forwards: AtomicU64,
    /// Set if responses have a tag that their requests do not show.
    is_grouped: bool,
}

fn slot() -> Slot {
    Slot { key: PrimaryKey::new("key"), tags: tags(&["tag"]), ..Slot::example() }
}

fn tags(texts: &[&str]) -> Tags {
    texts.iter().map(Tag::new).collect()
}

impl World {
    fn new() -> Arc<Self> {
        Self::with_groups(false)
    }

    fn with_groups(is_grouped: bool) -> Arc<Self> {
        let limits = Limits { flights: 8, followers: 8, wait: Duration::from_secs(60) };
        Arc::new(Self {
            store: MemoryStore::builder().capacity(1 << 20).build().unwrap(),
            flights: Arc::new(Flights::new(limits)),
            version: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            forwards: AtomicU64::new(0),
            is_grouped,
        })
    }

    /// Reads as a request does. `None` if the request was cancelled.
    fn read(&self) -> Option<u64> {
        let acknowledged = self.acknowledged.load(Ordering::SeqCst);
        let version = self.answer();
        if let Some(version) = version {
            assert!(version >= acknowledged, "stale: {version} after {acknowledged}");
        }
        version
    }

    fn answer(&self) -> Option<u64> {
        if let Some(entry) = self.store.peek(&Slot::example().variant.borrowed()) {
            return Some(stored(&entry));
        }
        self.miss()
    }

    /// Continues a request that has found nothing.
    fn miss(&self) -> Option<u64> {
        let slot = slot();
        for _ in 0..2 {
            let sequence = self.store.sequence();
            let turn = self.flights.enter(
                &slot,
                None,
                |fence| sequence.is_slot_current(&slot, fence),
                || sequence.begin(),
            );
            match turn {
                Turn::Crowd => return Some(self.forward()),
                Turn::Follow(follower) => match block_on(follower.settled()) {
                    Settled::Filled(version) => return Some(version),
                    Settled::Declined => return Some(self.forward()),
                    Settled::Abandoned | Settled::Over => {}
                },
                Turn::Lead(lead) => {
                    if self.store.sequence().unsettled().contains(&slot) {
                        lead.decline();
                        return Some(self.forward());
                    }
                    let fence = lead.fence();
                    if let Begin::Found(entry) = block_on(self.store.begin(&slot, None, None)) {
                        let version = stored(&entry);
                        lead.close();
                        if entry.is_current(self.store.sequence()) {
                            lead.fill(|| version);
                        }
                        return Some(version);
                    }
                    let version = self.forward();
                    match thread_rng().gen_range(0..4) {
                        0 => return None,
                        1 => lead.decline(),
                        _ if self.is_grouped => {
                            lead.close();
                            let entry = Arc::new(entry(version, fence, &["tag", "group"]));
                            if block_on(self.store.commit((), entry, None)) == Commit::Stored {
                                lead.fill(|| version);
                            }
                        }
                        _ => {
                            let entry = Arc::new(entry(version, fence, &["tag"]));
                            block_on(self.store.commit((), entry, None));
                            lead.fill(|| version);
                        }
                    }
                    return Some(version);
                }
            }
        }
        Some(self.forward())
    }

    fn forward(&self) -> u64 {
        self.forwards.fetch_add(1, Ordering::SeqCst);
        self.version.load(Ordering::SeqCst)
    }

    fn write(&self) {
        let version = self.version.fetch_add(1, Ordering::SeqCst) + 1;
        match thread_rng().gen_range(0..4) {
            0 => block_on(self.store.invalidate_all()),
            1 => block_on(self.store.invalidate(&slot().key.into(), Strength::Hard)),
            2 if self.is_grouped => {
                block_on(self.store.invalidate(&Tag::new("group").into(), Strength::Hard))
            }
            _ => block_on(self.store.invalidate(&Tag::new("tag").into(), Strength::Hard)),
        }
        .unwrap();
        self.acknowledged.fetch_max(version, Ordering::SeqCst);
    }

    /// A write that the origin commits only after it was given up.
    fn write_with_unknown_outcome(&self) {
        self.store.sequence().unsettled().enter(
            &Subject::Key(slot().key),
            Strength::Hard,
            Duration::from_secs(10),
        );
        block_on(self.store.invalidate(&slot().key.into(), Strength::Hard)).unwrap();
        self.version.fetch_add(1, Ordering::SeqCst);
    }
}

fn entry(version: u64, fence: Fence, texts: &[&str]) -> Entry {
    let (head, ()) = Response::new(()).into_parts();
    let lifetime = Duration::from_secs(60);
    let head = Head::new(&head, Timing { requested: now(), received: now(), lifetime });
    let body = Bytes::copy_from_slice(&version.to_be_bytes());
    let slot = Slot { tags: tags(texts), ..slot() };
    let provenance = Provenance { slot, fence, requested: now(), gauge: Arc::default() };
    Entry::response(provenance, head, body)
}

fn stored(entry: &Entry) -> u64 {
    let (_, body) = entry.as_response().unwrap();
    u64::from_be_bytes(body[..].try_into().unwrap())
}

fn explore(scenario: impl Fn() + Send + Sync + 'static) {
    let iterations = std::env::var("MODEL_ITERATIONS").map_or(100_000, |n| n.parse().unwrap());
    let scenario = Arc::new(scenario);
    let random = Arc::clone(&scenario);
    shuttle::check_random(move || random(), iterations);
    shuttle::check_pct(move || scenario(), iterations, 3);
}

#[test]
fn no_read_is_older_than_an_acknowledged_invalidation() {
    for is_grouped in [false, true] {
        check_reads(is_grouped);
    }
}

fn check_reads(is_grouped: bool) {
    explore(move || {
        let world = World::with_groups(is_grouped);
        let threads: Vec<_> = (0..4)
            .map(|n| {
                let world = Arc::clone(&world);
                thread::spawn(move || match n {
                    0 => (0..2).for_each(|_| world.write()),
                    _ => (0..2).for_each(|_| {
                        world.read();
                    }),
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(world.flights.in_flight(), 0, "no flight is left behind");
        world.read();
    });
}

#[test]
fn nothing_read_around_an_unknown_outcome_is_stored() {
    explore(|| {
        let world = World::new();
        let threads: Vec<_> = (0..3)
            .map(|n| {
                let world = Arc::clone(&world);
                thread::spawn(move || match n {
                    0 => world.write_with_unknown_outcome(),
                    _ => {
                        world.answer();
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(world.store.peek(&Slot::example().variant.borrowed()).is_none());
    });
}

#[test]
fn concurrent_reads_without_deaths_make_one_forward() {
    explore(|| {
        let flights: Arc<Flights<u64>> = {
            let limits = Limits { flights: 8, followers: 8, wait: Duration::from_secs(60) };
            Arc::new(Flights::new(limits))
        };
        let world = World::new();
        let led = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (flights, world, led) =
                    (Arc::clone(&flights), Arc::clone(&world), Arc::clone(&led));
                thread::spawn(move || {
                    let fence = || world.store.sequence().begin();
                    match flights.enter(&slot(), None, |_| true, fence) {
                        Turn::Lead(lead) => {
                            if let Begin::Granted(()) =
                                block_on(world.store.begin(&slot(), None, None))
                            {
                                led.fetch_add(1, Ordering::SeqCst);
                                let entry = Arc::new(entry(7, lead.fence(), &[]));
                                block_on(world.store.commit((), entry, None));
                            }
                            lead.fill(|| 7);
                        }
                        Turn::Follow(follower) => {
                            let settled = block_on(follower.settled());
                            assert!(matches!(settled, Settled::Filled(7)));
                        }
                        Turn::Crowd => unreachable!("there is room"),
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(led.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn one_of_the_followers_of_an_abandoned_flight_leads() {
    explore(|| {
        let world = World::new();
        let fence = world.store.sequence().begin();
        let Turn::Lead(lead) = world.flights.enter(&slot(), None, |_| true, || fence) else {
            return;
        };
        let threads: Vec<_> = (0..3)
            .map(|n| {
                let world = Arc::clone(&world);
                let Turn::Follow(follower) = world.flights.enter(&slot(), None, |_| true, || fence)
                else {
                    panic!("the flight can be joined")
                };
                thread::spawn(move || {
                    assert!(matches!(block_on(follower.settled()), Settled::Abandoned));
                    match world.flights.enter(&slot(), None, |_| true, || fence) {
                        Turn::Lead(lead) => {
                            lead.fill(|| n);
                            n
                        }
                        Turn::Follow(follower) => match block_on(follower.settled()) {
                            Settled::Filled(by) => by,
                            other => panic!("{other:?}"),
                        },
                        Turn::Crowd => unreachable!("there is room"),
                    }
                })
            })
            .collect();
        drop(lead);
        let leaders: HashSet<u64> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        assert!(!leaders.is_empty());
        assert_eq!(world.flights.in_flight(), 0);
    });
}

/// A leader that found nothing looks once more, and finds what an invalidation is just removing.
#[test]
fn a_second_look_shares_nothing_that_an_invalidation_has_overtaken() {
    explore(|| {
        let world = World::with_groups(true);
        let stored = Arc::new(entry(0, world.store.sequence().begin(), &["tag", "group"]));
        block_on(world.store.commit((), stored, None));
        let threads: Vec<_> = (0..3)
            .map(|n| {
                let world = Arc::clone(&world);
                thread::spawn(move || match n {
                    0 => world.write(),
                    1 => {
                        world.miss();
                    }
                    _ => {
                        world.read();
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// A fill that is neither fenced nor told could store what a replica still has.
#[test]
fn a_fill_that_begins_after_an_invalidation_finds_it_among_the_recent_ones() {
    explore(|| {
        for subject in [Subject::Key(slot().key), Subject::Tag(Tag::new("tag"))] {
            let world = World::new();
            let sequence = world.store.sequence();
            sequence.recent().remember_for(Duration::from_secs(60));
            let before = sequence.begin();
            let other = Arc::clone(&world);
            let thread = thread::spawn(move || {
                drop(other.store.invalidate(&subject, Strength::Hard));
            });
            let fence = sequence.begin();
            let is_found = sequence.recent().since(&slot()).is_some();
            assert!(is_found || fence == before, "it is neither fenced nor told");
            thread.join().unwrap();
        }
    });
}

//! The same with a store that evicts, variants beyond their bound, notes, and requests that want
//! something newer than what is there.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Response, header::ACCEPT};
use shuttle::{
    future::block_on,
    rand::{Rng, thread_rng},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use super::explore;
use crate::{
    clock::now,
    entry::{Entry, Head, MemoryGauge, Provenance, Timing},
    fence::Fence,
    flight::{Flights, Limits, Settled, Turn},
    key::{Nominated, PrimaryKey, Slot, Strength, Tags, VariantParts},
    store::{Begin, MemoryStore, Store},
};

/// Two keys with variants that a note leads to, in a store so small that they evict each other.
struct Crowded {
    store: MemoryStore,
    flights: Arc<Flights<Version>>,
    gauge: Arc<MemoryGauge>,
    resources: [Resource; 2],
}

#[derive(Default)]
struct Resource {
    version: AtomicU64,
    acknowledged: AtomicU64,
}

/// Content of a response: the version of its resource, and the value of the nominated field.
type Version = (u64, u8);

impl Crowded {
    fn new() -> Arc<Self> {
        let limits = Limits { flights: 8, followers: 8, wait: Duration::from_secs(60) };
        Arc::new(Self {
            store: MemoryStore::builder().capacity(16 * 1024).build().unwrap(),
            flights: Arc::new(Flights::new(limits)),
            gauge: Arc::default(),
            resources: Default::default(),
        })
    }

    fn slot(key: usize, nominated: &[u8]) -> Slot {
        let target = ["/a", "/b"][key];
        let parts =
            VariantParts { target: target.as_bytes(), nominated, ..Slot::example_variant() };
        Slot { key: PrimaryKey::new(target), variant: parts.to_variant(), tags: Tags::none() }
    }

    fn peek(&self, key: usize, nominated: &[u8]) -> Option<Arc<Entry>> {
        self.store.peek(&Self::slot(key, nominated).variant.borrowed())
    }

    fn read(&self, key: usize, value: u8) {
        let acknowledged = self.resources[key].acknowledged.load(Ordering::SeqCst);
        if let Some((version, made_for)) = self.answer(key, value) {
            assert!(version >= acknowledged, "stale: {version} after {acknowledged}");
            assert_eq!(made_for, value, "another variant's response");
        }
    }

    fn answer(&self, key: usize, value: u8) -> Option<Version> {
        let mut found = self.peek(key, b"");
        let mut slot = Self::slot(key, b"");
        if found.as_ref().is_some_and(|note| note.as_nominated().is_some()) {
            slot = Self::slot(key, &[value]);
            found = self.peek(key, &[value]);
        }
        let mut seen = None;
        if let Some(entry) = found {
            match answered(&entry) {
                None if entry.is_answer() => return Some(self.forward(key, value)),
                None => {}
                // A request that says `no-cache`.
                Some(_) if thread_rng().gen_bool(0.3) => seen = Some(entry),
                Some(version) => return Some(version),
            }
        }
        let sequence = self.store.sequence();
        for _ in 0..3 {
            let turn = match &seen {
                Some(_) => Turn::Lead(self.flights.lead_privately(&slot, None, sequence.begin())),
                None => self.flights.enter(
                    &slot,
                    None,
                    |fence| sequence.is_current(&slot.key, fence),
                    || sequence.begin(),
                ),
            };
            match turn {
                Turn::Crowd => break,
                Turn::Follow(follower) => match block_on(follower.settled()) {
                    Settled::Filled(version) if version.1 == value => return Some(version),
                    Settled::Filled(_) => slot = Self::slot(key, &[value]),
                    Settled::Declined => break,
                    Settled::Abandoned | Settled::Over => {}
                },
                Turn::Lead(lead) => {
                    let begun = block_on(self.store.begin(&slot, None, seen.as_deref()));
                    if let Begin::Found(entry) = begun {
                        let Some(version) = answered(&entry) else {
                            lead.decline();
                            break;
                        };
                        lead.fill(|| version);
                        return Some(version);
                    }
                    let version = self.forward(key, value);
                    let fence = lead.fence();
                    match thread_rng().gen_range(0..6) {
                        0 => return None,
                        1 => {
                            let until = now() + Duration::from_secs(60);
                            let pass =
                                Entry::pass(self.provenance(lead.slot().clone(), fence), until);
                            block_on(self.store.commit((), Arc::new(pass), None));
                            lead.decline();
                        }
                        _ => {
                            let (entry, note) = self.entries(key, version, fence);
                            block_on(self.store.commit((), Arc::new(entry), Some(Arc::new(note))));
                            lead.fill(|| version);
                        }
                    }
                    return Some(version);
                }
            }
        }
        Some(self.forward(key, value))
    }

    fn forward(&self, key: usize, value: u8) -> Version {
        (self.resources[key].version.load(Ordering::SeqCst), value)
    }

    fn provenance(&self, slot: Slot, fence: Fence) -> Provenance {
        Provenance { slot, fence, requested: now(), gauge: Arc::clone(&self.gauge) }
    }

    fn entries(&self, key: usize, version: Version, fence: Fence) -> (Entry, Entry) {
        let (version, value) = version;
        let (head, ()) = Response::new(()).into_parts();
        let lifetime = Duration::from_secs(60);
        let head = Head::new(&head, Timing { requested: now(), received: now(), lifetime });
        let until = head.fresh_until();
        let mut body = vec![value; 6000];
        body[..8].copy_from_slice(&version.to_be_bytes());
        let provenance = self.provenance(Self::slot(key, &[value]), fence);
        let entry = Entry::response(provenance, head, Bytes::from(body));
        let provenance = self.provenance(Self::slot(key, b""), fence);
        (entry, Entry::nominated(provenance, Nominated::new(vec![ACCEPT]), until))
    }

    fn write(&self, key: usize) {
        let resource = &self.resources[key];
        let version = resource.version.fetch_add(1, Ordering::SeqCst) + 1;
        if thread_rng().gen_bool(0.3) {
            block_on(self.store.invalidate_all()).unwrap();
        } else {
            block_on(self.store.invalidate(&Self::slot(key, b"").key.into(), Strength::Hard))
                .unwrap();
        }
        resource.acknowledged.fetch_max(version, Ordering::SeqCst);
    }
}

fn answered(entry: &Entry) -> Option<Version> {
    let (_, body) = entry.as_response()?;
    Some((u64::from_be_bytes(body[..8].try_into().unwrap()), body[8]))
}

#[test]
fn eviction_and_notes_hide_no_entry_from_an_invalidation() {
    explore(|| {
        let world = Crowded::new();
        let threads: Vec<_> = (0..4)
            .map(|n| {
                let world = Arc::clone(&world);
                thread::spawn(move || match n {
                    0 => (0..2).for_each(|_| world.write(thread_rng().gen_range(0..2))),
                    _ => (0..3).for_each(|_| {
                        world.read(thread_rng().gen_range(0..2), thread_rng().gen_range(0..3));
                    }),
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(world.flights.in_flight(), 0, "no flight is left behind");
        let listed = format!("{:?}", world.store);
        assert!(listed.contains(&format!("entries: {},", world.gauge.entries())), "{listed}");
        for key in 0..2 {
            block_on(world.store.invalidate(&Crowded::slot(key, b"").key.into(), Strength::Hard))
                .unwrap();
        }
        assert_eq!(world.gauge.entries(), 0, "whatever is stored is listed under its key");
    });
}

//! Flights and the map of them.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasherDefault, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use super::broadcast::Broadcast;
use crate::{
    clock::{Instant, recent},
    fence::Fence,
    key::{Prehashed, Slot, Token, Variant},
    sync::{AtomicUsize, Mutex, Ordering, lock},
};

#[cfg(not(shuttle))]
const SHARDS: usize = 64;
#[cfg(shuttle)]
const SHARDS: usize = 1;

/// Result of a flight for its followers.
#[derive(Clone, Debug)]
pub(crate) enum Settled<T> {
    /// There is a response to share.
    Filled(T),
    /// There is none: refused, failed, or a server error. Each follower forwards by itself.
    Declined,
    /// The fill was lost. One follower leads another flight.
    Abandoned,
    /// A wait for another process's fill has ended, or the origin takes no more requests for now. Each
    /// follower looks again, and one of those that find nothing leads.
    Over,
}

/// Bounds on the flights of a layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Number of flights at a time.
    pub(crate) flights: usize,
    /// Number of followers of one flight.
    pub(crate) followers: usize,
    /// Time that a follower waits, and age up to which a flight may be joined.
    pub(crate) wait: Duration,
}

type FlightMap<T> = HashMap<FlightKey, Arc<Flight<T>>, BuildHasherDefault<Prehashed>>;

/// Identity of a flight that requests may join: the variant and, over a store that several processes
/// share, the token that the request has read there.
#[derive(Clone, PartialEq, Eq)]
struct FlightKey {
    variant: Variant,
    token: Option<Token>,
}

impl Hash for FlightKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let token = self.token.map_or(0, |token| token.number() as u64);
        state.write_u64(self.variant.seeded_hash() ^ token);
    }
}

/// Flights of one layer.
pub(crate) struct Flights<T> {
    shards: Box<[Mutex<FlightMap<T>>]>,
    in_flight: AtomicUsize,
    limits: Limits,
}

struct Flight<T> {
    slot: Slot,
    token: Option<Token>,
    fence: Fence,
    begun: Instant,
    followers: AtomicUsize,
    progress: Broadcast<Settled<T>>,
}

/// Role of a request among the flights.
pub(crate) enum Turn<T: Clone> {
    /// Forward, and settle the flight.
    Lead(Lead<T>),
    /// Wait.
    Follow(Follower<T>),
    /// Forward alone: there are too many flights, or too many followers on this one.
    Crowd,
}

impl<T: Clone> Flights<T> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            in_flight: AtomicUsize::new(0),
            limits,
        }
    }

    /// Joins the flight of a slot and a token, or leads one. `may_join` decides by the fence of a flight;
    /// `begin` takes the fence of a new one.
    pub(crate) fn enter(
        self: &Arc<Self>,
        slot: &Slot,
        token: Option<Token>,
        may_join: impl FnOnce(Fence) -> bool,
        begin: impl FnOnce() -> Fence,
    ) -> Turn<T> {
        let now = recent();
        let key = FlightKey { variant: slot.variant.clone(), token };
        let mut shard = lock(self.shard(&key.variant));
        let place = shard.entry(key);
        if let Entry::Occupied(known) = &place
            && let flight = known.get()
            && now.saturating_duration_since(flight.begun) < self.limits.wait
            && may_join(flight.fence)
        {
            return Follower::join(flight, self.limits.followers).map_or(Turn::Crowd, Turn::Follow);
        }
        if self.in_flight.load(Ordering::Relaxed) >= self.limits.flights {
            return Turn::Crowd;
        }
        let lead = self.begin(slot, token, begin(), now);
        // An older flight that may not be joined any more goes on for its followers.
        place.insert_entry(Arc::clone(&lead.flight));
        Turn::Lead(lead)
    }

    /// Leads a flight that no request can join.
    pub(crate) fn lead_privately(
        self: &Arc<Self>,
        slot: &Slot,
        token: Option<Token>,
        fence: Fence,
    ) -> Lead<T> {
        self.begin(slot, token, fence, recent())
    }

    fn begin(
        self: &Arc<Self>,
        slot: &Slot,
        token: Option<Token>,
        fence: Fence,
        begun: Instant,
    ) -> Lead<T> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let flight = Arc::new(Flight {
            slot: slot.clone(),
            token,
            fence,
            begun,
            followers: AtomicUsize::new(0),
            progress: Broadcast::new(),
        });
        Lead { flights: Arc::clone(self), flight, unsettled: Some(Dropped::Abandoned) }
    }

    /// Returns the number of flights that have not settled.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn shard(&self, variant: &Variant) -> &Mutex<FlightMap<T>> {
        &self.shards[variant.seeded_hash() as usize % SHARDS]
    }
}

/// Guard of a flight's leader. Dropped before it is settled, it abandons the flight.
pub(crate) struct Lead<T: Clone> {
    flights: Arc<Flights<T>>,
    flight: Arc<Flight<T>>,
    /// Result if the guard is dropped; `None` once the flight is settled.
    unsettled: Option<Dropped>,
}

/// Result of a flight whose leader is dropped.
#[derive(Clone, Copy, Debug)]
enum Dropped {
    Abandoned,
    Over,
}

impl<T: Clone> Lead<T> {
    /// Returns the fence that was taken when the flight began.
    pub(crate) fn fence(&self) -> Fence {
        self.flight.fence
    }

    pub(crate) fn slot(&self) -> &Slot {
        &self.flight.slot
    }

    /// Returns the token of the fill in the store.
    pub(crate) fn token(&self) -> Option<Token> {
        self.flight.token
    }

    /// Makes this a flight that waits for another process's fill. If the leader stops waiting, the fill
    /// goes on and the followers look again.
    pub(crate) fn awaiting(mut self) -> Self {
        self.unsettled = Some(Dropped::Over);
        self
    }

    /// Closes the flight to further requests. A check that follows then holds for all its followers.
    pub(crate) fn close(&self) {
        let Flight { slot, token, .. } = &*self.flight;
        let key = FlightKey { variant: slot.variant.clone(), token: *token };
        let mut shard = lock(self.flights.shard(&key.variant));
        if let Entry::Occupied(known) = shard.entry(key)
            && Arc::ptr_eq(known.get(), &self.flight)
        {
            known.remove();
        }
    }

    /// Shares the response while its body is still on the way. Later requests join the flight until it
    /// is settled.
    pub(crate) fn share(&self, response: T) {
        self.flight.progress.send(Settled::Filled(response));
    }

    /// Settles the flight with a response to share, which is made only for followers.
    pub(crate) fn fill(mut self, response: impl FnOnce() -> T) {
        self.settle(|| Settled::Filled(response()));
    }

    /// Settles the flight with nothing to share now: the followers look again.
    pub(crate) fn end(mut self) {
        self.settle(|| Settled::Over);
    }

    /// Settles the flight with nothing to share.
    pub(crate) fn decline(mut self) {
        self.settle(|| Settled::Declined);
    }

    fn settle(&mut self, settled: impl FnOnce() -> Settled<T>) {
        self.unsettled = None;
        self.close();
        // The flight leaves the map before its followers wake, so an abandoned follower can only join a new
        // one. No request joins after this check either: followers are counted under the map's lock.
        if self.flight.followers.load(Ordering::Relaxed) > 0 {
            self.flight.progress.send(settled());
        }
        self.flights.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T: Clone> Drop for Lead<T> {
    fn drop(&mut self) {
        if let Some(settled) = self.unsettled.take() {
            self.settle(|| match settled {
                Dropped::Abandoned => Settled::Abandoned,
                Dropped::Over => Settled::Over,
            });
        }
    }
}

/// Request that waits for a flight to settle. Dropping it harms no other request.
pub(crate) struct Follower<T> {
    flight: Arc<Flight<T>>,
}

impl<T: Clone> Follower<T> {
    fn join(flight: &Arc<Flight<T>>, limit: usize) -> Option<Self> {
        // Counted under the shard's lock, so the limit is exact.
        if flight.followers.load(Ordering::Relaxed) >= limit {
            return None;
        }
        flight.followers.fetch_add(1, Ordering::Relaxed);
        Some(Self { flight: Arc::clone(flight) })
    }

    /// Waits for the result.
    ///
    /// # Cancellation
    ///
    /// Dropping the future only takes this follower off the flight.
    pub(crate) async fn settled(self) -> Settled<T> {
        self.flight.progress.read().await
    }
}

impl<T> Drop for Follower<T> {
    fn drop(&mut self) {
        self.flight.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::fence::Sequence;

    #[test]
    fn a_follower_that_has_gone_makes_room_for_another() {
        let limits = Limits { flights: 1, followers: 1, wait: Duration::from_secs(5) };
        let flights = Arc::new(Flights::<()>::new(limits));
        let fence = Sequence::new().begin();
        let enter = || flights.enter(&Slot::example(), None, |_| true, || fence);
        let lead = enter();
        assert!(matches!(lead, Turn::Lead(_)));
        let follower = enter();
        assert!(matches!(follower, Turn::Follow(_)));
        assert!(matches!(enter(), Turn::Crowd));
        drop(follower);
        assert!(matches!(enter(), Turn::Follow(_)));
    }
}

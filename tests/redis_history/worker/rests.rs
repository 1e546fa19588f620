//! Keys that rest: each is written twice, the second time while the first is being filled or read, and
//! then left alone for longer than a message may take.
//!
//! A copy that a near cache keeps against the rules stays there until the server reports a change, and it
//! does so only once the key has been read there again. In the crowd of the other scenarios that is a
//! moment later, and a stale read before then is excused by a message on its way.
//! Here each process reads a key as one caller, so nothing is read at the server while a copy answers.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use super::{CALLERS, Run};
use crate::{random::Random, server::pause, world::By};

/// Between two rounds of a key, in milliseconds: longer than `PROVEN`.
const REST: u64 = 400;
/// By how much longer a rest may be, so that those of different keys drift apart.
const DRIFT: u64 = 200;
/// Duration in microseconds that a fill may take over a link that holds back.
const FILL: u64 = 20_000;

impl Run {
    /// Reads one key, always as the same caller.
    pub(super) async fn read_one(self: Arc<Self>, key: usize, mut random: Random) {
        loop {
            self.read_as(key, caller_of(key), &mut random).await;
            pause(Duration::from_micros(random.below(2000))).await;
        }
    }

    /// Writes one key of this process, twice, and lets it rest.
    pub(super) async fn write_one(self: Arc<Self>, key: usize, mut random: Random) {
        loop {
            self.overwrite(key, &mut random).await;
            match random.below(4) {
                // Into another's fill of what was written.
                0 => pause(Duration::from_micros(random.below(FILL))).await,
                // Into the reads that follow a fill of our own,
                1 => {
                    self.read_as(key, caller_of(key), &mut random).await;
                    pause(Duration::from_micros(random.below(FILL / 4))).await;
                }
                // and just when another's fill is done.
                _ => {
                    pause(Duration::from_micros(random.below(FILL))).await;
                    self.read_as(key, caller_of(key), &mut random).await;
                }
            }
            self.overwrite(key, &mut random).await;
            if random.in_percent(50) {
                self.read_as(key, caller_of(key), &mut random).await;
            }
            // Meanwhile we do not read it: a fill of ours is a change, too, that the server tells.
            pause(Duration::from_millis(REST + random.below(DRIFT))).await;
            self.read_as(key, caller_of(key), &mut random).await;
        }
    }

    async fn overwrite(self: &Arc<Self>, key: usize, random: &mut Random) {
        self.counters.invalidations.fetch_add(1, Relaxed);
        let (written, name) = (vec![(key, self.world.write(key))], format!("k:{key}"));
        if random.in_percent(20) {
            if self.delete(&name).await.is_ok() {
                self.acknowledge(&written, By::Stranger);
            }
        } else {
            self.invalidate(self.handle.invalidate(&name), written, random).await;
        }
    }
}

fn caller_of(key: usize) -> u64 {
    key as u64 % (1 + CALLERS)
}

//! Events of a day: who looks at what, who writes, and what agents change.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::parameters::{
    AGENT_CHANGES, BURSTS, CASES_PER_ACCOUNT, COMMENTS, Day, HOURS, OPENS_A_CASE, SEED,
    VIEWS_OF_A_BURST, ZIPF,
};

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from 0 to 1.
    pub(crate) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Event of a day.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// A customer opens the list, and a case if there is one here.
    View { account: usize, case: Option<usize> },
    /// A customer adds a comment to a case, which changes the list, too.
    Comment { account: usize, case: usize },
    /// An agent changes a case beside the portal.
    Change { account: usize, case: usize },
}

/// Returns the events of a day in their order.
pub(crate) fn events(day: Day) -> Vec<(Duration, Event)> {
    let mut random = Random::new(SEED);
    let popularity = Popularity::new(day.accounts);
    let mut events = Vec::new();
    for _ in 0..day.views {
        let (at, account) = (moment(&mut random), popularity.pick(&mut random));
        view(&mut random, &mut events, at, account);
    }
    for _ in 0..BURSTS {
        let (begin, account) = (moment(&mut random), popularity.pick(&mut random));
        for _ in 0..VIEWS_OF_A_BURST {
            let at = begin + Duration::from_secs_f64(60.0 * random.share());
            view(&mut random, &mut events, at, account);
        }
    }
    for _ in 0..(day.views as f64 * AGENT_CHANGES) as usize {
        let account = popularity.pick(&mut random);
        let case = random.below(CASES_PER_ACCOUNT);
        events.push((moment(&mut random), Event::Change { account, case }));
    }
    events.sort_by_key(|(at, _)| *at);
    events
}

fn view(random: &mut Random, events: &mut Vec<(Duration, Event)>, at: Duration, account: usize) {
    let case = random.below(CASES_PER_ACCOUNT);
    let opens = random.share() < OPENS_A_CASE;
    events.push((at, Event::View { account, case: opens.then_some(case) }));
    if random.share() < COMMENTS {
        let at = at + Duration::from_secs(30);
        events.push((at, Event::Comment { account, case }));
    }
}

/// Returns a moment of the day, by the weights of its hours.
fn moment(random: &mut Random) -> Duration {
    let all: u32 = HOURS.iter().sum();
    let mut left = random.below(all as usize) as u32;
    let hour = HOURS.iter().position(|weight| {
        let is_here = left < *weight;
        left = left.saturating_sub(*weight);
        is_here
    });
    Duration::from_secs_f64((hour.unwrap_or(0) as f64 + random.share()) * 3600.0)
}

/// Popularity of accounts by the law of Zipf.
struct Popularity(Vec<f64>);

impl Popularity {
    fn new(accounts: usize) -> Self {
        let mut sum = 0.0;
        let sums = (1..=accounts).map(|rank| {
            sum += (rank as f64).powf(-ZIPF);
            sum
        });
        Self(sums.collect())
    }

    fn pick(&self, random: &mut Random) -> usize {
        let all = self.0.last().copied().unwrap_or(0.0);
        let share = random.share() * all;
        self.0.partition_point(|sum| *sum <= share).min(self.0.len() - 1)
    }
}

/// Times at which resources have changed, by path, in milliseconds of the day.
#[derive(Default)]
pub(crate) struct Changes(Mutex<HashMap<String, Vec<u64>>>);

impl Changes {
    pub(crate) fn add(&self, path: String, at: u64) {
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        changes.entry(path).or_default().push(at);
    }

    /// Returns the time for which a response that was made at a time has not been true any more.
    pub(crate) fn staleness(&self, path: &str, made: u64, served: u64) -> u64 {
        let changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(changes) = changes.get(path) else { return 0 };
        let first = changes.partition_point(|at| *at <= made);
        changes.get(first).map_or(0, |at| served.saturating_sub(*at))
    }
}

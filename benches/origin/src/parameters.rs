//! Parameters of the days. They were committed before the controller was tuned on them.

use std::{ops::Range, time::Duration};

pub(crate) const SEED: u64 = 42;

/// Calls that the origin takes from midnight to midnight. It refuses the others.
pub(crate) const QUOTA: u32 = 15_000;

/// Time that a call takes, in milliseconds.
pub(crate) const LATENCY: Range<u64> = 250..400;

/// Lifetimes of the list of an account's cases and of the messages of a case.
pub(crate) const LIST_TTL: Duration = Duration::from_secs(120);
pub(crate) const MESSAGES_TTL: Duration = Duration::from_secs(60);

/// Windows of the controlled cache.
pub(crate) const WHILE_REVALIDATE: Duration = Duration::from_secs(120);
pub(crate) const IF_ERROR: Duration = Duration::from_secs(3600);

pub(crate) const CASES_PER_ACCOUNT: usize = 4;

/// Exponent of the popularity of accounts.
pub(crate) const ZIPF: f64 = 1.0;

/// Share of the views that open a case, and of those that add a comment.
pub(crate) const OPENS_A_CASE: f64 = 0.6;
pub(crate) const COMMENTS: f64 = 0.03;

/// Changes that agents make beside the portal, for each view: the cache does not hear of them.
pub(crate) const AGENT_CHANGES: f64 = 0.05;

/// Weights of the hours of a day.
pub(crate) const HOURS: [u32; 24] =
    [1, 1, 1, 1, 1, 2, 4, 12, 30, 40, 44, 40, 30, 36, 42, 38, 32, 20, 10, 6, 4, 3, 2, 1];

/// Mails that send everybody of one account to the portal within a minute.
pub(crate) const BURSTS: usize = 10;
pub(crate) const VIEWS_OF_A_BURST: usize = 150;

/// Day of the portal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Day {
    pub(crate) name: &'static str,
    pub(crate) views: usize,
    pub(crate) accounts: usize,
}

pub(crate) const DAYS: [Day; 3] = [
    Day { name: "below the quota", views: 9_000, accounts: 400 },
    Day { name: "fixed lifetimes overrun it", views: 17_000, accounts: 400 },
    Day { name: "cold misses and writes exceed it", views: 30_000, accounts: 10_000 },
];

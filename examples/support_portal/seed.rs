//! What is in the CRM at the start: accounts, cases and messages made from a seed.

use std::{collections::HashMap, ops::RangeInclusive};

use crate::crm::{Accounts, Case, Message};

pub(crate) const FIRST_ACCOUNT: &str = "A1";
pub(crate) const FIRST_CASE: &str = "C1";

const ACCOUNTS: u64 = 300;
const CASES: RangeInclusive<u64> = 2..=6;
const MESSAGES: RangeInclusive<u64> = 1..=8;

const PRODUCTS: [&str; 6] = ["Router", "Gateway", "Invoice", "Licence", "Backup", "Sensor"];
const PROBLEMS: [&str; 6] = [
    "restarts at night",
    "cannot be found",
    "is slow since the update",
    "shows the wrong amount",
    "was not delivered",
    "reports an error",
];
const REPORTS: [&str; 4] = [
    "It began on Monday, and we have not changed anything.",
    "We see it at both of our sites, several times a day.",
    "It has happened since the last update.",
    "A colleague noticed it this morning.",
];
const REPLIES: [&str; 4] = [
    "Thank you for the report. Could you send us the log?",
    "We can reproduce it here and are looking into it.",
    "Please try again with the new version.",
    "Our engineers have found the cause. We will keep you posted.",
];
const ANSWERS: [&str; 4] = [
    "We have tried it twice, with the same result.",
    "The log is attached.",
    "It is better now, but not gone.",
    "Thank you, we will try that tonight.",
];
const STATUSES: [&str; 3] = ["open", "waiting", "solved"];

/// Returns the names of all accounts.
pub(crate) fn account_names() -> impl Iterator<Item = String> {
    (1..=ACCOUNTS).map(|number| format!("A{number}"))
}

/// Fills a CRM. The same seed gives the same accounts, cases and messages.
pub(crate) fn accounts(seed: u64) -> Accounts {
    let mut random = Random::new(seed);
    let mut accounts = Accounts { by_name: HashMap::new(), case_count: 0, changes: 0 };
    for name in account_names() {
        let mut cases = Vec::new();
        for _ in 0..random.within(CASES) {
            accounts.case_count += 1;
            cases.push(case(accounts.case_count, &name, &mut random));
        }
        accounts.by_name.insert(name, cases);
    }
    accounts
}

fn case(number: u64, account: &str, random: &mut Random) -> Case {
    let subject = format!("{} {}", random.pick(&PRODUCTS), random.pick(&PROBLEMS));
    let status = random.pick(&STATUSES);
    let messages =
        (0..random.within(MESSAGES)).map(|turn| message(turn, account, random)).collect();
    Case { id: format!("C{number}"), subject, status, messages }
}

/// The customer writes first, then the two take turns.
fn message(turn: u64, account: &str, random: &mut Random) -> Message {
    let (author, sentences) = match turn {
        0 => (account, &REPORTS),
        turn if turn % 2 == 0 => (account, &ANSWERS),
        _ => ("support", &REPLIES),
    };
    Message { author: author.to_owned(), text: random.pick(sentences).to_owned() }
}

/// SplitMix64: enough to make up support cases and latencies, and the same on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.next() % (range.end() - range.start() + 1)
    }

    fn pick<const N: usize>(&mut self, choices: &[&'static str; N]) -> &'static str {
        choices[self.next() as usize % N]
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }
}

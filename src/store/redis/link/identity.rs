//! Identity of the server: what tells one run of it from another, and from a promoted replica.
//!
//! `run_id` is new at every start, and `master_replid` at every promotion. Without the first, the time of the
//! start stands in for it: `TIME` less the uptime, which no step of a clock changes where the server counts
//! the uptime by the same clock. Processes measure that time differently, so they agree on a *token* that is
//! planted at the server, and says beside a random number when the servers were started for which it holds.
//! A dump that is restored brings an old token back, for a server of another start.

use redis::{ErrorKind, RedisError};

use super::{
    node::{PrimaryInfo, ServerInfo},
    random::random,
};
use crate::store::redis::settings::ServerIdentity;

/// Difference in seconds between two measurements of one start: rounded twice, by clocks that differ.
const TOLERANCE: i64 = 4;

/// Age in seconds at which a start is told from that of the next run by more than the tolerance.
const SETTLED: i64 = 10;

/// Facts by which the primaries are known.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(Vec<PrimaryFacts>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct PrimaryFacts {
    run: Option<String>,
    replica: Option<String>,
    start: Option<Start>,
}

/// Time at which a server was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Start {
    /// Seconds of its clock.
    at: i64,
    age: i64,
}

impl Fingerprint {
    pub(super) fn of(info: &ServerInfo) -> Self {
        Self(info.primaries.iter().map(PrimaryFacts::of).collect())
    }

    /// Returns the digest of the runs, if the servers say which they are.
    pub(super) fn incarnation(&self) -> Option<u64> {
        let mut hasher = blake3::Hasher::new();
        for PrimaryFacts { run, replica, .. } in &self.0 {
            hasher.update(run.as_ref()?.as_bytes()).update(b" ");
            hasher.update(replica.as_ref()?.as_bytes()).update(b" ");
        }
        let mut incarnation = [0; 8];
        incarnation.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        Some(u64::from_be_bytes(incarnation))
    }

    /// Returns the reason why a token does not tell these servers from others; `None` if it does, or if what
    /// it does not tell is accepted.
    pub(super) fn problem(&self, accepted: ServerIdentity) -> Option<RedisError> {
        let is_young = |start: Option<Start>| start.is_some_and(|start| start.age < SETTLED);
        if self.0.iter().any(|primary| is_young(primary.start)) {
            let problem =
                "the server was started a moment ago, and has no `run_id`: it is used soon";
            return Some((ErrorKind::Client, problem).into());
        }
        let is_told = self.0.iter().all(|it| it.replica.is_some() && it.start.is_some());
        if is_told || accepted == ServerIdentity::TokenAlone {
            return None;
        }
        let problem = "the server does not say who it is, by `run_id` or by `master_replid` and \
             `uptime_in_seconds`: a restored dump or a promoted replica would pass for it; \
             see `RedisStoreBuilder::server_identity`";
        Some((ErrorKind::InvalidClientConfig, "its identity", problem.to_owned()).into())
    }

    /// Returns a token for these servers.
    pub(super) fn new_token(&self) -> String {
        let each = self.0.iter().map(|primary| {
            let start = primary.start.map_or("-".to_owned(), |start| start.at.to_string());
            format!(" {}@{start}", primary.replica.as_deref().unwrap_or("-"))
        });
        format!("{:016x}{}", random() as u64, each.collect::<String>())
    }

    /// Returns the number of a token, if it is for these servers.
    pub(super) fn number_of(&self, token: &str) -> Option<u64> {
        let mut words = token.split(' ');
        let number = words.next().filter(|number| number.len() == 16)?;
        let mut primaries = self.0.iter();
        let are_these = words.by_ref().all(|word| {
            let primary = primaries.next();
            primary.zip(word.split_once('@')).is_some_and(|(primary, (replica, start))| {
                replica == primary.replica.as_deref().unwrap_or("-") && primary.began(start)
            })
        });
        let is_whole = are_these && primaries.next().is_none();
        u64::from_str_radix(number, 16).ok().filter(|_| is_whole)
    }
}

impl PrimaryFacts {
    fn of(primary: &PrimaryInfo) -> Self {
        let time = i64::try_from(primary.time / 1000).unwrap_or(i64::MAX);
        let field = |info, name| line(info, name).map(str::to_owned);
        let age = line(&primary.server, "uptime_in_seconds:").and_then(|age| age.parse().ok());
        Self {
            run: field(&primary.server, "run_id:"),
            // No words: the token has them between spaces.
            replica: field(&primary.replication, "master_replid:").filter(|id| is_word(id)),
            start: age.map(|age: i64| Start { at: time.saturating_sub(age), age }),
        }
    }

    /// Returns whether this is the server that was started at a time.
    fn began(&self, start: &str) -> bool {
        match (self.start, start.parse::<i64>()) {
            (Some(start), Ok(at)) => at.abs_diff(start.at) <= TOLERANCE.unsigned_abs(),
            (None, _) => start == "-",
            (Some(_), Err(_)) => false,
        }
    }
}

impl PrimaryInfo {
    /// Returns whether another answer is of the same run, as far as it says.
    #[cfg(feature = "redis-cluster")]
    pub(super) fn is_same_run(&self, other: &Self) -> bool {
        let run = |info: &Self| {
            let replica = PrimaryFacts::of(info).replica;
            (line(&info.server, "run_id:").map(str::to_owned), replica)
        };
        run(self) == run(other)
    }
}

fn is_word(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Returns the value of a line of `INFO`.
pub(super) fn line<'i>(info: &'i str, name: &str) -> Option<&'i str> {
    info.lines().find_map(|line| line.strip_prefix(name))
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    /// Returns what a server is known by that was started at a second, asked some seconds later.
    fn fingerprint(replica: &str, start: i64, age: i64) -> Fingerprint {
        let server = format!("# Server\r\nuptime_in_seconds:{age}\r\n");
        let replication = format!("role:master\r\nmaster_replid:{replica}\r\n");
        let time = (start + age) as u64 * 1000 + 999;
        Fingerprint::of(&ServerInfo {
            primaries: vec![PrimaryInfo { server, replication, time }],
            time,
        })
    }

    #[test]
    fn a_token_is_for_one_run_of_one_primary() {
        let token = fingerprint("a1", 1000, 50).new_token();
        let is_for = |replica, start, age| fingerprint(replica, start, age).number_of(&token);
        assert!(is_for("a1", 1000, 60).is_some(), "later");
        assert!(is_for("a1", 1001, 60).is_some(), "rounded differently");
        assert_eq!(is_for("b2", 1000, 60), None, "promoted since");
        assert_eq!(is_for("a1", 1000 + SETTLED, 60), None, "started again, from its dump");
        assert_eq!(is_for("a1", 1000 - SETTLED, 60), None);
        let both =
            Fingerprint([fingerprint("a1", 1000, 50).0, fingerprint("b2", 9, 50).0].concat());
        let of_both = both.new_token();
        assert!(both.number_of(&of_both).is_some());
        assert_eq!(both.number_of(&token), None);
        assert_eq!(fingerprint("a1", 1000, 50).number_of(&of_both), None);
        for foreign in ["", "x", "0123456789abcdef", &token[1..], &format!("{token} "), "🦀"] {
            assert_eq!(fingerprint("a1", 1000, 50).number_of(foreign), None, "{foreign}");
        }
    }

    /// The next run of a server begins at the earliest once the token was planted.
    #[test]
    fn no_next_run_is_within_the_tolerance_of_a_token() {
        const { assert!(SETTLED > 2 * TOLERANCE) };
        let at = |age| fingerprint("a1", 1000, age).problem(ServerIdentity::Reported);
        assert!(at(SETTLED - 1).is_some() && at(SETTLED).is_none());
        let token = fingerprint("a1", 1000, SETTLED).new_token();
        assert_eq!(fingerprint("a1", 1000 + SETTLED, SETTLED).number_of(&token), None);
    }

    #[test]
    fn a_server_that_says_too_little_is_refused_unless_that_is_accepted() {
        let silent = |server: &str, replication: &str| {
            let (server, replication) = (server.to_owned(), replication.to_owned());
            let time = 9_000_000;
            Fingerprint::of(&ServerInfo {
                primaries: vec![PrimaryInfo { server, replication, time }],
                time,
            })
        };
        let (run, replica, age) = ("run_id:r", "master_replid:a1", "uptime_in_seconds:3600");
        for (server, replication, is_run, is_told) in [
            (&format!("{run}\r\n{age}")[..], replica, true, true),
            (run, replica, true, true),
            (age, replica, false, true),
            (run, "", false, false),
            (age, "", false, false),
            ("", replica, false, false),
            ("", "master_replid:a 1", false, false),
        ] {
            let found = silent(server, replication);
            assert_eq!(found.incarnation().is_some(), is_run);
            let is_refused = |accepted| found.problem(accepted).is_some();
            // Asked only where there is no run.
            assert_eq!(is_refused(ServerIdentity::Reported) && !is_run, !is_told, "{found:?}");
            assert!(!is_refused(ServerIdentity::TokenAlone));
            assert!(found.number_of(&found.new_token()).is_some(), "{found:?}");
        }
    }
}

//! Log of recent writes, and the rules that they lack.

use std::collections::{BTreeMap, VecDeque};

use http::Method;

use crate::{
    clock::{Instant, now},
    key::{TextPiece, pieces},
    sync::{Mutex, lock},
};

/// Number of writes that are kept.
const MAX_WRITES: usize = 1024;
/// Length of a path that is kept, in bytes.
const MAX_PATH: usize = 512;
/// Number of kinds of writes that are told apart for a bucket.
const MAX_KINDS: usize = 128;

/// Rule that seems to be missing: writes of a kind came before changes that nothing has invalidated.
///
/// ```
/// use tower_support_cache::MissingRule;
///
/// /// Rules worth adding: most of the writes changed the bucket.
/// fn likely(rules: &[MissingRule]) -> impl Iterator<Item = &str> {
///     rules.iter().filter(|rule| rule.held > 9 * rule.failed).map(|rule| &*rule.line)
/// }
/// assert_eq!(likely(&[]).count(), 0);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MissingRule {
    /// Line to add to the layer's builder, or to start from.
    pub line: String,
    /// Audits that have found a change after such a write.
    pub held: u64,
    /// Audits that have found none although there was such a write.
    pub failed: u64,
}

/// Log of the last writes.
#[derive(Debug, Default)]
pub(crate) struct WriteLog(Mutex<VecDeque<LoggedWrite>>);

#[derive(Clone, Debug)]
pub(crate) struct LoggedWrite {
    at: Instant,
    method: Method,
    path: String,
}

/// Target of a read that was audited, as far as a rule for it needs it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadTarget {
    /// Names and values of its path parameters.
    pub(crate) parameters: Vec<(String, String)>,
    /// Template of its key, if it has one.
    pub(crate) key: Option<String>,
    /// Templates of its tags.
    pub(crate) tags: Vec<String>,
}

/// Counts of the kinds of writes that came before audits of a bucket.
#[derive(Debug, Default)]
pub(crate) struct WriteKinds(BTreeMap<String, Tally>);

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    held: u64,
    failed: u64,
}

impl WriteLog {
    pub(crate) fn note(&self, method: &Method, path: &str) {
        if path.len() > MAX_PATH {
            return;
        }
        let mut writes = lock(&self.0);
        if writes.len() >= MAX_WRITES {
            writes.pop_front();
        }
        writes.push_back(LoggedWrite { at: now(), method: method.clone(), path: path.to_owned() });
    }

    /// Returns the writes that ended in an interval.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> Vec<LoggedWrite> {
        let writes = lock(&self.0);
        writes.iter().filter(|write| from <= write.at && write.at <= to).cloned().collect()
    }
}

impl WriteKinds {
    /// Counts writes that came before an audit, each kind once.
    pub(crate) fn count(&mut self, writes: &[LoggedWrite], target: &ReadTarget, has_changed: bool) {
        let mut lines: Vec<_> = writes.iter().map(|write| write.rule(target)).collect();
        lines.sort_unstable();
        lines.dedup();
        for line in lines {
            if self.0.len() >= MAX_KINDS && !self.0.contains_key(&line) {
                continue;
            }
            let tally = self.0.entry(line).or_default();
            match has_changed {
                true => tally.held += 1,
                false => tally.failed += 1,
            }
        }
    }

    /// Returns the rules that have held, the most certain first.
    pub(crate) fn report(&self) -> Vec<MissingRule> {
        let held = self.0.iter().filter(|(_, tally)| tally.held > 0);
        let mut rules: Vec<_> = held
            .map(|(line, Tally { held, failed })| MissingRule {
                line: line.clone(),
                held: *held,
                failed: *failed,
            })
            .collect();
        // By the share that held, and then by their number.
        rules.sort_by_key(|rule| {
            let share = 1000 * rule.held / (rule.held + rule.failed);
            std::cmp::Reverse((share, rule.held))
        });
        rules
    }
}

impl LoggedWrite {
    /// Returns the rule by which it would have invalidated a read.
    fn rule(&self, target: &ReadTarget) -> String {
        let mut names: Vec<String> = Vec::new();
        let segments = self.path.split('/').map(|segment| {
            let shared = target.parameters.iter().find(|(_, value)| value == segment);
            let name = match shared {
                Some((name, _)) if !names.contains(name) => name.clone(),
                None if is_identifier(segment) => format!("id{}", names.len() + 1),
                _ => return segment.replace('{', "{{").replace('}', "}}"),
            };
            names.push(name.clone());
            format!("{{{name}}}")
        });
        let pattern = segments.collect::<Vec<_>>().join("/");
        let route = match self.method.as_str() {
            "POST" => format!("InvalidateRoute::post(\"{pattern}\")"),
            "PUT" => format!("InvalidateRoute::put(\"{pattern}\")"),
            "PATCH" => format!("InvalidateRoute::patch(\"{pattern}\")"),
            "DELETE" => format!("InvalidateRoute::delete(\"{pattern}\")"),
            other => {
                format!(
                    "InvalidateRoute::new(Method::from_bytes(b\"{other}\").unwrap(), \"{pattern}\")"
                )
            }
        };
        let can_make = |template: &&String| has_only(template, &names);
        let key = target.key.iter().find(can_make).map(|key| format!(".key(\"{key}\")"));
        let tag = || target.tags.iter().find(can_make).map(|tag| format!(".tag(\"{tag}\")"));
        let subject = key.or_else(tag);
        // Without a parameter in common only a tag that the route does not have yet can be named.
        format!(".invalidate({route}{})", subject.as_deref().unwrap_or(".tag(\"…\")"))
    }
}

/// Returns whether a segment looks like the name of one resource.
fn is_identifier(segment: &str) -> bool {
    segment.bytes().any(|byte| byte.is_ascii_digit()) || segment.contains('%') || segment.len() > 24
}

/// Returns whether a template needs no other parameters than these.
fn has_only(template: &str, names: &[String]) -> bool {
    pieces(template).is_ok_and(|pieces| {
        pieces.iter().all(|piece| match piece {
            TextPiece::Literal(_) => true,
            TextPiece::Placeholder(name) => names.iter().any(|known| known == name),
        })
    })
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[track_caller]
    fn check(method: &str, path: &str, expected: &str) {
        let target = ReadTarget {
            parameters: vec![("account".to_owned(), "A1".to_owned())],
            key: Some("cases:{account}".to_owned()),
            tags: vec!["all".to_owned()],
        };
        let method = method.parse().expect("a method");
        let write = LoggedWrite { at: now(), method, path: path.to_owned() };
        assert_eq!(write.rule(&target), format!(".invalidate(InvalidateRoute::{expected})"));
    }

    #[test]
    fn a_rule_shares_the_parameters_of_the_read() {
        check(
            "PATCH",
            "/accounts/A1/limits",
            r#"patch("/accounts/{account}/limits").key("cases:{account}")"#,
        );
        check("POST", "/a/A1/b/7/A1", r#"post("/a/{account}/b/{id2}/A1").key("cases:{account}")"#);
        check("DELETE", "/all", r#"delete("/all").tag("all")"#);
        check("PUT", "/cases/7", r#"put("/cases/{id1}").tag("all")"#);
    }
}

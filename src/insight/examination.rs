//! Examination of a stored response: what the origin says of it, and why it says something else.

use std::future::Future;

use http::HeaderName;

use super::{comparison::Difference, digests::ResponseDigest};

/// Requests by which a field is tried. A handler that does not read it passes with a chance of one in a
/// million, whatever it does: only the tosses decide which of the requests have the field changed.
const TOSSES: u32 = 20;

/// Fields that are tried in one examination.
const MAX_TRIALS: usize = 8;

/// Finding about a stored response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The origin says the same.
    Confirmed,
    /// Two answers to one request differ, in this part.
    NotDeterministic(Difference),
    /// The answer depends on this field of the request.
    Undeclared(HeaderName),
    /// The origin says something else now.
    Changed,
}

/// Origin that is asked again and again for one request.
pub(crate) trait Examined {
    /// Asks once, with one field of the request changed. `None` if there is no answer.
    fn ask(
        &mut self,
        changed: Option<&HeaderName>,
    ) -> impl Future<Output = Option<ResponseDigest>> + Send;

    /// Tosses a coin.
    fn toss(&mut self) -> bool;
}

/// Examines a stored response. `suspects` are the request fields that differ from those of its fill.
/// `None` if the origin does not answer.
pub(crate) async fn examine(
    stored: &ResponseDigest,
    suspects: &[HeaderName],
    origin: &mut (impl Examined + Send),
) -> Option<Finding> {
    let answer = origin.ask(None).await?;
    if answer == *stored {
        return Some(Finding::Confirmed);
    }
    if let Some(part) = answer.difference(&origin.ask(None).await?) {
        return Some(Finding::NotDeterministic(part));
    }
    for suspect in suspects.iter().take(MAX_TRIALS) {
        if is_guilty(suspect, &answer, origin).await? {
            return Some(Finding::Undeclared(suspect.clone()));
        }
    }
    Some(Finding::Changed)
}

/// Tries whether the answers follow a field: each differs exactly where the field is changed. The tosses make
/// the order, so that nothing that happens at the origin meanwhile looks like the field's doing.
async fn is_guilty(
    suspect: &HeaderName,
    unchanged: &ResponseDigest,
    origin: &mut (impl Examined + Send),
) -> Option<bool> {
    let mut has_changed = false;
    for left in (0..TOSSES).rev() {
        let is_changed = origin.toss() || left == 0 && !has_changed;
        has_changed |= is_changed;
        let answer = origin.ask(is_changed.then_some(suspect)).await?;
        if (answer != *unchanged) != is_changed {
            return Some(false);
        }
    }
    Some(true)
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::verify::random::Random;

    const RUNS: u64 = 10_000;

    fn answer(value: u64) -> ResponseDigest {
        let body = blake3::hash(&value.to_be_bytes());
        ResponseDigest::new(StatusCode::OK, &HeaderMap::new(), &[], body)
    }

    fn field(number: usize) -> HeaderName {
        HeaderName::try_from(format!("x-{number}")).expect("a name")
    }

    /// Way in which a handler lies.
    #[derive(Clone, Copy, Debug)]
    enum Lie {
        /// It has changed since the fill, and stays so.
        Changed,
        /// It changes again at this call.
        ChangesAt(u64),
        /// It counts its calls, and shows every n-th.
        Counter(u64),
        /// It throws a coin with this number of sides.
        Coin(usize),
        /// It goes round through this number of answers.
        Cycle(u64),
        /// It reflects a field.
        Reflects(usize),
        /// It reflects a field, and changes at this call.
        ReflectsAndChanges(usize, u64),
    }

    struct Handler<'r> {
        lie: Lie,
        calls: u64,
        random: &'r mut Random,
    }

    impl Examined for Handler<'_> {
        async fn ask(&mut self, changed: Option<&HeaderName>) -> Option<ResponseDigest> {
            self.calls += 1;
            let reflected = |of: usize| u64::from(changed == Some(&field(of)));
            Some(answer(match self.lie {
                Lie::Changed => 1,
                Lie::ChangesAt(at) => 1 + u64::from(self.calls >= at),
                Lie::Counter(each) => 1 + self.calls / each,
                Lie::Coin(sides) => self.random.below(sides) as u64,
                Lie::Cycle(length) => self.calls % length,
                Lie::Reflects(of) => 1 + reflected(of),
                Lie::ReflectsAndChanges(of, at) => {
                    1 + reflected(of) + 2 * u64::from(self.calls >= at)
                }
            }))
        }

        fn toss(&mut self) -> bool {
            self.random.below(2) == 0
        }
    }

    fn any_lie(random: &mut Random, suspects: usize) -> Lie {
        let suspect = random.below(suspects.max(1));
        let at = 2 + random.below(20) as u64;
        match random.below(7) {
            0 => Lie::Changed,
            1 => Lie::ChangesAt(at),
            2 => Lie::Counter(at / 2),
            3 => Lie::Coin(2 + random.below(3)),
            4 => Lie::Cycle(2 + random.below(5) as u64),
            5 => Lie::Reflects(suspect),
            _ => Lie::ReflectsAndChanges(suspect, at),
        }
    }

    #[tokio::test]
    async fn no_innocent_field_is_accused_in_ten_thousand_runs_and_each_plain_lie_has_its_cause() {
        let mut named = 0;
        for seed in 0..RUNS {
            let random = &mut Random::of(seed);
            let suspects: Vec<_> = (0..random.below(5)).map(field).collect();
            let lie = any_lie(random, suspects.len());
            let mut handler = Handler { lie, calls: 0, random };
            let finding = examine(&answer(0), &suspects, &mut handler).await.expect("it answers");
            let guilty = match lie {
                Lie::Reflects(of) | Lie::ReflectsAndChanges(of, _) => suspects.get(of),
                _ => None,
            };
            match (lie, &finding) {
                (_, Finding::Undeclared(accused)) => {
                    assert_eq!(Some(accused), guilty, "seed {seed}: {lie:?}");
                    named += 1;
                }
                (Lie::Changed, _) => assert_eq!(finding, Finding::Changed, "seed {seed}"),
                (Lie::Reflects(_), _) => {
                    assert_eq!((&finding, guilty), (&Finding::Changed, None), "seed {seed}");
                }
                (Lie::Counter(1), _) => {
                    assert_eq!(finding, Finding::NotDeterministic(Difference::Body), "seed {seed}");
                }
                _ => {}
            }
        }
        assert!(named > 1000, "{named}");
    }
}

//! Many requests at once for one target.

use std::{
    collections::HashMap,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use tokio::{runtime::Runtime, task::JoinSet, time::timeout};

use super::{Bench, bare_and_in_memory, columns, in_memory, median_of};
use crate::{
    columns::{ALL, Entry, Keeps},
    course::{FIRST, pause, runtime_of_two},
    origin::{BODY_LENGTH, Content, Pace, Script, Storable},
    report::Cell,
    site::{AnySite, Plan, Seen, Wish},
};

const TURNS: usize = 7;
/// Who has no answer by then has none.
const PATIENCE: Duration = Duration::from_secs(3);

struct Course {
    script: &'static Script,
    /// Among which the crowd is divided.
    sites: Vec<AnySite>,
}

fn built(
    runtime: &Runtime,
    columns: Vec<&'static Entry>,
    script: impl Fn() -> &'static Script,
) -> Vec<(&'static Entry, Course)> {
    let mut built = Vec::new();
    for column in columns {
        let script = script();
        built.push((column, runtime.block_on(course(column, Plan::new(script), 1))));
    }
    built
}

async fn course(column: &'static Entry, plan: Plan, services: usize) -> Course {
    let mut sites = Vec::new();
    for _ in 0..services {
        let site = (column.build)(plan.clone()).await;
        // What is made once is made by another request.
        let _ = timeout(PATIENCE, site.ask(Wish::get(), FIRST)).await;
        sites.push(site);
    }
    Course { script: plan.script, sites }
}

/// What became of a crowd.
struct Crowd {
    calls: f64,
    failed: f64,
    hung: f64,
    /// Milliseconds that the slowest of a hundred took, and the last.
    p99: f64,
    last: f64,
    seen: Vec<Seen>,
}

/// Waits for all who ask, but not for ever.
async fn gather(asked: JoinSet<(f64, Result<Seen, String>)>, course: &Course, calls: u64) -> Crowd {
    let all = asked.len();
    let mut asked = asked;
    let (mut times, mut seen, mut failed) = (Vec::new(), Vec::new(), 0);
    let _ = timeout(PATIENCE, async {
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok((time, Ok(answer))) if answer.status == 200 => {
                    times.push(time);
                    seen.push(answer);
                }
                _ => failed += 1,
            }
        }
    })
    .await;
    let hung = all - times.len() - failed;
    asked.abort_all();
    times.sort_by(f64::total_cmp);
    let at =
        |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1)));
    Crowd {
        calls: (course.script.calls() - calls) as f64,
        failed: failed as f64,
        hung: hung as f64,
        p99: at(99).copied().unwrap_or(f64::NAN),
        last: at(100).copied().unwrap_or(f64::NAN),
        seen,
    }
}

/// Asks for a target, the n-th of a crowd.
fn ask(
    course: &Course,
    number: u32,
    nth: usize,
) -> impl Future<Output = (f64, Result<Seen, String>)> + use<> {
    let asked = course.sites[nth % course.sites.len()].ask(Wish::get(), number);
    async move {
        let begun = Instant::now();
        let answer = asked.await;
        (begun.elapsed().as_secs_f64() * 1000.0, answer)
    }
}

// ===== one cold key =====

const COLD: usize = 1000;
const HANDLER: Duration = Duration::from_millis(50);

fn cold() -> &'static Script {
    Script::new(Storable::Yes, Content::Owned(BODY_LENGTH), Pace::After(HANDLER))
}

/// 1,000 requests at once for one target that is not stored, with a handler of 50 ms.
pub fn cold_key(bench: &mut Bench) -> Vec<Cell> {
    let runtime = runtime_of_two();
    let columns = built(&runtime, bare_and_in_memory(), cold);
    let rounds = bench.rounds(TURNS, &columns, |_, course, round| {
        runtime.block_on(async {
            let number = FIRST + 1 + round as u32;
            let before = course.script.calls();
            let asked: JoinSet<_> = (0..COLD).map(|nth| ask(course, number, nth)).collect();
            gather(asked, course, before).await
        })
    });
    cells(&columns, &rounds)
}

/// The same, divided among several services, each as a process has it, on one Redis.
pub fn cold_key_shared(bench: &mut Bench) -> Vec<Cell> {
    let runtime = runtime_of_two();
    let url = bench.url();
    let mut told = Vec::new();
    for services in [2, 8] {
        let mut built = Vec::new();
        for column in columns(&[Keeps::Redis]) {
            let plan = Plan { redis: Some(url.clone()), ..Plan::new(cold()) };
            built.push((column, runtime.block_on(course(column, plan, services))));
        }
        // What an earlier crowd has stored is of other numbers.
        let first = FIRST + 1000 * services as u32;
        let rounds = bench.rounds(TURNS, &built, |column, course, round| {
            let nth = ALL.iter().position(|other| other.name == column.name).unwrap_or(0);
            runtime.block_on(async {
                let number = first + 20 * nth as u32 + round as u32;
                let before = course.script.calls();
                let asked: JoinSet<_> = (0..COLD).map(|nth| ask(course, number, nth)).collect();
                gather(asked, course, before).await
            })
        });
        told.extend(cells(&built, &rounds).into_iter().map(|cell| cell.at(services)));
    }
    told
}

/// The same, and the first of them is dropped while the handler works.
pub fn cold_key_cancelled(bench: &mut Bench) -> Vec<Cell> {
    let runtime = runtime_of_two();
    let columns = built(&runtime, in_memory(), cold);
    let rounds = bench.rounds(3, &columns, |_, course, round| {
        runtime.block_on(async {
            let number = FIRST + 1 + round as u32;
            let before = course.script.calls();
            let leader = tokio::spawn(ask(course, number, 0));
            while course.script.calls.load(Ordering::SeqCst) == before {
                pause(Duration::from_millis(1)).await;
            }
            let asked: JoinSet<_> = (1..COLD).map(|nth| ask(course, number, nth)).collect();
            pause(Duration::from_millis(10)).await;
            leader.abort();
            gather(asked, course, before).await
        })
    });
    cells(&columns, &rounds)
}

fn cells(columns: &[(&'static Entry, Course)], rounds: &[Vec<Crowd>]) -> Vec<Cell> {
    let cell = |(index, (column, _)): (usize, &(&'static Entry, Course))| {
        let of = |number: fn(&Crowd) -> f64| median_of(rounds, index, number);
        let mut cell = Cell::new(
            column.name,
            [
                ("calls", of(|crowd| crowd.calls)),
                ("failed", of(|crowd| crowd.failed)),
                ("hung", of(|crowd| crowd.hung)),
            ],
        );
        let p99 = of(|crowd| crowd.p99);
        if p99.is_finite() {
            cell.values.extend(Cell::new("", [("p99_ms", p99)]).values);
        }
        cell
    };
    columns.iter().enumerate().map(cell).collect()
}

// ===== what may not be shared =====

const BURST: usize = 200;

/// 200 requests at once for one target whose response may not be stored, with a handler of 20 ms, and
/// then 200 more.
pub fn no_store(bench: &mut Bench) -> Vec<Cell> {
    let script =
        || Script::new(Storable::No, Content::Serial, Pace::After(Duration::from_millis(20)));
    let runtime = runtime_of_two();
    let columns = built(&runtime, bare_and_in_memory(), script);
    let rounds = bench.rounds(5, &columns, |_, course, round| {
        runtime.block_on(async {
            let number = FIRST + 1 + round as u32;
            let burst = async || {
                let before = course.script.calls();
                let asked: JoinSet<_> = (0..BURST).map(|nth| ask(course, number, nth)).collect();
                gather(asked, course, before).await
            };
            (burst().await, burst().await)
        })
    });
    let cell = |(index, (column, _)): (usize, &(&'static Entry, Course))| {
        let of = |number: &dyn Fn(&(Crowd, Crowd)) -> f64| median_of(&rounds, index, number);
        Cell::new(
            column.name,
            [
                ("first_ms", of(&|(first, _)| first.last)),
                ("second_ms", of(&|(_, second)| second.last)),
                ("shared", of(&|(first, second)| shared(&[&first.seen, &second.seen]))),
                ("hung", of(&|(first, second)| first.hung + second.hung)),
            ],
        )
    };
    columns.iter().enumerate().map(cell).collect()
}

/// Returns how many got a response that another got too.
fn shared(bursts: &[&Vec<Seen>]) -> f64 {
    let mut times: HashMap<&[u8], usize> = HashMap::new();
    for seen in bursts.iter().flat_map(|burst| burst.iter()) {
        *times.entry(&seen.body).or_default() += 1;
    }
    times.values().filter(|times| **times > 1).sum::<usize>() as f64
}

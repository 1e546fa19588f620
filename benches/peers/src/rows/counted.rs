//! What is counted and not timed, each in a process of its own: instructions by callgrind, pieces and
//! bytes by an allocator that counts. What else the machine does is of no account.

use std::{
    collections::VecDeque,
    process::Command,
    sync::Mutex,
    thread::{self, available_parallelism},
};

use super::{Bench, columns, median};
use crate::{
    columns::{Entry, Keeps, named},
    course::{Course, FIRST, SPREAD, Size, Work, runtime, share},
    origin::Script,
    report::Cell,
    site::{Plan, Wish},
};

/// Hash seeds differ between processes: the median of so many runs is taken.
const RUNS: usize = 3;
/// Requests of which the instructions are collected.
pub const COUNTED: usize = 1024;

pub fn hit(bench: &mut Bench) -> Vec<Cell> {
    counted(bench, Work::Hit, &["harness"])
}

pub fn miss(bench: &mut Bench) -> Vec<Cell> {
    counted(bench, Work::Miss, &["harness", "bare"])
}

pub fn unmatched(bench: &mut Bench) -> Vec<Cell> {
    counted(bench, Work::Unmatched, &["harness", "bare"])
}

pub fn post(bench: &mut Bench) -> Vec<Cell> {
    counted(bench, Work::Post, &["harness", "bare"])
}

fn counted(bench: &mut Bench, work: Work, floor: &[&str]) -> Vec<Cell> {
    let mut of: Vec<_> = floor.iter().filter_map(|name| named(name)).collect();
    // The minimum takes a response to a POST for one to a GET, and stores what no route is for.
    let is_for_minimum = matches!(work, Work::Hit | Work::Miss);
    let is_minimum = |column: &&&Entry| column.name.starts_with("minimum");
    let caches = columns(&[Keeps::Memory]);
    of.extend(caches.iter().filter(|column| is_for_minimum || !is_minimum(column)));
    both(bench, work, &of)
}

pub fn redis_hit(bench: &mut Bench) -> Vec<Cell> {
    both(bench, Work::RedisHit, &columns(&[Keeps::RawRedis, Keeps::Redis]))
}

fn both(bench: &mut Bench, work: Work, columns: &[&'static Entry]) -> Vec<Cell> {
    let asked: Vec<_> = columns.iter().map(|column| (*column, work, Size::ONE)).collect();
    let instructions = instructions(bench, &asked);
    columns
        .iter()
        .zip(instructions)
        .map(|(column, counted)| {
            let told = counted.and_then(|counted| {
                let arguments = ["allocations", work.name(), column.name];
                Ok((counted, count(bench, &arguments)?))
            });
            match told {
                Ok((instructions, allocations)) => Cell::new(
                    column.name,
                    [("instructions", instructions), ("allocations", allocations)],
                ),
                Err(why) => Cell::fault(column.name, why),
            }
        })
        .collect()
}

/// Returns the median instructions of one request for each of what is asked.
pub fn instructions(
    bench: &mut Bench,
    asked: &[(&'static Entry, Work, Size)],
) -> Vec<Result<f64, String>> {
    bench.progress.steps(asked.len() * RUNS);
    let url = bench.server.url();
    let jobs: VecDeque<_> = (0..asked.len()).flat_map(|index| [index; RUNS]).collect();
    let (jobs, progress) = (Mutex::new(jobs), Mutex::new(&mut bench.progress));
    let found: Vec<_> = asked.iter().map(|_| Mutex::new(Vec::new())).collect();
    let work = || {
        while let Some(index) = { jobs.lock().expect("no worker panics").pop_front() } {
            let (column, work, size) = asked[index];
            progress.lock().expect("no worker panics").step(column.name);
            let counted =
                callgrind(column, (work, size), &url, &[]).map(|log| instructions_of(&log));
            found[index].lock().expect("no worker panics").push(counted);
        }
    };
    thread::scope(|scope| {
        for _ in 0..available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    found
        .into_iter()
        .map(|runs| {
            let runs = runs.into_inner().expect("no worker panics");
            runs.into_iter().collect::<Result<Vec<_>, _>>().map(median)
        })
        .collect()
}

/// Runs this program again under callgrind, which collects inside `counted_section` alone, and returns
/// what callgrind says.
fn callgrind(
    column: &Entry,
    (work, size): (Work, Size),
    url: &str,
    options: &[&str],
) -> Result<String, String> {
    let program = std::env::current_exe().expect("this program has a path");
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=*counted_section*")
        .args(options)
        .arg(program)
        .args(["child", work.name(), column.name])
        .args([size.routes.to_string(), size.variants.to_string()])
        .env("PEERS_REDIS_URL", url)
        .output()
        .expect("valgrind starts");
    let log = String::from_utf8_lossy(&run.stderr);
    if !run.status.success() {
        return Err(log
            .lines()
            .find(|line| !line.starts_with("=="))
            .unwrap_or("it fails")
            .to_owned());
    }
    Ok(log.into_owned())
}

/// Returns the instructions of one request.
fn instructions_of(log: &str) -> f64 {
    let collected = log.lines().find_map(|line| line.split_once("Collected : "));
    let (_, collected) = collected.expect("callgrind tells what it has collected");
    // With more than instructions there are more numbers.
    let collected = collected.split_whitespace().next().expect("the first is of instructions");
    collected.parse::<f64>().expect("it is a number") / COUNTED as f64
}

/// Returns misses of a cache, of one request.
fn misses_of(log: &str, cache: &str) -> f64 {
    let told = log.lines().find_map(|line| line.split_once(cache)?.1.split_once("misses:"));
    let (_, told) = told.expect("callgrind tells what its caches missed");
    let digits = |text: &str| text.replace(',', "").parse::<f64>().ok();
    told.split_whitespace().find_map(digits).expect("it is a number") / COUNTED as f64
}

/// Misses of the processor's first caches, as callgrind simulates them: of hits strewn over many keys, and
/// of hits over Redis.
pub fn cache_misses(bench: &mut Bench) -> Vec<Cell> {
    // The same on every machine.
    const CACHES: [&str; 4] =
        ["--cache-sim=yes", "--I1=32768,8,64", "--D1=32768,8,64", "--LL=33554432,16,64"];
    let mut asked: Vec<_> =
        columns(&[Keeps::Memory]).into_iter().map(|column| (column, Work::StrewnHit)).collect();
    let over_redis = columns(&[Keeps::RawRedis, Keeps::Redis]);
    asked.extend(over_redis.into_iter().map(|column| (column, Work::RedisHit)));
    bench.progress.steps(asked.len());
    let url = bench.server.url();
    let mut cells = Vec::new();
    for (column, work) in asked {
        bench.progress.step(column.name);
        cells.push(match callgrind(column, (work, Size::ONE), &url, &CACHES) {
            Ok(log) => {
                let values = [
                    ("instructions", instructions_of(&log)),
                    ("data", misses_of(&log, " D1 ")),
                    ("code", misses_of(&log, " I1 ")),
                ];
                Cell::new(column.name, values)
            }
            Err(why) => Cell::fault(column.name, why),
        });
    }
    cells
}

/// What runs under callgrind.
pub fn child(column: &Entry, work: Work, size: Size) -> Result<(), String> {
    let runtime = runtime();
    let mut course = runtime.block_on(Course::new(column, work, size))?;
    let numbers = course.numbers(COUNTED);
    crate::course::counted_section(&runtime, &course, &numbers);
    Ok(())
}

/// Asks the program with the counting allocator.
fn count(bench: &Bench, arguments: &[&str]) -> Result<f64, String> {
    let run = Command::new(bench.programs.join("count"))
        .args(arguments)
        .env("PEERS_REDIS_URL", bench.server.url())
        .output()
        .expect("it is built beside this program");
    let told = String::from_utf8_lossy(&run.stdout).trim().parse();
    told.map_err(|_| String::from_utf8_lossy(&run.stderr).trim().to_owned())
}

/// Returns the most bytes alive while a long body passes.
pub fn peak(bench: &Bench, column: &Entry, storable: &str) -> Result<f64, String> {
    count(bench, &["body", column.name, storable])
}

/// Bytes of memory that an entry takes, here or at the server.
pub fn entry(bench: &mut Bench) -> Vec<Cell> {
    let columns = columns(&[Keeps::Memory, Keeps::Redis]);
    bench.progress.steps(columns.len());
    let mut cells = Vec::new();
    for column in columns {
        bench.progress.step(column.name);
        let bytes = match column.keeps {
            Keeps::Redis => at_server(bench, column),
            _ => count(bench, &["entry", column.name]),
        };
        cells.push(match bytes {
            Ok(bytes) => Cell::new(column.name, [("bytes", bytes)]),
            Err(why) => Cell::fault(column.name, why),
        });
    }
    cells
}

fn at_server(bench: &Bench, column: &Entry) -> Result<f64, String> {
    const ENTRIES: u32 = 20_000;
    let used = async || {
        let used: String = bench.server.info("memory", "used_memory_dataset").await;
        used.parse::<f64>().map_err(|error| error.to_string())
    };
    runtime().block_on(async {
        bench.server.run(&["FLUSHALL"]).await;
        let plan = Plan { redis: Some(bench.server.url()), ..Plan::new(Script::work()) };
        let site = (column.build)(plan).await;
        site.run(&Wish::get(), &[FIRST]).await;
        let before = used().await?;
        let numbers: Vec<u32> = (FIRST + 1..FIRST + 1 + ENTRIES).collect();
        share(&site, &Wish::get(), &numbers, 64).await;
        Ok((used().await? - before) / f64::from(ENTRIES))
    })
}

/// Commands at the server for one hit.
pub fn redis_commands(bench: &mut Bench) -> Vec<Cell> {
    const HITS: usize = 2000;
    let columns = columns(&[Keeps::RawRedis, Keeps::Redis]);
    bench.progress.steps(columns.len());
    let mut cells = Vec::new();
    for column in columns {
        bench.progress.step(column.name);
        let told = runtime().block_on(async {
            let plan = Plan { redis: Some(bench.server.url()), ..Plan::new(Script::work()) };
            let site = (column.build)(plan).await;
            let numbers: Vec<u32> = (0..HITS as u32).map(|n| FIRST + n % SPREAD).collect();
            site.run(&Wish::get(), &numbers).await;
            let before = bench.server.calls().await;
            share(&site, &Wish::get(), &numbers, 16).await;
            let after = bench.server.calls().await;
            let grown = |name: &String| after[name] - before.get(name).copied().unwrap_or(0);
            // What a heartbeat or this very question asks is no part of a hit.
            let asked = after.keys().map(grown).filter(|asked| *asked >= HITS as u64 / 2);
            asked.sum::<u64>() as f64 / HITS as f64
        });
        cells.push(Cell::new(column.name, [("commands", told)]));
    }
    cells
}

//! How the cost grows with what there is more of: instructions, or the time of the one thread that works.

use tokio::task::JoinSet;

use super::{Bench, counted, in_memory, median_of, rate::random};
use crate::{
    columns::{Entry, named},
    course::{FIRST, Size, Spent, Work, runtime},
    origin::{Content, Pace, Script, Storable},
    report::Cell,
    site::{AnySite, Plan, Wish},
};

const TURNS: usize = 5;

fn ours() -> &'static Entry {
    named("ours").expect("it is a column")
}

/// Instructions, with more routes. A peer's layer has none: it is for one route, or for all.
pub fn routes(bench: &mut Bench) -> Vec<Cell> {
    let sizes = [1, 10, 100, 1000].map(|routes| Size { routes, ..Size::ONE });
    let works = [Work::Hit, Work::Miss, Work::Unmatched];
    curves(bench, &works, &sizes, |size| size.routes)
}

/// Instructions of hits, with more variants of one key. A peer has as many keys instead.
pub fn variants(bench: &mut Bench) -> Vec<Cell> {
    let sizes = [1, 4, 16, 64, 256].map(|variants| Size { variants, ..Size::ONE });
    curves(bench, &[Work::Hit], &sizes, |size| size.variants as usize)
}

fn curves(
    bench: &mut Bench,
    works: &[Work],
    sizes: &[Size],
    at: impl Fn(&Size) -> usize,
) -> Vec<Cell> {
    let asked: Vec<_> =
        works.iter().flat_map(|work| sizes.iter().map(|size| (ours(), *work, *size))).collect();
    let found = counted::instructions(bench, &asked);
    let cells = asked.iter().zip(found).map(|((_, work, size), found)| {
        let name = format!("ours {}", work.name());
        match found {
            Ok(instructions) => Cell::new(&name, [("instructions", instructions)]),
            Err(why) => Cell::fault(&name, why),
        }
        .at(at(size))
    });
    cells.collect()
}

/// Nanoseconds of a hit, with more keys stored, all of them asked for alike.
pub fn keys(bench: &mut Bench) -> Vec<Cell> {
    let mut cells = Vec::new();
    for keys in [100, 1_000, 10_000, 100_000, 1_000_000] {
        let runtime = runtime();
        let build = |column: &'static Entry| {
            let plan = Plan::new(Script::work()).entries(2 * keys as usize);
            let site = runtime.block_on((column.build)(plan));
            let numbers: Vec<u32> = (FIRST..FIRST + keys).collect();
            runtime.block_on(site.run(&Wish::get(), &numbers));
            (column, site)
        };
        let columns: Vec<_> = in_memory().into_iter().map(build).collect();
        let mut seed = 1;
        let mut draw = || FIRST + (random(&mut seed) * f64::from(keys)) as u32;
        let drawn: Vec<u32> = (0..20_000).map(|_| draw()).collect();
        let rounds =
            bench.rounds(TURNS, &columns, |_, site, _| runtime.block_on(each(site, &drawn)));
        cells.extend(timed(&columns, &rounds, "hit_ns").map(|cell| cell.at(keys as usize)));
    }
    cells
}

/// Returns nanoseconds of one request.
async fn each(site: &AnySite, numbers: &[u32]) -> f64 {
    let begun = Spent::begin();
    site.run(&Wish::get(), numbers).await;
    begun.nanoseconds() / numbers.len() as f64
}

fn timed<C>(
    columns: &[(&'static Entry, C)],
    rounds: &[Vec<f64>],
    name: &'static str,
) -> impl Iterator<Item = Cell> {
    columns.iter().enumerate().map(move |(index, (column, _))| {
        Cell::new(column.name, [(name, median_of(rounds, index, |time| *time))])
    })
}

/// Nanoseconds of a miss, with more of them under way at once, each of another key.
pub fn flights(bench: &mut Bench) -> Vec<Cell> {
    let mut cells = Vec::new();
    for flights in [1, 10, 100, 1_000, 10_000] {
        let runtime = runtime();
        let build = |column: &'static Entry| {
            let script = Script::new(Storable::Yes, Content::Shared, Pace::Yielding);
            let plan = Plan::new(script).entries(1 << 18);
            (column, runtime.block_on((column.build)(plan)))
        };
        let columns: Vec<_> = in_memory().into_iter().map(build).collect();
        let mut first = FIRST;
        let rounds = bench.rounds(TURNS, &columns, |_, site, _| {
            // Few are soon done: they are done again until there is something to time.
            let crowds = (2_000 / flights).max(1);
            let spent: f64 = (0..crowds)
                .map(|_| {
                    first += flights as u32;
                    runtime.block_on(crowd(site, first, flights))
                })
                .sum();
            spent / (crowds * flights) as f64
        });
        cells.extend(timed(&columns, &rounds, "miss_ns").map(|cell| cell.at(flights)));
    }
    cells
}

/// Returns nanoseconds until all are answered.
async fn crowd(site: &AnySite, first: u32, flights: usize) -> f64 {
    let begun = Spent::begin();
    let asked: JoinSet<_> =
        (0..flights as u32).map(|flight| site.ask(Wish::get(), first + flight)).collect();
    let answers = asked.join_all().await;
    let spent = begun.nanoseconds();
    assert!(answers.iter().all(Result::is_ok), "all are answered");
    spent
}

/// Nanoseconds of a hit and of a miss, with a longer body.
pub fn body(bench: &mut Bench) -> Vec<Cell> {
    let mut cells = Vec::new();
    for length in [1 << 10, 16 << 10, 256 << 10, 1 << 20] {
        let runtime = runtime();
        let build = |column: &'static Entry| {
            let script = Script::new(Storable::Yes, Content::Owned(length), Pace::AtOnce);
            let site = runtime.block_on((column.build)(Plan::new(script).entries(1 << 18)));
            runtime.block_on(site.run(&Wish::get(), &[FIRST]));
            (column, site)
        };
        let columns: Vec<_> = in_memory().into_iter().map(build).collect();
        let hits = [FIRST; 500];
        let rounds =
            bench.rounds(TURNS, &columns, |_, site, _| runtime.block_on(each(site, &hits)));
        let misses = bench.rounds(TURNS, &columns, |_, site, round| {
            let from = FIRST + 1 + 40 * round as u32;
            let numbers: Vec<u32> = (from..from + 40).collect();
            runtime.block_on(each(site, &numbers))
        });
        for (hit, miss) in
            timed(&columns, &rounds, "hit_ns").zip(timed(&columns, &misses, "miss_ns"))
        {
            let mut cell = hit;
            cell.values.extend(miss.values);
            cells.push(cell.at(length));
        }
    }
    cells
}

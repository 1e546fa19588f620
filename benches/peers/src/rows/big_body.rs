//! A long body in chunks, whose length nobody tells beforehand.

use std::time::{Duration, Instant};

use super::{Bench, bare_and_in_memory, counted, median_of};
use crate::{
    course::{FIRST, runtime_of_two},
    origin::{Content, Pace, Script, Storable},
    report::Cell,
    site::{AnySite, Plan},
};

const LENGTH: usize = 10 * 1024 * 1024;
const GAP: Duration = Duration::from_millis(2);

/// The origin's part.
pub fn script(storable: Storable) -> &'static Script {
    Script::new(storable, Content::Chunked { length: LENGTH, gap: GAP }, Pace::AtOnce)
}

pub fn storable(bench: &mut Bench) -> Vec<Cell> {
    measure(bench, Storable::Yes)
}

pub fn no_store(bench: &mut Bench) -> Vec<Cell> {
    measure(bench, Storable::No)
}

/// When the first byte is here, when the last, and what is in memory meanwhile.
fn measure(bench: &mut Bench, storable: Storable) -> Vec<Cell> {
    let runtime = runtime_of_two();
    let mut columns = Vec::new();
    for column in bare_and_in_memory() {
        let site = runtime.block_on((column.build)(Plan::new(script(storable))));
        columns.push((column, site));
    }
    let rounds = bench
        .rounds(3, &columns, |_, site, round| runtime.block_on(once(site, FIRST + round as u32)));
    let word = if storable == Storable::Yes { "storable" } else { "not" };
    let mut cells = Vec::new();
    for (index, (column, _)) in columns.iter().enumerate() {
        let first = median_of(&rounds, index, |(first, _)| *first);
        let of_bare = rounds.iter().map(|round| round[index].0 / round[0].0).collect();
        let values = [
            ("first_ms", first),
            ("of_bare", super::median(of_bare)),
            ("last_ms", median_of(&rounds, index, |(_, last)| *last)),
        ];
        let mut cell = Cell::new(column.name, values);
        match counted::peak(bench, column, word) {
            Ok(peak) => cell.values.extend(Cell::new("", [("peak_bytes", peak)]).values),
            Err(why) => cell.fault = Some(why),
        }
        cells.push(cell);
    }
    cells
}

/// Returns milliseconds until the first byte and until the last.
async fn once(site: &AnySite, number: u32) -> (f64, f64) {
    let begun = Instant::now();
    let (mut first, mut length) = (None, 0);
    let mut see = |frame: usize| {
        if frame > 0 {
            first.get_or_insert_with(|| begun.elapsed());
        }
        length += frame;
    };
    site.stream(number, &mut see).await;
    assert_eq!(length, LENGTH, "the body is whole");
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
    (milliseconds(first.expect("there was a first byte")), milliseconds(begun.elapsed()))
}

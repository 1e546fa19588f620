//! The rows. Each is a name and what it measures of the columns that it is for.

pub mod big_body;
mod counted;
mod crowd;
mod growth;
mod invalidation;
mod rate;

use std::{env, path::PathBuf};

pub use counted::child;

use crate::{
    columns::{ALL, Entry, Keeps},
    course::runtime,
    progress::Progress,
    report::Cell,
    server::Server,
};

/// What all rows have at hand.
pub struct Bench {
    pub progress: Progress,
    /// Where this crate's programs are.
    programs: PathBuf,
    server: Server,
}

pub struct Row {
    pub name: &'static str,
    pub measure: fn(&mut Bench) -> Vec<Cell>,
}

pub const ROWS: &[Row] = &[
    Row { name: "hit", measure: counted::hit },
    Row { name: "miss", measure: counted::miss },
    Row { name: "unmatched", measure: counted::unmatched },
    Row { name: "post", measure: counted::post },
    Row { name: "redis-hit", measure: counted::redis_hit },
    Row { name: "redis-commands", measure: counted::redis_commands },
    Row { name: "redis-rate", measure: rate::redis },
    Row { name: "throughput", measure: rate::throughput },
    Row { name: "cold-key", measure: crowd::cold_key },
    Row { name: "cold-cancelled", measure: crowd::cold_key_cancelled },
    Row { name: "cold-shared", measure: crowd::cold_key_shared },
    Row { name: "no-store", measure: crowd::no_store },
    Row { name: "body-storable", measure: big_body::storable },
    Row { name: "body-no-store", measure: big_body::no_store },
    Row { name: "invalidation", measure: invalidation::during_a_fill },
    Row { name: "entry", measure: counted::entry },
    Row { name: "cache-misses", measure: counted::cache_misses },
    Row { name: "growth-routes", measure: growth::routes },
    Row { name: "growth-variants", measure: growth::variants },
    Row { name: "growth-keys", measure: growth::keys },
    Row { name: "growth-flights", measure: growth::flights },
    Row { name: "growth-body", measure: growth::body },
];

/// Returns the columns that keep what they store there, in the table's order.
fn columns(keeps: &[Keeps]) -> Vec<&'static Entry> {
    ALL.iter().filter(|column| keeps.contains(&column.keeps)).collect()
}

/// Returns the columns of caches in memory.
fn in_memory() -> Vec<&'static Entry> {
    columns(&[Keeps::Memory])
}

/// Returns the bare service and the caches in memory.
fn bare_and_in_memory() -> Vec<&'static Entry> {
    let mut columns = in_memory();
    columns.insert(0, crate::columns::named("bare").expect("it is a column"));
    columns
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Returns the median over the rounds of one column's number.
fn median_of<T>(rounds: &[Vec<T>], column: usize, number: impl Fn(&T) -> f64) -> f64 {
    median(rounds.iter().map(|round| number(&round[column])).collect())
}

impl Bench {
    /// Starts a server of its own on loopback.
    pub fn start(rows: usize) -> Self {
        let program = env::current_exe().expect("this program has a path");
        Self {
            progress: Progress::new(rows),
            programs: program.parent().expect("it lies in a folder").to_owned(),
            server: runtime().block_on(Server::start()),
        }
    }

    fn url(&self) -> String {
        self.server.url()
    }

    /// Lets the columns take turns, so many rounds.
    fn rounds<C, T>(
        &mut self,
        rounds: usize,
        columns: &[(&'static Entry, C)],
        mut turn: impl FnMut(&'static Entry, &C, usize) -> T,
    ) -> Vec<Vec<T>> {
        self.progress.steps(rounds * columns.len());
        let mut all = Vec::new();
        for round in 0..rounds {
            let mut taken = Vec::new();
            for (column, course) in columns {
                self.progress.step(column.name);
                taken.push(turn(column, course, round));
            }
            all.push(taken);
        }
        all
    }
}

//! What a request costs, in allocations here and in instructions under callgrind: see `cost.sh`.
//!
//! Without arguments it prints the allocations of every mode. With a mode and a count it sends that
//! many requests; the difference between two counts is free of start and warm-up.

#[path = "../../support/mod.rs"]
mod support;

use std::{alloc::System, env, process::ExitCode};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use support::{Course, Mode, runtime};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const REQUESTS: usize = 1000;

fn main() -> ExitCode {
    #[cfg(feature = "subscriber")]
    tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::INFO).init();
    // Cargo adds `--bench`.
    let arguments: Vec<String> = env::args().skip(1).filter(|text| text != "--bench").collect();
    match arguments.as_slice() {
        [mode, count] => {
            let (Some(mode), Ok(count)) = (Mode::named(mode), count.parse()) else {
                return refuse();
            };
            run(mode, count);
        }
        [] => print_allocations(),
        _ => return refuse(),
    }
    ExitCode::SUCCESS
}

fn refuse() -> ExitCode {
    let names = Mode::ALL.map(Mode::name).join("|");
    eprintln!("usage: cost [{names} COUNT]");
    ExitCode::FAILURE
}

fn run(mode: Mode, count: usize) {
    let course = runtime().block_on(async {
        let mut course = Course::new(mode).await;
        course.run(count).await;
        course
    });
    // What a miss stored is not freed: it would count as a part of the miss.
    std::mem::forget(course);
}

fn print_allocations() {
    println!("{:16}{:>12}{:>10}", "mode", "allocations", "bytes");
    for mode in Mode::ALL {
        let (allocations, bytes) = allocations(mode);
        println!("{:16}{allocations:12.2}{bytes:10.0}", mode.name());
    }
}

/// Returns what one request allocates: pieces, a piece that is made larger included, and bytes.
fn allocations(mode: Mode) -> (f64, f64) {
    runtime().block_on(async {
        let mut course = Course::new(mode).await;
        let region = Region::new(ALLOCATOR);
        course.run(REQUESTS).await;
        let change = region.change();
        let each = |total: usize| total as f64 / REQUESTS as f64;
        (each(change.allocations + change.reallocations), each(change.bytes_allocated))
    })
}

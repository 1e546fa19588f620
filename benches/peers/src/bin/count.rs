//! What the allocator sees of a column: `count allocations WORK COLUMN`, `count entry COLUMN`,
//! `count body COLUMN storable|not`. Prints numbers; `measure` asks for them.

#![allow(unsafe_code)] // An allocator is unsafe to write. This one only counts.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    env,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tower_support_cache_peers::{
    columns::{self, Entry},
    course::{Course, FIRST, Size, Work, pause, runtime},
    origin::{BODY_LENGTH, Content, Pace, Script, Storable},
    rows::big_body,
    site::{Plan, Wish},
};

struct Counting;

static PIECES: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicU64 = AtomicU64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);

fn grown(bytes: usize) {
    PIECES.fetch_add(1, Relaxed);
    let live = LIVE.fetch_add(bytes as u64, Relaxed) + bytes as u64;
    PEAK.fetch_max(live, Relaxed);
}

// SAFETY: every call is handed to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as u64, Relaxed);
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_sub(layout.size() as u64, Relaxed);
        grown(size);
        // SAFETY: the caller's promise is the same.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let told = match words[..] {
        ["allocations", work, column] => match (Work::named(work), columns::named(column)) {
            (Some(work), Some(column)) => allocations(work, column),
            _ => Err("no such work or column".to_owned()),
        },
        ["entry", column] => columns::named(column).ok_or("no such column".into()).map(entry),
        ["body", column, storable] => {
            let storable = if storable == "storable" { Storable::Yes } else { Storable::No };
            columns::named(column)
                .ok_or("no such column".into())
                .map(|column| body(column, storable))
        }
        _ => {
            Err("usage: count allocations WORK COLUMN | entry COLUMN | body COLUMN STORABLE".into())
        }
    };
    match told {
        Ok(number) => {
            println!("{number}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Returns how many pieces one request allocates; one that is made larger counts again.
fn allocations(work: Work, column: &Entry) -> Result<f64, String> {
    const REQUESTS: usize = 2048;
    let runtime = runtime();
    let mut course = runtime.block_on(Course::new(column, work, Size::ONE))?;
    let numbers = course.numbers(REQUESTS);
    let before = PIECES.load(Relaxed);
    runtime.block_on(course.send(&numbers));
    Ok((PIECES.load(Relaxed) - before) as f64 / REQUESTS as f64)
}

/// Returns the bytes that one of 100,000 entries of 1 KiB keeps alive.
fn entry(column: &Entry) -> f64 {
    const ENTRIES: u32 = 100_000;
    let numbers: Vec<u32> = (FIRST..FIRST + ENTRIES).collect();
    let script = Script::new(Storable::Yes, Content::Owned(BODY_LENGTH), Pace::AtOnce);
    let before = LIVE.load(Relaxed);
    let runtime = runtime();
    let site = runtime.block_on(async {
        let site = (column.build)(Plan::new(script).entries(ENTRIES as usize * 2)).await;
        site.run(&Wish::get(), &numbers).await;
        // A store may put its house in order on the side.
        pause(Duration::from_millis(500)).await;
        site
    });
    let kept = LIVE.load(Relaxed) - before;
    // A store that has dropped some would look small.
    let calls = script.calls();
    runtime.block_on(site.run(&Wish::get(), &numbers));
    let found = u64::from(ENTRIES) - (script.calls() - calls);
    kept as f64 / found as f64
}

/// Returns the most bytes alive at once while a long body passes.
fn body(column: &Entry, storable: Storable) -> f64 {
    let runtime = runtime();
    runtime.block_on(async {
        let site = (column.build)(Plan::new(big_body::script(storable))).await;
        // What is made once, such as a timer's wheel, is made by another body.
        site.stream(FIRST, &mut |_| {}).await;
        let before = LIVE.load(Relaxed);
        PEAK.store(before, Relaxed);
        site.stream(FIRST + 1, &mut |_| {}).await;
        (PEAK.load(Relaxed) - before) as f64
    })
}

//! How long a hit, a miss and a passthrough take, each beside the minimum and the bare origin.

#[path = "../../support/mod.rs"]
mod support;

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};

use support::{Course, Mode, runtime};

criterion_group!(benches, hit, miss, passthrough);
criterion_main!(benches);

fn hit(criterion: &mut Criterion) {
    let modes = [Mode::Bare, Mode::Minimum, Mode::Hit, Mode::HitPerCaller, Mode::HeadHit];
    compare(criterion, "hit", &modes);
}

fn miss(criterion: &mut Criterion) {
    compare(criterion, "miss", &[Mode::Bare, Mode::MinimumMiss, Mode::Miss]);
}

fn passthrough(criterion: &mut Criterion) {
    compare(criterion, "passthrough", &[Mode::Bare, Mode::Minimum, Mode::Pass, Mode::PlainPost]);
}

fn compare(criterion: &mut Criterion, name: &str, modes: &[Mode]) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group(name);
    for mode in modes {
        let course = RefCell::new(runtime.block_on(Course::new(*mode)));
        group.bench_function(mode.name(), |bencher| {
            bencher.iter_custom(|count| {
                runtime.block_on(time(&mut course.borrow_mut(), count as usize))
            });
        });
    }
    group.finish();
}

#[allow(clippy::disallowed_methods)] // Time that passes, not the cache's.
async fn time(course: &mut Course, count: usize) -> Duration {
    let begun = Instant::now();
    course.run(count).await;
    begun.elapsed()
}

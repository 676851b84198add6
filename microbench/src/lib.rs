//! Small pieces of work, measured by themselves. A [`Scene`] is one such piece; [`timed`] has criterion time it (`--bench micro`),
//! [`counted`] has callgrind count its instructions (`--bench instructions`). Both call the same function on the same input.
//!
//! Scenes are in `benches/scenes/`, by room. Times are looked at; counts are judged, by `mipro gate --instructions` against
//! bench-reports/budgets.toml.

use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};

mod callgrind;

pub use callgrind::counted;

/// What is measured: called once, with everything it needs in it. What it leaves behind is dropped afterwards, unmeasured.
pub type Work = Box<dyn FnMut()>;
/// Makes the next [`Work`], unmeasured.
pub type Supply = Box<dyn FnMut() -> Work>;

/// A piece of work to be measured. The same every time: fixed seeds, fixed sizes, no hash with random keys.
#[derive(Debug, Clone, Copy)]
pub struct Scene {
    name: &'static str,
    operations: u32,
    pure: bool,
    prepare: fn() -> Supply,
}

impl Scene {
    /// Work that is nothing but computation, named `room/what.it_does`. `operations` is how many a call does: figures are per operation, and a call
    /// should take some microseconds, so that the clock's own cost is none of them.
    #[must_use]
    pub const fn pure(name: &'static str, operations: u32, prepare: fn() -> Supply) -> Self {
        Self { name, operations, pure: true, prepare }
    }

    /// Work in which the operating system has a part: timed, never counted.
    #[must_use]
    pub const fn timed_only(name: &'static str, operations: u32, prepare: fn() -> Supply) -> Self {
        Self { name, operations, pure: false, prepare }
    }
}

/// Work that leaves nothing changed, so that one can be had again and again.
pub fn repeated(work: impl FnMut() + Clone + 'static) -> Supply {
    Box::new(move || Box::new(work.clone()))
}

/// Times scenes with criterion, which reads the command line (`cargo bench --bench micro -- FILTER`) and keeps its figures under
/// target/criterion. Prints; judges nothing.
pub fn timed(scenes: &[Scene]) {
    let mut criterion = Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for scene in scenes {
        let (room, name) = scene.name.split_once('/').unwrap_or_default();
        let mut group = criterion.benchmark_group(room);
        group.throughput(Throughput::Elements(u64::from(scene.operations)));
        group.bench_function(name, |bencher| {
            let mut supply = (scene.prepare)();
            bencher.iter_batched_ref(&mut supply, |work| work(), BatchSize::PerIteration);
        });
        group.finish();
    }
    criterion.final_summary();
}

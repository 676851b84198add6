//! What the generator does with every answer: join what the server told, and record how long it took.

use std::hint::black_box;

use mipro_bench_reports::Recorder;
use mipro_loadgen::synthetic;
use mipro_microbench::{Scene, Supply, repeated};

const ANSWERS: u32 = 100;
const SAMPLES: u32 = 1_000;

pub(super) fn all() -> Vec<Scene> {
    vec![
        Scene::pure("loadgen/join.server_timing", ANSWERS, join),
        Scene::pure("loadgen/histogram.record", SAMPLES, histogram),
        Scene::pure("loadgen/histogram.encode", 1, encode),
    ]
}

fn join() -> Supply {
    let headers = synthetic::headers();
    repeated(move || {
        for _ in 0..ANSWERS {
            black_box(synthetic::join(black_box(&headers)));
        }
    })
}

/// Spread as times are: from 20 ms up to 85 ms.
fn samples() -> impl Iterator<Item = u64> + Clone {
    (0..u64::from(SAMPLES)).map(|index| 20_000_000 + (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 38))
}

/// A recorder that has long become a histogram.
fn filled() -> Recorder {
    (0..5).flat_map(|_| samples()).collect()
}

fn histogram() -> Supply {
    let filled = filled();
    Box::new(move || {
        let mut recorder = filled.clone();
        Box::new(move || {
            for value_ns in samples() {
                recorder.record_ns(black_box(value_ns));
            }
        })
    })
}

/// As it goes into a report.
fn encode() -> Supply {
    let filled = filled();
    repeated(move || {
        black_box(filled.to_dist());
    })
}

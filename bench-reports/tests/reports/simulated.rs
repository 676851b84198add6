//! Comparisons on a simulated machine: the same model as `examples/simulate`, few runs, fixed seeds. What the rules promise
//! over many runs stands in docs/statistics.md; here is seen that a change of the code does not break it.

use mipro_bench_reports::compare::{Endpoint, Rules, calibrate, compare};
use mipro_bench_reports::{CompareVerdict, Comparison};

use crate::model::{self, ENDPOINT, Setting};

const RUNS: u64 = 20;
const PAIRS: u32 = 20;

/// A noisy machine with a server of light load, on which B takes `factor` times as long.
fn noisy(factor: f64) -> Setting {
    Setting { load: 0.3, sigma: 0.1, memory_s: 10.0, bursts: true, common_random_numbers: true, factor }
}

fn comparisons(factor: f64) -> Vec<Comparison> {
    let rules = Rules { endpoints: vec![Endpoint::gated(ENDPOINT, 0.5, 0.1)], ..Rules::default() };
    (0..RUNS)
        .map(|seed| compare(&model::run(noisy(factor), PAIRS, true, seed).slices, &rules).unwrap())
        .collect()
}

fn counted(made: &[Comparison], wanted: impl Fn(&CompareVerdict) -> bool) -> u64 {
    made.iter().filter(|comparison| wanted(&comparison.verdict)).count() as u64
}

#[test]
fn alike_is_never_a_regression() {
    let made = comparisons(1.0);
    assert_eq!(counted(&made, |verdict| *verdict == CompareVerdict::Regress), 0);
    assert!(counted(&made, |verdict| matches!(verdict, CompareVerdict::Pass { .. })) >= RUNS - 2);
    // 10 % are expected to; 6 of 20 would come about once in 90 such tests.
    assert!(calibrate(&made)[0].false_alarms <= 5, "{:?}", calibrate(&made));
}

#[test]
fn a_fifth_slower_is_found_and_never_passed() {
    let made = comparisons(1.2);
    assert!(counted(&made, |verdict| *verdict == CompareVerdict::Regress) >= RUNS - 2);
    assert_eq!(counted(&made, |verdict| matches!(verdict, CompareVerdict::Pass { .. })), 0);
}

#[test]
fn a_fifth_faster_is_improved() {
    let made = comparisons(0.8);
    assert!(counted(&made, |verdict| *verdict == CompareVerdict::Pass { improved: true }) >= RUNS - 2);
}

#[test]
fn a_slice_has_some_hundred_requests() {
    let run = model::run(noisy(1.0), 2, true, 1);
    assert_eq!(run.slices.len(), 4);
    for (slice, responses_ns) in run.slices.iter().zip(&run.responses_ns) {
        assert!((200..=400).contains(&responses_ns.len()), "{}", responses_ns.len());
        assert_eq!(slice.samples[ENDPOINT].count(), responses_ns.len() as u64);
    }
    assert_eq!(run.responses_ns[0].len(), run.responses_ns[1].len(), "a pair has the same arrivals");
}

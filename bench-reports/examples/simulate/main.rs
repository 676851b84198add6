//! How often a comparison errs, tried on a simulated machine: false alarms of several methods when both sides are alike, and
//! what the gate says when they are not. `cargo run --release -p mipro-bench-reports --example simulate -- 300`
//!
//! The tables it prints stand in docs/statistics.md, marked as simulated.
#![expect(clippy::print_stdout, reason = "an example that prints tables")]

mod model;

use mipro_bench_reports::compare::{Endpoint, LOOKS, Rules, compare};
use mipro_bench_reports::{CompareVerdict, Side};
use model::{ENDPOINT, Run, Setting};

const PAIRS: u32 = 30;
const RUNS_DEFAULT: u64 = 300;
const MARGIN: f64 = 0.1;

/// What a 95 % interval of the ratio says under "alike": its half-width, and whether it leaves alike out.
struct Seen {
    alarm: bool,
    half_width: f64,
}

const QUIET: Setting = Setting {
    load: 0.3,
    sigma: 0.0,
    memory_s: 10.0,
    bursts: false,
    common_random_numbers: true,
    factor: 1.0,
};
const NOISY: Setting = Setting { sigma: 0.1, bursts: true, ..QUIET };

fn main() {
    let runs = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(RUNS_DEFAULT);
    println!("{runs} runs each, {PAIRS} pairs of 2 s, simulated\n");
    false_alarms(runs);
    verdicts(runs);
    looks(runs);
}

fn false_alarms(runs: u64) {
    println!("A/A: 95 % intervals that leave out \"no difference\" (should be 5 %), and half their width\n");
    println!("| machine | method | p50 | p99 | p50 ± |\n|---|---|---|---|---|");
    let settings = [
        ("no noise, load 0.6", Setting { load: 0.6, common_random_numbers: false, ..QUIET }),
        ("memory 10 s, load 0.3", NOISY),
        ("memory 60 s, load 0.3", Setting { memory_s: 60.0, ..NOISY }),
        ("memory 60 s, load 0.6", Setting { memory_s: 60.0, load: 0.6, ..NOISY }),
    ];
    type Method = (&'static str, bool, fn(&Run, f64) -> Seen);
    let methods: [Method; 4] = [
        ("A…AB…B, requests taken as independent", false, independent),
        ("ABBA, requests taken as independent", true, independent),
        ("ABBA, t of the pairs' own ratios", true, pairs_own),
        ("**ABBA, pair blocks, SE × t(g−1)**", true, ours),
    ];
    for (machine, setting) in settings {
        for (name, interleaved, method) in methods {
            let (mut p50, mut p99, mut width) = (0, 0, 0.0);
            for seed in 0..runs {
                let run = model::run(setting, PAIRS, interleaved, seed);
                let (median, tail) = (method(&run, 0.5), method(&run, 0.99));
                p50 += u64::from(median.alarm);
                p99 += u64::from(tail.alarm);
                width += median.half_width;
            }
            let width = 100.0 * width / runs as f64;
            println!("| {machine} | {name} | {} | {} | {width:.1} % |", rate(p50, runs), rate(p99, runs));
        }
    }
}

fn verdicts(runs: u64) {
    println!("\nThe gate: margin 10 %, one look; pass (of these improved) / regress / inconclusive\n");
    println!("| machine | B's service takes | p50 | p90 |\n|---|---|---|---|");
    let settings = [
        ("load 0.3", NOISY),
        ("load 0.3, own random numbers", Setting { common_random_numbers: false, ..NOISY }),
        ("load 0.6", Setting { load: 0.6, ..NOISY }),
    ];
    for (machine, setting) in settings {
        for change in [0, 10, 20, -20] {
            let setting = Setting { factor: 1.0 + f64::from(change) / 100.0, ..setting };
            let of = |quantile| share_of_verdicts(runs, setting, quantile);
            println!("| {machine} | {change:+} % | {} | {} |", of(0.5), of(0.9));
        }
    }
}

fn share_of_verdicts(runs: u64, setting: Setting, quantile: f64) -> String {
    let rules = Rules { endpoints: vec![Endpoint::gated(ENDPOINT, quantile, MARGIN)], ..Rules::default() };
    let (mut pass, mut improved, mut regress) = (0, 0, 0);
    for seed in 0..runs {
        let run = model::run(setting, PAIRS, true, seed);
        let comparison = compare(&run.slices, &rules).expect("rules that make sense");
        match comparison.verdict {
            CompareVerdict::Pass { improved: faster } => {
                (pass, improved) = (pass + 1, improved + u64::from(faster));
            }
            CompareVerdict::Regress => regress += 1,
            _ => {}
        }
    }
    let open = rate(runs - pass - regress, runs);
    format!("{} ({}) / {} / {open}", rate(pass, runs), rate(improved, runs), rate(regress, runs))
}

fn looks(runs: u64) {
    println!("\nThree looks (20, 30, 45 pairs, a third of the error each), p50, margin 5 %, load 0.3\n");
    println!("| B's service takes | pass | regress | inconclusive | pairs, mean |\n|---|---|---|---|---|");
    let endpoints = vec![Endpoint::gated(ENDPOINT, 0.5, 0.05)];
    let rules = Rules { endpoints, looks_max: 3, ..Rules::default() };
    for change in [0, 10] {
        let setting = Setting { factor: 1.0 + f64::from(change) / 100.0, ..NOISY };
        let (mut pass, mut regress, mut pairs) = (0, 0, 0);
        for seed in 0..runs {
            let run = model::run(setting, LOOKS[2], true, seed);
            for look in LOOKS {
                let so_far: Vec<_> = run.slices.iter().filter(|slice| slice.pair < look).cloned().collect();
                let comparison = compare(&so_far, &rules).expect("rules that make sense");
                if comparison.is_concluded() || look == LOOKS[2] {
                    pairs += u64::from(look);
                    pass += u64::from(matches!(comparison.verdict, CompareVerdict::Pass { .. }));
                    regress += u64::from(comparison.verdict == CompareVerdict::Regress);
                    break;
                }
            }
        }
        let open = rate(runs - pass - regress, runs);
        let mean = pairs as f64 / runs as f64;
        println!("| {change:+} % | {} | {} | {open} | {mean:.1} |", rate(pass, runs), rate(regress, runs));
    }
}

fn rate(hits: u64, runs: u64) -> String {
    format!("{:.0} %", 100.0 * hits as f64 / runs as f64)
}

/// What many tools do: all requests of a side together, as if each were an observation of its own.
fn independent(run: &Run, quantile: f64) -> Seen {
    let of = |side| {
        let slices = run.slices.iter().zip(&run.responses_ns).filter(|(slice, _)| slice.side == side);
        let mut all: Vec<u64> = slices.flat_map(|(_, values)| values.iter().copied()).collect();
        all.sort_unstable();
        let n = all.len() as f64;
        let spread = (quantile * (1.0 - quantile) / n).sqrt();
        let at = |p: f64| (all[((p * n) as usize).min(all.len() - 1)] as f64).ln();
        (at(quantile), (at((quantile + spread).min(1.0)) - at((quantile - spread).max(0.0))) / 2.0)
    };
    let ((a, se_a), (b, se_b)) = (of(Side::A), of(Side::B));
    let half_width = 1.96 * se_a.hypot(se_b);
    Seen { alarm: (b - a).abs() > half_width, half_width }
}

/// Each pair's own ratio as an observation: sound, but a slice has few samples of a tail.
fn pairs_own(run: &Run, quantile: f64) -> Seen {
    let ln = |pair, side| {
        let slice = run.slices.iter().find(|slice| slice.pair == pair && slice.side == side);
        slice.and_then(|slice| slice.samples[ENDPOINT].quantile_ns(quantile)).map(f64::ln)
    };
    let ratios: Vec<f64> =
        (0..PAIRS).filter_map(|pair| Some(ln(pair, Side::B)? - ln(pair, Side::A)?)).collect();
    let n = ratios.len() as f64;
    let mean = ratios.iter().sum::<f64>() / n;
    let variance = ratios.iter().map(|ratio| (ratio - mean).powi(2)).sum::<f64>() / (n - 1.0);
    // t(29) at 97.5 %.
    let half_width = 2.045 * (variance / n).sqrt();
    Seen { alarm: mean.abs() > half_width, half_width }
}

fn ours(run: &Run, quantile: f64) -> Seen {
    let rules =
        Rules { endpoints: vec![Endpoint::shown(ENDPOINT, quantile)], alpha: 0.025, ..Rules::default() };
    let comparison = compare(&run.slices, &rules).expect("rules that make sense");
    let effect = comparison.endpoints[0].effect.expect("30 pairs of hundreds of samples");
    let half_width = (effect.upper.ln_1p() - effect.lower.ln_1p()) / 2.0;
    Seen { alarm: effect.lower > 0.0 || effect.upper < 0.0, half_width }
}

//! The five options of the document that began this project, in its own words, each beside what was measured of it.

use mipro_bench_reports::{Rung, Saving, SeedOption};

use super::saving;

/// An estimate that can be held against a saving: milliseconds a rollout.
type Range = Option<(f64, f64)>;

struct Asked {
    option: &'static str,
    estimate: &'static str,
    range_ms: Range,
    /// What is measured, the rung before, the rung with it; both among the variants.
    measured_by: (&'static str, &'static str, &'static str),
}

const ASKED: [Asked; 4] = [
    Asked {
        option: "1. in-memory state cache",
        estimate: "800–1,800 ms a rollout: no load_state before an operation",
        range_ms: Some((800.0, 1_800.0)),
        measured_by: ("the original with states kept in memory", "blob", "blob+write-through"),
    },
    Asked {
        option: "2. batched state updates",
        estimate: "300–2,000 ms a rollout: one save for N rollouts",
        range_ms: Some((300.0, 2_000.0)),
        measured_by: (
            "saved behind the answer, over saved before it",
            "blob+write-through",
            "blob+write-back",
        ),
    },
    Asked {
        option: "4. database connection pool",
        estimate: "no figure: \"measure actual pool acquisition time\"",
        range_ms: None,
        measured_by: ("the original over kept connections", "blob", "blob+pooled"),
    },
    Asked {
        option: "5. application and stores in one region",
        estimate: "200–600 ms a rollout: 50–150 ms a query, 4 queries",
        range_ms: Some((200.0, 600.0)),
        measured_by: ("the original on the same-region link", "blob", "blob+same-region"),
    },
];

/// All five, in the document's order.
pub(super) fn seed_options(ladder: &[Rung], variants: &[Rung]) -> Vec<SeedOption> {
    let mut options: Vec<SeedOption> = ASKED.iter().map(|asked| judged(asked, variants)).collect();
    options.insert(2, parallel(ladder, variants));
    options
}

fn judged(asked: &Asked, variants: &[Rung]) -> SeedOption {
    let (what, before, after) = asked.measured_by;
    let rung = |name: &str| variants.iter().find(|rung| rung.name == name);
    let seen = rung(before).zip(rung(after)).and_then(|(before, after)| saving(before, after));
    let saved_ms = seen.map(|seen| seen.saved_us / 1e3);
    SeedOption {
        option: asked.option.to_owned(),
        estimate: asked.estimate.to_owned(),
        measured: seen.map_or_else(|| "not measured".to_owned(), |seen| format!("{what}: {}", told(&seen))),
        saved_ms,
        as_expected: saved_ms.zip(asked.range_ms).map(|(ms, (low, high))| (low..=high).contains(&ms)),
    }
}

fn told(seen: &Saving) -> String {
    let ms = |us: f64| us / 1e3;
    format!(
        "{:.1} → {:.1} ms of overhead, {:.1} ms saved a rollout ({:.1} … {:.1})",
        ms(seen.before_us),
        ms(seen.after_us),
        ms(seen.saved_us),
        ms(seen.lower_us),
        ms(seen.upper_us)
    )
}

/// Parallel rollouts save no overhead: what they save is the wait for each other, so it is lengths of runs that are compared.
fn parallel(ladder: &[Rung], variants: &[Rung]) -> SeedOption {
    let per_rollout = |rung: &Rung| {
        let one_at_a_time = rung.rollout.service.mean_us?;
        let seen = rung.wall_seconds * 1e6 / rung.accounting.ok.max(1) as f64;
        (rung.accounting.ok > 0).then_some((one_at_a_time, seen))
    };
    let rung = |name: &str, of: &[Rung]| of.iter().find(|rung| rung.name == name).and_then(per_rollout);
    let alone = rung("blob+parallel", variants);
    let whole = rung("parallel", ladder);
    let told = |what: &str, (serial_us, seen_us): (f64, f64)| {
        let (serial_s, seen_s, times) = (serial_us / 1e4, seen_us / 1e4, serial_us / seen_us);
        format!(
            "{what}: 100 rollouts in {seen_s:.1} s, one after the other {serial_s:.1} s, {times:.1} times"
        )
    };
    let parts: Vec<String> =
        [alone.map(|of| told("on the original", of)), whole.map(|of| told("in the ladder", of))]
            .into_iter()
            .flatten()
            .collect();
    SeedOption {
        option: "3. parallel rollouts".to_owned(),
        estimate: "about 10 times: 100 rollouts in about 55 s instead of 550 s".to_owned(),
        measured: if parts.is_empty() { "not measured".to_owned() } else { parts.join("; ") },
        saved_ms: None,
        as_expected: None,
    }
}

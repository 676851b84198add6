use mipro_bench_reports::{Accounting, CountSet, Counts, Dist, Loss, Makespan, StageReport, Validity};

use super::*;

fn report(rungs: Vec<Rung>) -> Report {
    Report { schema: mipro_bench_reports::SCHEMA.to_owned(), rungs, ..Report::default() }
}

fn rung(name: &str, overhead_us: f64) -> Rung {
    Rung {
        name: name.to_owned(),
        rollouts: 100,
        concurrency: 10,
        overhead: Dist {
            count: 100,
            mean_us: Some(overhead_us),
            p50_us: Some(overhead_us),
            ..Dist::default()
        },
        accounting: Accounting { intended: 100, ok: 100, ..Accounting::default() },
        validity: Validity { ok: true, reasons: Vec::new() },
        ..Rung::default()
    }
}

fn outcome(report: &Report, name: &str) -> String {
    let found = all(report).into_iter().find(|v| v.name.contains(name));
    found.unwrap_or_else(|| panic!("no verdict about {name}")).outcome
}

#[test]
fn a_missing_rollout_breaks_the_accounting() {
    let mut short = rung("blob", 1.0);
    short.accounting.ok = 99;
    let report = report(vec![short]);
    assert!(!accounting_holds(&report));
    assert_eq!(outcome(&report, "every rollout accounted for"), "fail");
}

#[test]
fn a_hundred_times_is_enough_and_ninety_nine_is_not() {
    assert_eq!(outcome(&report(vec![rung("blob", 100.0), rung("parallel", 1.0)]), "100×"), "pass");
    assert_eq!(outcome(&report(vec![rung("blob", 99.0), rung("parallel", 1.0)]), "100×"), "fail");
}

#[test]
fn unclaimed_time_is_held_against_the_service() {
    let with_other = |us: f64| {
        let mut blob = rung("blob", 1000.0);
        let other = StageReport { per_rollout_us: us, ..StageReport::default() };
        blob.stage_groups.insert("other".to_owned(), other);
        report(vec![blob])
    };
    assert_eq!(outcome(&with_other(99.0), "other under"), "pass");
    assert_eq!(outcome(&with_other(101.0), "other under"), "fail");
}

#[test]
fn one_put_in_fifty_rollouts_is_on_the_critical_path() {
    let with_puts = |s3_put: f64| {
        let critical = CountSet { s3_put, ..CountSet::default() };
        report(vec![Rung { counts: Counts { critical, ..Counts::default() }, ..rung("write-back", 1.0) }])
    };
    assert_eq!(outcome(&with_puts(0.01), "critical path"), "pass");
    assert_eq!(outcome(&with_puts(0.02), "critical path"), "fail");
}

#[test]
fn the_makespan_is_allowed_what_direct_costs_and_three_percent() {
    let span = |name: &str, planned_seconds: f64, measured_seconds: f64| Rung {
        makespan: Some(Makespan {
            planned_seconds,
            measured_seconds,
            ratio: measured_seconds / planned_seconds,
        }),
        ..rung(name, 1.0)
    };
    // Direct: 0.1 s over ten rounds of ten. So parallel may take 1.03 × 20 s + 0.1 s = 20.7 s.
    let measured = |seconds| report(vec![span("direct", 20.0, 20.1), span("parallel", 20.0, seconds)]);
    assert_eq!(outcome(&measured(20.69), "as fast as"), "pass");
    assert_eq!(outcome(&measured(20.71), "as fast as"), "fail");
}

#[test]
fn an_interrupted_run_passes_no_check() {
    let mut partial = report(vec![rung("blob", 100.0), rung("parallel", 1.0)]);
    partial.run.interrupted = true;
    let verdicts = all(&partial);
    assert!(verdicts.len() >= 3 && verdicts.iter().all(|v| v.outcome != "pass"), "{verdicts:?}");
    assert_eq!(outcome(&partial, "100×"), "inconclusive");
}

#[test]
fn counts_of_no_rollout_at_all_prove_nothing() {
    for name in ["write-through", "write-back"] {
        let failed = Rung { overhead: Dist::default(), ..rung(name, 1.0) };
        assert_eq!(outcome(&report(vec![failed]), &format!("{name}: no ")), "inconclusive");
        assert_eq!(outcome(&report(vec![rung(name, 1.0)]), &format!("{name}: no ")), "pass");
    }
}

#[test]
fn a_row_loaded_from_the_database_is_a_load() {
    let mut loading = rung("write-through", 1.0);
    let load_db = Dist { count: 2, ..Dist::default() };
    let operation = OperationReport { load_db, ..OperationReport::default() };
    loading.operations.insert("status_done".to_owned(), operation);
    assert_eq!(outcome(&report(vec![loading]), "no loads"), "fail");
}

#[test]
fn rows_without_samples_are_not_outside() {
    let row = |p50_ms: Option<f64>, inside| SeedRow {
        operation: "status_done".to_owned(),
        row: "load_state (db)".to_owned(),
        seed_min_ms: 200.0,
        seed_max_ms: 370.0,
        seed_avg_ms: 280.0,
        p50_ms,
        samples: u64::from(p50_ms.is_some()),
        inside,
    };
    assert_eq!(seed_rows(&[row(None, false), row(Some(290.0), true)]).outcome, "inconclusive");
    assert_eq!(seed_rows(&[row(Some(100.0), false)]).outcome, "fail");
}

#[test]
fn a_log_on_disk_may_lose_nothing_to_a_kill_and_write_back_shows_that_the_trial_can() {
    let with = |name: &str, durability: &str, killed: u64, gone: u64, acknowledged: u64| {
        let count =
            |lost| Some(LossCount { acknowledged, recovered: acknowledged.saturating_sub(lost), lost });
        let loss = Loss { process_killed: count(killed), host_gone: count(gone), ..Loss::default() };
        report(vec![Rung { loss: Some(loss), durability: durability.to_owned(), ..rung(name, 1.0) }])
    };
    assert_eq!(outcome(&with("bounded", "disk", 0, 240, 240), "when killed"), "pass");
    assert_eq!(outcome(&with("bounded", "disk", 1, 240, 240), "when killed"), "fail");
    assert_eq!(outcome(&with("bounded", "disk", 0, 0, 0), "when killed"), "inconclusive");
    assert_eq!(outcome(&with("write-back", "memory", 200, 240, 240), "when killed"), "pass");
    assert_eq!(outcome(&with("write-back", "memory", 0, 240, 240), "when killed"), "inconclusive");
    assert_eq!(outcome(&with("write-through", "stored", 0, 1, 240), "with the host"), "fail");
    let bounded = all(&with("bounded", "disk", 0, 240, 240));
    assert!(!bounded.iter().any(|v| v.name.contains("with the host")), "said, not judged: {bounded:?}");
}

use super::*;

fn dist(values_us: &[u64]) -> Dist {
    values_us.iter().map(|us| us * 1_000).collect::<Recorder>().to_dist()
}

/// A slice of `ok` rollouts, of which each has one DB query of `us` microseconds.
fn slice(ok: u64, us: u64) -> Rung {
    let times = vec![us; ok as usize];
    let mut rung = Rung {
        name: "blob".to_owned(),
        rollouts: ok + 1,
        accounting: Accounting { intended: ok + 1, ok, http_5xx: 1, ..Accounting::default() },
        overhead: dist(&times),
        ..Rung::default()
    };
    rung.rollout.service = dist(&times);
    rung.counts.critical.db_round_trips = us as f64 / 100.0;
    let stage = StageReport {
        dist: dist(&times),
        per_rollout_us: us as f64,
        calls_per_rollout: 1.0,
        overlap_per_rollout_us: 0.0,
    };
    rung.stages.insert("db.query".to_owned(), stage);
    let mut operation = OperationReport { total: dist(&times), ..OperationReport::default() };
    operation.stage_mean_us.insert("db.query".to_owned(), us as f64);
    rung.operations.insert("start_rollout".to_owned(), operation);
    rung
}

#[test]
fn slices_make_one_rung_in_which_each_rollout_counts_alike() {
    let (a, b) = (slice(30, 100), slice(10, 500));
    let all = merge([&a, &b]).unwrap();
    assert_eq!((all.accounting.ok, all.accounting.http_5xx, all.accounting.intended), (40, 2, 42));
    assert!(all.accounting.holds());
    assert_eq!(all.overhead.count, 40);
    let p50_us = all.overhead.p50_us.unwrap();
    assert!((p50_us / 100.0 - 1.0).abs() < 1e-3, "to three digits: {p50_us}");
    assert_eq!(all.overhead.max_us, Some(500.0));
    let weighted = 200.0;
    assert!((all.stages["db.query"].per_rollout_us - weighted).abs() < 1e-9);
    assert!((all.counts.critical.db_round_trips - 2.0).abs() < 1e-9);
    assert!((all.operations["start_rollout"].stage_mean_us["db.query"] - weighted).abs() < 1e-9);
    assert!(all.validity.ok);
}

#[test]
fn a_stage_that_one_slice_lacks_is_not_forgotten() {
    let (mut a, b) = (slice(10, 100), slice(30, 100));
    a.stages.clear();
    a.validity.reasons = vec!["x".to_owned()];
    let all = merge([&a, &b]).unwrap();
    assert!((all.stages["db.query"].per_rollout_us - 75.0).abs() < 1e-9);
    assert_eq!(all.validity, Validity { ok: false, reasons: vec!["x".to_owned()] });
    assert_eq!(merge([]), None);
}

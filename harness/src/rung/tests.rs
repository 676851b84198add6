use mipro_bench_reports::{Accounting, Validity};

use super::*;
use crate::ladder::RungName;

/// A `blob` rung of which `ok` of 48 rollouts were done, each with 18 round trips, 3 GETs and 3 PUTs.
fn blob(ok: u64) -> Rung {
    let critical = CountSet { db_round_trips: 18.0, s3_get: 3.0, s3_put: 3.0, ..CountSet::default() };
    let mut rung = Rung {
        rollouts: 48,
        accounting: Accounting { intended: 48, ok, unsent: 48 - ok, ..Accounting::default() },
        validity: Validity { ok: true, reasons: Vec::new() },
        ..Rung::default()
    };
    rung.counts.critical = critical;
    rung
}

fn carried(rollouts: u64) -> WireCounts {
    WireCounts {
        db_connections: 6 * rollouts,
        db_round_trips: 18 * rollouts,
        s3_get: 3 * rollouts,
        s3_put: 3 * rollouts,
        ..WireCounts::default()
    }
}

#[test]
fn an_interrupted_rung_claims_no_more_than_the_link_carried() {
    let mut rung = blob(10);
    background(&mut rung, &RungName::Blob.plan(), &carried(10), 12);
    assert_eq!(rung.validity.reasons, Vec::<String>::new());
    assert_eq!(rung.counts.background, CountSet { log_syncs: 1.2, ..CountSet::default() });
    assert!((rung.counts.critical.db_connections - 6.0).abs() < 1e-9);
}

#[test]
fn what_the_link_carried_beyond_the_books_is_the_background() {
    let mut rung = blob(48);
    background(&mut rung, &RungName::Pooled.plan(), &carried(72), 12);
    assert!(rung.validity.ok);
    let behind = rung.counts.background;
    assert_eq!(
        (behind.db_round_trips, behind.s3_get, behind.db_connections, behind.log_syncs),
        (9.0, 1.5, 9.0, 0.25)
    );
}

#[test]
fn a_claim_beyond_what_the_link_carried_is_a_contradiction() {
    let mut rung = blob(48);
    background(&mut rung, &RungName::Blob.plan(), &carried(47), 12);
    assert!(!rung.validity.ok);
    assert_eq!(rung.validity.reasons.len(), 3, "{:?}", rung.validity.reasons);
}

#[test]
fn a_rung_without_a_finished_rollout_has_no_counts() {
    let mut rung = blob(0);
    rung.counts.critical = CountSet::default();
    background(&mut rung, &RungName::Blob.plan(), &carried(3), 12);
    assert_eq!(rung.counts.background, CountSet::default());
    assert!(rung.validity.ok);
}

#[test]
fn allocations_are_shared_among_the_rollouts_that_succeeded() {
    let mut rung = blob(10);
    process(&mut rung, Some(Totals { allocations: 15_005, bytes: 1_000_000 }));
    let of = |name: &str| rung.counts.process[name];
    assert_eq!((of("allocations"), of("allocated_bytes")), (1_500.5, 100_000.0));
    let mut none = blob(0);
    process(&mut none, Some(Totals { allocations: 1, bytes: 1 }));
    let mut silent = blob(10);
    process(&mut silent, None);
    assert!(none.counts.process.is_empty() && silent.counts.process.is_empty(), "not counted is not none");
}

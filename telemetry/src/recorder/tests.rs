use std::sync::Barrier;

use super::{HISTOGRAMS_MAX, Recorders, cell_index, cell_key, lock};
use crate::ledger::{Breakdown, StageEntry};
use crate::stage::{Operation, Phase, Stage};

fn books(operation: Operation, query_ns: u64, other_ns: u64) -> Breakdown {
    let query = StageEntry {
        stage: Stage::DbQuery,
        phase: Some(Phase::Load),
        exclusive_ns: query_ns,
        overlap_ns: 5,
        count: 2,
        bytes: 100,
        round_trips: 3,
        cancelled: 1,
    };
    Breakdown { operation, total_ns: query_ns + other_ns, other_ns, entries: vec![query] }
}

#[test]
fn a_snapshot_adds_all_threads_together() {
    let recorders = Recorders::new();
    let everybody = Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    recorders.record(&books(Operation::StatusDone, 2_000, 1_000));
                }
                everybody.wait();
            });
        }
    });
    let snapshot = recorders.snapshot();
    let done = snapshot.operation(Operation::StatusDone).unwrap();
    assert_eq!((done.total.len(), done.total.equivalent(done.total.max(), 3_000)), (400, true));
    let query = snapshot.stage(Operation::StatusDone, Stage::DbQuery, Some(Phase::Load)).unwrap();
    assert_eq!((query.exclusive.len(), query.exclusive_ns, query.overlap_ns), (400, 800_000, 2_000));
    assert_eq!((query.count, query.bytes, query.round_trips, query.cancelled), (800, 40_000, 1_200, 400));
    let other = snapshot.stage(Operation::StatusDone, Stage::Other, None).unwrap();
    assert_eq!((other.count, other.exclusive_ns), (400, 400_000));
    assert!(snapshot.stage(Operation::StatusDone, Stage::DbQuery, None).is_none());
    assert!(snapshot.operation(Operation::StatusReward).is_none());
    assert_eq!(
        lock(&recorders.shared.shards).all.len(),
        4,
        "each thread at work at the same time has its own"
    );
}

#[test]
fn threads_that_end_hand_their_shard_on() {
    let recorders = Recorders::new();
    for _ in 0..20 {
        let recorders = recorders.clone();
        std::thread::spawn(move || recorders.record(&books(Operation::GetState, 1, 1))).join().unwrap();
    }
    assert_eq!(lock(&recorders.shared.shards).all.len(), 1);
    assert_eq!(recorders.snapshot().operations[0].total.len(), 20);
}

#[test]
fn two_registries_in_one_thread_do_not_share() {
    let (one, two) = (Recorders::new(), Recorders::new());
    one.record(&books(Operation::StatusDone, 1, 1));
    two.record(&books(Operation::StatusReward, 1, 1));
    let clone = one.clone();
    clone.record(&books(Operation::StatusDone, 1, 1));
    let operations = |r: &Recorders| -> Vec<(Operation, u64)> {
        r.snapshot().operations.iter().map(|o| (o.operation, o.total.len())).collect()
    };
    drop(clone);
    assert_eq!(operations(&one), [(Operation::StatusDone, 2)]);
    assert_eq!(operations(&two), [(Operation::StatusReward, 1)]);
}

#[test]
fn values_beyond_the_bounds_are_kept_at_the_bounds() {
    let recorders = Recorders::new();
    recorders.record(&books(Operation::Unknown, u64::MAX / 4, 0));
    let snapshot = recorders.snapshot();
    let total = &snapshot.operations[0].total;
    assert!(total.equivalent(total.max(), super::VALUE_MAX_NS), "{}", total.max());
    assert_eq!(snapshot.stage(Operation::Unknown, Stage::Other, None).unwrap().exclusive.max(), 1);
}

#[test]
fn every_key_has_a_cell_of_its_own() {
    let mut seen = 0;
    for operation in Operation::ALL {
        for stage in Stage::ALL {
            for phase in [None, Some(Phase::Load), Some(Phase::Save)] {
                let index = cell_index(*operation, *stage, phase);
                assert_eq!((index, cell_key(index)), (seen, (*operation, *stage, phase)));
                seen += 1;
            }
        }
    }
    assert_eq!(seen + Operation::ALL.len(), HISTOGRAMS_MAX);
}

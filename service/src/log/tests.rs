//! What every log promises: one suite over all of them.

use std::ops::ControlFlow;
use std::sync::Arc;

use uuid::Uuid;

use super::disk::{Disk, RealDisk, sim::SimDisk};
use super::{AppendError, Batch, EventLog, Level, Lsn, MemoryLog, SegmentLog, SegmentOptions};

fn system(number: u128) -> Uuid {
    Uuid::from_u128(0xa000 + number)
}

fn batch(number: u128, first_seq: u64, count: u32) -> Batch<'static> {
    Batch { system: system(number), epoch: 1, first_seq, count, payload: b"events" }
}

fn segments(level: Level, dir: &std::path::Path, disk: impl Disk + 'static) -> Arc<SegmentLog> {
    let options = SegmentOptions { level, segment_bytes: 64 << 10, ..SegmentOptions::at(dir) };
    SegmentLog::open(options, Arc::new(disk)).unwrap().0
}

fn found(log: &dyn EventLog, number: u128, after_seq: u64) -> Vec<(Lsn, u64, u32)> {
    let mut found = Vec::new();
    log.read(system(number), after_seq, &mut |entry| {
        assert_eq!(entry.batch.system, system(number), "of that system only");
        assert_eq!((entry.batch.epoch, entry.batch.payload), (1, b"events".as_slice()));
        found.push((entry.lsn, entry.batch.first_seq, entry.batch.count));
        ControlFlow::Continue(())
    })
    .unwrap();
    found
}

async fn conformance(log: &dyn EventLog) {
    let mut durable = log.reached(log.level()).expect("a log gives its own level");
    let start = *durable.borrow_and_update();
    let first = log.append(&batch(0, 1, 2)).unwrap();
    assert_eq!(first, Lsn(start.0 + 1), "LSNs rise by one");
    let other = log.append(&batch(1, 1, 1)).unwrap();
    let second = log.append(&batch(0, 3, 1)).unwrap();
    assert_eq!((other, second), (Lsn(first.0 + 1), Lsn(first.0 + 2)), "LSNs rise by one");
    let seen = *durable.wait_for(|lsn| *lsn >= second).await.unwrap();
    assert_eq!(seen, second, "the watermark never runs ahead of the appends");
    let late = log.reached(log.level()).unwrap();
    assert!(*late.borrow() >= second, "the watermark never falls, also for those who come late");
    assert_eq!(found(log, 0, 2), [(second, 3, 1)], "what is durable is found again");
    assert_eq!(found(log, 0, 1).len(), 2, "a batch is found whole or not at all");
    assert_eq!(found(log, 0, 0), [(first, 1, 2), (second, 3, 1)], "in order");
    assert_eq!(found(log, 0, 3), [], "nothing comes after the last");
    assert_eq!(found(log, 1, 0), [(other, 1, 1)]);
    assert_eq!(found(log, 2, 0), [], "of a system without events");
    let mut visits = 0;
    log.read(system(0), 0, &mut |_| {
        visits += 1;
        ControlFlow::Break(())
    })
    .unwrap();
    assert_eq!(visits, 1, "the visitor ends the visit");
    let health = log.health();
    assert_eq!((health.appended, health.closed, health.full), (second, false, false));
    assert!(log.reached(Level::Stored).is_none(), "no log gives that level");
    log.hurry(Level::Disk);
}

/// Every log there is.
async fn over_all(check: impl AsyncFn(&dyn EventLog)) {
    check(&MemoryLog::default()).await;
    for level in [Level::Os, Level::Disk] {
        let dir = tempfile::tempdir().unwrap();
        check(&*segments(level, dir.path(), RealDisk)).await;
        check(&*segments(level, "/log".as_ref(), SimDisk::new())).await;
    }
}

#[tokio::test]
async fn every_log_keeps_the_promises() {
    over_all(conformance).await;
}

#[tokio::test]
async fn concurrent_appends_take_distinct_places() {
    over_all(async |log: &dyn EventLog| {
        let mut places: Vec<u64> = std::thread::scope(|scope| {
            let append = |thread| {
                let next = |seq| loop {
                    match log.append(&batch(thread, seq, 1)) {
                        Ok(lsn) => break lsn.0,
                        Err(AppendError::Busy) => std::thread::yield_now(),
                        Err(other) => panic!("{other}"),
                    }
                };
                (1..=500).map(next).collect::<Vec<_>>()
            };
            let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || append(thread))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        places.sort_unstable();
        assert_eq!(places, (1..=2_000).collect::<Vec<u64>>());
    })
    .await;
}

#[test]
fn a_log_in_memory_is_told_from_one_on_a_disk() {
    let Ok(memory) = super::disk::is_temporary("/dev/shm".as_ref()) else {
        eprintln!("skipped: no /dev/shm");
        return;
    };
    assert!(memory);
    assert!(super::disk::is_temporary("/no/such/directory".as_ref()).is_err());
}

//! Many producers at once, on threads, on both disks.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::support::{options, system};
use crate::log::disk::{Disk, RealDisk, sim::SimDisk};
use crate::log::segment::{SegmentLog, SegmentOptions};
use crate::log::{AppendError, Batch, EventLog, Level, Lsn};

const PRODUCERS: u64 = 6;
const EACH: u64 = 200;

fn produce(log: &SegmentLog, producer: u64) -> Vec<(u64, Lsn)> {
    let mut given = Vec::new();
    for seq in 1..=EACH {
        let payload = [producer as u8; 90];
        let batch = Batch { system: system(producer), epoch: 1, first_seq: seq, count: 1, payload: &payload };
        let lsn = loop {
            match log.append(&batch) {
                Ok(lsn) => break lsn,
                Err(AppendError::Busy) => std::thread::yield_now(),
                Err(other) => panic!("{other}"),
            }
        };
        given.push((seq, lsn));
    }
    given
}

/// Watches until everything is durable: the watermark never falls.
fn watch(log: &SegmentLog) -> impl Future<Output = ()> + use<> {
    let mut durable = log.reached(Level::Disk).unwrap();
    async move {
        let mut last = Lsn(0);
        while last < Lsn(PRODUCERS * EACH) {
            durable.changed().await.unwrap();
            let now = *durable.borrow_and_update();
            assert!(now > last, "{now:?} after {last:?}");
            last = now;
        }
    }
}

async fn all_are_found_once(options: SegmentOptions, disk: Arc<dyn Disk>) {
    let (log, _) = SegmentLog::open(options.clone(), Arc::clone(&disk)).unwrap();
    let watching = tokio::spawn(watch(&log));
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let log = Arc::clone(&log);
            tokio::task::spawn_blocking(move || produce(&log, producer))
        })
        .collect();
    let mut lsns = BTreeSet::new();
    let mut given = Vec::new();
    for producer in producers {
        given.push(producer.await.unwrap());
    }
    watching.await.unwrap();
    drop(log);
    let (log, opened) = SegmentLog::open(options, disk).unwrap();
    assert_eq!(opened.records, PRODUCERS * EACH);
    assert!(opened.segments > 4, "several segments: {}", opened.segments);
    for (producer, given) in given.iter().enumerate() {
        let mut found = Vec::new();
        log.read(system(producer as u64), 0, &mut |entry| {
            assert_eq!(entry.batch.payload, [producer as u8; 90]);
            found.push((entry.batch.first_seq, entry.lsn));
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(found, *given, "each is found where it was put, once");
        lsns.extend(found.iter().map(|(_, lsn)| lsn.0));
    }
    assert!(lsns.into_iter().eq(1..=PRODUCERS * EACH), "LSNs are dense");
}

#[tokio::test]
async fn producers_on_the_simulated_disk() {
    let options = SegmentOptions { segment_bytes: 16 << 10, queue_bytes_max: 4 << 10, ..options() };
    all_are_found_once(options, Arc::new(SimDisk::new())).await;
}

#[tokio::test]
async fn producers_on_the_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        SegmentOptions { dir: dir.path().join("a/log"), segment_bytes: 16 << 10, seed: None, ..options() };
    all_are_found_once(options, Arc::new(RealDisk)).await;
}

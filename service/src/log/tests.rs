//! What every log promises; more logs will run it.

use std::ops::ControlFlow;

use uuid::Uuid;

use super::{Batch, EventLog, Lsn, MemoryLog};

fn batch(first_seq: u64, count: u32) -> Batch<'static> {
    Batch { system: Uuid::nil(), epoch: 1, first_seq, count, payload: b"events" }
}

async fn conformance(log: &dyn EventLog) {
    let mut durable = log.reached(log.level()).expect("a log gives its own level");
    let start = *durable.borrow_and_update();
    let first = log.append(&batch(1, 2)).unwrap();
    assert_eq!(first, Lsn(start.0 + 1), "LSNs rise by one");
    let second = log.append(&batch(3, 1)).unwrap();
    assert_eq!(second, Lsn(first.0 + 1), "LSNs rise by one");
    let seen = *durable.wait_for(|lsn| *lsn >= second).await.unwrap();
    assert_eq!(seen, second, "the watermark never runs ahead of the appends");
    let late = log.reached(log.level()).unwrap();
    assert!(*late.borrow() >= second, "the watermark never falls, also for those who come late");
    let mut found = Vec::new();
    log.read(Uuid::nil(), 2, &mut |entry| {
        found.push((entry.lsn, entry.batch.first_seq));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(found, [(second, 3)], "what is durable is found again");
}

#[tokio::test]
async fn the_memory_log_keeps_the_promises() {
    conformance(&MemoryLog::default()).await;
}

#[test]
fn concurrent_appends_take_distinct_places() {
    let log = MemoryLog::default();
    let mut places: Vec<u64> = std::thread::scope(|scope| {
        let append = || (0..500).map(|_| log.append(&batch(1, 1)).unwrap().0).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(append)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    places.sort_unstable();
    assert_eq!(places, (1..=2_000).collect::<Vec<u64>>());
}

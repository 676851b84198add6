use std::io::Write as _;
use std::time::Duration;

use tracing_subscriber::layer::SubscriberExt as _;

use super::*;
use crate::ledger::Ledger;
use crate::stage::{Operation, Stage};

#[test]
fn lines_are_summed_however_they_are_cut() {
    let busy = Busy::default();
    let mut sink = Sink { sums: Arc::clone(&busy.sums), line: Vec::new() };
    for piece in [
        "all-threads; request",
        "; db.query 12\nall-",
        "threads; request; db.query 30\nall-threads 7\nnonsense\n",
    ] {
        sink.write_all(piece.as_bytes()).unwrap();
    }
    let long = format!("all-threads; {} 5\n", "x".repeat(2 * LINE_MAX));
    sink.write_all(long.as_bytes()).unwrap();
    assert_eq!(busy.found().to_text(), "request;db.query 42\n");
    busy.begin();
    assert!(busy.found().is_empty());
}

/// The pitfall: a stage polled on a thread of its own, which was parked before, must not charge the parking to its request.
/// tracing-flame reads the real clock: what is asserted is half of what is waited, and no measure of speed.
#[test]
fn a_parked_thread_s_idle_time_is_nobody_s() {
    const PARKED: Duration = Duration::from_millis(500);
    let busy = Busy::default();
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(busy.layer()));
    tracing::dispatcher::with_default(&dispatch, || {
        let ledger = Ledger::start(Operation::StartRollout);
        let there = ledger.clone();
        let parked = std::thread::spawn({
            let dispatch = dispatch.clone();
            move || {
                tracing::dispatcher::with_default(&dispatch, || {
                    // The thread's time begins for tracing-flame.
                    there.time(Stage::LogAppend, || {});
                    std::thread::park_timeout(PARKED);
                    there.time(Stage::LogAppend, || {});
                });
            }
        });
        parked.join().unwrap();
        let _ = ledger.finish();
    });
    let found = busy.found();
    assert!(found.total() < PARKED.as_nanos() as u64 / 2, "{}", found.to_text());
    assert!(found.iter().any(|(stack, _)| stack == "request;log.append"), "{}", found.to_text());
}

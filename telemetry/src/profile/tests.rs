use tracing_subscriber::layer::SubscriberExt as _;

use super::*;
use crate::folded::Folded;
use crate::ledger::Ledger;
use crate::stage::{Operation, Stage};

fn rollout(id: &str) {
    for operation in [Operation::StartRollout, Operation::StatusRewardDone] {
        let ledger = Ledger::start(operation);
        ledger.set_rollout(id);
        ledger.time(Stage::StateEncode, || std::hint::black_box((0..10_000).sum::<u64>()));
        let _ = ledger.finish();
    }
}

#[test]
fn its_files_hold_what_came_after_the_last_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("made");
    let profiler = Profiler::open(&dir).unwrap();
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    assert_eq!(read(BEGUN), "0");
    tracing::subscriber::with_default(tracing_subscriber::registry().with(profiler.layers()), || {
        rollout("warm-up");
        profiler.begin().unwrap();
        assert_eq!(read(BEGUN), "1");
        rollout("measured");
        // Another target is none of ours.
        let span = tracing::trace_span!("elsewhere");
        span.in_scope(|| {});
    });
    profiler.write().unwrap();
    let summary: Summary = serde_json::from_str(&read(SUMMARY)).unwrap();
    assert_eq!((summary.requests, summary.cut), (2, 0));
    assert!(summary.slowest_ns > 0);
    let wall = Folded::parse(&read(WALL)).unwrap();
    assert!(wall.iter().any(|(stack, _)| stack == "start_rollout;state.encode;[poll]"), "{}", wall.to_text());
    let busy = Folded::parse(&read(BUSY)).unwrap();
    assert!(busy.iter().any(|(stack, _)| stack == "request;state.encode"), "{}", busy.to_text());
    assert!(busy.iter().all(|(stack, _)| !stack.contains("elsewhere")), "{}", busy.to_text());
    let trace: serde_json::Value = serde_json::from_str(&read(TRACE)).unwrap();
    assert!(
        trace["traceEvents"].as_array().unwrap().iter().any(|event| event["name"] == "status_reward_done")
    );
    let names: Vec<_> =
        fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names.len(), 5, "nothing half-written is left: {names:?}");
}

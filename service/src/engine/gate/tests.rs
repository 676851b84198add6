use mipro_telemetry::Operation;

use super::*;

const LONG: Duration = Duration::from_secs(60);

fn waited(ledger: &Ledger) -> (u64, u64) {
    let entries = ledger.finish().entries;
    let gate = entries.iter().find(|entry| entry.stage == Stage::GateWait);
    gate.map_or((0, 0), |entry| (entry.count, entry.cancelled))
}

#[tokio::test]
async fn a_gate_holds_until_the_watermark_reaches_its_place() {
    let watermark = watch::Sender::new(Lsn(4));
    let ledger = Ledger::start(Operation::StatusReward);
    let gate = Gate::at(Lsn(6), watermark.subscribe(), LONG);
    assert!(!gate.is_open());
    let mut waiting = Box::pin(gate.wait(&ledger));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    watermark.send_replace(Lsn(5));
    assert!(futures_util::poll!(&mut waiting).is_pending(), "5 is not 6");
    watermark.send_replace(Lsn(9));
    waiting.await.unwrap();
    assert_eq!(waited(&ledger), (1, 0));
}

#[tokio::test]
async fn an_open_gate_takes_no_time_and_leaves_no_trace() {
    let ledger = Ledger::start(Operation::StatusReward);
    let gate = Gate::open();
    assert!(gate.is_open());
    gate.wait(&ledger).await.unwrap();
    assert_eq!(waited(&ledger), (0, 0));
    let watermark = watch::Sender::new(Lsn(4));
    assert!(Gate::at(Lsn(4), watermark.subscribe(), LONG).is_open());
}

#[tokio::test]
async fn a_log_that_stops_or_stalls_lets_nothing_out() {
    let ledger = Ledger::start(Operation::StatusReward);
    let watermark = watch::Sender::new(Lsn(0));
    let stalled = Gate::at(Lsn(1), watermark.subscribe(), Duration::from_millis(5));
    assert!(matches!(stalled.wait(&ledger).await, Err(EngineError::Log(LogTrouble::Slow))));
    let stopped = Gate::at(Lsn(1), watermark.subscribe(), LONG);
    drop(watermark);
    assert!(matches!(stopped.wait(&ledger).await, Err(EngineError::Log(LogTrouble::Stopped))));
    assert_eq!(waited(&ledger), (2, 2), "neither passes for a success");
}

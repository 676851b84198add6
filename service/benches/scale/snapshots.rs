//! What is stored as one system's history grows: the snapshot's size, the document's, and how much each event costs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mipro_service::clock::Contexts;
use mipro_service::engine::document::Document;
use mipro_service::engine::{Access, Engine, EngineKind, EngineOptions, build_with_log};
use mipro_service::log::disk::RealDisk;
use mipro_service::log::{SegmentLog, SegmentOptions};
use mipro_service::snapshot::format::pack;
use mipro_service::system::{Command, Limits, NoProbe, Reply, SystemId, apply, decide, record};
use mipro_telemetry::{Ledger, Operation, Recorders};

use super::store::Objects;
use super::{messages, new_system, rollout, stores, system_id};

/// Closed rollouts that a state remembers.
const WINDOW: usize = 1_000;
const ROLLOUTS: [u64; 5] = [2_000, 10_000, 25_000, 50_000, 100_000];

pub(crate) fn run(runtime: &tokio::runtime::Runtime, dir: &Path) {
    sizes();
    runtime.block_on(work(dir));
}

fn limits() -> Limits {
    Limits { rollouts_closed_max: WINDOW, ..Limits::default() }
}

fn sizes() {
    println!("what is stored of one system, the last {WINDOW} closed rollouts remembered");
    let contexts = Contexts::seeded(1);
    let (mut document, _) = Document::begin(&new_system(system_id(0), limits()), &contexts.context());
    let messages = messages();
    for turn in 0..ROLLOUTS[ROLLOUTS.len() - 1] {
        for command in rollout(turn, &messages) {
            let context = contexts.context();
            let decision = decide(&document.state, &command, &context, &mut NoProbe).unwrap();
            let events = record(&document.state, decision.events, &context);
            events.iter().for_each(|event| apply(&mut document.state, event, &mut NoProbe));
            document.history.extend(events);
        }
        if ROLLOUTS.contains(&(turn + 1)) {
            let packed = pack(&document.state, 1).unwrap();
            println!(
                "  {:>7} rollouts, {:>7} events: snapshot {:>6} bytes ({} unpacked), document {:>10} bytes",
                turn + 1,
                document.state.version,
                packed.bytes.len(),
                packed.raw_bytes,
                document.encode().unwrap().len()
            );
        }
    }
}

/// The engine's own saves, by its own rules, as `mipro serve` sets them.
async fn work(dir: &Path) {
    println!(
        "bytes that the engine puts for snapshots, by its own rules (a document: its whole size at each save)"
    );
    let objects = Objects::in_memory();
    let stores = stores(None, Arc::clone(&objects)).await;
    let (log, _) = SegmentLog::open(SegmentOptions::at(dir.join("snapshots")), Arc::new(RealDisk)).unwrap();
    let mut options = EngineOptions::new(EngineKind::Actor, Contexts::seeded(1));
    options.actor.save_events_max = 10_000;
    let engine = build_with_log(&options, stores, Recorders::new(), log);
    let ledger = || Ledger::start(Operation::Background);
    engine.create(new_system(system_id(0), limits()), &ledger()).await.unwrap();
    let (messages, mut turn, mut events) = (messages(), 0, 0);
    let mut before = (events, objects.put_so_far());
    for until in ROLLOUTS {
        while turn < until {
            for command in rollout(turn, &messages) {
                events = execute(&*engine, system_id(0), &command).await;
            }
            turn += 1;
        }
        let now = (events, objects.put_so_far());
        let (puts, bytes) = (now.1.0 - before.1.0, now.1.1 - before.1.1);
        println!(
            "  up to {turn:>7} rollouts: {puts:>3} snapshots, {bytes:>8} bytes, {:.2} bytes an event",
            bytes as f64 / (now.0 - before.0) as f64
        );
        before = now;
    }
    engine.shutdown().await.unwrap();
}

/// Runs a command, again while the log can't keep up; gives how many events there are then.
async fn execute(engine: &dyn Engine, system: SystemId, command: &Command) -> u64 {
    loop {
        let ledger = Ledger::start(Operation::Background);
        match engine
            .execute(system, Access::Capability, command.clone(), &ledger)
            .await
            .map(|done| done.reply)
        {
            Ok(Reply::Rollout(reply)) => return reply.version,
            Ok(
                Reply::Status { version, .. } | Reply::Created { version } | Reply::Candidate { version, .. },
            ) => return version,
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

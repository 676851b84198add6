//! How long one system with a long tail takes to come back.

use std::path::Path;
use std::sync::Arc;

use mipro_service::clock::Contexts;
use mipro_service::codec;
use mipro_service::engine::Access;
use mipro_service::log::disk::RealDisk;
use mipro_service::log::{Batch, EventLog, Level, SegmentLog, SegmentOptions};
use mipro_service::offload::Offload;
use mipro_service::recovery::Recovery;
use mipro_service::snapshot::SnapshotWriter;
use mipro_service::store::Stores;
use mipro_service::system::{Limits, NoProbe, Recorded, State, SystemId, apply, begin, decide, record};
use mipro_telemetry::{Ledger, Operation, Recorders, Stage};

use super::store::Objects;
use super::{messages, new_system, rollout, spread_ms, stores, system_id, timed};

const TAIL_EVENTS: u64 = 10_000;
/// Records of other systems between two of this one, as a log that serves many has them.
const NEIGHBOURS: u64 = 9;
const RUNS: usize = 20;

pub(crate) fn run(runtime: &tokio::runtime::Runtime, dir: &Path) {
    println!(
        "recovery of one system, {TAIL_EVENTS} events behind its snapshot (target: 50 ms, less the fetch)"
    );
    for neighbours in [0, NEIGHBOURS] {
        let options = SegmentOptions::at(dir.join(format!("recovery-{neighbours}")));
        let (log, _) = SegmentLog::open(options, Arc::new(RealDisk)).unwrap();
        let stores = runtime.block_on(stores(None, Objects::in_memory()));
        let state = fill(runtime, &log, &stores, neighbours);
        let end = log.health().appended;
        let mut durable = log.reached(Level::Disk).unwrap();
        runtime.block_on(durable.wait_for(|lsn| *lsn >= end)).unwrap();
        measure(runtime, &Recovery::new(stores, log, Offload::default()), &state, neighbours);
    }
}

/// A new system's snapshot, and the events of rollouts behind it.
fn fill(runtime: &tokio::runtime::Runtime, log: &SegmentLog, stores: &Stores, neighbours: u64) -> State {
    let contexts = Contexts::seeded(1);
    let (mut state, events, _) = begin(&new_system(system_id(0), Limits::default()), &contexts.context());
    append(log, state.system_id, &events);
    let writer = SnapshotWriter::new(stores.clone(), Recorders::new(), Arc::default(), Offload::default());
    let ledger = Ledger::start(Operation::Background);
    runtime.block_on(writer.write_first(state.clone(), 1, None, &ledger)).unwrap();
    let (until, messages) = (state.version + TAIL_EVENTS, messages());
    for turn in 0.. {
        if state.version >= until {
            break;
        }
        for command in rollout(turn, &messages) {
            let context = contexts.context();
            let decision = decide(&state, &command, &context, &mut NoProbe).unwrap();
            let events = record(&state, decision.events, &context);
            append(log, state.system_id, &events);
            (1..=neighbours).for_each(|other| append(log, system_id(other), &events));
            events.iter().for_each(|event| apply(&mut state, event, &mut NoProbe));
        }
    }
    state
}

fn append(log: &SegmentLog, system: SystemId, events: &[Recorded]) {
    let mut payload = Vec::new();
    codec::event::encode(events, &mut payload);
    let count = u32::try_from(events.len()).unwrap();
    let batch = Batch { system, epoch: 1, first_seq: events[0].seq, count, payload: &payload };
    while log.append(&batch).is_err() {
        std::thread::yield_now();
    }
}

fn measure(runtime: &tokio::runtime::Runtime, recovery: &Recovery, state: &State, neighbours: u64) {
    let (mut all, mut own, mut tail) = (Vec::new(), Vec::new(), (0, 0));
    for _ in 0..RUNS {
        let ledger = Ledger::start(Operation::Background);
        let system = state.system_id;
        let recover = recovery.recover(system, Access::Capability, &ledger);
        let (seconds, recovered) = timed(|| runtime.block_on(recover).unwrap());
        assert_eq!(recovered.state.version, state.version);
        let breakdown = ledger.finish();
        let fetch = breakdown.entries.iter().filter(|entry| entry.stage == Stage::S3Get);
        let fetch_ns: u64 = fetch.map(|entry| entry.exclusive_ns + entry.overlap_ns).sum();
        tail = (recovered.tail_events, recovered.tail_bytes);
        all.push(seconds);
        own.push(seconds - fetch_ns as f64 / 1e9);
    }
    println!(
        "  {neighbours} records of others between two: {} less the fetch; {} in all; {} events, {} bytes; of {RUNS}",
        spread_ms(own),
        spread_ms(all),
        tail.0,
        tail.1
    );
}

//! Many systems, all of them used once and then idle: what the process keeps of them, and how soon it starts beside them.
//!
//! Counted is this process's resident memory: engine, log with its open segment's index, archiver, allocator, and SQLite's
//! cache. Not counted are the bytes of rows and objects, which are in files of a memory file system (see [`super`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mipro_service::clock::Contexts;
use mipro_service::engine::{Access, Engine, EngineKind, EngineOptions, build_with_log};
use mipro_service::log::disk::RealDisk;
use mipro_service::log::segment::Opened;
use mipro_service::log::{SegmentLog, SegmentOptions};
use mipro_service::store::Stores;
use mipro_service::system::{Command, Limits, Message};
use mipro_telemetry::{Ledger, Operation, Recorders, clock};
use tokio::runtime::Runtime;

use super::store::Objects;
use super::{messages, new_system, rollout, spread_ms, stores, system_id, timed};

const FEW: u64 = 1_000;
const CLIENTS: u64 = 64;
const STARTS: usize = 5;
const SETTLE_MAX: Duration = Duration::from_secs(180);

/// A process's share of a machine: its log, and the stores it uses.
struct Site {
    log: PathBuf,
    stores: PathBuf,
}

/// A service without its HTTP half.
struct Service {
    engine: Arc<dyn Engine>,
    log: Arc<SegmentLog>,
    opened: Opened,
    /// Seconds that the start took for the log, the stores and the engine.
    parts: [f64; 3],
}

impl Site {
    async fn start(&self) -> Service {
        let begun = clock::now();
        let (log, opened) = SegmentLog::open(SegmentOptions::at(&self.log), Arc::new(RealDisk)).unwrap();
        let log_open = clock::now();
        let Stores { table, blobs } =
            stores(Some(self.stores.join("rows.db")), Objects::in_slots(&self.stores)).await;
        let stores_open = clock::now();
        let mut options = EngineOptions::new(EngineKind::Actor, Contexts::from_os());
        options.actor.save_events_max = 10_000;
        options.actor.idle_max = Duration::from_secs(1);
        options.actor.archive_every = Duration::from_secs(1);
        let log_for = Arc::clone(&log);
        let engine = build_with_log(&options, Stores { table, blobs }, Recorders::new(), log_for);
        let parts = [log_open - begun, stores_open - log_open, stores_open.elapsed()];
        Service { engine, log, opened, parts: parts.map(|part| part.as_secs_f64()) }
    }
}

impl Service {
    async fn stop(self) {
        self.engine.shutdown().await.unwrap();
        drop(self.engine);
        // The archiver and the shards let go of the log when they see that the engine has gone.
        while Arc::strong_count(&self.log) > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::task::spawn_blocking(move || drop(self.log)).await.unwrap();
    }
}

pub(crate) fn run(runtime: &Runtime, dir: &Path, systems: u64) {
    let root =
        std::env::var_os("MIPRO_BENCH_STORES").map_or_else(|| PathBuf::from("/dev/shm"), PathBuf::from);
    let stores = tempfile::tempdir_in(root).unwrap();
    println!("idle systems: resident memory, start-up (target at 1,000,000: 400 MB beyond an empty process)");
    let mut empty = 0.0;
    for count in std::collections::BTreeSet::from([0, FEW, systems]) {
        let site =
            Site { log: dir.join(format!("log-{count}")), stores: stores.path().join(count.to_string()) };
        std::fs::create_dir_all(&site.stores).unwrap();
        let service = runtime.block_on(site.start());
        let begun = clock::now();
        runtime.block_on(touch_all(&service, count));
        let touched = begun.elapsed().as_secs_f64();
        runtime.block_on(settle(&service));
        let memory = memory_mb();
        if count == 0 {
            empty = memory.0;
        }
        let (figures, beyond) = (service.engine.figures(), memory.0 - empty);
        println!(
            "  {count:>7} systems: {:.0} MB resident, {beyond:.0} beyond an empty process, peak {:.0}; touched in {touched:.0} s",
            memory.0, memory.1
        );
        println!(
            "          left in memory {}; saves {}, failed {}; log: {} records, {} segments, {:.0} MB kept, {} trimmed",
            figures.resident,
            figures.saves,
            figures.save_failures,
            figures.log.appended_lsn,
            figures.log.segments,
            figures.log.kept_bytes as f64 / 1e6,
            figures.log.trimmed
        );
        runtime.block_on(service.stop());
        starts(runtime, &site, count);
    }
}

/// Makes each system, and runs a rollout through it.
async fn touch_all(service: &Service, count: u64) {
    let messages = messages();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (engine, messages) = (Arc::clone(&service.engine), Arc::clone(&messages));
            tokio::spawn(async move {
                for index in (client..count).step_by(CLIENTS as usize) {
                    touch(&*engine, index, &messages).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
}

async fn touch(engine: &dyn Engine, index: u64, messages: &Arc<[Message]>) {
    let ledger = || Ledger::start(Operation::Background);
    engine.create(new_system(system_id(index), Limits::default()), &ledger()).await.unwrap();
    for command in rollout(index, messages) {
        execute(engine, index, command).await;
    }
}

/// Runs a command, again while there is no room.
async fn execute(engine: &dyn Engine, index: u64, command: Command) {
    let ledger = || Ledger::start(Operation::Background);
    while engine.execute(system_id(index), Access::Capability, command.clone(), &ledger()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until no system is in memory, and the log is trimmed to what may be kept.
async fn settle(service: &Service) {
    let begun = clock::now();
    while begun.elapsed() < SETTLE_MAX {
        let figures = service.engine.figures();
        if figures.resident == 0 && figures.log.segments <= 2 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("          (it did not come to rest in {} s)", SETTLE_MAX.as_secs());
}

fn starts(runtime: &Runtime, site: &Site, count: u64) {
    let (mut ready, mut first, mut opened) = (Vec::new(), Vec::new(), Opened::default());
    let mut parts: [Vec<f64>; 3] = Default::default();
    for turn in 0..STARTS as u64 {
        let (seconds, service) = timed(|| runtime.block_on(site.start()));
        ready.push(seconds);
        opened = service.opened.clone();
        parts.iter_mut().zip(service.parts).for_each(|(all, part)| all.push(part));
        if count > 0 {
            let [start, _] = rollout(count + turn, &messages());
            first.push(timed(|| runtime.block_on(execute(&*service.engine, turn, start))).0);
        }
        runtime.block_on(service.stop());
    }
    println!(
        "          start: {} for {} records, {:.1} MB of log",
        spread_ms(ready),
        opened.records,
        opened.bytes as f64 / 1e6
    );
    let [log, stores, engine] = parts.map(spread_ms);
    println!("          of it the log: {log}, the stores: {stores}, the engine: {engine}");
    if !first.is_empty() {
        println!("          first rollout of an idle system after it: {}", spread_ms(first));
    }
}

/// Resident now and at most so far, in MB.
fn memory_mb() -> (f64, f64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse::<f64>().unwrap() * 1024.0 / 1e6
    };
    (line("VmRSS:"), line("VmHWM:"))
}

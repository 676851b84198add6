//! What the segment log costs, against a plain loop of write and `fdatasync` on the same file system, in one run and
//! interleaved: machines are shared and noisy, ratios are not. Nothing here asserts; targets are printed beside results.
//!
//! `cargo bench -p mipro-service --bench log`; the files lie below the target directory, or where `MIPRO_BENCH_DIR` says.
#![expect(clippy::unwrap_used, reason = "a measurement that can't go on stops here")]
#![expect(clippy::print_stdout, reason = "it prints")]

use std::collections::VecDeque;
use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mipro_service::log::disk::{self, NullDisk, RealDisk};
use mipro_service::log::segment::{Opened, visit_bytes};
use mipro_service::log::{Batch, EventLog, Level, Lsn, SegmentLog, SegmentOptions};
use mipro_telemetry::{Operation, Recorders, Stage, clock};
use tokio::sync::watch;
use uuid::Uuid;

const PRODUCERS: u64 = 64;
const OUTSTANDING: usize = 8;
const PAYLOAD: [u8; 100] = [7; 100];
const RECORD_BYTES: u64 = 164;
const ROUNDS: usize = 15;
/// Short, so that neighbours on the machine hit both sides alike.
const ROUND: Duration = Duration::from_millis(400);
/// Appends of a round in the open model.
const APPENDS: u32 = 300;

fn main() {
    let root = std::env::var_os("MIPRO_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let dir = tempfile::tempdir_in(root).unwrap();
    if disk::is_temporary(dir.path()).unwrap_or(false) {
        println!("these files lie in memory: syncs cost nothing, and the ratios mean nothing");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    throughput(&runtime, dir.path());
    own_cost();
    open_model(&runtime, dir.path());
    replay(dir.path());
}

fn batch(system: u64, seq: u64) -> Batch<'static> {
    Batch {
        system: Uuid::from_u128(u128::from(system)),
        epoch: 1,
        first_seq: seq,
        count: 1,
        payload: &PAYLOAD,
    }
}

fn open(dir: &Path, recorders: Option<Recorders>) -> Arc<SegmentLog> {
    let options = SegmentOptions { recorders, ..SegmentOptions::at(dir) };
    SegmentLog::open(options, Arc::new(RealDisk)).unwrap().0
}

fn syncs(recorders: &Recorders) -> u64 {
    let snapshot = recorders.snapshot();
    snapshot.stage(Operation::Background, Stage::LogSync, None).map_or(0, |row| row.count)
}

/// The plain loop's file: made as a segment is.
struct Plain {
    file: File,
    bytes: u64,
    at: u64,
}

impl Plain {
    fn new(path: &Path) -> Self {
        let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        let bytes = 64 << 20;
        for at in 0..64 {
            file.write_all_at(&vec![0; 1 << 20], at << 20).unwrap();
        }
        file.sync_all().unwrap();
        Self { file, bytes, at: 0 }
    }

    fn write_and_sync(&mut self, group: &[u8]) {
        if self.at + group.len() as u64 > self.bytes {
            self.at = 0;
        }
        self.file.write_all_at(group, self.at).unwrap();
        self.file.sync_data().unwrap();
        self.at += group.len() as u64;
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// (i) Many producers, some appends outstanding each.
fn throughput(runtime: &tokio::runtime::Runtime, dir: &Path) {
    let recorders = Recorders::new();
    let log = open(&dir.join("throughput"), Some(recorders.clone()));
    let mut plain = Plain::new(&dir.join("plain"));
    let mut next_seq = vec![1; PRODUCERS as usize];
    let mut ratios = Vec::new();
    println!(
        "(i) {PRODUCERS} producers, {OUTSTANDING} appends of 100 B outstanding each, against write + fdatasync"
    );
    for round in 0..ROUNDS {
        let (syncs_before, start) = (syncs(&recorders), clock::now());
        let events = runtime.block_on(produce(&log, &mut next_seq));
        let seconds = start.elapsed().as_secs_f64();
        let groups = (syncs(&recorders) - syncs_before).max(1);
        let per_group = events as f64 / groups as f64;
        let rate = events as f64 / seconds;
        let group = vec![1; (per_group * RECORD_BYTES as f64) as usize];
        let (start, mut plain_groups) = (clock::now(), 0_u64);
        while start.elapsed() < ROUND {
            plain.write_and_sync(&group);
            plain_groups += 1;
        }
        let plain_rate = plain_groups as f64 * per_group / start.elapsed().as_secs_f64();
        println!(
            "  round {round}: {rate:>9.0} events/s in groups of {per_group:>5.1}; plain {plain_rate:>9.0}; ratio {:.2}",
            rate / plain_rate
        );
        ratios.push(rate / plain_rate);
    }
    println!("  median ratio {:.2} (target: 0.5 or more)", median(ratios));
}

async fn produce(log: &Arc<SegmentLog>, next_seq: &mut [u64]) -> u64 {
    let stop = Arc::new(AtomicBool::new(false));
    let events = Arc::new(AtomicU64::new(0));
    let producers: Vec<_> = next_seq
        .iter()
        .enumerate()
        .map(|(system, seq)| {
            let producer = Producer {
                log: Arc::clone(log),
                durable: log.reached(Level::Disk).unwrap(),
                system: system as u64,
                seq: *seq,
                stop: Arc::clone(&stop),
                events: Arc::clone(&events),
            };
            tokio::spawn(producer.run())
        })
        .collect();
    tokio::time::sleep(ROUND).await;
    stop.store(true, Ordering::Relaxed);
    for (producer, seq) in producers.into_iter().zip(next_seq) {
        *seq = producer.await.unwrap();
    }
    events.load(Ordering::Relaxed)
}

struct Producer {
    log: Arc<SegmentLog>,
    durable: watch::Receiver<Lsn>,
    system: u64,
    seq: u64,
    stop: Arc<AtomicBool>,
    events: Arc<AtomicU64>,
}

impl Producer {
    async fn run(mut self) -> u64 {
        let mut outstanding = VecDeque::new();
        while !self.stop.load(Ordering::Relaxed) || !outstanding.is_empty() {
            while outstanding.len() < OUTSTANDING && !self.stop.load(Ordering::Relaxed) {
                let Ok(lsn) = self.log.append(&batch(self.system, self.seq)) else { break };
                outstanding.push_back(lsn);
                self.seq += 1;
            }
            let Some(oldest) = outstanding.front().copied() else {
                tokio::task::yield_now().await;
                continue;
            };
            let durable = *self.durable.wait_for(|lsn| *lsn >= oldest).await.unwrap();
            while outstanding.front().is_some_and(|lsn| *lsn <= durable) {
                outstanding.pop_front();
                self.events.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.seq
    }
}

/// (ii) Append, framing, checksum and index on one thread, without a disk.
fn own_cost() {
    const GROUP: u64 = 100;
    const GROUPS: u64 = 3_000;
    let mut costs = Vec::new();
    for round in 0..ROUNDS as u64 {
        let options = SegmentOptions::at("/nowhere");
        let (log, _, mut stepper) =
            SegmentLog::open_stepped(options, Arc::new(NullDisk), clock::now()).unwrap();
        let start = clock::now();
        for group in 0..GROUPS {
            for turn in 0..GROUP {
                let seq = group * GROUP / PRODUCERS + turn;
                log.append(&batch((turn + round) % PRODUCERS, seq + 1)).unwrap();
            }
            stepper.settle(start);
        }
        costs.push(start.elapsed().as_secs_f64() * 1e6 / (GROUPS * GROUP) as f64);
    }
    println!(
        "(ii) the log's own cost: {:.2} µs an event in groups of {GROUP} (target: 2 or less)",
        median(costs)
    );
}

/// (iii) A thousand appends a second, whatever the log manages; each one's time until it is durable.
fn open_model(runtime: &tokio::runtime::Runtime, dir: &Path) {
    const PACE: Duration = Duration::from_millis(1);
    let log = open(&dir.join("open"), None);
    let mut plain = Plain::new(&dir.join("plain-open"));
    let (mut ratios, mut seq) = (Vec::new(), 0);
    println!(
        "(iii) 1,000 appends/s, open model: p50 until durable, against p50 of write + fdatasync at that pace"
    );
    for round in 0..ROUNDS {
        let waits = runtime.block_on(async {
            let start = tokio::time::Instant::now();
            let mut waiting = Vec::new();
            for turn in 0..APPENDS {
                tokio::time::sleep_until(start + PACE * turn).await;
                seq += 1;
                let appended = clock::now();
                let lsn = log.append(&batch(1, seq)).unwrap();
                let mut durable = log.reached(Level::Disk).unwrap();
                waiting.push(tokio::spawn(async move {
                    durable.wait_for(|reached| *reached >= lsn).await.unwrap();
                    appended.elapsed().as_secs_f64() * 1e6
                }));
            }
            let mut waits = Vec::new();
            for wait in waiting {
                waits.push(wait.await.unwrap());
            }
            waits
        });
        let group = [1; RECORD_BYTES as usize];
        let (start, mut plain_waits) = (clock::now(), Vec::new());
        for turn in 0..APPENDS {
            std::thread::sleep((start + PACE * turn).saturating_duration_since(clock::now()));
            let begun = clock::now();
            plain.write_and_sync(&group);
            plain_waits.push(begun.elapsed().as_secs_f64() * 1e6);
        }
        let (ours, theirs) = (median(waits), median(plain_waits));
        println!("  round {round}: {ours:>7.0} µs; plain {theirs:>7.0} µs; ratio {:.2}", ours / theirs);
        ratios.push(ours / theirs);
    }
    println!("  median ratio {:.2} (target: 2 or less)", median(ratios));
}

/// Seconds that a log takes to open, and what it found.
fn start_again(dir: &Path) -> (f64, Opened) {
    let start = clock::now();
    let (_log, opened) = SegmentLog::open(SegmentOptions::at(dir), Arc::new(RealDisk)).unwrap();
    (start.elapsed().as_secs_f64(), opened)
}

/// (iv) A start's scan of all kept segments, the files being in the page cache.
fn replay(dir: &Path) {
    let dir = dir.join("replay");
    let log = open(&dir, None);
    let mut seq = 0;
    while log.segments().unwrap().sealed().len() < 2 {
        if log.append(&batch(seq % 10_000, seq / 10_000 + 1)).is_ok() {
            seq += 1;
        } else {
            std::thread::yield_now();
        }
    }
    let sealed = log.segments().unwrap().sealed();
    let bytes = log.segments().unwrap().bytes(sealed[0].id).unwrap();
    drop(log);
    let first = start_again(&dir);
    let (seconds, opened) = &first;
    let rates = |seconds: f64| (opened.bytes as f64 / 1e6 / seconds, opened.records as f64 / seconds);
    let (megabytes, records) = rates(*seconds);
    println!(
        "(iv) replay: the first start, which writes indexes: {megabytes:.0} MB/s, {records:.0} records/s"
    );
    let (megabytes, records) = rates(median((0..ROUNDS).map(|_| start_again(&dir).0).collect()));
    println!("     a start verifies {megabytes:.0} MB/s, {records:.0} records/s, median of {ROUNDS}");
    let log = open(&dir, None);
    let (start, mut records) = (clock::now(), 0_u64);
    visit_bytes(&bytes, None, 0, &mut |_| {
        records += 1;
        ControlFlow::Continue(())
    })
    .unwrap();
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "     visit_bytes {:.0} MB/s, {:.0} records/s",
        bytes.len() as f64 / 1e6 / seconds,
        records as f64 / seconds
    );
    let start = clock::now();
    for system in 0..1_000 {
        log.read(Uuid::from_u128(system), 30, &mut |_| ControlFlow::Break(())).unwrap();
    }
    println!("     a read of one system's tail: {:.0} µs", start.elapsed().as_secs_f64() * 1e3);
}

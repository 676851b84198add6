//! The event log of a history: the real one, on a disk in memory that loses and tears what was not synced, and driven by
//! hand, write by write and sync by sync, at the times the dice say.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mipro_service::log::disk::sim::SimDisk;
use mipro_service::log::segment::{Opened, SegmentLog, SegmentOptions, Stepper};
use mipro_service::log::{AppendError, Batch, Entry, EventLog, Health, Level, Lsn, ReadError, Segments};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use crate::scene::{DIRECTOR, Scene, Trouble, WRITER, lock};

/// The log's directory.
const DIR: &str = "/log";

/// What is known of a system's batches: kept beyond the processes that wrote them.
#[derive(Debug, Default)]
pub(crate) struct Written {
    systems: Mutex<BTreeMap<Uuid, Last>>,
}

/// A system's newest batch.
#[derive(Debug, Clone, Copy)]
struct Last {
    process: u64,
    epoch: u64,
    /// The highest epoch that surely is on the disk.
    durable_epoch: u64,
    seq: u64,
    lsn: u64,
}

impl Written {
    /// The disk is gone.
    pub(crate) fn forget(&self) {
        lock(&self.systems).clear();
    }

    /// A process has ended, with so much durable.
    pub(crate) fn ended(&self, process: u64, durable: Lsn) {
        for last in lock(&self.systems).values_mut() {
            if last.process == process && last.lsn <= durable.0 {
                last.durable_epoch = last.epoch;
            }
        }
    }

    fn saw(&self, scene: &Scene, process: u64, batch: &Batch<'_>, lsn: Lsn) {
        let mut systems = lock(&self.systems);
        let (epoch, seq) = (batch.epoch, batch.last_seq());
        let now = Last { process, epoch, durable_epoch: 0, seq, lsn: lsn.0 };
        let Some(last) = systems.insert(batch.system, now) else { return };
        if let Some(now) = systems.get_mut(&batch.system) {
            now.durable_epoch = last.durable_epoch;
        }
        let (before, highest) = (last.epoch, last.durable_epoch);
        if epoch < before || (process != last.process && epoch <= highest) {
            scene.violated(format!("epoch {epoch} after {before}, of which {highest} is durable"));
        }
        if process == last.process && epoch == before && batch.first_seq != last.seq + 1 {
            scene.violated(format!("event {} was appended after {}", batch.first_seq, last.seq));
        }
    }
}

/// The log as the engine sees it, with a look at what is appended.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) inner: Arc<SegmentLog>,
    scene: Arc<Scene>,
    written: Arc<Written>,
    process: u64,
}

impl EventLog for Watched {
    fn append(&self, batch: &Batch<'_>) -> Result<Lsn, AppendError> {
        let appended = self.inner.append(batch);
        if let Ok(lsn) = appended {
            self.written.saw(&self.scene, self.process, batch, lsn);
        }
        self.scene.note(WRITER, || {
            let Batch { epoch, first_seq, count, payload, .. } = *batch;
            let hash = blake3::hash(payload).to_hex();
            format!("append e{epoch} {first_seq}+{count} {} -> {appended:?}", &hash[..8])
        });
        appended
    }

    fn level(&self) -> Level {
        self.inner.level()
    }

    fn reached(&self, level: Level) -> Option<watch::Receiver<Lsn>> {
        self.inner.reached(level)
    }

    fn hurry(&self, level: Level) {
        self.inner.hurry(level);
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn read(
        &self,
        system: Uuid,
        after_seq: u64,
        visit: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.inner.read(system, after_seq, visit)
    }

    fn segments(&self) -> Option<&dyn Segments> {
        self.inner.segments()
    }
}

/// The log of one process, open.
pub(crate) struct Journal {
    pub(crate) log: Arc<Watched>,
    stepper: Option<Stepper>,
    disk: SimDisk,
    scene: Arc<Scene>,
    process: u64,
}

impl Journal {
    /// Opens what is on the disk. `None`: the machine died meanwhile.
    pub(crate) fn open(
        scene: &Arc<Scene>,
        disk: &SimDisk,
        written: &Arc<Written>,
        process: u64,
    ) -> Option<Self> {
        let mut dice = scene.dice("log", &[]);
        let mut options = SegmentOptions::at(DIR);
        options.level = scene.weather.level;
        options.segment_bytes = dice.between(2, 24) * 1_024;
        options.segment_age_max = Duration::from_millis(dice.between(200, 4_000));
        options.queue_bytes_max = 64 << 10;
        options.kept_bytes_max = options.segment_bytes * dice.between(6, 200);
        options.seed = Some(scene.dice("salts", &[process]).next());
        disk.set_capacity(None);
        let now = Instant::now().into_std();
        let (inner, opened, stepper) = match SegmentLog::open_stepped(options, Arc::new(disk.clone()), now) {
            Ok(open) => open,
            Err(error) => {
                if !disk.is_off() {
                    scene.violated(format!("the log can't be opened: {error}"));
                }
                scene.saw("not opened", 1);
                scene.note(DIRECTOR, || format!("not opened: {error}"));
                return None;
            }
        };
        let Opened { segments, records, cut_bytes, durable, .. } = opened;
        scene.saw("tail cut", u64::from(cut_bytes.is_some()));
        scene.note(DIRECTOR, || format!("opened: {segments} {records} cut {cut_bytes:?} {durable:?}"));
        let log = Watched { inner, scene: Arc::clone(scene), written: Arc::clone(written), process };
        let (disk, scene) = (disk.clone(), Arc::clone(scene));
        Some(Self { log: Arc::new(log), stepper: Some(stepper), disk, scene, process })
    }

    /// Drives the log's writer at its turns, and the disk's moods.
    pub(crate) fn spawn_writer(&mut self) {
        let Some(mut stepper) = self.stepper.take() else { return };
        let (scene, disk, process) = (Arc::clone(&self.scene), self.disk.clone(), self.process);
        tokio::spawn(async move {
            for turn in 0.. {
                let mut dice = scene.dice("writer", &[process, turn]);
                scene.turn(WRITER, 1).await;
                let full = scene.has(Trouble::DiskFull).then(|| used(&disk));
                disk.set_capacity(full);
                if !scene.is_calm() && dice.chance(scene.weather.sync_faults) {
                    disk.fail_syncs(dice.below(3), 1);
                }
                if scene.has(Trouble::DiskSlow) && dice.chance(850) {
                    continue;
                }
                let now = Instant::now().into_std();
                for _ in 0..dice.below(5) {
                    let worked = match dice.below(3) {
                        0 => stepper.prepare(now),
                        1 => stepper.write(now),
                        _ => stepper.step(now),
                    };
                    scene.note(WRITER, || format!("step {worked}"));
                }
            }
        });
    }

    /// How far it surely is.
    pub(crate) fn durable(&self) -> Lsn {
        self.log.reached(Level::Disk).map_or(Lsn(0), |durable| *durable.borrow())
    }
}

/// Bytes on the disk.
fn used(disk: &SimDisk) -> u64 {
    disk.paths().iter().filter_map(|path| disk.content(path)).map(|content| content.len() as u64).sum()
}

/// Notes everything that is on the disk.
pub(crate) fn note_disk(scene: &Scene, disk: &SimDisk) {
    for path in disk.paths() {
        let content = disk.content(Path::new(&path)).unwrap_or_default();
        scene.note_bytes(DIRECTOR, &path.display().to_string(), &content);
    }
}

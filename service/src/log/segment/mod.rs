//! The log of files: all systems of the process interleaved in segments, one write and one sync for a group of appends.
//!
//! Suggested reading order: [`record`] and [`mod@file`] (what is on the disk), [`queue`] (an append), [`catalog`] and [`shared`]
//! (what the parts have in common), [`writer`] (a group), [`control`], [`scan`] (where a segment's content ends, and whether it
//! is torn or damaged there), [`recover`] (a start), [`index`] and [`reader`] (finding it again), [`helper`], `threads` (who drives
//! writer and helper), [`former`]. The catalog's `index::Of` says which segment an index is of.
//!
//! **Torn or damaged.** What ends the last segment without being a whole record is *torn* if it may never have been acknowledged,
//! and *damaged* if it was known to be synced. Two witnesses can say the latter: a whole record further on that names a later sync, and the control
//! file's watermark, written after each sync. At level `disk` both are there when the process dies. When the machine does, the newest
//! watermarks may be lost with the page cache, up to a second's: a bit that then flips in the very last group, too, is taken for torn,
//! and cut. At level `os` the same is so of what was acknowledged and not synced yet, a second's at most.
//!
//! **Who does what.** [`EventLog::append`] copies the events into a buffer under one short lock. The writer takes the whole
//! buffer, completes the records, writes and syncs, and raises the watermarks. The helper makes the next segment ahead, so
//! that a full disk is noticed before an append is taken, and writes the indexes of sealed segments.
//!
//! **Directory**: `lock`, `control`, `former-ids` (of logs that this one was built from), and for each segment
//! `<number, 16 hex digits>.seg`, with `.idx` beside it once it is sealed (in the archive the number has 20 decimal digits).
//! Formats: docs/formats.md.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mipro_telemetry::{Recorders, clock};
use tokio::sync::watch;
use uuid::Uuid;

use super::disk::Disk;
use super::{AppendError, Batch, Entry, EventLog, Health, Level, Lsn, ReadError, Sealed, Segments, Span};
use crate::crash;

mod catalog;
pub(crate) mod control;
pub(crate) mod file;
pub(crate) mod former;
mod helper;
pub(crate) mod index;
mod queue;
mod reader;
pub(crate) mod record;
mod recover;
mod scan;
mod shared;
mod threads;
mod writer;

pub use scan::visit_bytes;
pub use shared::Fault;
pub use threads::Stepper;

use helper::Helper;
use queue::Queue;
use reader::Reader;
use shared::{Bell, KeptFigures, Shared};
use writer::{Watermarks, Writer};

/// The smallest segment: a header, a seal, and a little between.
const SEGMENT_BYTES_MIN: u64 = 1024;
/// The largest: places in it have 32 bits.
const SEGMENT_BYTES_MAX: u64 = 1 << 31;

/// How a log is kept.
#[derive(Debug, Clone)]
pub struct SegmentOptions {
    /// Its directory; nothing else should be in it.
    pub dir: PathBuf,
    /// When an append counts as durable: [`Level::Os`] or [`Level::Disk`].
    pub level: Level,
    /// Bytes of a segment; its file is made that large. Default: 64 MiB.
    pub segment_bytes: u64,
    /// A segment that holds anything is sealed after this long. Default: 1 h.
    pub segment_age_max: Duration,
    /// Bytes that may be taken and not yet be at the level; beyond them appends are refused as busy. Default: 64 MiB.
    pub queue_bytes_max: u64,
    /// Bytes of segments that may be kept; beyond them no further segment is made, and appends are refused as full. At least
    /// two segments. Default: 8 GiB.
    pub kept_bytes_max: u64,
    /// Where the log's id and the segments' salts come from: a seed repeats them, for simulations. Default: the operating
    /// system's randomness.
    pub seed: Option<u64>,
    /// Who is told how long syncs take, as background work.
    pub recorders: Option<Recorders>,
}

impl SegmentOptions {
    /// The defaults, at level `disk`.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            level: Level::Disk,
            segment_bytes: 64 << 20,
            segment_age_max: Duration::from_secs(3600),
            queue_bytes_max: 64 << 20,
            kept_bytes_max: 8 << 30,
            seed: None,
            recorders: None,
        }
    }

    fn check(&self) -> Result<(), OpenError> {
        let wrong = if !matches!(self.level, Level::Os | Level::Disk) {
            "a log of files gives the levels os and disk"
        } else if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            "segment_bytes must be between 1024 and 2 GiB"
        } else if self.kept_bytes_max < self.segment_bytes.saturating_mul(2) {
            "kept_bytes_max must be two segments or more"
        } else {
            return Ok(());
        };
        Err(OpenError::Options(wrong))
    }
}

/// What was found when a log was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Opened {
    /// The log's id.
    pub log_id: Uuid,
    /// Segments, the one that takes appends among them.
    pub segments: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes that were read and verified.
    pub bytes: u64,
    /// Bytes of a torn tail that were overwritten with zeros, those among them by which the file was too short: no witness says
    /// that any of them was durable.
    pub cut_bytes: Option<u64>,
    /// The file that they were in, and where in it.
    pub cut_at: Option<(String, u64)>,
    /// The newest record; all are durable now.
    pub durable: Lsn,
}

/// Why a log can't be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("another process uses the log in {}", .dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// Something other than what was written stands there; no record was changed.
    #[error("{0}; `mipro state verify` says what is whole")]
    Damaged(#[from] ReadError),
    /// The disk refuses.
    #[error("the log can't be opened: {what}: {reason}")]
    Io {
        /// The file's name within the log's directory, or what it is.
        what: String,
        /// What the system says.
        reason: String,
    },
    /// The options contradict themselves.
    #[error("{0}")]
    Options(&'static str),
}

impl OpenError {
    fn io(what: &str, error: &io::Error) -> Self {
        Self::Io { what: what.to_owned(), reason: error.to_string() }
    }
}

/// The log. Dropping it writes and syncs what was appended, as [`SegmentLog::close`] does.
pub struct SegmentLog {
    shared: Arc<Shared>,
    reader: Reader,
    os: watch::Receiver<Lsn>,
    disk: watch::Receiver<Lsn>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for SegmentLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentLog").field("dir", &self.shared.options.dir).finish_non_exhaustive()
    }
}

impl SegmentLog {
    /// Opens or makes a log, verifies all of it, and starts its two threads. **Blocks** on the disk, for as long as reading
    /// all kept segments takes.
    ///
    /// # Errors
    /// Another process has it, it is damaged, or the disk refuses.
    pub fn open(options: SegmentOptions, disk: Arc<dyn Disk>) -> Result<(Arc<Self>, Opened), OpenError> {
        let (log, opened, stepper) = Self::open_stepped(options, disk, clock::now())?;
        let threads = threads::spawn(&log.shared, stepper)
            .map_err(|error| OpenError::io("the log's threads", &error))?;
        *log.threads.lock().unwrap_or_else(PoisonError::into_inner) = threads;
        Ok((log, opened))
    }

    /// As [`SegmentLog::open`], without threads: the caller drives the log.
    /// Closing it then only asks: the [`Stepper`] writes and syncs what was appended when it is driven on.
    ///
    /// # Errors
    /// As [`SegmentLog::open`].
    #[expect(clippy::needless_pass_by_value, reason = "the same as `open`")]
    pub fn open_stepped(
        options: SegmentOptions,
        disk: Arc<dyn Disk>,
        now: Instant,
    ) -> Result<(Arc<Self>, Opened, Stepper), OpenError> {
        options.check()?;
        let recover::LogParts { dir, lock, control, catalog, dice, opened, former } =
            recover::open(&options, &*disk)?;
        let open = &catalog.open;
        let left = queue::room(open.header.capacity).saturating_sub(open.end - file::HEADER_BYTES as u64);
        let (newest, holds) = (open.last_lsn, open.index.records() > 0);
        let shared = Arc::new(Shared {
            log_id: opened.log_id,
            former,
            queue: Queue::new(options.queue_bytes_max, options.segment_bytes, newest, left, holds),
            options,
            dir,
            bell: Bell::default(),
            fault: watch::Sender::new(None),
            files: Mutex::new(()),
            kept: KeptFigures::of(&catalog),
            catalog: RwLock::new(catalog),
            control: Mutex::new(control),
            _lock: lock,
        });
        let watermarks = Watermarks { os: watch::Sender::new(newest), disk: watch::Sender::new(newest) };
        let (os, disk) = (watermarks.os.subscribe(), watermarks.disk.subscribe());
        let writer = Writer::new(Arc::clone(&shared), watermarks, now);
        let helper = Helper::new(Arc::clone(&shared), dice);
        let (reader, threads) = (Reader::new(), Mutex::default());
        let log = Arc::new(Self { shared, reader, os, disk, threads });
        Ok((log, opened, Stepper { writer, helper }))
    }

    /// Tells when the log has closed by itself, and why. `None` until then.
    #[must_use]
    pub fn fault(&self) -> watch::Receiver<Option<Fault>> {
        self.shared.fault.subscribe()
    }

    /// Takes no more appends, writes and syncs what was taken, and ends the threads. **Blocks** for that long. Repeating it is
    /// harmless. The directory stays locked until the log is dropped.
    pub fn close(&self) {
        self.shared.queue.close();
        self.shared.bell.ring();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the log panicked");
            }
        }
    }
}

impl Drop for SegmentLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl EventLog for SegmentLog {
    fn append(&self, batch: &Batch<'_>) -> Result<Lsn, AppendError> {
        let (lsn, rolled) = self.shared.queue.append(batch)?;
        if rolled {
            self.shared.bell.ring();
        }
        Ok(lsn)
    }

    fn level(&self) -> Level {
        self.shared.options.level
    }

    fn reached(&self, level: Level) -> Option<watch::Receiver<Lsn>> {
        match level {
            // What the kernel has is no longer only in memory; nothing sooner is told.
            Level::Memory | Level::Os => Some(self.os.clone()),
            Level::Disk => Some(self.disk.clone()),
            Level::Postgres | Level::Object | Level::Stored => None,
        }
    }

    fn hurry(&self, level: Level) {
        if level == Level::Disk && self.shared.options.level == Level::Os {
            self.shared.queue.hurry();
        }
    }

    fn health(&self) -> Health {
        let standing = self.shared.queue.standing();
        let kept = &self.shared.kept;
        Health {
            appended: standing.newest,
            queued_bytes: standing.queued,
            queued_bytes_max: self.shared.options.queue_bytes_max,
            full: standing.full,
            blocked: standing.blocked,
            closed: standing.closed,
            kept_bytes: kept.bytes.load(Ordering::Relaxed),
            segments: kept.segments.load(Ordering::Relaxed),
        }
    }

    fn read(
        &self,
        system: Uuid,
        after_seq: u64,
        visit: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.reader.read(&self.shared, system, after_seq, visit)
    }

    fn is_or_was(&self, id: Uuid) -> bool {
        id == self.shared.log_id || self.shared.former.contains(&id)
    }

    fn segments(&self) -> Option<&dyn Segments> {
        Some(self)
    }
}

impl Segments for SegmentLog {
    fn log_id(&self) -> Uuid {
        self.shared.log_id
    }

    fn sealed(&self) -> Vec<Sealed> {
        self.shared.catalog().sealed.values().map(|kept| kept.sealed.clone()).collect()
    }

    fn seal(&self) {
        if self.shared.queue.seal() {
            self.shared.bell.ring();
        }
    }

    fn spans(&self, id: u64) -> Result<Vec<Span>, ReadError> {
        self.reader.spans(&self.shared, id)
    }

    fn bytes(&self, id: u64) -> Result<Vec<u8>, ReadError> {
        reader::bytes(&self.shared, id)
    }

    fn trim(&self, id: u64) -> Result<(), ReadError> {
        let _files = self.shared.files();
        let ids: Vec<u64> = self.shared.catalog().sealed.range(..=id).map(|(id, _)| *id).collect();
        let Some(newest) = ids.last() else { return Ok(()) };
        // From here on these segments need not be there: a crash half-way through leaves no gap that looks like damage.
        if let Err(error) = self.shared.control().forget_before(newest + 1) {
            self.shared.fail(writer::control_fault("sync", &error));
            return Err(ReadError::io(control::NAME, &error));
        }
        for id in ids {
            self.remove(id)?;
            crash::point("log.trimmed");
        }
        self.shared.dir.sync().map_err(|error| ReadError::io("the log's directory", &error))?;
        self.shared.bell.ring();
        Ok(())
    }
}

impl SegmentLog {
    fn change<R>(&self, change: impl FnOnce(&mut BTreeMap<u64, catalog::Kept>) -> R) -> R {
        let mut catalog = self.shared.catalog_mut();
        let result = change(&mut catalog.sealed);
        self.shared.kept.count(&catalog);
        result
    }

    fn remove(&self, id: u64) -> Result<(), ReadError> {
        // Before its file: a reader who misses the file must find the segment gone.
        let kept = self.change(|sealed| sealed.remove(&id));
        self.reader.forget(id);
        for name in [file::name(id), file::index_name(id)] {
            if let Err(error) = helper::remove(&*self.shared.dir, &name) {
                if let Some(kept) = kept {
                    self.change(|sealed| sealed.insert(id, kept));
                }
                return Err(ReadError::io(&name, &error));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

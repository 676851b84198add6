//! The log's sealed segments: carried to the object store, then trimmed here.
//!
//! **Archived** means: the segment's object and its [`index`] are stored, in this order; an object that stood there already counts when it
//! holds the same bytes; one whose index is there, too, was compared when that was written, and counts by its length. Keys: `log/<log id>/<segment, 20 digits>.seg.zst` (one zstd frame, level 1) and `….idx`. Both are written once, and again only where one is gone or not what it says. Where
//! another process got there first with other bytes (a copied data directory), a suffix made from the content sets ours
//! apart.
//!
//! **Trimmed** is a segment when it and all before it are archived, and for every system in it a *verified* snapshot covers its
//! last event there, by its number (a system without a row needs none: nobody can ask for it, and the archive has its events). Verified is a snapshot when the row names it (which moves only after the put was acknowledged, and holds
//! the checksum of what was put) and the object is there with the length that the row says: one `HEAD` for each snapshot that
//! lets something go, which is less than its put cost.
//!
//! Trimming follows the newest snapshot, not the older one that is kept beside it: an idle system, whose snapshots don't move
//! any more, would pin the log for ever. Should the newest snapshot turn out damaged, recovery goes back to the older one and
//! finds the events between the two in the archive ([`crate::recovery`]); nothing is trimmed that is not there.
//!
//! **Laggards** are systems whose snapshot does not cover what a segment holds of them: their ids go to the engine, through a
//! bounded channel, which loads and snapshots them. What doesn't fit in waits for the next turn.
//!
//! A system that can't be saved pins its segment and all behind it. Its events are archived, and still they are not trimmed:
//! most systems come back from a snapshot that nothing follows, and a load that finds nothing behind a snapshot in the log here
//! is done. Were some events in the archive alone, every such load would have to ask the archive whether its system is one of
//! these: docs/durability.md, "A system that holds the log back".

pub mod index;
mod listing;
pub mod reader;
mod turn;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use reader::Archive;
pub use turn::Archiver;

use crate::engine::EngineError;
use crate::log::{Entry, EventLog, ReadError};
use crate::offload::{Offload, Panicked};
use crate::snapshot::hashed;
use crate::store::{StoreError, Stores};
use crate::system::SystemId;

/// The folder of all archives.
pub const FOLDER: &str = "log";

/// Reads a segment's bytes: the batches of one system, or of all, that hold events after a number; as
/// [`EventLog::read`] does.
pub type VisitBytes =
    fn(&[u8], Option<Uuid>, u64, &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>) -> Result<(), ReadError>;

/// The key of a segment's object.
#[must_use]
pub fn segment_key(log_id: Uuid, segment: u64, suffix: u32) -> String {
    named(log_id, segment, suffix, "seg.zst")
}

/// The key of a segment's index.
#[must_use]
pub fn index_key(log_id: Uuid, segment: u64, suffix: u32) -> String {
    named(log_id, segment, suffix, "idx")
}

fn named(log_id: Uuid, segment: u64, suffix: u32, kind: &str) -> String {
    match suffix {
        0 => format!("{FOLDER}/{log_id}/{segment:020}.{kind}"),
        suffix => format!("{FOLDER}/{log_id}/{segment:020}-{suffix:08x}.{kind}"),
    }
}

/// What can go wrong with the archive. Its keys name logs and segments, no systems, and may be shown.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A store is down.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The local log can't be read or trimmed.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// An archived object is not what was written.
    #[error("{object} is damaged: {problem}")]
    Damaged {
        /// Its key.
        object: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Work in the background panicked, or the service is stopping.
    #[error("work on the archive failed")]
    Background(#[from] Panicked),
    /// A segment can't be compressed.
    #[error("a segment of the log can't be compressed: {reason}")]
    Compress {
        /// What the library says.
        reason: String,
    },
    /// The log has no segments, or has none any more.
    #[error("the log has no segments")]
    NoSegments,
}

impl From<ArchiveError> for EngineError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Store(error) => error.into(),
            ArchiveError::Log(error) => crate::recovery::log_failed(&error),
            ArchiveError::Damaged { object, problem } => {
                tracing::error!(object, problem, "an archived segment can't be read");
                Self::Corrupt { object: hashed(&object), problem }
            }
            ArchiveError::Background(_) => Self::Internal { what: "reading the archive panicked" },
            ArchiveError::Compress { .. } | ArchiveError::NoSegments => {
                Self::Internal { what: "the log can't be archived" }
            }
        }
    }
}

/// How the archiver works.
#[derive(Debug, Clone, Copy)]
pub struct ArchiveOptions {
    /// Reads the log's segments.
    pub visit: VisitBytes,
    /// Where files are read, bytes packed.
    pub offload: Offload,
    /// How often it looks for sealed segments. Default: 10 s.
    pub look_every: Duration,
    /// How many segments must have been archived after one before its laggards are named; sooner, their own snapshots may come
    /// by themselves. Default: 1.
    pub newer_min: usize,
    /// How long an archived segment may be kept for laggards before they are told of in the log, once. Default: 5 min: their
    /// saves come within seconds unless something is wrong.
    pub pinned_warn_after: Duration,
    /// First wait after a failure; doubles up to `backoff_max`, with jitter. Default: 1 s.
    pub backoff_first: Duration,
    /// Longest wait after a failure. Default: 60 s.
    pub backoff_max: Duration,
}

impl ArchiveOptions {
    /// The defaults, for segments that `visit` can read.
    #[must_use]
    pub fn new(visit: VisitBytes) -> Self {
        Self {
            visit,
            offload: Offload::Pool,
            look_every: Duration::from_secs(10),
            newer_min: 1,
            pinned_warn_after: Duration::from_secs(300),
            backoff_first: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
        }
    }
}

/// What the archiver has done, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ArchiveFigures {
    /// Segments that this process archived, or found archived.
    pub archived: u64,
    /// Segments trimmed here.
    pub trimmed: u64,
    /// Turns that failed and were tried again.
    pub failures: u64,
    /// Archived segments from the first one on that some system's snapshot does not cover yet: trimming goes in order.
    pub pinned: u64,
    /// The oldest of them; 0: none.
    pub pinned_oldest: u64,
    /// For how long that one could have been trimmed, milliseconds; counted from this process's first look at it.
    pub pinned_oldest_ms: u64,
    /// Systems found to pin it in the last turn; at most about a thousand are looked for.
    pub laggards: u64,
    /// How often a snapshot that a row names was found not to be there as it says. It pins what it should cover.
    pub missing: u64,
}

#[derive(Debug, Default)]
struct Counts {
    archived: AtomicU64,
    trimmed: AtomicU64,
    failures: AtomicU64,
    pinned: AtomicU64,
    pinned_oldest: AtomicU64,
    pinned_since: Mutex<Option<Instant>>,
    laggards: AtomicU64,
    missing: AtomicU64,
}

impl Counts {
    fn read(&self) -> ArchiveFigures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let since = *self.pinned_since.lock().unwrap_or_else(PoisonError::into_inner);
        let pinned_oldest_ms = since.map_or(0, |since| since.elapsed().as_millis());
        ArchiveFigures {
            pinned_oldest_ms: u64::try_from(pinned_oldest_ms).unwrap_or(u64::MAX),
            archived: read(&self.archived),
            trimmed: read(&self.trimmed),
            failures: read(&self.failures),
            pinned: read(&self.pinned),
            pinned_oldest: read(&self.pinned_oldest),
            laggards: read(&self.laggards),
            missing: read(&self.missing),
        }
    }
}

/// A running archiver. Dropping it stops it.
#[derive(Debug)]
pub struct ArchiverHandle {
    counts: Arc<Counts>,
    look: Arc<Notify>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl ArchiverHandle {
    /// What it has done so far.
    #[must_use]
    pub fn figures(&self) -> ArchiveFigures {
        self.counts.read()
    }

    /// Asks for a turn now, for instance because the disk is filling up. A backoff is not cut short.
    pub fn look(&self) {
        self.look.notify_one();
    }

    /// Stops it, in the middle of what it does; the next start takes up there. Waits for its end.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if (&mut self.task).await.is_err() {
            tracing::warn!("the archiver had panicked");
        }
    }
}

impl Drop for ArchiverHandle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Archiver {
    /// Starts archiving in the background; call it within a runtime. `None`: this log has no segments.
    #[must_use]
    pub fn spawn(
        log: Arc<dyn EventLog>,
        stores: Stores,
        options: ArchiveOptions,
        laggards: mpsc::Sender<SystemId>,
    ) -> Option<ArchiverHandle> {
        let archiver = Self::new(log, stores, options, laggards)?;
        let counts = archiver.counts();
        let (look, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let run = run(archiver, options, Arc::clone(&look), stop.clone());
        Some(ArchiverHandle { counts, look, stop, task: tokio::spawn(run) })
    }
}

async fn run(mut archiver: Archiver, options: ArchiveOptions, look: Arc<Notify>, stop: CancellationToken) {
    let log_id = archiver.log_id();
    let work = async {
        let mut failed = 0_u32;
        loop {
            let archived = archiver.figures().archived;
            match archiver.turn().await {
                Ok(()) => {
                    failed = 0;
                    tokio::select! {
                        biased;
                        () = tokio::time::sleep(options.look_every) => {}
                        () = look.notified() => {}
                    }
                }
                Err(error) => {
                    archiver.counts().failures.fetch_add(1, Ordering::Relaxed);
                    // A turn that got on before it failed is no failure in a row: the store is back, and a backlog waits.
                    if archiver.figures().archived > archived {
                        failed = 0;
                    }
                    let wait = backoff(&options, failed, log_id);
                    failed = failed.saturating_add(1);
                    let wait_ms = wait.as_millis();
                    tracing::warn!(%error, wait_ms, "the log can't be archived now; it is kept here and tried again");
                    tokio::time::sleep(wait).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = work => {}
    }
}

/// Doubles with each failure in a row, up to the limit; between half of it and all of it, so that services which failed together
/// don't come back together.
fn backoff(options: &ArchiveOptions, failed: u32, log_id: Uuid) -> Duration {
    let full = options.backoff_first.saturating_mul(1 << failed.min(16)).min(options.backoff_max);
    let [a, b, ..] =
        *blake3::Hasher::new().update(log_id.as_bytes()).update(&failed.to_le_bytes()).finalize().as_bytes();
    full.mul_f64(0.5 + f64::from(u16::from_le_bytes([a, b])) / (2.0 * f64::from(u16::MAX)))
}

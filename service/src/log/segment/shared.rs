//! What the log's handle, its writer and its helper share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::watch;
use uuid::Uuid;

use super::super::disk::{Dir, Lock};
use super::SegmentOptions;
use super::catalog::Catalog;
use super::control::Control;
use super::queue::Queue;

/// Why the log closed by itself: the disk refused something that can't be repeated. What had not reached the log's level has
/// an unknown outcome; a new process finds out what is on the disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the log's disk failed to {step} {file}: {reason}")]
pub struct Fault {
    /// `write`, `sync` or `create`; `drive` where the log itself failed, a bug.
    pub step: &'static str,
    /// The file's name within the log's directory.
    pub file: String,
    /// What the system said.
    pub reason: String,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: SegmentOptions,
    pub(super) log_id: Uuid,
    /// Of the logs that it was built from.
    pub(super) former: Vec<Uuid>,
    pub(super) dir: Box<dyn Dir>,
    pub(super) queue: Queue,
    pub(super) bell: Bell,
    pub(super) fault: watch::Sender<Option<Fault>>,
    /// Held while files of sealed segments are changed or removed.
    pub(super) files: Mutex<()>,
    pub(super) catalog: RwLock<Catalog>,
    /// Of the catalog, for those who ask at every command.
    pub(super) kept: KeptFigures,
    pub(super) control: Mutex<Control>,
    /// Freed last.
    pub(super) _lock: Box<dyn Lock>,
}

impl Shared {
    pub(super) fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn catalog_mut(&self) -> RwLockWriteGuard<'_, Catalog> {
        self.catalog.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn files(&self) -> MutexGuard<'_, ()> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the log for good. The first fault is the one that is told.
    pub(super) fn fail(&self, fault: Fault) {
        tracing::error!(%fault, "the log is closed; nothing is acknowledged any more");
        self.fault.send_if_modified(|told| {
            let first = told.is_none();
            if first {
                *told = Some(fault);
            }
            first
        });
        // After the fault is set: whoever finds the log closed finds the reason, too.
        self.queue.close();
        self.bell.ring();
    }

    /// To be called where a thread ends: without writer or helper the log can't go on, and somebody must be told.
    pub(super) fn panicked(&self, file: &str) {
        if std::thread::panicking() {
            let reason = "it panicked".to_owned();
            self.fail(Fault { step: "drive", file: file.to_owned(), reason });
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.fault.borrow().is_some()
    }
}

/// How much is kept, to be read without a lock.
#[derive(Debug, Default)]
pub(super) struct KeptFigures {
    pub(super) bytes: AtomicU64,
    pub(super) segments: AtomicU64,
}

impl KeptFigures {
    pub(super) fn of(catalog: &Catalog) -> Self {
        let kept = Self::default();
        kept.count(catalog);
        kept
    }

    /// To be called whenever the catalog has changed.
    pub(super) fn count(&self, catalog: &Catalog) {
        self.bytes.store(catalog.content_bytes(), Ordering::Relaxed);
        self.segments.store(catalog.sealed.len() as u64 + 1, Ordering::Relaxed);
    }
}

/// Wakes one sleeper; a ring before the sleep counts.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Mutex<bool>,
    ring: Condvar,
}

impl Bell {
    pub(super) fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ring.notify_one();
    }

    /// Whether it has rung since it was last asked.
    pub(super) fn heard(&self) -> bool {
        std::mem::take(&mut *self.rung.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sleeps until it rings, or for `timeout`. The ring stays to be [`Bell::heard`].
    pub(super) fn wait(&self, timeout: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        // Who is woken without reason looks around and comes back.
        let waited = self.ring.wait_timeout_while(rung, timeout, |rung| !*rung);
        drop(waited);
    }
}

//! A log in the test's hand.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use mipro_service::log::{AppendError, Batch, Entry, EventLog, Health, Level, Lsn, OwnedEntry, ReadError};
use tokio::sync::watch;
use uuid::Uuid;

/// A log whose watermarks, whose health and whose failures the test decides. It keeps what is appended, and outlives the
/// engines over it, as a log on a disk does.
#[derive(Debug)]
pub(crate) struct HandLog {
    id: Uuid,
    level: Level,
    pub(crate) appended: AtomicU64,
    kept: Mutex<Vec<OwnedEntry>>,
    durable: Mutex<Option<watch::Sender<Lsn>>>,
    /// The watermark of `disk` where the level is `os`.
    pub(crate) stronger: watch::Sender<Lsn>,
    pub(crate) hurried: AtomicU64,
    pub(crate) full: AtomicBool,
    /// The next append keeps the events and then panics.
    pub(crate) panics: AtomicBool,
    /// The next to ask how it is doing panics.
    pub(crate) panics_when_asked: AtomicBool,
    pub(crate) queued_bytes: AtomicU64,
    pub(crate) queued_bytes_max: AtomicU64,
}

impl HandLog {
    pub(crate) fn at(level: Level) -> Arc<Self> {
        Arc::new(Self {
            id: if level == Level::Memory { Uuid::nil() } else { Uuid::new_v4() },
            level,
            appended: AtomicU64::new(0),
            kept: Mutex::default(),
            durable: Mutex::new(Some(watch::Sender::new(Lsn(0)))),
            stronger: watch::Sender::new(Lsn(0)),
            hurried: AtomicU64::new(0),
            full: AtomicBool::new(false),
            panics: AtomicBool::new(false),
            panics_when_asked: AtomicBool::new(false),
            queued_bytes: AtomicU64::new(0),
            queued_bytes_max: AtomicU64::new(0),
        })
    }

    /// Everything is durable as soon as it is appended.
    pub(crate) fn open_wide(self: Arc<Self>) -> Arc<Self> {
        self.set_durable(u64::MAX);
        self
    }

    pub(crate) fn set_durable(&self, lsn: u64) {
        self.durable.lock().unwrap().as_ref().unwrap().send_replace(Lsn(lsn));
    }

    /// The disk fails: nothing is durable any more, nothing is taken.
    pub(crate) fn stop(&self) {
        self.durable.lock().unwrap().take();
    }

    fn is_closed(&self) -> bool {
        self.durable.lock().unwrap().is_none()
    }

    /// The epochs under which a system was written, in order.
    pub(crate) fn epochs(&self, system: Uuid) -> Vec<u64> {
        let kept = self.kept.lock().unwrap();
        let batches = kept.iter().map(|kept| kept.entry().batch);
        batches.filter(|batch| batch.system == system).map(|batch| batch.epoch).collect()
    }
}

impl EventLog for HandLog {
    fn append(&self, batch: &Batch<'_>) -> Result<Lsn, AppendError> {
        if self.full.load(Ordering::SeqCst) {
            return Err(AppendError::Full);
        }
        if self.is_closed() {
            return Err(AppendError::Closed);
        }
        assert!(!batch.payload.is_empty() && batch.count > 0 && batch.first_seq > 0, "{batch:?}");
        let mut kept = self.kept.lock().unwrap();
        let lsn = Lsn(self.appended.fetch_add(1, Ordering::SeqCst) + 1);
        kept.push(OwnedEntry::new(lsn, batch));
        drop(kept);
        assert!(!self.panics.swap(false, Ordering::SeqCst), "asked to");
        Ok(lsn)
    }

    fn id(&self) -> Uuid {
        self.id
    }

    fn level(&self) -> Level {
        self.level
    }

    fn reached(&self, level: Level) -> Option<watch::Receiver<Lsn>> {
        match (self.level, level) {
            (Level::Os, Level::Disk) => Some(self.stronger.subscribe()),
            _ if level == self.level => {
                let gone = || watch::channel(Lsn(0)).1;
                Some(self.durable.lock().unwrap().as_ref().map_or_else(gone, watch::Sender::subscribe))
            }
            _ => None,
        }
    }

    fn hurry(&self, _level: Level) {
        self.hurried.fetch_add(1, Ordering::SeqCst);
    }

    fn health(&self) -> Health {
        assert!(!self.panics_when_asked.swap(false, Ordering::SeqCst), "asked to");
        Health {
            appended: Lsn(self.appended.load(Ordering::SeqCst)),
            queued_bytes: self.queued_bytes.load(Ordering::SeqCst),
            queued_bytes_max: self.queued_bytes_max.load(Ordering::SeqCst),
            full: self.full.load(Ordering::SeqCst),
            closed: self.is_closed(),
            ..Health::default()
        }
    }

    fn read(
        &self,
        system: Uuid,
        after_seq: u64,
        visit: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        if self.level == Level::Memory {
            return Ok(());
        }
        let kept = self.kept.lock().unwrap().clone();
        OwnedEntry::visit(&kept, system, after_seq, visit);
        Ok(())
    }
}

/// A log that keeps nothing beyond its process.
pub(crate) fn hand_log() -> Arc<HandLog> {
    HandLog::at(Level::Memory)
}

//! The log's files as a log that can only be read: for recovery and history, which know no other way to read one.

use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use uuid::Uuid;

use super::catalog::Catalog;
use super::segments::{LogDir, Scan};
use crate::log::{AppendError, Batch, Entry, EventLog, Health, Level, Lsn, ReadError};

/// A log that is read and never appended to.
#[derive(Debug)]
pub(super) struct ReadLog {
    dir: LogDir,
    read: Mutex<Option<(Arc<Catalog>, Arc<Scan>)>>,
}

impl ReadLog {
    pub(super) fn over(dir: LogDir) -> Self {
        Self { dir, read: Mutex::default() }
    }

    /// Reads the whole log once. **Blocks.**
    pub(super) fn scanned(&self) -> io::Result<(Arc<Catalog>, Arc<Scan>)> {
        let mut kept = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((catalog, scan)) = &*kept {
            return Ok((Arc::clone(catalog), Arc::clone(scan)));
        }
        let read = || {
            let mut catalog = Catalog::default();
            let scan = self.dir.scan(&mut |found| catalog.note(found))?;
            Ok::<_, io::Error>((catalog, scan))
        };
        let (mut catalog, mut scan) = read()?;
        if !scan.problems.is_empty() {
            // A service that changes segments between two of our reads leaves such traces; real damage stays.
            (catalog, scan) = read()?;
        }
        let both = (Arc::new(catalog), Arc::new(scan));
        *kept = Some((Arc::clone(&both.0), Arc::clone(&both.1)));
        Ok(both)
    }

    pub(super) fn catalog(&self) -> io::Result<Arc<Catalog>> {
        self.scanned().map(|(catalog, _)| catalog)
    }

    /// What was wrong when the log was read.
    pub(super) fn scan_problems(&self) -> Vec<super::Problem> {
        self.scanned().map_or_else(|_| Vec::new(), |(_, scan)| scan.problems.clone())
    }

    /// Forgets what was read: a running service has moved on.
    pub(super) fn forget(&self) {
        self.dir.forget();
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl EventLog for ReadLog {
    fn append(&self, _: &Batch<'_>) -> Result<Lsn, AppendError> {
        Err(AppendError::Closed)
    }

    fn level(&self) -> Level {
        Level::Disk
    }

    fn reached(&self, _: Level) -> Option<watch::Receiver<Lsn>> {
        None
    }

    fn id(&self) -> Uuid {
        // As the segments have it, where the control file is lost.
        self.scanned().ok().and_then(|(_, scan)| scan.log).unwrap_or_default()
    }

    fn is_or_was(&self, id: Uuid) -> bool {
        id == self.id() || self.dir.former_ids().is_ok_and(|former| former.contains(&id))
    }

    fn health(&self) -> Health {
        Health { closed: true, ..Health::default() }
    }

    fn read(
        &self,
        system: Uuid,
        after_seq: u64,
        visit: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let failed = |e: io::Error| ReadError::Io {
            file: "the log's directory".to_owned(),
            reason: e.kind().to_string(),
        };
        let catalog = self.catalog().map_err(failed)?;
        let Some(held) = catalog.get(system) else { return Ok(()) };
        let each =
            &mut |found: super::segments::Found<'_>| visit(Entry { lsn: found.lsn, batch: found.batch });
        self.dir.read_system(system, after_seq, Some(&held.segments), each).map_err(failed)
    }
}

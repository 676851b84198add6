//! What `mipro state` stands on: what is stored, read without a service. Prints nothing.
//!
//! Reading takes no lock and changes nothing, whether a service runs or not; only [`Inspector::import`] and
//! [`Inspector::repair`] write. Suggested reading order:
//!
//! 1. [`segments`] reads the log's directory as it lies there, behind damage too.
//! 2. [`replay`] makes a state from a snapshot and the events behind it, and says where they don't fit.
//! 3. [`verify`] checks all of it; [`problem`] is what it has to say.
//! 4. [`export`] is the file that carries one system from here to there; [`carry`] writes and restores it; [`point`] is how
//!    people name a moment of a system's history.
//! 5. [`repair`] is the way out of damage.

pub mod carry;
mod catalog;
pub mod export;
pub mod point;
pub mod problem;
mod read_log;
mod rebuild;
pub mod repair;
pub mod replay;
pub mod segments;
pub mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mipro_telemetry::{Ledger, Operation};
use url::Url;
use uuid::Uuid;

pub use carry::{ExportAsked, Exported, ImportAsked, Imported};
pub use export::ExportError;
pub use point::{Point, rfc3339};
pub use problem::{Place, Problem};
pub use replay::Fault;
pub use segments::{LogDir, Scan};
pub use verify::{ArchiveReport, LogReport, SystemReport};

use crate::config::Options;
use crate::engine::EngineError;
use crate::history::HistoryReader;
use crate::log::segment::visit_bytes;
use crate::offload::Offload;
use crate::recovery::Recovery;
use crate::snapshot::archive::Archive;
use crate::snapshot::format::FormatError;
use crate::store::{StoreError, Stores, SystemRow};
use crate::system::{Recorded, State};
use catalog::Catalog;
use read_log::ReadLog;

/// Systems asked of the table at a time.
pub const PAGE: usize = 256;
/// Events asked of a history at a time.
const EVENTS: usize = 4_096;

/// Why something could not be done. Messages hold no system id and no URL.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The stores can't be opened.
    #[error(transparent)]
    Open(#[from] crate::app::Error),
    /// What is asked makes no sense here.
    #[error("{0}")]
    Refused(String),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such system.
    #[error("there is no such system in this table")]
    UnknownSystem,
    /// A system's state or history can't be read.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An export file can't be used.
    #[error("{file}: {source}", file = file.display())]
    File {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: ExportError,
    },
    /// The log's directory can't be read or written.
    #[error("the log in {path} can't be used: {source}", path = path.display())]
    Log {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A state can't be packed.
    #[error(transparent)]
    Pack(#[from] FormatError),
    /// A thread of this program failed.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

impl InspectError {
    fn refused(text: impl Into<String>) -> Self {
        Self::Refused(text.into())
    }
}

/// A system of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its row.
    pub row: SystemRow,
    /// Events of it in the local log beyond the snapshot that the row names.
    pub log_events: u64,
}

/// A system as a start would recover it.
#[derive(Debug)]
pub struct Shown {
    /// Its row.
    pub row: SystemRow,
    /// Its state.
    pub state: State,
    /// BLAKE3 of the state's encoding, hexadecimal.
    pub state_hash: String,
    /// The epoch that a start would write under.
    pub next_epoch: u64,
    /// Number of the newest event in the snapshot it was recovered from.
    pub snapshot_seq: u64,
    /// Events folded on top of it.
    pub tail_events: u64,
    /// Whether that was the one before the newest, which can't be used.
    pub from_previous: bool,
}

/// Reads what is stored.
#[derive(Debug)]
pub struct Inspector {
    stores: Stores,
    log: LogDir,
    read_log: Arc<ReadLog>,
    archive: Arc<Archive>,
    history: HistoryReader,
    recovery: Recovery,
}

impl Inspector {
    /// Opens the stores that these options name; they must be there already. Migrates the table if an older build made it.
    ///
    /// # Errors
    /// A store is not there or can't be opened.
    pub async fn open(options: &Options) -> Result<Self, InspectError> {
        must_exist(options)?;
        Self::make(options).await
    }

    /// As [`Inspector::open`], for writing: what is not there is made.
    ///
    /// # Errors
    /// A store can't be opened or made.
    pub async fn make(options: &Options) -> Result<Self, InspectError> {
        in_memory(options)?;
        let stores = crate::app::open_stores(options).await?;
        Ok(Self::with(stores, LogDir::at(options.log_dir())))
    }

    /// Over these stores and this log.
    #[must_use]
    pub fn with(stores: Stores, log: LogDir) -> Self {
        let read_log = Arc::new(ReadLog::over(log.clone()));
        let archive = Arc::new(Archive::new(stores.blobs.clone(), visit_bytes, Offload::Pool));
        let history = HistoryReader::new(stores.clone(), Arc::clone(&read_log) as _, Offload::Pool);
        let recovery = Recovery::new(stores.clone(), Arc::clone(&read_log) as _, Offload::Pool);
        Self {
            history: history.with_archive(Arc::clone(&archive)),
            recovery: recovery.with_archive(Arc::clone(&archive)),
            archive,
            stores,
            log,
            read_log,
        }
    }

    /// The log's directory.
    #[must_use]
    pub fn log(&self) -> &LogDir {
        &self.log
    }

    /// Closes the stores.
    pub async fn close(self) {
        self.stores.table.close().await;
    }

    /// The first `limit` systems after `after`, in the order of their ids.
    ///
    /// # Errors
    /// The table or the log can't be read.
    pub async fn list(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<Listed>, InspectError> {
        let catalog = self.catalog().await?;
        let rows = self.stores.table.list(after, limit, &ledger()).await?;
        let listed = |row: SystemRow| {
            let last = catalog.get(row.system_id).map_or(0, |held| held.last_seq);
            Listed { log_events: last.saturating_sub(row.version), row }
        };
        Ok(rows.into_iter().map(listed).collect())
    }

    /// A system's state as a start would recover it.
    ///
    /// # Errors
    /// There is no such system, or it can't be recovered.
    pub async fn show(&self, system: Uuid) -> Result<Shown, InspectError> {
        let row = self.row(system).await?;
        let recovered = self.recover(system).await?;
        Ok(Shown {
            state_hash: replay::state_hash(&recovered.state),
            next_epoch: recovered.epoch,
            snapshot_seq: recovered.snapshot_seq,
            tail_events: recovered.tail_events,
            from_previous: recovered.fell_back,
            state: recovered.state,
            row,
        })
    }

    /// The first `limit` events of a system after `since`, out of the log and the archive.
    ///
    /// # Errors
    /// There is no such system, or its history can't be read.
    pub async fn events(
        &self,
        system: Uuid,
        since: u64,
        limit: usize,
    ) -> Result<Vec<Recorded>, InspectError> {
        self.row(system).await?;
        Ok(self.history.events(system, since, limit).await?)
    }

    async fn row(&self, system: Uuid) -> Result<SystemRow, InspectError> {
        self.stores.table.get(system, &ledger()).await?.ok_or(InspectError::UnknownSystem)
    }

    /// Which systems the log holds events of; read once.
    async fn catalog(&self) -> Result<Arc<Catalog>, InspectError> {
        let log = Arc::clone(&self.read_log);
        self.blocking(move || log.catalog()).await
    }

    /// Runs blocking work on the log's files.
    async fn blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> std::io::Result<R> + Send + 'static,
    ) -> Result<R, InspectError> {
        let done = tokio::task::spawn_blocking(work).await;
        let done = done.map_err(|_| InspectError::Internal("reading the log panicked"))?;
        done.map_err(|source| InspectError::Log { path: self.log.path().to_owned(), source })
    }
}

/// A ledger that nobody reads.
fn ledger() -> Ledger {
    Ledger::start(Operation::Background)
}

/// What lives in a service's memory can't be looked at from outside.
fn in_memory(options: &Options) -> Result<(), InspectError> {
    let (database, blobs) = (options.database.url.expose(), options.blobs.url.expose());
    if database == "sqlite::memory:" || blobs.starts_with("memory:") {
        return Err(InspectError::refused(
            "these stores are in the service's memory: nothing of them can be seen or carried from outside",
        ));
    }
    Ok(())
}

/// Looking at what is not there must not make it.
fn must_exist(options: &Options) -> Result<(), InspectError> {
    let missing = |what: &str, path: &Path| {
        let path = path.display();
        InspectError::Refused(format!(
            "there is no {what} at {path}: is --data-dir (or --config) the service's?"
        ))
    };
    if let Some(path) = options.database.url.expose().strip_prefix("sqlite:") {
        let path = Path::new(path.strip_prefix("//").unwrap_or(path));
        if !path.is_file() {
            return Err(missing("database", path));
        }
    }
    let blobs = Url::parse(options.blobs.url.expose()).ok().filter(|url| url.scheme() == "file");
    if let Some(path) = blobs.and_then(|url| url.to_file_path().ok()).filter(|path| !path.is_dir()) {
        return Err(missing("directory of objects", &path));
    }
    Ok(())
}

#[cfg(test)]
mod tests;

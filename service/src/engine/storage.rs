//! Where a system rests between two stays in memory, and how it comes back.
//!
//! With a log that keeps its events (levels `os` and `disk`) a system is what was stored and the log's tail on top
//! ([`crate::recovery`]). What is stored is the folded state ([`crate::snapshot`]), its history staying in the log
//! ([`crate::history`]); or, to be measured against, the whole document, history inside ([`super::document`]).
//!
//! At the level `memory` it is the document alone: the log there keeps nothing.

use std::sync::Arc;

use mipro_telemetry::Ledger;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::document::{self, Document};
use super::keeper::{self, Keeper, SaveError};
use super::{Access, EngineError, EngineOptions, Format};
use crate::history::{HistoryPage, HistoryReader, PAGE_TIME_MAX};
use crate::log::{EventLog, segment};
use crate::recovery::{Recovered, Recovery};
use crate::snapshot::archive::{Archive, ArchiveFigures, ArchiveOptions, Archiver, ArchiverHandle};
use crate::snapshot::{self, SnapshotWriter};
use crate::store::RowMark;
use crate::system::{Recorded, State, SystemId};

/// A system as it comes into memory.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) state: State,
    /// Where whole documents are stored.
    pub(super) history: Option<document::History>,
    /// The epoch to write under.
    pub(super) epoch: u64,
    /// Size of what is stored; 0 where it isn't known.
    pub(super) saved_bytes: u64,
    /// Events that only the log has, and their bytes there.
    pub(super) unsaved_events: u64,
    pub(super) tail_bytes: u64,
    pub(super) memo: Memo,
    /// The row that was read, which must say so before anything is written under `epoch`; `None`: it says so.
    pub(super) seen: Option<RowMark>,
}

/// A system as it is to be stored.
#[derive(Debug)]
pub(super) struct Capture {
    pub(super) state: State,
    pub(super) history: Option<document::History>,
    pub(super) epoch: u64,
}

/// What was stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Saved {
    /// Its size; 0 where it isn't known.
    pub(super) bytes: u64,
}

/// What a system's saves leave for the next one of them.
#[derive(Debug, Default)]
pub(super) struct Memo {
    document: keeper::Attempt,
    snapshot: snapshot::Attempt,
}

/// How systems are stored.
#[derive(Debug)]
pub(super) enum Storage {
    /// Whole documents, and nothing besides.
    Documents(Keeper),
    /// Beside a log that keeps its events.
    Logged(Box<Logged>),
}

/// What stands beside a log that keeps its events.
#[derive(Debug)]
pub(super) struct Logged {
    form: Form,
    recovery: Recovery,
    history: HistoryReader,
    archiver: Option<ArchiverHandle>,
}

#[derive(Debug)]
enum Form {
    Snapshots(SnapshotWriter),
    Documents(Keeper),
}

impl Storage {
    /// Beside a log that keeps its events. Its sealed segments are archived from now on; `laggards` are told which systems
    /// hold the log back.
    pub(super) fn logged(
        keeper: Keeper,
        log: &Arc<dyn EventLog>,
        options: &EngineOptions,
        laggards: mpsc::Sender<SystemId>,
    ) -> Self {
        let (stores, offload) = (keeper.stores.clone(), options.offload);
        let archive = Arc::new(Archive::new(stores.blobs.clone(), segment::visit_bytes, offload));
        let recovery =
            Recovery::new(stores.clone(), Arc::clone(log), offload).with_archive(Arc::clone(&archive));
        let history = HistoryReader::new(stores.clone(), Arc::clone(log), offload).with_archive(archive);
        let mut archiving = ArchiveOptions::new(segment::visit_bytes);
        (archiving.offload, archiving.look_every) = (offload, options.actor.archive_every);
        let archiver = Archiver::spawn(Arc::clone(log), stores.clone(), archiving, laggards);
        let (form, recovery) = match options.actor.format {
            Format::Document => (Form::Documents(keeper), recovery.keeping_history()),
            Format::Binary => {
                let (recorders, counters) = (keeper.recorders.clone(), Arc::clone(&keeper.counters));
                let writer = SnapshotWriter::new(stores, recorders, counters, offload).deleting(true);
                (Form::Snapshots(writer), recovery)
            }
        };
        Self::Logged(Box::new(Logged { form, recovery, history, archiver }))
    }

    pub(super) async fn load(&self, system: SystemId, ledger: &Ledger) -> Result<Loaded, EngineError> {
        match self {
            Self::Documents(keeper) => {
                let document = keeper.load(system, Access::Capability, ledger).await?;
                let seen = RowMark { epoch: document.epoch, version: document.state.version };
                let document = Document { epoch: seen.epoch + 1, ..document };
                Ok(Loaded { seen: Some(seen), ..Loaded::clean(document) })
            }
            Self::Logged(logged) => logged.load(system, ledger).await,
        }
    }

    fn form(&self) -> FormOf<'_> {
        match self {
            Self::Documents(keeper) => FormOf::Documents(keeper),
            Self::Logged(logged) => match &logged.form {
                Form::Documents(keeper) => FormOf::Documents(keeper),
                Form::Snapshots(writer) => FormOf::Snapshots(writer),
            },
        }
    }

    /// Stores a system behind the answers.
    pub(super) async fn save(&self, capture: Capture, memo: &mut Memo) -> Result<Saved, SaveError> {
        let Capture { state, history, epoch } = capture;
        match self.form() {
            FormOf::Documents(keeper) => {
                let document = Document { state, history: history.unwrap_or_default(), epoch };
                keeper.save_behind(document, &mut memo.document).await?;
                Ok(Saved { bytes: 0 })
            }
            FormOf::Snapshots(writer) => {
                let written = writer.write(state, epoch, &mut memo.snapshot).await?;
                Ok(Saved { bytes: written.bytes })
            }
        }
    }

    /// Stores a new system, before its maker is answered, as one that is written from the log `by`. `events` are its first.
    pub(super) async fn store_first(
        &self,
        state: State,
        events: Vec<Recorded>,
        epoch: u64,
        by: Uuid,
        ledger: &Ledger,
    ) -> Result<Loaded, SaveError> {
        match self.form() {
            FormOf::Documents(keeper) => {
                let document = Document { state, history: events.into(), epoch };
                keeper.save_through(document.clone(), Some(by), ledger).await?;
                Ok(Loaded::clean(document))
            }
            FormOf::Snapshots(writer) => {
                let (written, attempt) = writer.write_first(state.clone(), epoch, Some(by), ledger).await?;
                let memo = Memo { snapshot: attempt, ..Memo::default() };
                let saved_bytes = written.bytes;
                Ok(Loaded {
                    state,
                    history: None,
                    epoch,
                    saved_bytes,
                    unsaved_events: 0,
                    tail_bytes: 0,
                    memo,
                    seen: None,
                })
            }
        }
    }

    /// Events of a system after `since_seq`, at most `limit`, where the history is not in memory; as far as they are there.
    pub(super) async fn events(
        &self,
        system: SystemId,
        since_seq: u64,
        limit: usize,
    ) -> Result<HistoryPage, EngineError> {
        match self {
            Self::Documents(_) => Err(EngineError::Internal { what: "a document has lost its history" }),
            Self::Logged(logged) => logged.history.page(system, since_seq, limit, PAGE_TIME_MAX).await,
        }
    }

    /// What has become of the log's sealed segments.
    pub(super) fn archive(&self) -> ArchiveFigures {
        match self {
            Self::Documents(_) => ArchiveFigures::default(),
            Self::Logged(logged) => {
                logged.archiver.as_ref().map_or_else(ArchiveFigures::default, ArchiverHandle::figures)
            }
        }
    }
}

/// How a storage writes.
enum FormOf<'a> {
    Documents(&'a Keeper),
    Snapshots(&'a SnapshotWriter),
}

impl Logged {
    async fn load(&self, system: SystemId, ledger: &Ledger) -> Result<Loaded, EngineError> {
        let recovered = self.recovery.recover(system, Access::Capability, ledger).await?;
        let memo = Memo { snapshot: snapshot::Attempt::after(&recovered), ..Memo::default() };
        let Recovered { state, mut history, epoch, seen, snapshot_bytes, unsaved_events, tail_bytes, .. } =
            recovered;
        if matches!(self.form, Form::Documents(_)) && history.is_none() {
            // It was stored as a snapshot: from now on it carries its history again.
            let events = self.history.events(system, 0, usize::MAX).await?;
            history = Some(
                events.into_iter().take_while(|event| event.seq <= state.version).collect::<Vec<_>>().into(),
            );
        }
        let (saved_bytes, seen) = (snapshot_bytes, Some(seen));
        Ok(Loaded { state, history, epoch, saved_bytes, unsaved_events, tail_bytes, memo, seen })
    }
}

impl Loaded {
    /// A document with nothing beyond it, whose row is as it says.
    fn clean(document: Document) -> Self {
        let Document { state, history, epoch } = document;
        Self {
            state,
            history: Some(history),
            epoch,
            saved_bytes: 0,
            unsaved_events: 0,
            tail_bytes: 0,
            memo: Memo::default(),
            seen: None,
        }
    }
}

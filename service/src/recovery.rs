//! How a system comes back into memory: row, snapshot, tail.
//!
//! [`Recovery::recover`] reads top to bottom; the tail has a file of its own below this one, `recovery/tail.rs`. What it never
//! does: show a state older than the one the row names, skip an event, or take events that were decided after another host had
//! taken the system over and stored or archived something. (Of a host that claimed, and lost its log before it did either, nobody else
//! knows where it began.)
//!
//! **What a tail may be.** Events follow the snapshot one by one. Where some are missing, all is read once more, for the trimmer
//! may have come between (`Failed::Gap`); if they are still missing, the system is refused, as it is at once where the log here has a
//! hole between two events of one epoch. Epochs never fall: two writers at one log
//! are refused. What the snapshot covers already is passed over without a look at it. A refusal concerns one system.
//!
//! **The life of an epoch.** A system is made under epoch 1. Each load takes the next: one more than the highest that it finds
//! in the row, in the snapshot and in the events behind it. A load only proposes it. Before the first event is appended, or
//! the first state saved, under it, the row is made to say that it is this host's (`engine/shard/claims.rs`, ADR 0010): a
//! compare-and-set that finds the row's epoch and version as the load saw them ([`Recovered::seen`]; an owner changes only
//! together with the epoch), and sets epoch and owner. Of two hosts that propose the same number one gets it. From then on whoever still writes under a lower one is fenced where it matters: the row
//! takes no lower epoch ([`crate::snapshot::pointer`]), a log in which it falls is refused (`tail`), and of two events of the
//! same number the one of the higher epoch counts ([`crate::snapshot::archive::reader::Epochs`]). It ends when the state leaves
//! memory.
//!
//! **Who is overtaken does not know it at once.** No append asks the row. Until its next save or claim the overtaken host answers
//! from its own log; then the row refuses it, and it drops the state. What it had acknowledged and neither stored nor archived
//! is in its log only, and the new owner doesn't wait for it: hosts that share stores work one after the other
//! (docs/durability.md, "Two hosts"), and a log that is gone is the loss that the level `disk` names. A load that takes a system
//! over from another log says so.
//!
//! **Whose log counts.** What follows the stored state is in the log of the host that claimed the system last, and in the
//! archive. Where that was another host, the log here may hold what was decided before it, or beside it, and what it decided
//! itself may be in its log only: nothing of the log here is folded (of what it has archived, all: that host saw it, too), and
//! where it holds something beyond what is stored, the system is refused rather than two histories mixed. No fallback crosses a change of hosts, either: the first claim after one makes the row
//! forget its previous state ([`crate::store::SystemTable::claim`]), so that a system just taken over has nothing to fall back to until its
//! second state is stored.
//!
//! **What the answers of a loaded system wait for.** Recovery reads whatever is in the log, be it durable yet or not. So the
//! first gate of a system that comes back (`Shard::loaded`) stands at the newest append of the whole log at that moment: nothing
//! that was read is shown before it is durable.

mod tail;

use std::sync::Arc;

use bytes::Bytes;
use mipro_telemetry::{Ledger, Phase, Stage};

use crate::engine::document::{Document, History, corrupt};
use crate::engine::keeper::admit;
use crate::engine::{Access, EngineError};
use crate::log::{EventLog, Level};
use crate::offload::Offload;
use crate::snapshot::archive::reader::{Epochs, Here};
use crate::snapshot::archive::{Archive, ArchiveError};
use crate::snapshot::format::{self, Expected, FormatError};
use crate::snapshot::{hashed, is_snapshot};
use crate::store::{RowMark, StoreError, Stores, SystemRow};
use crate::system::{State, SystemId};
use tail::Tail;

/// A system, as it was.
#[derive(Debug)]
pub struct Recovered {
    /// The fold of its events.
    pub state: State,
    /// Its history, where [`Recovery::keeping_history`] asked for it and the stored state was a document.
    pub history: Option<History>,
    /// The fencing epoch to write under: higher than any that was found. To be claimed first.
    pub epoch: u64,
    /// The row as it was: what the claim must find.
    pub seen: RowMark,
    /// Number of the newest event in the snapshot (or document) that was read.
    pub snapshot_seq: u64,
    /// Length of its object, in bytes.
    pub snapshot_bytes: u64,
    /// Events folded on top of it.
    pub tail_events: u64,
    /// Events beyond what the row says is stored. Fewer than the tail's after falling back: a state that is no newer than the
    /// row has nothing to save.
    pub unsaved_events: u64,
    /// Bytes of the tail's events in the log.
    pub tail_bytes: u64,
    /// The newest snapshot could not be read, and this is from the one before it and a longer tail.
    pub fell_back: bool,
    /// The keys that the row names, newest first.
    pub(crate) named: [Option<String>; 2],
}

/// Brings systems back. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recovery {
    stores: Stores,
    log: Arc<dyn EventLog>,
    offload: Offload,
    archive: Option<Arc<Archive>>,
    keeps_history: bool,
}

/// An object that a row names.
struct Object {
    key: String,
    version: u64,
    bytes: Option<u64>,
    checksum: Option<[u8; 32]>,
}

/// What a stored object gave.
struct Base {
    state: State,
    /// Of a document: the JSON format of engines that keep a system's whole history in its state. Snapshots have none.
    history: Option<History>,
    epoch: u64,
    bytes: u64,
}

/// Why a system did not come back.
enum Failed {
    /// Events are missing between what was read of the stores and what was read of the log. Between the two the archiver may
    /// have trimmed the log behind a snapshot that another hand has just stored.
    Gap {
        object: String,
        problem: String,
    },
    Other(EngineError),
}

impl From<EngineError> for Failed {
    fn from(error: EngineError) -> Self {
        Self::Other(error)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Other(error.into())
    }
}

impl From<ArchiveError> for Failed {
    fn from(error: ArchiveError) -> Self {
        Self::Other(error.into())
    }
}

impl Failed {
    fn into_error(self) -> EngineError {
        match self {
            Self::Gap { object, problem } => corrupt(&object, problem),
            Self::Other(error) => error,
        }
    }
}

/// Why an object gave nothing.
enum Unread {
    /// It is not there, or not what was written: the one before it may do.
    Bad(String),
    /// A store is down, and later it may do; or a newer build wrote it, and this one must not go back behind it.
    Failed(EngineError),
}

impl Recovery {
    /// From these stores and this log.
    #[must_use]
    pub fn new(stores: Stores, log: Arc<dyn EventLog>, offload: Offload) -> Self {
        Self { stores, log, offload, archive: None, keeps_history: false }
    }

    /// Also reads archived segments: those of other logs, whose host is gone, and those of this one when the newest snapshot
    /// is damaged.
    #[must_use]
    pub fn with_archive(self, archive: Arc<Archive>) -> Self {
        Self { archive: Some(archive), ..self }
    }

    /// Keeps a document's history, for engines that store documents.
    #[must_use]
    pub fn keeping_history(self) -> Self {
        Self { keeps_history: true, ..self }
    }

    /// Brings a system back. Dropping the future changes nothing anywhere; blocking reads run to their end.
    ///
    /// # Errors
    /// - [`EngineError::NotFound`]: there is none, or it is another org's.
    /// - [`EngineError::Corrupt`]: what is stored can't be read, has a gap, or was overtaken by another host.
    /// - A store is down; trying again may help.
    pub async fn recover(
        &self,
        system: SystemId,
        access: Access,
        ledger: &Ledger,
    ) -> Result<Recovered, EngineError> {
        let ledger = ledger.in_phase(Phase::Load);
        match self.attempt(system, access, &ledger).await {
            Err(Failed::Gap { problem, .. }) => {
                tracing::warn!(
                    problem,
                    "events were missing between a stored state and the log: read once more"
                );
                self.attempt(system, access, &ledger).await.map_err(Failed::into_error)
            }
            other => other.map_err(Failed::into_error),
        }
    }

    async fn attempt(&self, system: SystemId, access: Access, ledger: &Ledger) -> Result<Recovered, Failed> {
        // 1. The row. A foreign org's system costs it no more than that.
        let row = self.stores.table.get(system, ledger).await?.ok_or(EngineError::NotFound)?;
        admit(access, row.org_id)?;
        // 2. The newest snapshot that is whole, and 3. the one before it where that is not; 4. either may be an old document.
        let (base, bad) = self.base(system, &row, ledger).await?;
        let (snapshot_seq, snapshot_bytes) = (base.state.version, base.bytes);
        // 5. The tail: what the archive has and the log here has not, then the log.
        let foreign = row.claimed_by.is_some_and(|by| !self.log.is_or_was(by));
        let mut tail = Tail::new(base.state, base.history, base.epoch);
        tail.foreign = foreign;
        if foreign {
            let system = hashed(&system.to_string());
            tracing::info!(
                system,
                "last written from another host's log: goes on from what is stored and archived"
            );
        }
        let tail = self.archived(system, tail, bad.is_some(), ledger).await?;
        let tail = self.logged(system, tail, ledger).await?;
        if let Some((key, problem)) = bad.as_ref().filter(|_| tail.state.version < row.version) {
            let problem = format!("{problem}; the one before it and the log don't reach it");
            return Err(Failed::Gap { object: key.clone(), problem });
        }
        // 6. The epoch to write under.
        let epoch = row.epoch.max(tail.epoch) + 1;
        Ok(Recovered {
            epoch,
            seen: row.mark(),
            snapshot_seq,
            snapshot_bytes,
            tail_events: tail.events,
            tail_bytes: tail.bytes,
            fell_back: bad.is_some(),
            unsaved_events: tail.state.version.saturating_sub(row.version),
            // What it fell back to must outlive the damaged one: it is not up for deletion.
            named: [row.state_ref, row.previous.map(|previous| previous.state_ref).filter(|_| bad.is_none())],
            state: tail.state,
            history: tail.history,
        })
    }

    /// What the row names, or what it named before; then with the key of the newest and what is wrong with it.
    async fn base(
        &self,
        system: SystemId,
        row: &SystemRow,
        ledger: &Ledger,
    ) -> Result<(Base, Option<(String, String)>), EngineError> {
        let Some(key) = row.state_ref.clone() else {
            return Err(corrupt(&system.to_string(), "the system's row names no stored state".to_owned()));
        };
        let newest =
            Object { key, version: row.version, bytes: row.state_bytes, checksum: row.state_checksum };
        let problem = match self.read(system, &newest, ledger).await {
            Ok(base) => return Ok((base, None)),
            Err(Unread::Failed(error)) => return Err(error),
            Err(Unread::Bad(problem)) => problem,
        };
        let Some(previous) = row.previous.clone() else { return Err(corrupt(&newest.key, problem)) };
        let object = hashed(&newest.key);
        tracing::error!(object, problem, "the newest stored state is damaged; going back to the one before");
        let previous = Object {
            key: previous.state_ref,
            version: previous.version,
            bytes: previous.bytes,
            checksum: previous.checksum,
        };
        match self.read(system, &previous, ledger).await {
            Ok(base) => Ok((base, Some((newest.key, problem)))),
            Err(Unread::Failed(error)) => Err(error),
            Err(Unread::Bad(older)) => {
                Err(corrupt(&newest.key, format!("{problem}; and the one before it: {older}")))
            }
        }
    }

    /// Reads an object and checks it against what the row says.
    async fn read(&self, system: SystemId, object: &Object, ledger: &Ledger) -> Result<Base, Unread> {
        let bytes = match self.stores.blobs.get(&object.key, ledger).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound) => {
                return Err(Unread::Bad("the system's row names an object that is not there".to_owned()));
            }
            Err(error) => return Err(Unread::Failed(error.into())),
        };
        let (clock, key, keeps_history) = (ledger.clone(), object.key.clone(), self.keeps_history);
        let expected = Expected { checksum: object.checksum, bytes: object.bytes, system };
        let work = move || clock.time(Stage::StateDecode, || decode(&key, &bytes, &expected, keeps_history));
        let base = self.offload.run(work).await;
        let base = base.map_err(|_| Unread::Bad("reading it panicked".to_owned()))??;
        if base.state.version != object.version {
            let (found, named) = (base.state.version, object.version);
            return Err(Unread::Bad(format!("it is of version {found} where the row says {named}")));
        }
        Ok(base)
    }

    /// Folds what is archived and follows, up to where the log here takes over. Other logs' segments are looked at always:
    /// their host may be gone. This log's own only when the newest snapshot was damaged (what it covered may be trimmed here), or
    /// when another host has built on them: then all there is to go by is what that host could see.
    async fn archived(
        &self,
        system: SystemId,
        tail: Tail,
        fell_back: bool,
        ledger: &Ledger,
    ) -> Result<Tail, Failed> {
        let Some(archive) = &self.archive else { return Ok(tail) };
        // Nor must what another host has archived a moment ago be missed: it is going to be built upon.
        let all = fell_back || tail.foreign;
        let here = if all { None } else { Here::all_of(&*self.log) };
        let mut sources = archive.sources(system, here, all).await?;
        // What is of a lower epoch than the snapshot was decided by a host that had been overtaken.
        sources.retain(|source| source.last_seq > tail.state.version && source.epoch >= tail.epoch);
        if sources.is_empty() {
            return Ok(tail);
        }
        let mut epochs = Epochs::default();
        sources.iter().for_each(|source| epochs.saw(source.epoch, source.first_seq));
        let (epochs, first) = if tail.foreign {
            (epochs, None)
        } else {
            self.local_epochs(system, tail.state.version, epochs).await?
        };
        // Where the log here has an event, it counts: it is this host's own, and `tail` refuses it should its epoch fall.
        let until = first.map_or(u64::MAX, |first| first.saturating_sub(1));
        let stage = ledger.enter(Stage::StateDecode);
        let tail = archive.fold(system, sources, &epochs, until, tail).await?;
        stage.done();
        tail.checked()
    }

    /// Where the epochs of a system begin after a number, in the log here too, and the log's first event after it.
    async fn local_epochs(
        &self,
        system: SystemId,
        after_seq: u64,
        mut epochs: Epochs,
    ) -> Result<(Epochs, Option<u64>), EngineError> {
        let log = Arc::clone(&self.log);
        let work = move || {
            let mut first = None;
            let read = log.read(system, after_seq, &mut |entry| {
                first.get_or_insert(entry.batch.first_seq);
                epochs.saw(entry.batch.epoch, entry.batch.first_seq);
                std::ops::ControlFlow::Continue(())
            });
            read.map(|()| (epochs, first))
        };
        let read = self.offload.run(work).await.map_err(|_| panicked())?;
        read.map_err(|error| log_failed(&error))
    }

    /// Folds what the log here has.
    async fn logged(&self, system: SystemId, tail: Tail, ledger: &Ledger) -> Result<Tail, Failed> {
        // What a log in memory holds is either in the snapshot or of a state that was dropped.
        if self.log.level() == Level::Memory {
            return Ok(tail);
        }
        let (log, clock) = (Arc::clone(&self.log), ledger.clone());
        let work = move || {
            let mut tail = tail;
            let after_seq = tail.state.version;
            let stage = clock.enter(Stage::StateDecode);
            let read = log.read(system, after_seq, &mut |entry| tail.offer(entry));
            stage.done();
            read.map(|()| tail)
        };
        let read = self.offload.run(work).await.map_err(|_| panicked())?;
        let tail = read.map_err(|error| log_failed(&error))?;
        tail.checked()
    }
}

fn decode(key: &str, bytes: &Bytes, expected: &Expected, keeps_history: bool) -> Result<Base, Unread> {
    let length = bytes.len() as u64;
    if is_snapshot(key) {
        let unpacked = format::unpack(bytes, expected).map_err(|error| match error {
            FormatError::Newer { .. } => Unread::Failed(corrupt(key, error.to_string())),
            other => Unread::Bad(other.to_string()),
        })?;
        return Ok(Base { state: unpacked.state, history: None, epoch: unpacked.epoch, bytes: length });
    }
    if expected.bytes.is_some_and(|expected| expected != length) {
        return Err(Unread::Bad("its length is not what the row says".to_owned()));
    }
    let document = Document::decode(key, expected.system, bytes).map_err(|error| match error {
        EngineError::Corrupt { problem, .. } => Unread::Bad(problem),
        other => Unread::Bad(other.to_string()),
    })?;
    let history = keeps_history.then_some(document.history);
    Ok(Base { state: document.state, history, epoch: document.epoch, bytes: length })
}

fn panicked() -> EngineError {
    EngineError::Internal { what: "reading the log panicked" }
}

/// A log that could not be read. What the disk refuses now it may give later; damage stays.
pub(crate) fn log_failed(error: &crate::log::ReadError) -> EngineError {
    let problem = error.to_string();
    tracing::error!(problem, "the log can't be read");
    match error {
        crate::log::ReadError::Io { .. } => EngineError::unavailable("the event log"),
        crate::log::ReadError::Damaged { .. } => EngineError::Corrupt { object: "log".to_owned(), problem },
    }
}

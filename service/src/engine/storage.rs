//! Where a system rests between two stays in memory, and how it comes back.
//!
//! Two ways: the folded state as a snapshot, its history in the log ([`crate::snapshot`], [`crate::recovery`],
//! [`crate::history`]); or the whole document, history inside ([`super::document`]), where the log keeps nothing and to be
//! measured against. Either way a state is what was stored, and the tail of the log on top.

use mipro_telemetry::Ledger;

use super::document::{Document, History};
use super::keeper::{Attempt, Keeper, SaveError};
use super::{Access, EngineError};
use crate::system::{Recorded, State, SystemId};

/// A system as it comes into memory.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) state: State,
    pub(super) history: Option<History>,
    /// The epoch to write under.
    pub(super) epoch: u64,
    /// Size of what is stored; 0 where it isn't known.
    pub(super) saved_bytes: u64,
    /// Events that only the log has, and their bytes there.
    pub(super) tail_events: u64,
    pub(super) tail_bytes: u64,
    pub(super) memo: Memo,
}

/// A system as it is to be stored.
#[derive(Debug)]
pub(super) struct Capture {
    pub(super) state: State,
    pub(super) history: Option<History>,
    pub(super) epoch: u64,
}

/// What was stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Saved {
    pub(super) bytes: u64,
}

/// What a system's saves leave for the next one of them.
#[derive(Debug, Default)]
pub(super) struct Memo {
    document: Attempt,
}

/// One of the two ways.
#[derive(Debug)]
pub(super) enum Storage {
    Documents(Documents),
}

impl Storage {
    pub(super) async fn load(&self, system: SystemId, ledger: &Ledger) -> Result<Loaded, EngineError> {
        match self {
            Self::Documents(documents) => documents.load(system, ledger).await,
        }
    }

    /// Stores a system behind the answers.
    pub(super) async fn save(&self, capture: Capture, memo: &mut Memo) -> Result<Saved, SaveError> {
        match self {
            Self::Documents(documents) => documents.save(capture, memo).await,
        }
    }

    /// Stores a new system, before its maker is answered. `events` are its first.
    pub(super) async fn found(
        &self,
        state: State,
        events: Vec<Recorded>,
        epoch: u64,
        ledger: &Ledger,
    ) -> Result<Loaded, SaveError> {
        match self {
            Self::Documents(documents) => documents.found(state, events, epoch, ledger).await,
        }
    }

    /// Events of a system after `since_seq`, at most `limit`, where the history is not in memory.
    pub(super) async fn events(
        &self,
        system: SystemId,
        since_seq: u64,
        limit: usize,
    ) -> Result<Vec<Recorded>, EngineError> {
        let _ = (system, since_seq, limit);
        match self {
            Self::Documents(_) => Err(EngineError::Internal { what: "a document without its history" }),
        }
    }

    pub(super) fn archive(&self) -> Archived {
        match self {
            Self::Documents(_) => Archived::default(),
        }
    }
}

/// What has become of the log's sealed segments.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Archived {
    pub(super) archived: u64,
    pub(super) trimmed: u64,
}

/// Whole documents.
#[derive(Debug)]
pub(super) struct Documents {
    pub(super) keeper: Keeper,
}

impl Documents {
    async fn load(&self, system: SystemId, ledger: &Ledger) -> Result<Loaded, EngineError> {
        let document = self.keeper.load(system, Access::Capability, ledger).await?;
        let Document { state, history, epoch } = document;
        let memo = Memo::default();
        let history = Some(history);
        Ok(Loaded { state, history, epoch: epoch + 1, saved_bytes: 0, tail_events: 0, tail_bytes: 0, memo })
    }

    async fn save(&self, capture: Capture, memo: &mut Memo) -> Result<Saved, SaveError> {
        let Capture { state, history, epoch } = capture;
        let document = Document { state, history: history.unwrap_or_default(), epoch };
        self.keeper.save_behind(document, &mut memo.document).await?;
        Ok(Saved { bytes: 0 })
    }

    async fn found(
        &self,
        state: State,
        events: Vec<Recorded>,
        epoch: u64,
        ledger: &Ledger,
    ) -> Result<Loaded, SaveError> {
        let document = Document { state, history: events.into(), epoch };
        self.keeper.save_through(&document, ledger).await?;
        let Document { state, history, epoch } = document;
        let memo = Memo::default();
        Ok(Loaded {
            state,
            history: Some(history),
            epoch,
            saved_bytes: 0,
            tail_events: 0,
            tail_bytes: 0,
            memo,
        })
    }
}

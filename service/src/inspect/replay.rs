//! A state out of what is stored: a snapshot and the events behind it, or all events from the first one on. Unlike recovery
//! it says what exactly does not fit, and can stop at any point.

use std::ops::ControlFlow;

use serde::Serialize;
use uuid::Uuid;

use super::point::Point;
use super::problem::Place;
use super::segments::{Found, LogDir};
use super::{EVENTS, InspectError, Inspector, ledger};
use crate::codec;
use crate::engine::document::Document;
use crate::engine::{Access, EngineError};
use crate::log::segment::file;
use crate::recovery::Recovered;
use crate::snapshot::format::{self, Expected};
use crate::snapshot::is_snapshot;
use crate::store::{StoreError, SystemRow};
use crate::system::{NoProbe, Recorded, State, apply};

/// BLAKE3 of a state's encoding, hexadecimal: two states of the same hash are the same.
#[must_use]
pub fn state_hash(state: &State) -> String {
    blake3::hash(&codec::state::encode(state)).to_hex().to_string()
}

/// Why a state can't be made, or does not go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "fault")]
pub enum Fault {
    /// The row names no object.
    #[error("its row names no stored state")]
    Unnamed,
    /// The object is not there.
    #[error("the object that its row names is not there")]
    Missing,
    /// The object is not what was written.
    #[error("{problem}")]
    Damaged {
        /// In what way.
        problem: String,
    },
    /// The object can't be fetched.
    #[error("it can't be read: {reason}")]
    Unreachable {
        /// Why.
        reason: String,
    },
    /// Events are missing.
    #[error("event {expected} is missing; the log goes on with event {found}")]
    Gap {
        /// The event that should come next.
        expected: u64,
        /// The one that does.
        found: u64,
    },
    /// Events of a lower epoch come after those of a higher one: two writers were at work.
    #[error(
        "event {seq} was written under epoch {epoch}, after epoch {after}: another writer had taken over"
    )]
    Superseded {
        /// The event.
        seq: u64,
        /// Its epoch.
        epoch: u64,
        /// The epoch before it.
        after: u64,
    },
    /// A record is whole, and what is in it can't be read.
    #[error("the events from {seq} on can't be read: {problem}")]
    Unreadable {
        /// The first of them.
        seq: u64,
        /// Why.
        problem: String,
    },
}

/// What a row says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) key: String,
    pub(super) version: u64,
    bytes: Option<u64>,
    checksum: Option<[u8; 32]>,
}

impl Named {
    pub(super) fn current(row: &SystemRow) -> Option<Self> {
        let (bytes, checksum) = (row.state_bytes, row.state_checksum);
        Some(Self { key: row.state_ref.clone()?, version: row.version, bytes, checksum })
    }

    /// A snapshot that no row names, by its key.
    pub(super) fn unchecked(key: String) -> Option<Self> {
        let name = key.rsplit('/').next()?.strip_suffix(".snap")?;
        let version = u64::from_str_radix(name.split('-').nth(1)?, 16).ok()?;
        Some(Self { version, bytes: None, checksum: None, key })
    }

    pub(super) fn previous(row: &SystemRow) -> Option<Self> {
        let previous = row.previous.as_ref()?;
        let (version, bytes, checksum) = (previous.version, previous.bytes, previous.checksum);
        Some(Self { key: previous.state_ref.clone(), version, bytes, checksum })
    }
}

/// A stored state as it was read.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    pub(super) state: State,
    pub(super) epoch: u64,
}

/// Events folded onto a state.
#[derive(Debug, Clone)]
pub(super) struct Folded {
    pub(super) state: State,
    pub(super) epoch: u64,
    /// Why it ended before the log did, and where.
    pub(super) fault: Option<(Place, Fault)>,
}

/// Folds the log's events behind a state, up to `until`. **Blocks.**
pub(super) fn fold_tail(
    log: &LogDir,
    within: &[u64],
    base: Loaded,
    until: Option<Point>,
) -> std::io::Result<Folded> {
    let (system, after) = (base.state.system_id, base.state.version);
    let mut folded = Folded { state: base.state, epoch: base.epoch, fault: None };
    let visit = &mut |found: Found<'_>| folded.take(found, until);
    log.read_system(system, after, Some(within), visit)?;
    Ok(folded)
}

impl Folded {
    /// Folds what a record adds.
    fn take(&mut self, found: Found<'_>, until: Option<Point>) -> ControlFlow<()> {
        match self.step(found, until) {
            Ok(flow) => flow,
            Err(fault) => {
                self.fault = Some((Place::file(&file::name(found.segment), found.offset), fault));
                ControlFlow::Break(())
            }
        }
    }

    fn step(&mut self, found: Found<'_>, until: Option<Point>) -> Result<ControlFlow<()>, Fault> {
        let batch = found.batch;
        let next = self.state.version + 1;
        if batch.last_seq() < next {
            return Ok(ControlFlow::Continue(()));
        }
        if batch.epoch < self.epoch {
            return Err(Fault::Superseded { seq: batch.first_seq, epoch: batch.epoch, after: self.epoch });
        }
        if batch.first_seq > next {
            return Err(Fault::Gap { expected: next, found: batch.first_seq });
        }
        let events = codec::event::decode(batch.payload, batch.first_seq, batch.count)
            .map_err(|e| Fault::Unreadable { seq: batch.first_seq, problem: e.to_string() })?;
        for event in events.iter().filter(|event| event.seq >= next) {
            if until.is_some_and(|until| !until.covers(event)) {
                return Ok(ControlFlow::Break(()));
            }
            apply(&mut self.state, event, &mut NoProbe);
        }
        self.epoch = batch.epoch;
        Ok(ControlFlow::Continue(()))
    }
}

/// All events from the first on, folded.
#[derive(Debug, Default)]
pub(super) struct Refold {
    pub(super) state: Option<State>,
    /// The oldest event that is there.
    pub(super) begins_at: Option<u64>,
}

impl Refold {
    /// Takes the next event; `false` where the fold can't go on.
    fn take(&mut self, event: &Recorded) -> bool {
        match &mut self.state {
            None => self.state = State::from_created(event),
            Some(state) => apply(state, event, &mut NoProbe),
        }
        self.state.is_some()
    }
}

impl Inspector {
    /// A stored state, checked against what the row says of it.
    pub(super) async fn load(&self, system: Uuid, named: &Named) -> Result<Loaded, Fault> {
        let bytes = match self.stores.blobs.get(&named.key, &ledger()).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound) => return Err(Fault::Missing),
            Err(error) => return Err(Fault::Unreachable { reason: error.to_string() }),
        };
        let damaged = |problem: String| Fault::Damaged { problem };
        let loaded = if is_snapshot(&named.key) {
            let expected = Expected { checksum: named.checksum, bytes: named.bytes, system };
            let unpacked = format::unpack(&bytes, &expected).map_err(|e| damaged(e.to_string()))?;
            Loaded { state: unpacked.state, epoch: unpacked.epoch }
        } else {
            let document =
                Document::decode(&named.key, system, &bytes).map_err(|e| damaged(e.to_string()))?;
            Loaded { state: document.state, epoch: document.epoch }
        };
        if loaded.state.version != named.version {
            let (found, said) = (loaded.state.version, named.version);
            return Err(damaged(format!("it is at event {found}, its row says {said}")));
        }
        Ok(loaded)
    }

    /// A system's state as a start makes it; by the very code that a start runs.
    pub(super) async fn recover(&self, system: Uuid) -> Result<Recovered, InspectError> {
        let recovered = self.recovery.recover(system, Access::Capability, &ledger()).await;
        recovered.map_err(|error| match error {
            EngineError::NotFound => InspectError::UnknownSystem,
            error => error.into(),
        })
    }

    /// A state and the log's events behind it, up to `until`.
    pub(super) async fn tail(&self, base: Loaded, until: Option<Point>) -> Result<Folded, InspectError> {
        let catalog = self.catalog().await?;
        let within = catalog.get(base.state.system_id).map_or_else(Vec::new, |held| held.segments.clone());
        let log = self.log.clone();
        self.blocking(move || fold_tail(&log, &within, base, until)).await
    }

    /// The oldest event of a system that is left anywhere.
    pub(super) async fn history_begins(&self, row: &SystemRow) -> Result<Option<u64>, InspectError> {
        let system = row.system_id;
        let logged = self.catalog().await?.get(system).map(|held| held.first_seq);
        let archived = self.archive.sources(system, None, false).await.map_err(EngineError::from)?;
        let archived = archived.iter().map(|source| source.first_seq).min();
        let documents = [Named::current(row), Named::previous(row)];
        let mut document = documents.iter().flatten().any(|named| !is_snapshot(&named.key));
        if !document && logged.into_iter().chain(archived).min() != Some(1) {
            let keys = self.stores.blobs.list(&format!("systems/{system}"), KEYS_MAX).await?;
            document = keys.iter().any(|key| key.ends_with(".json"));
        }
        Ok(if document { Some(1) } else { logged.into_iter().chain(archived).min() })
    }

    /// A system's whole history, folded up to `until`; no state where the history does not begin with the first event.
    pub(super) async fn refold(&self, row: &SystemRow, until: Point) -> Result<Refold, InspectError> {
        let mut refold = Refold { begins_at: self.history_begins(row).await?, ..Refold::default() };
        if refold.begins_at != Some(1) {
            return Ok(refold);
        }
        let mut since = 0;
        loop {
            let events = self.history.events(row.system_id, since, EVENTS).await?;
            for event in &events {
                if !until.covers(event) || !refold.take(event) {
                    return Ok(refold);
                }
                since = event.seq;
            }
            if events.is_empty() {
                return Ok(refold);
            }
        }
    }
}

/// Objects of one system that are listed.
const KEYS_MAX: usize = 100_000;

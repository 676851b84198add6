//! Loading and saving whole documents: the one path from memory to the stores and back, for every engine.
//!
//! A save writes the object first and moves the row second. [`Keeper::save_as_original`] does it without conditions, as
//! the original did. The other saves never overwrite an object and never take a row back: a request that arrives late, or
//! another process, can lose against us or win against us, but can't undo what we were told was saved.

use bytes::Bytes;
use mipro_telemetry::{Ledger, Operation, Phase, Recorders, Stage};
use uuid::Uuid;

use super::document::{Document, corrupt};
use super::figures::Counters;
use super::{Access, EngineError};
use crate::crash;
use crate::offload::Offload;
pub(crate) use crate::snapshot::SaveError;
use crate::snapshot::pointer;
use crate::store::blobs::PutRule;
use crate::store::{StoreError, Stores, SystemRow, WriteRule};
use crate::system::{OrgId, SystemId};

/// Attempts to find a free key for an object. The first conflict is an orphan of an earlier save; the next keys are random.
const KEYS_MAX: usize = 3;

/// What a save that failed half-way had done, so that repeating it needn't begin anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// Version, key and length of the object that is there and that no row names yet.
    pub(super) written: Option<(u64, String, usize)>,
}

/// Loads and saves. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    pub(crate) stores: Stores,
    pub(crate) recorders: Recorders,
    pub(crate) counters: std::sync::Arc<Counters>,
    /// Where documents are encoded and decoded: one with a long history takes milliseconds, which no thread that answers
    /// requests should spend.
    pub(crate) offload: Offload,
}

impl Keeper {
    pub(crate) fn new(stores: Stores, recorders: Recorders, offload: Offload) -> Self {
        Self { stores, recorders, counters: std::sync::Arc::default(), offload }
    }

    /// Row, object, document; a foreign org's system costs it no more than the row.
    pub(crate) async fn load(
        &self,
        system: SystemId,
        access: Access,
        ledger: &Ledger,
    ) -> Result<Document, EngineError> {
        let ledger = ledger.in_phase(Phase::Load);
        let row = self.stores.table.get(system, &ledger).await?.ok_or(EngineError::NotFound)?;
        admit(access, row.org_id)?;
        let key = row.state_ref.ok_or_else(|| {
            corrupt(&system.to_string(), "the system's row names no stored state".to_owned())
        })?;
        if !key.ends_with(".json") {
            return Err(EngineError::OtherEngine);
        }
        let bytes = match self.stores.blobs.get(&key, &ledger).await {
            Err(StoreError::NotFound) => {
                return Err(corrupt(&key, "the system's row names an object that is not there".to_owned()));
            }
            other => other?,
        };
        let decode = move || ledger.time(Stage::StateDecode, || Document::decode(&key, system, &bytes));
        let decoded = self.offload.run(decode).await;
        let document = decoded.map_err(|_| EngineError::Internal { what: "decoding a state panicked" })??;
        Ok(Document { epoch: row.epoch, ..document })
    }

    /// A document's bytes, and the document again.
    async fn encode(
        &self,
        document: Document,
        stage: Stage,
        ledger: &Ledger,
    ) -> Result<(Document, Bytes), EngineError> {
        let clock = ledger.clone();
        let encode = move || {
            let bytes = clock.time(stage, || document.encode());
            (document, bytes)
        };
        let encoded = self.offload.run(encode).await;
        let (document, bytes) =
            encoded.map_err(|_| EngineError::Internal { what: "encoding a state panicked" })?;
        Ok((document, bytes?))
    }

    /// Overwrites object and row, whatever is there: of two savers that loaded the same version, the later one wins and the
    /// other's events are gone.
    pub(crate) async fn save_as_original(
        &self,
        document: Document,
        ledger: &Ledger,
    ) -> Result<(), EngineError> {
        let ledger = ledger.in_phase(Phase::Save);
        let (document, bytes) = self.encode(document, Stage::StateEncode, &ledger).await?;
        let (key, length) = (key(&document, None), bytes.len());
        self.stores.blobs.put(&key, bytes, PutRule::Overwrite, Stage::S3Put, &ledger).await?;
        self.stores.table.upsert(&row(&document, key, length), WriteRule::Overwrite, &ledger).await?;
        Ok(())
    }

    /// Saves before the caller is answered. A row that is new with it says that it is written from the log `by`.
    pub(crate) async fn save_through(
        &self,
        document: Document,
        by: Option<Uuid>,
        ledger: &Ledger,
    ) -> Result<(), SaveError> {
        let ledger = ledger.in_phase(Phase::Save);
        let encoded = self.encode(document, Stage::StateEncode, &ledger).await;
        let (document, bytes) = encoded.map_err(SaveError::Failed)?;
        let length = bytes.len();
        let key = self.put_fresh(&document, bytes, Stage::S3Put, &ledger).await?;
        let row = SystemRow { claimed_by: by, ..row(&document, key, length) };
        let advanced = self.stores.table.upsert(&row, WriteRule::Advance, &ledger).await;
        if advanced.map_err(failed)? { Ok(()) } else { Err(SaveError::Conflict) }
    }

    /// Saves behind the answers, clocked as background work. `attempt` is what the last try of this system left; after an
    /// error it holds what this one left.
    pub(crate) async fn save_behind(
        &self,
        document: Document,
        attempt: &mut Attempt,
    ) -> Result<(), SaveError> {
        let ledger = Ledger::start(Operation::Background);
        let result = self.run_behind(document, attempt, &ledger).await;
        self.counters.saved(&result);
        self.recorders.record(&ledger.finish());
        result
    }

    async fn run_behind(
        &self,
        document: Document,
        attempt: &mut Attempt,
        ledger: &Ledger,
    ) -> Result<(), SaveError> {
        let version = document.state.version;
        let (written, row) = match attempt.written.take().filter(|(written, ..)| *written == version) {
            Some(written) => (written.clone(), row(&document, written.1, written.2)),
            None => {
                let encoded = self.encode(document, Stage::SnapshotEncode, ledger).await;
                let (document, bytes) = encoded.map_err(SaveError::Failed)?;
                let length = bytes.len();
                let key = self.put_fresh(&document, bytes, Stage::SnapshotPut, ledger).await?;
                ((version, key.clone(), length), row(&document, key, length))
            }
        };
        attempt.written = Some(written);
        crash::point("snapshot.put");
        if !pointer::advance_behind(&*self.stores.table, &row, ledger).await.map_err(failed)? {
            return Err(SaveError::Conflict);
        }
        crash::point("pointer.moved");
        attempt.written = None;
        Ok(())
    }

    /// Puts an object under a key nobody has used. A save that failed after its put, or whose put is still under way
    /// somewhere, may hold the plain key: its bytes are other events than ours, and must neither be overwritten by ours nor
    /// overwrite them.
    async fn put_fresh(
        &self,
        document: &Document,
        bytes: Bytes,
        stage: Stage,
        ledger: &Ledger,
    ) -> Result<String, SaveError> {
        let mut suffix = None;
        for _ in 0..KEYS_MAX {
            let key = key(document, suffix);
            match self.stores.blobs.put(&key, bytes.clone(), PutRule::Create, stage, ledger).await {
                Ok(()) => return Ok(key),
                Err(StoreError::AlreadyExists) => suffix = Some(Uuid::new_v4()),
                Err(error) => return Err(failed(error)),
            }
        }
        Err(SaveError::Failed(EngineError::unavailable("the object store")))
    }
}

/// How many of `unsaved` events a save of version `saved` did not cover, the state being at version `now`. Events are
/// numbered without gaps, so that it is the versions' difference.
///
/// A state is never loaded while an older copy of it is being saved, so that `saved` is an earlier version of this very
/// state and all events since are unsaved. Should that ever be broken, too many events count as unsaved and none is
/// forgotten.
pub(crate) fn events_since(saved: u64, now: u64, unsaved: u64) -> u64 {
    let left = now.checked_sub(saved).filter(|left| *left <= unsaved);
    debug_assert!(
        left.is_some(),
        "a save ended of version {saved} of a state that is at {now}, {unsaved} unsaved"
    );
    left.unwrap_or(unsaved)
}

fn failed(error: StoreError) -> SaveError {
    SaveError::Failed(error.into())
}

/// Whether `access` may see a system of `org`.
pub(crate) fn admit(access: Access, org: OrgId) -> Result<(), EngineError> {
    match access {
        Access::Org(caller) if caller != org => Err(EngineError::NotFound),
        Access::Org(_) | Access::Capability => Ok(()),
    }
}

fn key(document: &Document, suffix: Option<Uuid>) -> String {
    let (system, version) = (document.state.system_id, document.state.version);
    match suffix {
        None => format!("systems/{system}/state-{version:020}.json"),
        Some(suffix) => format!("systems/{system}/state-{version:020}-{:08x}.json", suffix.as_fields().0),
    }
}

fn row(document: &Document, key: String, length: usize) -> SystemRow {
    let state = &document.state;
    SystemRow {
        system_id: state.system_id,
        org_id: state.org_id,
        status: state.status.name().to_owned(),
        mode: state.spec.mode.name().to_owned(),
        version: state.version,
        state_ref: Some(key),
        epoch: document.epoch,
        claimed_by: None,
        state_bytes: Some(length as u64),
        state_checksum: None,
        previous: None,
        updated_at: None,
    }
}

#[cfg(test)]
mod tests;

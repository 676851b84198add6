//! Writing a snapshot: pack, put, move the pointer. Whoever calls ([`crate::engine`], `shard/saves.rs`) has waited until the log
//! is durable up to the state's newest event: a row never names what a crash could take back. (A new system's first snapshot
//! comes before its first events, and nobody is told of it before both are there.)

use std::sync::Arc;

use bytes::Bytes;
use mipro_telemetry::{Ledger, Operation, Phase, Recorders, Stage};
use uuid::Uuid;

use super::format::{self, Packed};
use super::{SaveError, hashed, is_snapshot, key, pointer};
use crate::crash;
use crate::engine::EngineError;
use crate::engine::figures::Counters;
use crate::offload::Offload;
use crate::recovery::Recovered;
use crate::store::blobs::PutRule;
use crate::store::{StoreError, Stores, SystemRow};
use crate::system::State;

/// Attempts to find a free key. Where something stands under the first one that is not this very state, it is of somebody who had
/// the epoch before claims were made (ADR 0010), or who makes the same new system at this moment, both under epoch 1; the next
/// key is made from the content.
const KEYS_MAX: usize = 2;

/// A snapshot that the row now names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Number of the newest event in it.
    pub seq: u64,
    /// Length of its object, in bytes.
    pub bytes: u64,
}

/// What a system's saves have left behind: kept with the system, given to each of its saves in turn.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attempt {
    /// The object that is there and that no row is known to name yet, so that repeating the save needn't begin anew.
    put: Option<Put>,
    /// The keys that the row names, newest first, as far as they are known here.
    named: [Option<String>; 2],
}

impl Attempt {
    /// For a system that was just loaded.
    #[must_use]
    pub fn after(recovered: &Recovered) -> Self {
        Self { put: None, named: recovered.named.clone() }
    }
}

/// An object that was put.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Put {
    epoch: u64,
    seq: u64,
    key: String,
    bytes: u64,
    checksum: [u8; 32],
}

/// Writes snapshots. Cheap to clone. Dropping a write's future leaves it done up to one of its steps: at worst an object
/// that no row names.
#[derive(Debug, Clone)]
pub struct SnapshotWriter {
    stores: Stores,
    recorders: Recorders,
    counters: Arc<Counters>,
    offload: Offload,
    deletes: bool,
}

impl SnapshotWriter {
    /// A writer that keeps every snapshot.
    #[must_use]
    pub fn new(stores: Stores, recorders: Recorders, counters: Arc<Counters>, offload: Offload) -> Self {
        Self { stores, recorders, counters, offload, deletes: false }
    }

    /// Whether snapshots older than the two that the row names are deleted once it has moved on. Only those whose keys this
    /// process knows; documents never, for they hold history.
    #[must_use]
    pub fn deleting(self, deletes: bool) -> Self {
        Self { deletes, ..self }
    }

    /// Writes a snapshot behind the answers, clocked as background work. `attempt` is what the last write of this system
    /// left; after an error it holds what this one left. One write of a system at a time.
    ///
    /// # Errors
    /// [`SaveError`].
    pub async fn write(&self, state: State, epoch: u64, attempt: &mut Attempt) -> Result<Written, SaveError> {
        let ledger = Ledger::start(Operation::Background);
        let result = self.run(state, epoch, attempt, &ledger).await;
        self.counters.saved(&result.as_ref().map(drop).map_err(Clone::clone));
        self.recorders.record(&ledger.finish());
        result
    }

    /// Writes a new system's first snapshot, before its maker is answered: a system survives a restart whatever the level. The
    /// new row says that it is written from the log `by`, so that the first stay needs no claim. Its first events follow in the
    /// log: here alone the row is ahead of it.
    ///
    /// # Errors
    /// [`SaveError::Conflict`]: there is a system of that id.
    pub async fn write_first(
        &self,
        state: State,
        epoch: u64,
        by: Option<Uuid>,
        ledger: &Ledger,
    ) -> Result<(Written, Attempt), SaveError> {
        let ledger = ledger.in_phase(Phase::Save);
        let (row, packed) = self.pack(state, epoch, Stage::StateEncode, &ledger).await?;
        let put = self.put_fresh(&row, packed, Stage::S3Put, &ledger).await?;
        let row = SystemRow { claimed_by: by, ..naming(row, &put) };
        crash::point("snapshot.put");
        if !pointer::advance(&*self.stores.table, &row, &ledger).await.map_err(failed)? {
            return Err(SaveError::Conflict);
        }
        crash::point("pointer.moved");
        let written = Written { seq: put.seq, bytes: put.bytes };
        Ok((written, Attempt { put: None, named: [Some(put.key), None] }))
    }

    async fn run(
        &self,
        state: State,
        epoch: u64,
        attempt: &mut Attempt,
        ledger: &Ledger,
    ) -> Result<Written, SaveError> {
        // 1. The object, unless an earlier try has put it.
        let (row, put) = match attempt.put.take() {
            Some(put) if (put.epoch, put.seq) == (epoch, state.version) => (unnamed(&state, epoch), put),
            _ => {
                let (row, packed) = self.pack(state, epoch, Stage::SnapshotEncode, ledger).await?;
                let put = self.put_fresh(&row, packed, Stage::SnapshotPut, ledger).await?;
                (row, put)
            }
        };
        let row = naming(row, &put);
        let written = Written { seq: put.seq, bytes: put.bytes };
        let key = put.key.clone();
        attempt.put = Some(put);
        crash::point("snapshot.put");
        // 2. The pointer.
        if !pointer::advance_behind(&*self.stores.table, &row, ledger).await.map_err(failed)? {
            return Err(SaveError::Conflict);
        }
        crash::point("pointer.moved");
        attempt.put = None;
        // 3. What the row named before the two that it names now. A snapshot of a state that has one already moved nothing.
        if attempt.named[0].as_ref() != Some(&key) {
            let [newest, previous] = std::mem::take(&mut attempt.named);
            attempt.named = [Some(key), newest];
            if let Some(old) = previous.filter(|old| self.deletes && is_snapshot(old)) {
                self.delete(&old).await;
            }
        }
        Ok(written)
    }

    async fn pack(
        &self,
        state: State,
        epoch: u64,
        stage: Stage,
        ledger: &Ledger,
    ) -> Result<(SystemRow, Packed), SaveError> {
        let row = unnamed(&state, epoch);
        let clock = ledger.clone();
        let packing = self.offload.run(move || clock.time(stage, || format::pack(&state, epoch))).await;
        let failed = |what| SaveError::Failed(EngineError::Internal { what });
        let packed = packing.map_err(|_| failed("packing a state panicked"))?.map_err(|error| {
            tracing::error!(object = hashed(&row.system_id.to_string()), %error, "a state can't be packed");
            failed("the state can't be packed")
        })?;
        Ok((row, packed))
    }

    /// Puts an object under a key nobody has used. What is there already under the plain key is ours if its bytes are: a put
    /// whose answer was lost. Other bytes are another process's, and must neither be overwritten by ours nor overwrite them.
    async fn put_fresh(
        &self,
        row: &SystemRow,
        packed: Packed,
        stage: Stage,
        ledger: &Ledger,
    ) -> Result<Put, SaveError> {
        let Packed { bytes, checksum, seq, epoch, .. } = packed;
        let mut suffix = None;
        for _ in 0..KEYS_MAX {
            let key = key(row.system_id, epoch, seq, suffix);
            let put = self.stores.blobs.put(&key, bytes.clone(), PutRule::Create, stage, ledger).await;
            let ours = match put {
                Ok(()) => true,
                Err(StoreError::AlreadyExists) => self.holds(&key, &bytes, ledger).await?,
                Err(error) => return Err(failed(error)),
            };
            if ours {
                return Ok(Put { epoch, seq, key, bytes: bytes.len() as u64, checksum });
            }
            suffix = Some(of_content(&checksum));
        }
        Err(SaveError::Failed(EngineError::unavailable("the object store")))
    }

    async fn holds(&self, key: &str, bytes: &Bytes, ledger: &Ledger) -> Result<bool, SaveError> {
        match self.stores.blobs.get(key, ledger).await {
            Ok(there) => Ok(there == *bytes),
            // It was there a moment ago; whoever removes objects under our hands gets no second chance at this key.
            Err(StoreError::NotFound) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    /// What can't be deleted now is an orphan, and costs its room.
    async fn delete(&self, key: &str) {
        if let Err(error) = self.stores.blobs.delete(key).await {
            tracing::debug!(object = hashed(key), %error, "an old snapshot was not deleted");
        }
    }
}

/// A suffix made from the content: what is there under it is ours.
fn of_content(checksum: &[u8; 32]) -> Uuid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&checksum[..16]);
    Uuid::from_bytes(bytes)
}

/// The row of a state, before an object has it. What is `None` here and not about the object is not written: moving a row leaves
/// `claimed_by` alone, and makes the reference it had its `previous`.
fn unnamed(state: &State, epoch: u64) -> SystemRow {
    SystemRow {
        system_id: state.system_id,
        org_id: state.org_id,
        status: state.status.name().to_owned(),
        mode: state.spec.mode.name().to_owned(),
        version: state.version,
        state_ref: None,
        epoch,
        claimed_by: None,
        state_bytes: None,
        state_checksum: None,
        previous: None,
        updated_at: None,
    }
}

fn naming(row: SystemRow, put: &Put) -> SystemRow {
    SystemRow {
        state_ref: Some(put.key.clone()),
        state_bytes: Some(put.bytes),
        state_checksum: Some(put.checksum),
        ..row
    }
}

fn failed(error: StoreError) -> SaveError {
    SaveError::Failed(error.into())
}

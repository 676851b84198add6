//! How a system's state is kept: one trait, one file a way.
//!
//! - [`blob`]: loads and saves everything at every call, as the original did.
//! - [`cache`]: keeps states in an LRU cache; saves at once (write-through) or behind (write-back).
//! - [`actor`]: shard actors, a single writer per system, an event log and an output gate.
//!
//! What they share: the [`document`] that is stored whole, the `keeper` that loads and saves it, and the [`gate`] that holds
//! answers back.
//!
//! The actor, in reading order: [`crate::system`] decides and applies; [`actor`] is the way to a shard; `shard` appends
//! between the two steps; [`crate::log`] makes it durable and opens the [`gate`]; `shard::saves` and
//! [`crate::snapshot`] store states behind; `storage` and [`crate::recovery`] bring them back. `pressure` says who is
//! refused when the log can't keep up.

pub mod actor;
pub mod blob;
pub mod cache;
pub mod document;
pub mod error;
pub mod figures;
pub mod gate;
pub(crate) mod keeper;
mod options;
mod pressure;
mod shard;
mod storage;

use std::pin::Pin;
use std::sync::Arc;

use mipro_telemetry::{Ledger, Recorders};
use serde_json::Value;

pub use error::EngineError;
pub use figures::{Figures, LogFigures};
pub use gate::Gate;
pub use options::{ActorOptions, CacheOptions, EngineKind, EngineOptions, Format, Save};

pub use crate::durability::Level;
use crate::log::{EventLog, MemoryLog};
use crate::store::Stores;
use crate::system::{Command, Message, NewSystem, OrgId, Reply, RolloutReply, SystemId};
use keeper::{Keeper, SaveError};

/// A boxed future, so that engines can be chosen at run time.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A caller with a key of this org: sees this org's systems only.
    Org(OrgId),
    /// A caller who knows the proxy URL.
    Capability,
}

/// An accepted command: its answer, and what to await before the answer may leave.
#[derive(Debug)]
pub struct Executed {
    /// The answer.
    pub reply: Reply,
    /// Opens when everything the answer could have seen is durable at the engine's level.
    pub gate: Gate,
}

/// A rollout that is to be served without a record.
#[derive(Debug, Clone, PartialEq)]
pub struct UnrecordedStart {
    /// The caller's name for it.
    pub rollout_id: String,
    /// The messages it wants answered.
    pub messages: Arc<[Message]>,
}

/// A question that changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// The state as the contract shows it.
    State,
    /// What `GET job` needs: status, best score, whether the system exists.
    Summary,
    /// Events after `since_seq`, at most `limit`.
    Events {
        /// The first event shown has a higher sequence number.
        since_seq: u64,
        /// At most this many.
        limit: usize,
    },
}

/// An answer to a [`Question`]; JSON, shaped as the wire contract says.
#[derive(Debug)]
pub struct Answer {
    /// The body.
    pub body: Value,
    /// As in [`Executed::gate`]: reads, too, must not show what may yet be lost.
    pub gate: Gate,
}

/// One way to keep state. Implementations bound every queue they have; dropping a returned future may leave the command
/// applied or not, never half-applied.
pub trait Engine: Send + Sync {
    /// Makes a system and stores it, so that it survives a restart whatever the level.
    fn create<'a>(
        &'a self,
        new: NewSystem,
        ledger: &'a Ledger,
    ) -> BoxFuture<'a, Result<Executed, EngineError>>;

    /// Runs a command.
    fn execute<'a>(
        &'a self,
        system: SystemId,
        access: Access,
        command: Command,
        ledger: &'a Ledger,
    ) -> BoxFuture<'a, Result<Executed, EngineError>>;

    /// Answers a question.
    fn inspect<'a>(
        &'a self,
        system: SystemId,
        access: Access,
        question: Question,
        ledger: &'a Ledger,
    ) -> BoxFuture<'a, Result<Answer, EngineError>>;

    /// What a 200 promises.
    fn durability(&self) -> Level;

    /// Whether a gate of this engine can be raised to `level` ([`Gate::raised`]).
    fn gives(&self, level: Level) -> bool {
        level <= self.durability()
    }

    /// A rollout's answer that is not recorded: its own candidate if it has one, or else the best one known. For when the log
    /// can't take its start; changes nothing, and nothing is learned from it.
    fn best_known<'a>(
        &'a self,
        system: SystemId,
        access: Access,
        start: UnrecordedStart,
        ledger: &'a Ledger,
    ) -> BoxFuture<'a, Result<RolloutReply, EngineError>> {
        let _ = (system, access, start, ledger);
        Box::pin(async { Err(EngineError::unavailable("unrecorded serving")) })
    }

    /// Ends when the log has failed for good: nothing will be acknowledged any more.
    fn log_failed(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    /// Whether the stores answer; for `/readyz`.
    fn ready(&self) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Saves everything unsaved and stops background work. Repeating it is harmless.
    fn shutdown(&self) -> BoxFuture<'_, Result<(), EngineError>>;

    /// What it counts about itself.
    fn figures(&self) -> Figures {
        Figures::default()
    }
}

/// Makes the engine that the options name. Spawns its background tasks: call it within a runtime. They end when the
/// engine is dropped.
#[must_use]
pub fn build(options: &EngineOptions, stores: Stores, recorders: Recorders) -> Arc<dyn Engine> {
    build_with_log(options, stores, recorders, Arc::new(MemoryLog::default()))
}

/// [`build`] with a log of the caller's; only the engine `actor` has one.
#[must_use]
pub fn build_with_log(
    options: &EngineOptions,
    stores: Stores,
    recorders: Recorders,
    log: Arc<dyn EventLog>,
) -> Arc<dyn Engine> {
    let keeper = Keeper::new(stores, recorders, options.offload);
    match options.kind {
        EngineKind::Blob => Arc::new(blob::BlobEngine::new(options, keeper)),
        EngineKind::Cache => Arc::new(cache::CacheEngine::new(options, keeper)),
        EngineKind::Actor => Arc::new(actor::ActorEngine::new(options, keeper, log)),
    }
}

async fn stores_ready(stores: &Stores) -> Result<(), EngineError> {
    let (table, blobs) = tokio::join!(stores.table.ping(), stores.blobs.ping());
    table?;
    blobs?;
    Ok(())
}

/// A new system's row can only be in the way if the id was used before.
fn creation(error: SaveError) -> EngineError {
    match error {
        SaveError::Conflict => EngineError::AlreadyExists,
        SaveError::Failed(error) => error,
    }
}

//! Loads and saves everything at every call, as the original did: SELECT and GET, then PUT and UPSERT of the whole state.
//!
//! Its faults are the original's, kept on purpose: no lock and no condition, so two calls that run at once both load the
//! same version and the later save wipes out the earlier one's events, acknowledged rewards among them; and every call
//! costs four requests to the stores, two of which grow with the history. A call that changes nothing (a duplicate) is not
//! saved; the original saved it, too.

use mipro_telemetry::Ledger;

use super::document::{Document, Undone};
use super::keeper::Keeper;
use super::{
    Access, Answer, BoxFuture, Engine, EngineError, EngineOptions, Executed, Figures, Gate, Level, Question,
};
use crate::clock::Contexts;
use crate::system::{Command, NewSystem, SystemId};

/// The engine `blob`. Keeps nothing in memory.
#[derive(Debug)]
pub struct BlobEngine {
    keeper: Keeper,
    contexts: Contexts,
}

impl BlobEngine {
    pub(super) fn new(options: &EngineOptions, keeper: Keeper) -> Self {
        Self { keeper, contexts: options.contexts.clone() }
    }

    async fn run(
        &self,
        system: SystemId,
        access: Access,
        command: &Command,
        ledger: &Ledger,
    ) -> Result<Executed, EngineError> {
        let mut document = self.keeper.load(system, access, ledger).await?;
        let done =
            document.execute(command, &self.contexts.context(), ledger, |_| Ok(())).map_err(|undone| {
                match undone {
                    Undone::Refused(refusal) => EngineError::Refused(refusal),
                    Undone::Poisoned => EngineError::Internal { what: "a command panicked" },
                }
            })?;
        if done.events > 0 {
            self.keeper.save_as_original(document, ledger).await?;
        }
        Ok(Executed { reply: done.reply, gate: Gate::open() })
    }
}

impl Engine for BlobEngine {
    fn create<'a>(
        &'a self,
        new: NewSystem,
        ledger: &'a Ledger,
    ) -> BoxFuture<'a, Result<Executed, EngineError>> {
        Box::pin(async move {
            let (document, reply) = Document::begin(&new, &self.contexts.context());
            self.keeper.save_through(document, None, ledger).await.map_err(super::creation)?;
            Ok(Executed { reply, gate: Gate::open() })
        })
    }

    fn execute<'a>(
        &'a self,
        system: SystemId,
        access: Access,
        command: Command,
        ledger: &'a Ledger,
    ) -> BoxFuture<'a, Result<Executed, EngineError>> {
        Box::pin(async move { self.run(system, access, &command, ledger).await })
    }

    fn inspect<'a>(
        &'a self,
        system: SystemId,
        access: Access,
        question: Question,
        ledger: &'a Ledger,
    ) -> BoxFuture<'a, Result<Answer, EngineError>> {
        Box::pin(async move {
            let document = self.keeper.load(system, access, ledger).await?;
            Ok(Answer { body: document.answer(&question), gate: Gate::open() })
        })
    }

    fn durability(&self) -> Level {
        Level::Stored
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(super::stores_ready(&self.keeper.stores))
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        // Calls under way save for themselves; nothing is kept.
        Box::pin(async { Ok(()) })
    }

    fn figures(&self) -> Figures {
        self.keeper.counters.read()
    }
}

//! Shard actors: a few tasks, each the single writer of the systems that fall to it.
//!
//! A request is a message to its system's [`super::shard`]; there it is decided and applied in one synchronous step, its
//! events are appended to the log, and the answer is sent with a [`Gate`] that opens when the log has made them durable.
//! Nothing on that path waits for a store. Systems are loaded when first used and saved behind: when they have been dirty for
//! a while or have many unsaved events, when they leave memory, and on a clean stop. The sum of unsaved events is bounded;
//! beyond it commands are refused.
//!
//! With the in-memory log (the level `memory`) a crash loses what was not saved.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mipro_telemetry::{Ledger, Stage};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use super::document::Document;
use super::keeper::Keeper;
use super::shard::{Answered, Ask, Message, Outgoing, Request, Shard, World};
use super::{
    Access, Answer, BoxFuture, Engine, EngineError, EngineOptions, Executed, Figures, Gate, Level, Question,
};
use crate::log::EventLog;
use crate::system::{Command, NewSystem, SystemId};

/// Loads, and saves, that run at once over all shards.
const STORE_CALLS_MAX: usize = 32;

const STOPPED: EngineError = EngineError::Internal { what: "a shard has stopped" };

/// The engine `actor`.
#[derive(Debug)]
pub struct ActorEngine {
    shards: Vec<mpsc::Sender<Message>>,
    world: Arc<World>,
    draining: AtomicBool,
    shutdown_deadline: std::time::Duration,
}

impl ActorEngine {
    pub(super) fn new(options: &EngineOptions, keeper: Keeper, log: Arc<dyn EventLog>) -> Self {
        let world = Arc::new(World {
            keeper,
            contexts: options.contexts.clone(),
            durable: log.reached(log.level()).expect("a log gives its own level"),
            log,
            options: options.actor,
            loads: Semaphore::new(STORE_CALLS_MAX),
            saves: Semaphore::new(STORE_CALLS_MAX),
        });
        let spawn = |_| {
            let (sender, mailbox) = mpsc::channel(options.actor.mailbox_max.max(1));
            tokio::spawn(Shard::new(Arc::clone(&world)).run(mailbox));
            sender
        };
        let shards = (0..options.actor.shards.max(1)).map(spawn).collect();
        Self { shards, world, draining: AtomicBool::new(false), shutdown_deadline: options.shutdown_deadline }
    }

    /// Ids are random, so that their low bits spread systems evenly.
    fn shard(&self, system: SystemId) -> &mpsc::Sender<Message> {
        let (high, low) = system.as_u64_pair();
        let hash = (high ^ low.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        &self.shards[usize::try_from(hash).unwrap_or(0) % self.shards.len()]
    }

    async fn ask(
        &self,
        system: SystemId,
        access: Access,
        ask: Ask,
        ledger: &Ledger,
    ) -> Result<Answered, EngineError> {
        let (answer, answered) = oneshot::channel();
        let queue = ledger.enter(Stage::Queue);
        let request = Request { system, access, ask, ledger: ledger.clone(), queue, answer };
        self.shard(system).try_send(Message::Request(Box::new(request))).map_err(|error| match error {
            TrySendError::Full(_) => EngineError::overloaded("too many requests wait for this shard"),
            TrySendError::Closed(_) => STOPPED,
        })?;
        answered.await.unwrap_or(Err(STOPPED))
    }

    async fn found(&self, new: &NewSystem, ledger: &Ledger) -> Result<Executed, EngineError> {
        if self.draining.load(Ordering::SeqCst) {
            return Err(EngineError::Draining);
        }
        let (document, reply) = Document::found(new, &self.world.contexts.context());
        self.world.keeper.save_through(&document, ledger).await.map_err(super::creation)?;
        // Spares the first request a load; when the shard has no room for it, the first request loads.
        let adopt = Message::Adopt(Box::new(document));
        if self.shard(new.system_id).try_send(adopt).is_err() {
            tracing::debug!("a new system will be loaded when first used");
        }
        Ok(Executed { reply, gate: Gate::open() })
    }

    async fn drain(&self, deadline: Instant) -> Result<(), EngineError> {
        let mut answers = Vec::with_capacity(self.shards.len());
        for shard in &self.shards {
            let (answer, answered) = oneshot::channel();
            shard.send(Message::Drain { deadline, answer }).await.map_err(|_| STOPPED)?;
            answers.push(answered);
        }
        let mut unsaved = 0;
        for answered in answers {
            unsaved += answered.await.map_err(|_| STOPPED)?;
        }
        if unsaved == 0 { Ok(()) } else { Err(too_late(unsaved)) }
    }
}

fn too_late(unsaved_systems: usize) -> EngineError {
    tracing::error!(unsaved_systems, "the deadline passed before everything was saved");
    EngineError::Timeout { what: "saving everything before the stop" }
}

impl Engine for ActorEngine {
    fn create<'a>(
        &'a self,
        new: NewSystem,
        ledger: &'a Ledger,
    ) -> BoxFuture<'a, Result<Executed, EngineError>> {
        Box::pin(async move { self.found(&new, ledger).await })
    }

    fn execute<'a>(
        &'a self,
        system: SystemId,
        access: Access,
        command: Command,
        ledger: &'a Ledger,
    ) -> BoxFuture<'a, Result<Executed, EngineError>> {
        Box::pin(async move {
            let answered = self.ask(system, access, Ask::Execute(command), ledger).await?;
            match answered.outgoing {
                Outgoing::Reply(reply) => Ok(Executed { reply, gate: answered.gate }),
                Outgoing::Refused(refusal) => {
                    answered.gate.wait(ledger).await?;
                    Err(refusal.into())
                }
                Outgoing::Body(_) => Err(STOPPED),
            }
        })
    }

    fn inspect<'a>(
        &'a self,
        system: SystemId,
        access: Access,
        question: Question,
        ledger: &'a Ledger,
    ) -> BoxFuture<'a, Result<Answer, EngineError>> {
        Box::pin(async move {
            let answered = self.ask(system, access, Ask::Inspect(question), ledger).await?;
            match answered.outgoing {
                Outgoing::Body(body) => Ok(Answer { body, gate: answered.gate }),
                Outgoing::Reply(_) | Outgoing::Refused(_) => Err(STOPPED),
            }
        })
    }

    fn durability(&self) -> Level {
        Level::Memory
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(super::stores_ready(&self.world.keeper.stores))
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async {
            self.draining.store(true, Ordering::SeqCst);
            let deadline = Instant::now() + self.shutdown_deadline;
            timeout_at(deadline, self.drain(deadline))
                .await
                .unwrap_or_else(|_| Err(too_late(self.shards.len())))
        })
    }

    fn figures(&self) -> Figures {
        self.world.keeper.counters.read()
    }
}

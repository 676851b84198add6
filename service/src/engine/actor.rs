//! Shard actors: a few tasks, each the single writer of the systems that fall to it.
//!
//! A request is a message to its system's [`super::shard`]; there it is decided, appended to the log and applied in one
//! synchronous step, and the answer is sent with a [`Gate`] that opens when the log has made durable what it shows. Nothing on
//! that path waits for a store or a disk, but for the first command of a system's stay in memory, which claims its epoch
//! (`shard::claims`). Systems are recovered when first used ([`super::storage`]) and saved behind: when
//! they have been dirty for a while, have many or large unsaved events, leave memory, hold a log's segment back, and on a clean
//! stop.
//!
//! What a crash loses is the log's to say. At the level `memory` it keeps nothing: what was not saved is lost, the sum of
//! unsaved events is bounded, and commands beyond it are refused. At `os` and `disk` a start finds all that was
//! acknowledged: the last snapshot, and the log's tail on top.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mipro_telemetry::{Ledger, Stage};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use super::error::LogTrouble;
use super::figures::LogFigures;
use super::keeper::Keeper;
use super::pressure::{self, Lanes};
use super::shard::{Answered, Ask, Message, Outgoing, Request, Shard, Sight, World, batch};
use super::storage::Storage;
use super::{
    Access, Answer, BoxFuture, Engine, EngineError, EngineOptions, Executed, Figures, Gate, Level, Question,
    UnrecordedStart,
};
use crate::log::EventLog;
use crate::system::{Command, NewSystem, RolloutReply, SystemId, begin, view};

/// Loads, and saves, that run at once over all shards.
const STORE_CALLS_MAX: usize = 32;
/// Systems that hold the log back and wait to be told to their shards.
const LAGGARDS_MAX: usize = 256;
/// The epoch of a new system.
const FIRST_EPOCH: u64 = 1;

const STOPPED: EngineError = EngineError::Internal { what: "a shard has stopped" };

/// The engine `actor`.
#[derive(Debug)]
pub struct ActorEngine {
    shards: Vec<Mailbox>,
    world: Arc<World>,
    draining: AtomicBool,
    shutdown_deadline: std::time::Duration,
}

/// The way to a shard.
#[derive(Debug)]
struct Mailbox {
    sender: mpsc::Sender<Message>,
    lanes: Arc<Lanes>,
    sight: Arc<Sight>,
}

impl Mailbox {
    fn spawn(world: &Arc<World>) -> Self {
        let mailbox_max = world.options.mailbox_max.max(1);
        let (sender, mailbox) = mpsc::channel(mailbox_max);
        let (lanes, sight) = (Arc::new(Lanes::new(mailbox_max)), Arc::<Sight>::default());
        tokio::spawn(Shard::new(Arc::clone(world), Arc::clone(&lanes), Arc::clone(&sight)).run(mailbox));
        Self { sender, lanes, sight }
    }

    fn send(&self, request: Request) -> Result<(), EngineError> {
        let system = request.system;
        let half_full = self.sender.capacity() <= self.sender.max_capacity() / 2;
        self.lanes.enter(system, half_full)?;
        self.sender.try_send(Message::Request(Box::new(request))).map_err(|error| {
            self.lanes.leave(system);
            match error {
                TrySendError::Full(_) => EngineError::overloaded("too many requests wait for this shard"),
                TrySendError::Closed(_) => STOPPED,
            }
        })
    }
}

impl ActorEngine {
    pub(super) fn new(options: &EngineOptions, keeper: Keeper, log: Arc<dyn EventLog>) -> Self {
        let logged = log.level() > Level::Memory;
        let (counters, stores) = (Arc::clone(&keeper.counters), keeper.stores.clone());
        let (laggards, lagging) = mpsc::channel(LAGGARDS_MAX);
        let storage = if logged {
            Storage::logged(keeper, &log, options, laggards)
        } else {
            Storage::Documents(keeper)
        };
        let world = Arc::new(World {
            storage,
            counters,
            contexts: options.contexts.clone(),
            logged,
            at_level: log.reached(log.level()).expect("a log gives its own level"),
            log,
            options: options.actor,
            loads: Semaphore::new(STORE_CALLS_MAX),
            saves: Arc::new(Semaphore::new(STORE_CALLS_MAX)),
            stores,
        });
        let shards: Vec<_> = (0..options.actor.shards.max(1)).map(|_| Mailbox::spawn(&world)).collect();
        let ways = shards.iter().map(|shard| shard.sender.downgrade()).collect();
        tokio::spawn(forward(lagging, ways));
        let shutdown_deadline = options.shutdown_deadline;
        Self { shards, world, draining: AtomicBool::new(false), shutdown_deadline }
    }

    fn shard(&self, system: SystemId) -> &Mailbox {
        &self.shards[shard_of(system, self.shards.len())]
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
        self.shard(system).send(request)?;
        answered.await.unwrap_or(Err(STOPPED))
    }

    /// Stores a new system, and then appends its first events: the other way round, an id that is taken would get a second
    /// beginning into its history. A crash between the two leaves a system that nobody was told of.
    async fn begin(&self, new: &NewSystem, ledger: &Ledger) -> Result<Executed, EngineError> {
        if self.draining.load(Ordering::SeqCst) {
            return Err(EngineError::Draining);
        }
        let world = &self.world;
        pressure::admit_new(&world.log.health())?;
        let (state, events, reply) = begin(new, &world.contexts.context());
        let mut buffer = Vec::new();
        let first = batch(&state, FIRST_EPOCH, &events, &mut buffer);
        let stored = world.storage.store_first(state, events, FIRST_EPOCH, world.log.id(), ledger).await;
        let loaded = stored.map_err(super::creation)?;
        let lsn = ledger.time(Stage::LogAppend, || world.log.append(&first))?;
        let gate = world.gate(&loaded.state, loaded.epoch, lsn);
        // Spares the first request a load; when the shard has no room for it, the first request loads.
        if self.shard(new.system_id).sender.try_send(Message::Adopt(Box::new(loaded), lsn)).is_err() {
            tracing::debug!("a new system will be loaded when first used");
        }
        Ok(Executed { reply, gate })
    }

    /// Events that the shard has left in the log: read once they are durable, and no further than the answer may see.
    async fn history(
        &self,
        system: SystemId,
        question: &Question,
        version: u64,
        gate: &Gate,
        ledger: &Ledger,
    ) -> Result<serde_json::Value, EngineError> {
        let Question::Events { since_seq, limit } = *question else { return Err(STOPPED) };
        gate.clone().wait(ledger).await?;
        let mut page = self.world.storage.events(system, since_seq, limit).await?;
        page.events.retain(|recorded| recorded.seq <= version);
        Ok(match page.truncated_before {
            None => view::events_json(&page.events, since_seq, limit),
            Some(before) => view::truncated_json(&page.events, since_seq, limit, before),
        })
    }

    /// Lets the shards save, and waits until all that was appended is durable. What the log keeps is not lost when a store
    /// is down or the deadline passes; what only memory has is.
    async fn drain(&self, deadline: Instant) -> Result<(), EngineError> {
        let mut answers = Vec::with_capacity(self.shards.len());
        for shard in &self.shards {
            let (answer, answered) = oneshot::channel();
            // A shard that is dead can't be drained; the others are all the same.
            let _dead = shard.sender.send(Message::Drain { deadline, answer }).await;
            answers.push(answered);
        }
        let (mut unsaved, mut dead) = (0, false);
        for answered in answers {
            match answered.await {
                Ok(left) => unsaved += left,
                Err(_) => dead = true,
            }
        }
        if dead {
            return Err(STOPPED);
        }
        if !self.world.logged {
            return if unsaved == 0 { Ok(()) } else { Err(too_late(unsaved)) };
        }
        let log = &self.world.log;
        log.hurry(log.level());
        let appended = log.health().appended;
        let durable = self.world.at_level.clone().wait_for(|durable| *durable >= appended).await.is_ok();
        if !durable {
            return Err(EngineError::Log(LogTrouble::Stopped));
        }
        if unsaved > 0 {
            tracing::warn!(
                unsaved_systems = unsaved,
                "not every state was stored before the stop; nothing is lost: the log has the events, and the next start replays them"
            );
        }
        Ok(())
    }
}

/// Ids are random, so that their low bits spread systems evenly.
fn shard_of(system: SystemId, shards: usize) -> usize {
    let (high, low) = system.as_u64_pair();
    let hash = (high ^ low.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    usize::try_from(hash).unwrap_or(0) % shards
}

/// Tells shards which of their systems hold the log back, until the archiver has ended. Whom a full mailbox keeps out is
/// named again.
async fn forward(mut lagging: mpsc::Receiver<SystemId>, shards: Vec<mpsc::WeakSender<Message>>) {
    while let Some(system) = lagging.recv().await {
        let Some(shard) = shards[shard_of(system, shards.len())].upgrade() else { return };
        if shard.try_send(Message::Snapshot(system)).is_err() {
            tracing::debug!("a system that holds the log back will be saved later");
        }
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
        Box::pin(async move { self.begin(&new, ledger).await })
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
                _ => Err(STOPPED),
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
            let Answered { outgoing, gate } =
                self.ask(system, access, Ask::Inspect(question.clone()), ledger).await?;
            match outgoing {
                Outgoing::Body(body) => Ok(Answer { body, gate }),
                Outgoing::InLog { version } => {
                    let body = self.history(system, &question, version, &gate, ledger).await?;
                    Ok(Answer { body, gate })
                }
                _ => Err(STOPPED),
            }
        })
    }

    fn durability(&self) -> Level {
        self.world.log.level()
    }

    fn gives(&self, level: Level) -> bool {
        level <= self.durability() || self.world.log.reached(level).is_some()
    }

    fn best_known<'a>(
        &'a self,
        system: SystemId,
        access: Access,
        start: UnrecordedStart,
        ledger: &'a Ledger,
    ) -> BoxFuture<'a, Result<RolloutReply, EngineError>> {
        Box::pin(async move {
            match self.ask(system, access, Ask::BestKnown(start), ledger).await?.outgoing {
                Outgoing::Unrecorded(reply) => Ok(*reply),
                _ => Err(STOPPED),
            }
        })
    }

    fn log_failed(&self) -> BoxFuture<'_, ()> {
        let mut at_level = self.world.at_level.clone();
        Box::pin(async move { while at_level.changed().await.is_ok() {} })
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async {
            if self.shards.iter().any(|shard| shard.sender.is_closed()) {
                return Err(STOPPED);
            }
            super::stores_ready(&self.world.stores).await?;
            pressure::room(&self.world.log.health())
        })
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async {
            self.draining.store(true, Ordering::SeqCst);
            let deadline = Instant::now() + self.shutdown_deadline;
            match timeout_at(deadline, self.drain(deadline)).await {
                Ok(drained) => drained,
                Err(_) if self.world.logged => {
                    tracing::warn!(
                        "the deadline passed before every state was stored; the log has what was acknowledged"
                    );
                    Ok(())
                }
                Err(_) => Err(too_late(self.shards.len())),
            }
        })
    }

    fn figures(&self) -> Figures {
        let sights = || self.shards.iter().map(|shard| &shard.sight);
        let most = |of: fn(&Sight) -> &AtomicU64| {
            sights().map(|sight| of(sight).load(Ordering::Relaxed)).max().unwrap_or(0)
        };
        let health = self.world.log.health();
        let archive = self.world.storage.archive();
        Figures {
            dirty: sights().map(|sight| sight.dirty.load(Ordering::Relaxed)).sum(),
            dirty_age_ms: most(|sight| &sight.dirty_age_ms),
            lag_events: most(|sight| &sight.lag_events),
            log: LogFigures {
                appended_lsn: health.appended.0,
                durable_lsn: self.world.durable_now().0,
                queued_bytes: health.queued_bytes,
                kept_bytes: health.kept_bytes,
                segments: health.segments,
                archived: archive.archived,
                trimmed: archive.trimmed,
                archive_failures: archive.failures,
                pinned: archive.pinned,
                pinned_oldest_ms: archive.pinned_oldest_ms,
                laggards: archive.laggards,
                missing: archive.missing,
                closed: health.closed,
                full: health.full || health.blocked.is_some(),
            },
            ..self.world.counters.read()
        }
    }
}

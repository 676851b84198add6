//! An engine in memory, with a gate the test can hold and with faults on demand.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mipro_service::clock::Contexts;
use mipro_service::engine::{
    Access, Answer, BoxFuture, Engine, EngineError, Executed, Gate, Level, Question, UnrecordedStart,
};
use mipro_service::engine::{error::LogTrouble, gate::Seen};
use mipro_service::log::Lsn;
use mipro_service::system::{
    Command, NewSystem, NoProbe, Recorded, RolloutReply, State, SystemId, begin, execute, view,
};
use mipro_telemetry::Ledger;
use tokio::sync::watch;

/// Starting a rollout of this name panics.
pub(crate) const PANICS: &str = "panics";

struct Kept {
    state: State,
    history: Vec<Recorded>,
}

pub(crate) struct FakeEngine {
    systems: Mutex<HashMap<SystemId, Kept>>,
    contexts: Contexts,
    /// The log's watermark: gates open at 1. `None`: the log has stopped.
    log: Mutex<Option<watch::Sender<Lsn>>>,
    durable: watch::Receiver<Lsn>,
    level: Mutex<Level>,
    gate_limit_ms: AtomicU64,
    pub(crate) down: AtomicBool,
    pub(crate) shutdowns: AtomicUsize,
}

impl FakeEngine {
    pub(crate) fn new() -> Self {
        let (log, durable) = watch::channel(Lsn(1));
        Self {
            systems: Mutex::default(),
            contexts: Contexts::frozen(7, 1_700_000_000_000_000),
            log: Mutex::new(Some(log)),
            durable,
            level: Mutex::new(Level::Memory),
            gate_limit_ms: AtomicU64::new(30_000),
            down: AtomicBool::new(false),
            shutdowns: AtomicUsize::new(0),
        }
    }

    /// Closes (0) or opens (1) the gates of all answers.
    pub(crate) fn set_durable(&self, lsn: u64) {
        self.log.lock().unwrap().as_ref().unwrap().send(Lsn(lsn)).unwrap();
    }

    /// The log fails: gates never open.
    pub(crate) fn stop_log(&self) {
        self.log.lock().unwrap().take();
    }

    /// What it says it promises; from `os` on it gives `disk`, too.
    pub(crate) fn set_level(&self, level: Level) {
        *self.level.lock().unwrap() = level;
    }

    pub(crate) fn set_gate_limit_ms(&self, limit_ms: u64) {
        self.gate_limit_ms.store(limit_ms, Ordering::Relaxed);
    }

    fn gate(&self, seq: u64) -> Gate {
        let limit = Duration::from_millis(self.gate_limit_ms.load(Ordering::Relaxed));
        Gate::at(Lsn(1), self.durable.clone(), limit).seeing(Seen { seq, epoch: 3 })
    }

    fn is_stopped(&self) -> bool {
        self.log.lock().unwrap().is_none()
    }

    fn with<R>(
        &self,
        system: SystemId,
        access: Access,
        work: impl FnOnce(&mut Kept) -> Result<R, EngineError>,
    ) -> Result<R, EngineError> {
        if self.down.load(Ordering::Relaxed) {
            return Err(EngineError::unavailable("the database"));
        }
        let mut systems = self.systems.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = systems.get_mut(&system).ok_or(EngineError::NotFound)?;
        match access {
            Access::Org(org) if org != kept.state.org_id => Err(EngineError::NotFound),
            _ => work(kept),
        }
    }
}

impl Engine for FakeEngine {
    fn create<'a>(&'a self, new: NewSystem, _: &'a Ledger) -> BoxFuture<'a, Result<Executed, EngineError>> {
        Box::pin(async move {
            let (state, history, reply) = begin(&new, &self.contexts.context());
            let gate = self.gate(state.version);
            self.systems.lock().unwrap().insert(new.system_id, Kept { state, history });
            Ok(Executed { reply, gate })
        })
    }

    fn execute<'a>(
        &'a self,
        system: SystemId,
        access: Access,
        command: Command,
        _: &'a Ledger,
    ) -> BoxFuture<'a, Result<Executed, EngineError>> {
        Box::pin(async move {
            if matches!(&command, Command::StartRollout { rollout_id, .. } if rollout_id == PANICS) {
                panic!("asked to");
            }
            if self.is_stopped() {
                return Err(EngineError::Log(LogTrouble::Stopped));
            }
            let (reply, version) = self.with(system, access, |kept| {
                let (events, reply) =
                    execute(&mut kept.state, &command, &self.contexts.context(), &mut NoProbe)?;
                kept.history.extend(events);
                Ok((reply, kept.state.version))
            })?;
            Ok(Executed { reply, gate: self.gate(version) })
        })
    }

    fn inspect<'a>(
        &'a self,
        system: SystemId,
        access: Access,
        question: Question,
        _: &'a Ledger,
    ) -> BoxFuture<'a, Result<Answer, EngineError>> {
        Box::pin(async move {
            let (body, version) = self.with(system, access, |kept| {
                let body = match question {
                    Question::State => view::state_json(&kept.state),
                    Question::Summary => view::summary_json(&kept.state),
                    Question::Events { since_seq, limit } => {
                        view::events_json(&kept.history, since_seq, limit)
                    }
                };
                Ok((body, kept.state.version))
            })?;
            Ok(Answer { body, gate: self.gate(version) })
        })
    }

    fn durability(&self) -> Level {
        *self.level.lock().unwrap()
    }

    fn gives(&self, level: Level) -> bool {
        level <= self.durability() || self.durability() >= Level::Os && level <= Level::Disk
    }

    fn best_known<'a>(
        &'a self,
        system: SystemId,
        access: Access,
        start: UnrecordedStart,
        _: &'a Ledger,
    ) -> BoxFuture<'a, Result<RolloutReply, EngineError>> {
        let UnrecordedStart { rollout_id, messages } = start;
        Box::pin(async move {
            self.with(system, access, |kept| Ok(kept.state.unrecorded_reply(&rollout_id, &messages)))
        })
    }

    fn log_failed(&self) -> BoxFuture<'_, ()> {
        let mut durable = self.durable.clone();
        Box::pin(async move { while durable.changed().await.is_ok() {} })
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        let down = self.down.load(Ordering::Relaxed).then(|| EngineError::unavailable("the database"));
        let stopped = self.is_stopped().then_some(EngineError::Log(LogTrouble::Stopped));
        Box::pin(async move { down.or(stopped).map_or(Ok(()), Err) })
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        self.shutdowns.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(()) })
    }
}

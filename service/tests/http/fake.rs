//! An engine in memory, with a gate the test can hold and with faults on demand.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mipro_service::clock::Contexts;
use mipro_service::engine::{
    Access, Answer, BoxFuture, Engine, EngineError, Executed, Gate, Level, Question,
};
use mipro_service::log::Lsn;
use mipro_service::system::{
    Command, NewSystem, NoProbe, Recorded, Reply, State, SystemId, execute, found, view,
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

    fn gate(&self) -> Gate {
        Gate::at(Lsn(1), self.durable.clone(), Duration::from_secs(30))
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
            let (state, history, reply) = found(&new, &self.contexts.context());
            self.systems.lock().unwrap().insert(new.system_id, Kept { state, history });
            Ok(Executed { reply, gate: self.gate() })
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
            let reply: Reply = self.with(system, access, |kept| {
                let (events, reply) =
                    execute(&mut kept.state, &command, &self.contexts.context(), &mut NoProbe)?;
                kept.history.extend(events);
                Ok(reply)
            })?;
            Ok(Executed { reply, gate: self.gate() })
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
            let body = self.with(system, access, |kept| {
                Ok(match question {
                    Question::State => view::state_json(&kept.state),
                    Question::Summary => view::summary_json(&kept.state),
                    Question::Events { since_seq, limit } => {
                        view::events_json(&kept.history, since_seq, limit)
                    }
                })
            })?;
            Ok(Answer { body, gate: self.gate() })
        })
    }

    fn durability(&self) -> Level {
        Level::Memory
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        let down = self.down.load(Ordering::Relaxed);
        Box::pin(async move { if down { Err(EngineError::unavailable("the database")) } else { Ok(()) } })
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        self.shutdowns.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(()) })
    }
}

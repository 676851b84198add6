//! Answering a request of a system that is in memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::super::keeper::admit;
use super::super::{EngineError, Gate, gate::Seen};
use super::active::Undone;
use super::{Answered, Ask, Outgoing, Request, Shard, Slot, World};
use crate::log::Lsn;
use crate::system::State;

impl Shard {
    /// Answers a request of an active system.
    pub(super) fn respond(&mut self, request: Request) {
        let Some(Slot::Active(active)) = self.slots.get_mut(&request.system) else { return };
        active.used = Instant::now();
        let commands = matches!(request.ask, Ask::Execute(_));
        if commands && !active.claim.is_held() && admit(request.access, active.state.org_id).is_ok() {
            self.claim(request.system, Some(request));
            return;
        }
        let Request { system, access, ask, ledger, queue, answer } = request;
        queue.done();
        let refused = commands && self.world.is_behind();
        let result = match admit(access, active.state.org_id) {
            Err(error) => Err(Undone::Failed(error)),
            Ok(()) => match ask {
                Ask::Execute(_) if refused => {
                    Err(Undone::Failed(EngineError::overloaded("too many events wait to be saved")))
                }
                Ask::Execute(command) => {
                    active.execute(&self.world, &command, &ledger, &mut self.buffer).map(Outgoing::Reply)
                }
                Ask::Inspect(question) => Ok(match active.answer(&question) {
                    Some(body) => Outgoing::Body(body),
                    None => Outgoing::InLog { version: active.state.version },
                }),
                Ask::BestKnown(start) => {
                    let reply = active.state.unrecorded_reply(&start.rollout_id, &start.messages);
                    Ok(Outgoing::Unrecorded(Box::new(reply)))
                }
            },
        };
        let gate = self.world.gate(&active.state, active.epoch, active.lsn);
        let (unsaved, big) = (active.unsaved, active.is_big(&self.world));
        let answered = match result {
            Ok(outgoing) => Ok(Answered { outgoing, gate }),
            Err(Undone::Refused(refusal)) => Ok(Answered { outgoing: Outgoing::Refused(refusal), gate }),
            Err(Undone::Failed(error)) => Err(error),
            Err(Undone::Poisoned) => {
                tracing::error!(
                    unsaved_events = unsaved,
                    "a command panicked; its system's state was dropped from memory and will be loaded anew"
                );
                self.world.counters.poisoned.fetch_add(1, Ordering::Relaxed);
                if let Some(Slot::Active(active)) = self.slots.peek_mut(&system) {
                    // The append may have been the panic's: whatever is in the log by now may be this system's.
                    active.lsn = active.lsn.max(self.world.log.health().appended);
                }
                self.forget(system);
                Err(EngineError::Internal { what: "a command panicked" })
            }
        };
        // Whoever asked may have gone; what was applied stays applied.
        let _unheard = answer.send(answered);
        if big || refused {
            self.save(system);
        }
    }
}

impl World {
    /// Opens when everything a system's state shows now is durable.
    pub(in super::super) fn gate(&self, state: &State, epoch: u64, lsn: Lsn) -> Gate {
        let gate = Gate::at(lsn, self.at_level.clone(), self.options.gate_wait_max);
        let seen = Seen { seq: state.version, epoch };
        gate.owned(Arc::clone(&self.log), Arc::clone(&self.counters)).seeing(seen)
    }
}

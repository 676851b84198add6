//! Claiming a system: before the first event of its stay in memory is appended, and before the first save of it, its row must
//! say that it is written under this stay's epoch. So two hosts on the same stores never write under one epoch: the row
//! lets one of them through, and the other reads the row anew.
//!
//! It costs one statement a stay, and none for a stay that is only read. Nothing can be hidden behind the gate here: what is
//! appended is found again by every later start, acknowledged or not, so that an append under an epoch that turns out to be
//! another host's could not be told from that host's. Once claimed, a stay asks the database no more.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use mipro_telemetry::{Ledger, Operation, Phase, Stage};

use super::super::EngineError;
use super::{Outcome, Request, Shard, Slot, WAITING_MAX, World, refuse};
use crate::store::{RowMark, StoreError};
use crate::system::SystemId;

/// Whether the row says that a system is written under this stay's epoch.
#[derive(Debug)]
pub(super) enum Claim {
    /// It does.
    Held,
    /// It does not yet; this is how it was.
    Due(RowMark),
    /// It is being asked to. These commands wait; `save`: and so does a save.
    UnderWay { seen: RowMark, waiting: VecDeque<Request>, save: bool },
}

impl Claim {
    pub(super) const fn is_held(&self) -> bool {
        matches!(self, Self::Held)
    }

    pub(super) const fn is_under_way(&self) -> bool {
        matches!(self, Self::UnderWay { .. })
    }
}

impl World {
    async fn claim(
        &self,
        system: SystemId,
        seen: RowMark,
        epoch: u64,
        ledger: &Ledger,
    ) -> Result<bool, EngineError> {
        let ledger = ledger.in_phase(Phase::Load);
        let _permit = ledger.track(Stage::Queue, self.loads.acquire()).await;
        let table = &*self.stores.table;
        let by = self.log.id();
        let claimed = match table.claim(system, seen, epoch, by, &ledger).await {
            // A kept connection may have died while it lay idle. If the first try has moved the row all the same, this one says no,
            // and the state is read anew.
            Err(StoreError::Unavailable { .. }) => table.claim(system, seen, epoch, by, &ledger).await,
            other => other,
        };
        Ok(claimed?)
    }
}

impl Shard {
    /// Claims a system for `first`, a command, or to save it; or lets that wait for the claim that is under way.
    pub(super) fn claim(&mut self, system: SystemId, first: Option<Request>) {
        let Some(Slot::Active(active)) = self.slots.peek_mut(&system) else { return };
        let seen = match &mut active.claim {
            Claim::Held => return,
            Claim::Due(seen) => *seen,
            Claim::UnderWay { waiting, save, .. } => {
                match first {
                    None => *save = true,
                    Some(request) if waiting.len() < WAITING_MAX => waiting.push_back(request),
                    Some(request) => refuse(
                        request,
                        EngineError::overloaded("too many requests wait for this system to be claimed"),
                    ),
                }
                return;
            }
        };
        active.claim = Claim::UnderWay { seen, waiting: VecDeque::new(), save: first.is_none() };
        let (world, epoch) = (Arc::clone(&self.world), active.epoch);
        self.tasks.spawn(async move {
            let ledger =
                first.as_ref().map_or_else(|| Ledger::start(Operation::Background), |r| r.ledger.clone());
            let first = first.map(|Request { access, ask, ledger, queue, answer, .. }| {
                queue.done();
                (access, ask, ledger, answer)
            });
            let claim = AssertUnwindSafe(world.claim(system, seen, epoch, &ledger)).catch_unwind();
            let result = claim.await.unwrap_or(Err(EngineError::Internal { what: "a claim panicked" }));
            let first = first.map(|(access, ask, ledger, answer)| {
                let queue = ledger.enter(Stage::Queue);
                Box::new(Request { system, access, ask, ledger, queue, answer })
            });
            Outcome::Claimed { system, first, result }
        });
    }

    pub(super) fn claimed(
        &mut self,
        system: SystemId,
        first: Option<Box<Request>>,
        result: Result<bool, EngineError>,
    ) {
        let mut requests: VecDeque<Request> = first.into_iter().map(|first| *first).collect();
        let Some(Slot::Active(active)) = self.slots.peek_mut(&system) else {
            requests.into_iter().for_each(|request| refuse(request, EngineError::Overtaken));
            return;
        };
        let claim = std::mem::replace(&mut active.claim, Claim::Held);
        let Claim::UnderWay { seen, waiting, save } = claim else { return };
        requests.extend(waiting);
        match result {
            Ok(true) => {
                requests.into_iter().for_each(|request| self.handle(request));
                if save {
                    self.save(system);
                }
            }
            Ok(false) => {
                self.world.counters.conflicts.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    "another process has been at a system that was about to be written; its state is read anew"
                );
                self.forget(system);
                requests.into_iter().for_each(|request| refuse(request, EngineError::Overtaken));
            }
            Err(error) => {
                active.claim = Claim::Due(seen);
                if save {
                    active.put_off_save();
                }
                requests.into_iter().for_each(|request| refuse(request, error.clone()));
            }
        }
    }
}

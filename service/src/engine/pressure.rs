//! What is refused before the log's queue is full, and to whom: nobody's flood becomes everybody's outage.
//!
//! New rollouts and candidates go first, as they can be asked for again; rewards last, as nobody can make them again. One
//! system that takes more than its share is refused before its neighbours notice.

use std::sync::atomic::{AtomicU32, Ordering};

use super::EngineError;
use super::error::LogTrouble;
use crate::log::{Health, Lsn};
use crate::system::{Command, SystemId};

/// From so much of the log's queue on, in percent, new rollouts and candidates are refused.
const PROPOSALS_PCT: u64 = 80;
/// From so much on, rewards are refused, too.
const REWARDS_PCT: u64 = 95;
/// What one system may have of the log's queue, and of its shard's mailbox once that is half full, in percent.
const SHARE_PCT: u64 = 25;

/// Whether the log can take anything at all.
pub(super) fn room(health: &Health) -> Result<(), EngineError> {
    if health.closed {
        return Err(EngineError::Log(LogTrouble::Stopped));
    }
    if health.full {
        return Err(EngineError::Log(LogTrouble::Full));
    }
    if let Some(why) = health.blocked {
        return Err(EngineError::Log(LogTrouble::Blocked(why)));
    }
    Ok(())
}

/// Whether a new system may be made, given how the log is doing.
pub(super) fn admit_new(health: &Health) -> Result<(), EngineError> {
    room(health)?;
    if is_at(health, PROPOSALS_PCT) { Err(EngineError::Log(LogTrouble::Behind)) } else { Ok(()) }
}

/// Whether so much of the queue is taken.
fn is_at(health: &Health, percent: u64) -> bool {
    takes(health.queued_bytes, health, percent)
}

fn takes(bytes: u64, health: &Health, percent: u64) -> bool {
    // A log without a queue is never behind.
    health.queued_bytes_max > 0
        && u128::from(bytes) * 100 >= u128::from(health.queued_bytes_max) * u128::from(percent)
}

/// Whether a command may be run, given how the log is doing and what its system has in the log's queue.
pub(super) fn admit(health: &Health, command: &Command, own_bytes: u64) -> Result<(), EngineError> {
    if takes(own_bytes, health, SHARE_PCT) {
        return Err(EngineError::TooMuch { what: "too many of this system's events wait to be written" });
    }
    let percent = match command {
        Command::StartRollout { .. } | Command::AddCandidate(_) => PROPOSALS_PCT,
        Command::Report(_) => REWARDS_PCT,
    };
    if is_at(health, percent) { Err(EngineError::Log(LogTrouble::Behind)) } else { Ok(()) }
}

/// How much one system has in the log's queue: at most what it says, and at least half of it, in two numbers.
///
/// Exact figures would need a number for each append under way. Instead, appends are counted in two generations; when the
/// older one is durable, the younger one takes its place.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Queued {
    older: (Lsn, u64),
    younger: (Lsn, u64),
}

impl Queued {
    pub(super) fn appended(&mut self, lsn: Lsn, bytes: u64, durable: Lsn) {
        self.settle(durable);
        self.younger = (lsn, self.younger.1 + bytes);
    }

    /// Bytes appended and, as far as is known, not durable.
    pub(super) fn bytes(&mut self, durable: Lsn) -> u64 {
        self.settle(durable);
        self.older.1 + self.younger.1
    }

    fn settle(&mut self, durable: Lsn) {
        if self.older.0 <= durable {
            self.older = std::mem::take(&mut self.younger);
        }
        if self.older.0 <= durable {
            self.older = Default::default();
        }
    }
}

/// Counters of waiting requests, one for a few of a shard's systems each: two systems that share one are rare, and then
/// only share a refusal.
const LANES: usize = 1_024;

/// What waits in a shard's mailbox, by system.
#[derive(Debug)]
pub(super) struct Lanes {
    waiting: Box<[AtomicU32]>,
    share_max: u32,
}

impl Lanes {
    pub(super) fn new(mailbox_max: usize) -> Self {
        let share = mailbox_max as u64 * SHARE_PCT / 100;
        Self {
            waiting: (0..LANES).map(|_| AtomicU32::new(0)).collect(),
            share_max: u32::try_from(share.max(1)).unwrap_or(u32::MAX),
        }
    }

    fn lane(&self, system: SystemId) -> &AtomicU32 {
        let low = usize::try_from(system.as_u64_pair().1 & (LANES as u64 - 1)).unwrap_or(0);
        &self.waiting[low]
    }

    /// Counts a request in, unless the mailbox is half full and this system has its share of it already.
    pub(super) fn enter(&self, system: SystemId, half_full: bool) -> Result<(), EngineError> {
        let lane = self.lane(system);
        if half_full && lane.load(Ordering::Relaxed) >= self.share_max {
            return Err(EngineError::TooMuch { what: "too many requests of this system wait" });
        }
        lane.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Counts a request out: it has been taken from the mailbox, or never got into it.
    pub(super) fn leave(&self, system: SystemId) {
        self.lane(system).fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;

//! A system in a shard's memory, and the one step in which a command changes it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::Duration;

use mipro_telemetry::{Ledger, Stage};
use tokio::time::Instant;

use super::super::document::{History, LedgerProbe};
use super::super::pressure::{self, Queued};
use super::super::storage::{Capture, Loaded, Memo};
use super::super::{EngineError, Question};
use super::claims::Claim;
use super::{BACKOFF_FIRST, BACKOFF_MAX, World};
use crate::codec::event;
use crate::crash;
use crate::log::{Batch, Lsn};
use crate::system::{Command, Recorded, Refusal, Reply, State, apply, decide, record, view};

/// Events since the last save that are fewer bytes than this call for no save by their size.
const TAIL_BYTES_MIN: u64 = 256 << 10;

/// A system in memory.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) state: State,
    /// Every event so far, where whole documents are stored; otherwise the log has them.
    history: Option<History>,
    /// The fencing epoch under which it is written.
    pub(super) epoch: u64,
    /// The newest of its events in the log.
    pub(super) lsn: Lsn,
    queued: Queued,
    /// Events that no save has covered, and since when.
    pub(super) unsaved: u64,
    pub(super) dirty_since: Instant,
    /// Bytes of these events in the log, and of what was saved last.
    pub(super) tail_bytes: u64,
    pub(super) saved_bytes: u64,
    pub(super) used: Instant,
    /// Whether its row says that it is written under `epoch`.
    pub(super) claim: Claim,
    /// A save is under way, or waits for its turn.
    pub(super) saving: bool,
    /// What the last save left half done.
    pub(super) memo: Memo,
    pub(super) failures: u32,
    pub(super) not_before: Instant,
}

/// Why a command came to nothing.
pub(super) enum Undone {
    /// The system is as it was.
    Refused(Refusal),
    /// The system is as it was, and nothing was appended.
    Failed(EngineError),
    /// A panic after which the state, the log or both may hold what the other doesn't: the state must be dropped.
    Poisoned,
}

impl Active {
    /// A system that was just loaded or made. `lsn` is the newest append that could be among what was read.
    pub(super) fn new(loaded: Loaded, lsn: Lsn) -> Self {
        let now = Instant::now();
        let Loaded { state, history, epoch, saved_bytes, unsaved_events, tail_bytes, memo, seen } = loaded;
        Self {
            state,
            history,
            epoch,
            lsn,
            queued: Queued::default(),
            unsaved: unsaved_events,
            dirty_since: now,
            tail_bytes,
            saved_bytes,
            used: now,
            claim: seen.map_or(Claim::Held, Claim::Due),
            saving: false,
            memo,
            failures: 0,
            not_before: now,
        }
    }

    /// Decides, numbers, appends, applies: in this order, so that whatever is refused changes nothing.
    pub(super) fn execute(
        &mut self,
        world: &World,
        command: &Command,
        ledger: &Ledger,
        buffer: &mut Vec<u8>,
    ) -> Result<Reply, Undone> {
        debug_assert!(self.claim.is_held(), "nothing is appended under an epoch that is not claimed");
        crash::point("received");
        let own_bytes = self.queued.bytes(world.durable_now());
        pressure::admit(&world.log.health(), command, own_bytes).map_err(|error| {
            world.counters.pressed.fetch_add(1, Ordering::Relaxed);
            Undone::Failed(error)
        })?;
        let context = world.contexts.context();
        let mut probe = LedgerProbe(ledger);
        // A decision changes nothing, so that a panic in one leaves nothing half done.
        let decided = catch_unwind(AssertUnwindSafe(|| decide(&self.state, command, &context, &mut probe)));
        let panicked = EngineError::Internal { what: "a command panicked" };
        let decision = decided.map_err(|_| Undone::Failed(panicked))?.map_err(Undone::Refused)?;
        let events = record(&self.state, decision.events, &context);
        if events.is_empty() {
            return Ok(decision.reply);
        }
        let keep = || {
            self.append(world, &events, ledger, buffer)?;
            events.iter().for_each(|event| apply(&mut self.state, event, &mut probe));
            Ok(())
        };
        catch_unwind(AssertUnwindSafe(keep)).unwrap_or(Err(Undone::Poisoned))?;
        crash::point("applied");
        let count = events.len() as u64;
        if let Some(history) = &mut self.history {
            history.extend(events);
        }
        if self.unsaved == 0 {
            self.dirty_since = Instant::now();
        }
        self.unsaved += count;
        world.counters.unsaved_events.fetch_add(count, Ordering::Relaxed);
        Ok(decision.reply)
    }

    fn append(
        &mut self,
        world: &World,
        events: &[Recorded],
        ledger: &Ledger,
        buffer: &mut Vec<u8>,
    ) -> Result<(), Undone> {
        let bytes = ledger.time(Stage::LogAppend, || {
            let batch = batch(&self.state, self.epoch, events, buffer);
            self.lsn = world.log.append(&batch)?;
            Ok(batch.payload.len() as u64)
        });
        let bytes = bytes.map_err(|error: crate::log::AppendError| Undone::Failed(error.into()))?;
        self.queued.appended(self.lsn, bytes, world.durable_now());
        self.tail_bytes += bytes;
        Ok(())
    }

    /// A save came to nothing: the next one waits a while, longer each time.
    pub(super) fn put_off_save(&mut self) {
        self.failures += 1;
        let delay = BACKOFF_FIRST.saturating_mul(1 << self.failures.min(16)).min(BACKOFF_MAX);
        self.not_before = Instant::now() + delay;
    }

    /// What is to be saved, as it is now.
    pub(super) fn capture(&self) -> Capture {
        Capture { state: self.state.clone(), history: self.history.clone(), epoch: self.epoch }
    }

    /// Answers a question; `None`: the history is in the log.
    pub(super) fn answer(&self, question: &Question) -> Option<serde_json::Value> {
        Some(match *question {
            Question::State => view::state_json(&self.state),
            Question::Summary => view::summary_json(&self.state),
            Question::Events { since_seq, limit } => {
                view::events_json(&self.history.as_ref()?.after(since_seq, limit), since_seq, limit)
            }
        })
    }

    /// How long it may stay dirty; a job may ask for less than the service's own.
    pub(super) fn save_delay(&self, service: Duration) -> Option<Duration> {
        let job = self.state.spec.snapshot_s_max.map(|s| Duration::from_secs(s.into()));
        let service = (!service.is_zero()).then_some(service)?;
        Some(job.map_or(service, |job| job.min(service)))
    }

    /// Whether it has so many unsaved events, or such large ones, that they call for a save; a job may ask for fewer than
    /// the service's own.
    pub(super) fn is_big(&self, world: &World) -> bool {
        let options = &world.options;
        let job = self.state.spec.snapshot_events_max.map_or(u64::MAX, u64::from);
        let tail_bytes_max = options.tail_ratio.saturating_mul(self.saved_bytes).max(TAIL_BYTES_MIN);
        self.unsaved >= job.min(options.save_events_max).max(1)
            || world.logged && self.tail_bytes > tail_bytes_max
    }
}

/// The events of one command as the log takes them; `buffer` is where they are encoded.
pub(in super::super) fn batch<'a>(
    state: &State,
    epoch: u64,
    events: &[Recorded],
    buffer: &'a mut Vec<u8>,
) -> Batch<'a> {
    buffer.clear();
    event::encode(events, buffer);
    Batch {
        system: state.system_id,
        epoch,
        first_seq: events.first().map_or(0, |first| first.seq),
        count: u32::try_from(events.len()).expect("one command makes few events"),
        payload: buffer,
    }
}

//! What one lane does.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mipro_telemetry::clock;

use super::{Shared, lock};
use crate::dispatch::Release;
use crate::record::{Released, Times};
use crate::recording::{ROLLOUTS_MAX, Recorded};
use crate::session::{Finished, Session};

/// A session that a lane is to make.
struct Turn {
    number: u64,
    intended: Instant,
    released: Option<Released>,
}

/// How a session ended.
enum End {
    Finished(Finished),
    /// The run was over.
    CutOff,
    /// Its own time was.
    Deadline,
}

impl<S: Session> Shared<S> {
    /// One lane: a session after the other.
    pub(super) async fn lane(self: Arc<Self>, lane: usize) {
        if self.is_open() {
            let backlog = &self.backlogs[lane % self.backlogs.len()];
            while let Some(release) = backlog.take().await {
                if self.stop.is_cancelled() {
                    self.too_late(lane, release);
                } else {
                    self.make(lane, self.turn(release)).await;
                }
            }
        } else {
            let mut free = self.start;
            let mut turn = 0;
            while let Some(number) = self.number(lane, turn) {
                turn += 1;
                free = self.make(lane, Turn { number, intended: free, released: None }).await;
            }
        }
    }

    fn turn(&self, release: Release) -> Turn {
        let Release { number, intended_ns, released_ns, slot_free } = release;
        let pacer_lag_ns = released_ns.saturating_sub(intended_ns);
        let intended = self.start + Duration::from_nanos(intended_ns);
        Turn { number, intended, released: Some(Released { pacer_lag_ns, slot_free }) }
    }

    /// The number of the lane's next session in this pass, if there is to be one. Closed model.
    fn number(&self, lane: usize, turn: u64) -> Option<u64> {
        if self.stop.is_cancelled() {
            return None;
        }
        let number = if self.pass.fixed {
            lane as u64 + turn * self.pass.lanes as u64
        } else {
            self.next.fetch_add(1, Ordering::Relaxed)
        };
        self.pass.count.is_none_or(|count| number < count).then_some(number)
    }

    /// Makes one session and gives the time it was done.
    async fn make(&self, lane: usize, turn: Turn) -> Instant {
        self.issued.fetch_add(1, Ordering::Relaxed);
        let index = self.pass.first + turn.number;
        let sent = clock::now();
        let due = self.pass.deadline.map(|deadline| turn.intended + deadline);
        if due.is_some_and(|due| due <= sent) {
            self.expired(lane, clock::as_ns(sent - turn.intended));
            return sent;
        }
        self.tape(index, &turn, sent);
        let past_deadline = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        let end = tokio::select! {
            biased;
            finished = self.session.once(index) => End::Finished(finished),
            () = self.give_up.cancelled() => End::CutOff,
            () = past_deadline => End::Deadline,
        };
        let done = clock::now();
        let times = Times {
            lag_ns: clock::as_ns(sent.saturating_duration_since(turn.intended)),
            service_ns: clock::as_ns(done - sent),
            released: turn.released,
        };
        self.record(lane, turn.number, times, &end);
        done
    }

    /// Notes a session's beginning: as it was due in the open model, as it was in the closed.
    fn tape(&self, index: u64, turn: &Turn, sent: Instant) {
        let Some(tape) = &self.tape else { return };
        let began = if self.is_open() { turn.intended } else { sent };
        let at_us = clock::as_ns(began.saturating_duration_since(self.start)) / 1_000;
        let (seed, think_us) = self.session.about(index);
        let mut tape = lock(tape);
        if tape.len() < ROLLOUTS_MAX {
            tape.push(Recorded { at_us, seed, think_us });
        }
    }

    fn record(&self, lane: usize, number: u64, times: Times, end: &End) {
        let mut sheet = lock(&self.sheets[lane % self.sheets.len()]);
        let finished = match end {
            End::Finished(finished) => finished,
            End::CutOff => return sheet.cut_off(times),
            End::Deadline => {
                sheet.past_deadline(times);
                return self.failed();
            }
        };
        let index = self.pass.first + number;
        let ordinal = index / self.pass.systems.max(1) as u64;
        sheet.finished(times, finished, (self.session.system(index), ordinal));
        drop(sheet);
        let failed = finished.failed().is_some();
        if !self.is_open() {
            // A failed rollout's delay was not waited for in full, so it has no place in the layout.
            lock(&self.layout).add(number, finished.planned_us.filter(|_| !failed));
        }
        self.errors.fetch_add(u64::from(failed), Ordering::Relaxed);
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// A session whose deadline passed while it waited for a slot.
    fn expired(&self, lane: usize, waited_ns: u64) {
        lock(&self.sheets[lane % self.sheets.len()]).expired(waited_ns);
        self.failed();
    }

    /// A session taken when no more may start.
    fn too_late(&self, lane: usize, release: Release) {
        let end = self.stopped.get().copied().unwrap_or_else(clock::now);
        let end_ns = clock::as_ns(end.saturating_duration_since(self.start));
        let waited_ns = end_ns.saturating_sub(release.intended_ns);
        lock(&self.sheets[lane % self.sheets.len()]).unsent(waited_ns);
    }

    fn failed(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

//! What is there in the end: a system's events and its state, read from the wire contract's JSON, and the fold of the
//! events into the counts that the state must show.

use std::collections::BTreeMap;

use serde_json::Value;

/// An event with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its place in the system's history.
    pub seq: u64,
    /// What happened.
    pub kind: Kind,
}

/// What happened, as far as the checker cares.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// The system was made.
    Created,
    /// A candidate was registered.
    CandidateAdded {
        /// Which.
        candidate: String,
    },
    /// A rollout began: through the proxy, or adopted from a report that named its candidate.
    Started {
        /// Which.
        rollout: String,
        /// Its candidate.
        candidate: String,
    },
    /// A reward.
    Rewarded {
        /// Of which rollout.
        rollout: String,
        /// Of which candidate.
        candidate: String,
        /// The reward.
        reward: f64,
    },
    /// What the optimizer made of the reward before it.
    Learned {
        /// About which candidate.
        candidate: String,
        /// Its rewards so far.
        rewards: u64,
        /// Their mean.
        mean: f64,
    },
    /// A rollout is finished.
    Done {
        /// Which.
        rollout: String,
    },
    /// A rollout was closed without a reward.
    Failed {
        /// Which.
        rollout: String,
    },
    /// Rollouts were open for too long.
    Expired {
        /// How many.
        rollouts: u64,
    },
    /// Anything else; it has a place and no effect on what is checked.
    Other,
}

/// Something in an answer is not what the wire contract says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is missing or of another type in {what}")]
pub struct Unreadable {
    what: &'static str,
    field: &'static str,
}

fn text(value: &Value, field: &'static str) -> Result<String, Unreadable> {
    value[field].as_str().map(str::to_owned).ok_or(Unreadable { what: "an event", field })
}

fn number(value: &Value, field: &'static str) -> Result<f64, Unreadable> {
    value[field].as_f64().ok_or(Unreadable { what: "an event", field })
}

fn count(value: &Value, what: &'static str, field: &'static str) -> Result<u64, Unreadable> {
    value[field].as_u64().ok_or(Unreadable { what, field })
}

impl Event {
    /// Reads one item of `GET …/events`.
    ///
    /// # Errors
    /// Names the first field that the wire contract promises and that is not there.
    pub fn read(item: &Value) -> Result<Self, Unreadable> {
        let seq = count(item, "an event", "seq")?;
        let rollout = || text(item, "rollout_id");
        let candidate = || text(item, "candidate_id");
        let kind = match text(item, "type")?.as_str() {
            "mipro.system.created" => Kind::Created,
            "mipro.candidate.added" => Kind::CandidateAdded { candidate: candidate()? },
            "mipro.rollout.started" | "mipro.rollout.adopted" => {
                Kind::Started { rollout: rollout()?, candidate: candidate()? }
            }
            "mipro.reward.received" => {
                let reward = number(item, "reward")?;
                Kind::Rewarded { rollout: rollout()?, candidate: candidate()?, reward }
            }
            "mipro.tpe.update" => Kind::Learned {
                candidate: candidate()?,
                rewards: count(item, "an event", "reward_count")?,
                mean: number(item, "avg_reward")?,
            },
            "mipro.rollout.done" => Kind::Done { rollout: rollout()? },
            "mipro.rollout.failed" => Kind::Failed { rollout: rollout()? },
            "mipro.rollout.expired" => {
                let ids = item["rollout_ids"].as_array();
                let ids = ids.ok_or(Unreadable { what: "an event", field: "rollout_ids" })?;
                Kind::Expired { rollouts: ids.len() as u64 }
            }
            _ => Kind::Other,
        };
        Ok(Self { seq, kind })
    }
}

/// One candidate's counts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CandidateTotals {
    /// Rollouts begun.
    pub rollouts: u64,
    /// Rewards received.
    pub rewards: u64,
    /// Their mean; `None` before the first.
    pub mean: Option<f64>,
}

/// A state's counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// Place of the newest event.
    pub version: u64,
    /// Rollouts begun.
    pub rollouts: u64,
    /// Rewards received.
    pub rewards: u64,
    /// Rollouts done.
    pub done: u64,
    /// Rollouts failed.
    pub failed: u64,
    /// Rollouts expired.
    pub expired: u64,
    /// By candidate.
    pub candidates: BTreeMap<String, CandidateTotals>,
}

impl State {
    /// Reads the body of `GET …/state`.
    ///
    /// # Errors
    /// Names the first field that the wire contract promises and that is not there.
    pub fn read(body: &Value) -> Result<Self, Unreadable> {
        const STATE: &str = "the state";
        let candidates = body["candidates"].as_object();
        let candidates = candidates.ok_or(Unreadable { what: STATE, field: "candidates" })?;
        let mut read = BTreeMap::new();
        for (id, candidate) in candidates {
            let totals = CandidateTotals {
                rollouts: count(candidate, "a candidate", "rollout_count")?,
                rewards: count(candidate, "a candidate", "reward_count")?,
                mean: candidate["avg_reward"].as_f64(),
            };
            read.insert(id.clone(), totals);
        }
        Ok(Self {
            version: count(body, STATE, "version")?,
            rollouts: count(body, STATE, "rollout_count")?,
            rewards: count(body, STATE, "reward_count")?,
            done: count(body, STATE, "done_count")?,
            failed: count(body, STATE, "failed_count")?,
            expired: count(body, STATE, "expired_count")?,
            candidates: read,
        })
    }

    /// The counts that a history leads to.
    #[must_use]
    pub fn fold(events: &[Event]) -> Self {
        let mut state = Self::default();
        events.iter().for_each(|event| state.apply(event));
        state
    }

    pub(super) fn apply(&mut self, event: &Event) {
        self.version = event.seq;
        match &event.kind {
            Kind::CandidateAdded { candidate } => {
                self.candidates.entry(candidate.clone()).or_default();
            }
            Kind::Started { candidate, .. } => {
                self.rollouts += 1;
                self.candidates.entry(candidate.clone()).or_default().rollouts += 1;
            }
            Kind::Rewarded { candidate, reward, .. } => {
                self.rewards += 1;
                let totals = self.candidates.entry(candidate.clone()).or_default();
                totals.rewards += 1;
                let mean = totals.mean.unwrap_or_default();
                totals.mean = Some(mean + (reward - mean) / totals.rewards as f64);
            }
            Kind::Done { .. } => self.done += 1,
            Kind::Failed { .. } => self.failed += 1,
            Kind::Expired { rollouts } => self.expired += rollouts,
            Kind::Created | Kind::Learned { .. } | Kind::Other => {}
        }
    }
}

/// Two means that differ by rounding only.
pub(super) fn same_mean(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
}

/// What is there in the end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Truth {
    /// All events, in the order in which the system gave them.
    pub events: Vec<Event>,
    /// The state.
    pub state: State,
}

//! What a rollout is answered when its start can't be recorded.

use super::command::RolloutReply;
use super::prompt::{Message, match_prompt};
use super::state::{Phase, Rollout, State};

impl State {
    /// The rollout's own candidate if it has one, or else the best one known: nothing is drawn, and nothing is learned from it.
    #[must_use]
    pub fn unrecorded_reply(&self, rollout_id: &str, messages: &[Message]) -> RolloutReply {
        let matched = match_prompt(&self.spec.prompt, messages).is_some();
        let known = self.rollout(rollout_id).map(|rollout| Rollout { matched, ..rollout.clone() });
        let sticky = known.is_some();
        let best = || self.index.by_id.get(&self.best.candidate_id).copied().unwrap_or(0);
        let rollout = known.unwrap_or_else(|| Rollout {
            arm: if matched { best() } else { 0 },
            phase: Phase::Open,
            reward: None,
            probability: 1.0,
            matched,
            opened_us: 0,
            closed_us: 0,
            seq: 0,
        });
        self.rollout_reply(&rollout, sticky, self.version)
    }
}

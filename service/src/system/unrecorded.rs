//! What a rollout is answered when its start can't be recorded.

use super::command::RolloutReply;
use super::prompt::{Message, match_prompt};
use super::state::State;

impl State {
    /// The rollout's own candidate if it has one, or else the best one known: nothing is drawn, and nothing is learned from it.
    #[must_use]
    pub fn unrecorded_reply(&self, rollout_id: &str, messages: &[Message]) -> RolloutReply {
        let matched = match_prompt(&self.spec.prompt, messages).is_some();
        let known = self.rollout(rollout_id);
        let best = || self.catalog.by_id.get(&self.best.candidate_id).copied().unwrap_or(0);
        let arm = match known {
            Some(rollout) => rollout.arm,
            None if matched => best(),
            None => 0,
        };
        self.rollout_reply(arm, (None, matched, known.is_some()), self.version)
    }
}

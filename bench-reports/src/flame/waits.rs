//! What a wall-clock profile comes down to: how much of a rollout is waiting, and for what.

use std::collections::BTreeMap;

use mipro_telemetry::wall::AWAIT;
use mipro_telemetry::{Folded, Operation, Stage};

/// A profile's sums, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waits {
    /// All of it.
    pub total_ns: u64,
    /// None of the requests' code ran.
    pub await_ns: u64,
    /// By stage, the longest first; what no stage claims is `other`.
    pub stages: Vec<(String, u64)>,
}

/// The stacks of a rollout's calls; of jobs, health checks and work behind the answers nothing.
#[must_use]
pub fn of_rollouts(folded: &Folded) -> Folded {
    folded.only(|stack| {
        let root = stack.split(';').next().and_then(Operation::from_name);
        matches!(
            root,
            Some(
                Operation::StartRollout
                    | Operation::StatusReward
                    | Operation::StatusDone
                    | Operation::StatusRewardDone
                    | Operation::StatusFailed
            )
        )
    })
}

impl Waits {
    /// Sums a wall-clock profile. A stack belongs to its innermost stage.
    #[must_use]
    pub fn of(folded: &Folded) -> Self {
        let mut stages: BTreeMap<&str, u64> = BTreeMap::new();
        for (stack, ns) in folded.iter() {
            let stage = stack.rsplit(';').find(|frame| Stage::from_name(frame).is_some());
            *stages.entry(stage.unwrap_or(Stage::Other.name())).or_insert(0) += ns;
        }
        let mut stages: Vec<(String, u64)> =
            stages.into_iter().map(|(stage, ns)| (stage.to_owned(), ns)).collect();
        stages.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Self { total_ns: folded.total(), await_ns: folded.total_at(AWAIT), stages }
    }
}

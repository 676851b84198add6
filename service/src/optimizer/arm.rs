//! What is known of one candidate: a count, a mean and a spread, whatever the number of rewards.

use super::space::Space;

/// Statistics of one arm. All of it stays finite, whatever rewards come.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Arm {
    /// Rollouts begun.
    pub starts: u64,
    /// Rollouts in flight: begun, and the reward not known.
    pub pending: u32,
    /// Rewards seen.
    pub n: u64,
    /// Their mean; 0 before the first.
    pub mean: f64,
    /// The sum of their squared distances from the mean.
    pub m2: f64,
}

impl Arm {
    /// Takes in a reward (Welford's update). A reward that is not finite is ignored: it can't come from an accepted command.
    pub fn observe(&mut self, reward: f64) {
        if !reward.is_finite() {
            return;
        }
        self.n += 1;
        let before = bounded(reward - self.mean);
        self.mean = bounded(self.mean + before / count(self.n));
        let after = bounded(reward - self.mean);
        self.m2 = bounded(self.m2 + bounded(before * after));
    }

    /// A rollout has begun.
    pub fn begin(&mut self) {
        self.starts += 1;
        self.pending = self.pending.saturating_add(1);
    }

    /// A rollout is no longer in flight.
    pub fn end(&mut self) {
        self.pending = self.pending.saturating_sub(1);
    }

    /// How much this arm has been tried. Rollouts in flight count like rewards. One that came to nothing counts half: so
    /// an arm whose calls all fail can't draw the traffic for ever, and one whose client died is tried again.
    #[must_use]
    pub fn tries(&self) -> f64 {
        count(self.useful()) + 0.5 * count(self.starts.saturating_sub(self.useful()))
    }

    /// The share of its rollouts that taught something or still may; 1 before the first.
    #[must_use]
    pub fn yield_share(&self) -> f64 {
        let starts = self.starts.max(self.useful()).max(1);
        if self.starts == 0 { 1.0 } else { count(self.useful()) / count(starts) }
    }

    fn useful(&self) -> u64 {
        self.n + u64::from(self.pending)
    }
}

fn bounded(value: f64) -> f64 {
    value.clamp(-f64::MAX, f64::MAX)
}

/// All arms of a system and where they stand.
#[derive(Debug, Clone, Copy)]
pub struct ArmsView<'a> {
    /// In order of registration.
    pub arms: &'a [Arm],
    /// Their places, by the same index.
    pub space: &'a Space,
}

/// A count as a number to calculate with; exact below 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(crate) fn count(n: u64) -> f64 {
    n as f64
}

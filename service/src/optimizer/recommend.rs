//! Which arm to call the best, from what is known now.

use super::arm::{Arm, count};

/// Rewards an arm must have to be recommended, unless no arm has as many.
pub const RECOMMENDED_REWARDS_MIN: u64 = 5;

/// What the arms know together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pooled {
    /// What an arm may be expected to give before it has rewards: the average of the arms' means. Averaging rewards
    /// instead would expect of each new arm what the best one gives, since that one has most of them. 0 before the first.
    pub mean: f64,
    /// The standard deviation of a reward around its own arm's mean.
    pub sd: f64,
}

impl Pooled {
    pub(super) fn of(arms: &[Arm]) -> Self {
        // An arm with few rewards says little about what arms are like.
        let weight = |arm: &Arm| count(arm.n) / (count(arm.n) + 1.0);
        let total: f64 = arms.iter().map(weight).sum();
        if total <= 0.0 {
            return Self { mean: 0.0, sd: 0.0 };
        }
        // Means are averaged with shares rather than sums divided, so that large rewards don't overflow.
        let mean: f64 = arms.iter().map(|arm| arm.mean * (weight(arm) / total)).sum();
        let degrees = arms.iter().map(|arm| arm.n.saturating_sub(1)).sum::<u64>().max(1);
        let variance = arms.iter().map(|arm| arm.m2).sum::<f64>() / count(degrees);
        Self { mean, sd: variance.sqrt() }
    }

    /// An arm's mean as if `alpha` more rewards had come, all of them average.
    pub(super) fn posterior_mean(&self, arm: &Arm, alpha: f64) -> f64 {
        let n = count(arm.n);
        arm.mean * (n / (n + alpha)) + self.mean * (alpha / (n + alpha))
    }
}

/// The arm to recommend: the highest lower bound (posterior mean less one standard error) among arms with enough rewards;
/// before any arm has enough, among those that have some. Looks at all arms afresh, so one lucky reward is not best for
/// ever. Of equals, the one registered first. `None` without a reward.
#[must_use]
pub fn recommend(arms: &[Arm], alpha: f64) -> Option<usize> {
    let pooled = Pooled::of(arms);
    let most = arms.iter().map(|arm| arm.n).max().unwrap_or(0);
    let enough = most.clamp(1, RECOMMENDED_REWARDS_MIN);
    let bound = |arm: &Arm| pooled.posterior_mean(arm, alpha) - pooled.sd / (count(arm.n) + alpha).sqrt();
    let candidates = arms.iter().enumerate().filter(|(_, arm)| arm.n >= enough);
    let better = |a: (usize, f64), b: (usize, f64)| if b.1.total_cmp(&a.1).is_gt() { b } else { a };
    candidates.map(|(index, arm)| (index, bound(arm))).reduce(better).map(|(index, _)| index)
}

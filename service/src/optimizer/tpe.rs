//! The tree-structured Parzen estimator, made fit for noisy rewards that come one rollout at a time.
//!
//! One suggestion:
//!
//! 1. **Startup.** While an arm has fewer than [`Tpe::arm_trials_min`] tries, or all arms together fewer than
//!    [`Tpe::startup_trials`], the least tried arms share the probability. So a new candidate never starves.
//! 2. **Value.** Each arm is worth its posterior mean plus a share of its standard error. Two rewards and two thousand
//!    weigh differently, and rollouts in flight shrink the bonus, so that parallel rollouts don't all choose the same arm.
//! 3. **Split.** The best γ of the arms are good (25 at most), the others bad.
//! 4. **Densities.** Each arm is one kernel over the categorical dimensions; good ones weigh by how far they stand above
//!    the split (expected improvement), bad ones equally; a uniform prior stands beside them. Only registered arms have a
//!    place, so the densities l (good) and g (bad) are probabilities over the arms themselves.
//! 5. **Choice.** Of `draws` draws from l the one with the highest l/g wins; equals are decided by chance. Over finitely
//!    many arms the winner's probability has a closed form, which is what is sampled and logged.
//! 6. **Exploration.** With probability ε the choice is uniform instead.
//!
//! Cost: K² · D comparisons for K arms in D dimensions: about 1 µs for 12 arms, 10 µs for 50, 3 ms for 1,024.

use rand::RngCore;

use super::arm::{Arm, ArmsView, count};
use super::policy::{Policy, Suggestion, draw};
use super::recommend::Pooled;
use super::space::Space;

/// Kernels of good arms, at most: a longer list of "good" arms says nothing.
const GOOD_ARMS_MAX: usize = 25;
/// Scores closer than this are equal: sums in another order differ by as much.
const TIE: f64 = 1e-9;

/// Settings. The defaults are the wire contract's where it names one; optimism and `arm_trials_min` were chosen by
/// simulation over five families of landscapes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tpe {
    /// The share of arms that counts as good, in (0, 1). Smaller is greedier. Default 0.25.
    pub gamma: f64,
    /// Draws from the good density, of which the best wins. More is greedier. Default 24.
    pub draws: u32,
    /// Tries of all arms together before the densities are asked. Default 10.
    pub startup_trials: u32,
    /// Tries each arm gets before the densities are asked. Default 3.
    pub arm_trials_min: u32,
    /// The probability of a uniform choice. Default 0.25.
    pub epsilon: f64,
    /// Pseudo-observations of the priors. More is more cautious. Default 1.0.
    pub alpha: f64,
    /// Standard errors added to an arm's mean. More explores more. Default 0.5.
    pub optimism: f64,
}

impl Default for Tpe {
    fn default() -> Self {
        Self {
            gamma: 0.25,
            draws: 24,
            startup_trials: 10,
            arm_trials_min: 3,
            epsilon: 0.25,
            alpha: 1.0,
            optimism: 0.5,
        }
    }
}

impl Policy for Tpe {
    fn suggest(&self, view: &ArmsView<'_>, dice: &mut dyn RngCore) -> Option<Suggestion> {
        draw(&self.distribution(view), dice)
    }
}

impl Tpe {
    /// The probability of each arm at the next suggestion; sums to 1. Empty if there is no arm.
    #[must_use]
    pub fn distribution(&self, view: &ArmsView<'_>) -> Vec<f64> {
        let arms = view.arms.len();
        if let Some(spread) = self.startup(view.arms) {
            return spread;
        }
        let values = self.values(view.arms);
        if values.iter().any(|value| !value.is_finite()) {
            // Rewards near the end of the number range: nothing can be said, and nothing may break.
            return vec![1.0 / count(arms as u64); arms];
        }
        let (good, bad) = self.split(&values);
        let (l, g) = (self.density(view.space, &good), self.density(view.space, &bad));
        let explore = self.epsilon.clamp(0.0, 1.0);
        let chosen = best_of_draws(&l, &g, self.draws);
        chosen.iter().map(|p| explore / count(arms as u64) + (1.0 - explore) * p).collect()
    }

    /// An even spread over the least tried arms, while some arm or all of them have been tried too little.
    fn startup(&self, arms: &[Arm]) -> Option<Vec<f64>> {
        let least = arms.iter().map(Arm::tries).min_by(f64::total_cmp)?;
        let total: f64 = arms.iter().map(Arm::tries).sum();
        if least >= f64::from(self.arm_trials_min) && total >= f64::from(self.startup_trials) {
            return None;
        }
        let next = |arm: &Arm| arm.tries() <= least;
        let share = 1.0 / count(arms.iter().filter(|arm| next(arm)).count() as u64);
        Some(arms.iter().map(|arm| if next(arm) { share } else { 0.0 }).collect())
    }

    /// What each arm is worth: an optimistic posterior mean. There is no hope for an arm whose rollouts come to nothing.
    pub(super) fn values(&self, arms: &[Arm]) -> Vec<f64> {
        let pooled = Pooled::of(arms);
        let error = |arm: &Arm| pooled.sd / (arm.tries() + self.alpha).sqrt();
        let bonus = |arm: &Arm| self.optimism * arm.yield_share() * error(arm);
        arms.iter().map(|arm| pooled.posterior_mean(arm, self.alpha) + bonus(arm)).collect()
    }

    /// Kernel weights of the good and of the bad arms. Arms at the split itself are bad; if all are equal, all are.
    pub(super) fn split(&self, values: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let arms = values.len();
        let mut ranked = values.to_vec();
        ranked.sort_by(|a, b| b.total_cmp(a));
        let good_max =
            (1..=GOOD_ARMS_MAX).find(|&good| count(good as u64) >= self.gamma * count(arms as u64));
        let good_max = good_max.unwrap_or(GOOD_ARMS_MAX).min(arms.saturating_sub(1));
        let threshold = ranked.get(good_max).copied().unwrap_or(0.0);

        let excess: Vec<f64> = values.iter().map(|value| (value - threshold).max(0.0)).collect();
        let goods = count(excess.iter().filter(|excess| **excess > 0.0).count() as u64);
        let total: f64 = excess.iter().sum();
        let good = |excess: &f64| if *excess > 0.0 { goods * (excess / total) } else { 0.0 };
        let bad = |excess: &f64| if *excess > 0.0 { 0.0 } else { 1.0 };
        (excess.iter().map(good).collect(), excess.iter().map(bad).collect())
    }

    /// A mixture of one kernel per arm and a uniform prior, over the registered arms; sums to 1.
    ///
    /// A kernel is a product over dimensions: (1 + b) where the choices agree, b where they don't; so it depends only on
    /// in how many they agree. Each is normalised over the registered arms.
    pub(super) fn density(&self, space: &Space, weights: &[f64]) -> Vec<f64> {
        let arms = weights.len();
        let total: f64 = weights.iter().sum();
        let bandwidth = self.alpha / (total + 1.0);
        let step = bandwidth / (1.0 + bandwidth);
        // Powers relative to full agreement, so that many dimensions don't underflow together.
        let by_differences: Vec<f64> = std::iter::successors(Some(1.0), |power| Some(power * step))
            .take(space.dimensions() + 1)
            .collect();
        let mut density = vec![self.alpha / count(arms as u64); arms];
        let mut kernel = vec![0.0; arms];
        for (arm, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            let center = space.place(arm);
            for (other, value) in kernel.iter_mut().enumerate() {
                let differences = center.iter().zip(space.place(other)).filter(|(a, b)| a != b).count();
                *value = by_differences[differences];
            }
            let scale = weight / kernel.iter().sum::<f64>();
            density.iter_mut().zip(&kernel).for_each(|(sum, value)| *sum += scale * value);
        }
        let sum: f64 = density.iter().sum();
        density.iter().map(|value| value / sum).collect()
    }
}

/// The probability of each arm to be the one with the highest l/g among `draws` draws from `l`.
///
/// With F(s) the probability under l of a score of at most s, the best score is s with F(s)ⁿ − F(s−)ⁿ. Arms of the same
/// score share that in proportion to l, as a fair choice among the tied draws does.
pub(super) fn best_of_draws(l: &[f64], g: &[f64], draws: u32) -> Vec<f64> {
    let exponent = i32::try_from(draws.max(1)).unwrap_or(i32::MAX);
    let score: Vec<f64> = l.iter().zip(g).map(|(l, g)| l.ln() - g.ln()).collect();
    let mut order: Vec<usize> = (0..l.len()).collect();
    order.sort_by(|&a, &b| score[a].total_cmp(&score[b]));
    let mut chosen = vec![0.0; l.len()];
    let mut below = 0.0_f64;
    let mut rest = order.as_slice();
    while let Some(&lowest) = rest.first() {
        let tied = rest.partition_point(|&arm| score[arm] - score[lowest] <= TIE);
        let mass: f64 = rest[..tied].iter().map(|&arm| l[arm]).sum();
        let up_to = if tied == rest.len() { 1.0 } else { (below + mass).min(1.0) };
        let wins = up_to.powi(exponent) - below.powi(exponent);
        for &arm in &rest[..tied] {
            chosen[arm] = wins * (l[arm] / mass);
        }
        below = up_to;
        rest = &rest[tied..];
    }
    chosen
}

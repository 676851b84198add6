//! The policies' common face, and the two simplest.

use rand::{Rng, RngCore};

use super::arm::{Arm, ArmsView, count};

/// A choice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Suggestion {
    /// Index of the chosen arm.
    pub arm: usize,
    /// With which probability it was chosen, given all that was known.
    pub probability: f64,
}

/// A way to choose arms and to learn from rewards. Keeps no state of its own: what is learned lives in the arms, so that
/// it is stored and replayed with them.
pub trait Policy: Send + Sync {
    /// Chooses an arm. The same view and the same dice give the same choice. `None` if there is no arm.
    fn suggest(&self, view: &ArmsView<'_>, dice: &mut dyn RngCore) -> Option<Suggestion>;

    /// Learns a reward.
    fn observe(&self, arm: &mut Arm, reward: f64) {
        arm.observe(reward);
    }
}

/// Every arm with the same probability.
#[derive(Debug, Clone, Copy, Default)]
pub struct Uniform;

impl Policy for Uniform {
    fn suggest(&self, view: &ArmsView<'_>, dice: &mut dyn RngCore) -> Option<Suggestion> {
        let arms = view.arms.len();
        (arms > 0)
            .then(|| Suggestion { arm: dice.random_range(0..arms), probability: 1.0 / count(arms as u64) })
    }
}

/// Always the same arm.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fixed {
    /// Its index.
    pub arm: usize,
}

impl Policy for Fixed {
    fn suggest(&self, view: &ArmsView<'_>, _dice: &mut dyn RngCore) -> Option<Suggestion> {
        (self.arm < view.arms.len()).then_some(Suggestion { arm: self.arm, probability: 1.0 })
    }
}

/// Draws an arm from a distribution that sums to 1.
pub(super) fn draw(distribution: &[f64], dice: &mut dyn RngCore) -> Option<Suggestion> {
    let mut left: f64 = dice.random();
    let mut last = None;
    for (arm, &probability) in distribution.iter().enumerate() {
        if probability > 0.0 {
            last = Some(Suggestion { arm, probability });
            left -= probability;
            if left < 0.0 {
                break;
            }
        }
    }
    // Rounding may leave a crumb behind the last arm; it belongs to that arm.
    last
}

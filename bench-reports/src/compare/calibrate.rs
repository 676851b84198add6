//! A held against A: how often this machine raises a false alarm, and how far it differs from itself.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::Slice;
use crate::schema::{Comparison, Side};

#[cfg(test)]
mod tests;

/// Confidence of [`Calibration::rate_upper`].
const CONFIDENCE: f64 = 0.95;

/// What comparisons of a side with itself said about one endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// The endpoint.
    pub name: String,
    /// Its quantile.
    pub quantile: f64,
    /// Comparisons that gave an interval.
    pub comparisons: u32,
    /// Those whose interval leaves out "no difference".
    pub false_alarms: u32,
    /// `false_alarms / comparisons`; what it should be is twice [`Comparison::alpha`].
    pub rate: f64,
    /// With 95 % confidence the rate is no higher (Clopper and Pearson).
    pub rate_upper: f64,
    /// Half the width of an interval, the median over the comparisons, a share.
    pub half_width: f64,
    /// Differences, without their sign, that 19 of 20 comparisons stay within, a share.
    pub noise: f64,
}

/// One entry per endpoint of the first comparison. All must have been made by the same rules.
#[must_use]
pub fn calibrate(comparisons: &[Comparison]) -> Vec<Calibration> {
    let Some(first) = comparisons.first() else { return Vec::new() };
    (0..first.endpoints.len()).filter_map(|index| calibration(comparisons, index)).collect()
}

fn calibration(comparisons: &[Comparison], index: usize) -> Option<Calibration> {
    let endpoint = comparisons.first()?.endpoints.get(index)?;
    let effects: Vec<_> =
        comparisons.iter().filter_map(|comparison| comparison.endpoints.get(index)?.effect).collect();
    let alarms = effects.iter().filter(|effect| effect.lower > 0.0 || effect.upper < 0.0).count();
    let half_widths = effects.iter().map(|of| ((of.upper.ln_1p() - of.lower.ln_1p()) / 2.0).exp_m1());
    let (all, alarms) = (effects.len() as u32, alarms as u32);
    Some(Calibration {
        name: endpoint.name.clone(),
        quantile: endpoint.quantile,
        comparisons: all,
        false_alarms: alarms,
        rate: if all == 0 { 0.0 } else { f64::from(alarms) / f64::from(all) },
        rate_upper: rate_upper(alarms, all, CONFIDENCE),
        half_width: at(half_widths.collect(), 0.5),
        noise: at(effects.iter().map(|effect| effect.share.abs()).collect(), 0.95),
    })
}

/// The value that a share `p` of the values does not exceed; 0 without values.
fn at(mut values: Vec<f64>, p: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (p * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// Upper bound of a probability of which `hits` in `trials` were seen: the one at which so few hits have probability
/// 1 − `confidence`. Clopper and Pearson, Biometrika 26 (1934), one-sided; 1 without trials.
#[must_use]
pub fn rate_upper(hits: u32, trials: u32, confidence: f64) -> f64 {
    if hits >= trials {
        return 1.0;
    }
    let (mut low, mut high) = (f64::from(hits) / f64::from(trials), 1.0);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if at_most(hits, trials, middle) > 1.0 - confidence {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// P(X ≤ hits) of a binomial. In logarithms, since (1 − p)^trials may be too small for a double.
fn at_most(hits: u32, trials: u32, p: f64) -> f64 {
    let odds = (p / (1.0 - p)).ln();
    let mut term = f64::from(trials) * (-p).ln_1p();
    let mut sum = term.exp();
    for k in 0..hits {
        term += (f64::from(trials - k) / f64::from(k + 1)).ln() + odds;
        sum += term.exp();
    }
    sum
}

/// A run of neighbouring quads out of A/A slices, with the sides of each quad swapped or not by the toss of a coin: another
/// comparison of the machine with itself. Such comparisons share slices, so many of them from few slices are less than as
/// many fresh ones.
///
/// `pairs` is rounded up to whole quads. The pairs are numbered from 0.
#[must_use]
pub fn redrawn(slices: &[Slice], pairs: u32, seed: u64) -> Vec<Slice> {
    let quads = slices.iter().map(|slice| slice.pair / 2 + 1).max().unwrap_or(0);
    let wanted = pairs.div_ceil(2).min(quads);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let first = rng.random_range(0..=quads - wanted);
    let swapped: Vec<bool> = (0..wanted).map(|_| rng.random()).collect();
    slices
        .iter()
        .filter(|slice| (first..first + wanted).contains(&(slice.pair / 2)))
        .map(|slice| {
            let swap = swapped[(slice.pair / 2 - first) as usize];
            let side = match (slice.side, swap) {
                (Side::A, false) | (Side::B, true) => Side::A,
                _ => Side::B,
            };
            Slice { side, pair: slice.pair - 2 * first, ..slice.clone() }
        })
        .collect()
}

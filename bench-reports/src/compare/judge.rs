//! From estimates to verdicts: non-inferiority to pass, Holm's correction to fail, a third answer for everything between.

use super::resample::Estimate;
use super::{AA_HALF_WIDTH_DEFAULT, Endpoint, Rules};
use crate::schema::{CompareVerdict, Effect, GateRule};

#[cfg(test)]
mod tests;

/// Chance with which [`Effect::detectable`] would have been told from none.
const POWER: f64 = 0.8;

/// More pairs than this are no advice any more.
const MORE_PAIRS_MAX: f64 = 10_000.0;

/// An estimate with what it was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) estimate: Estimate,
}

impl Case<'_> {
    /// One-sided: how likely figures as bad as these were, if B kept to what is gated.
    pub(crate) fn p_value(&self) -> f64 {
        match self.endpoint.gate {
            GateRule::Ceiling { max_us } => {
                let over = self.estimate.b_ns.ln() - (max_us * 1000.0).ln();
                Estimate { theta: over, se: self.estimate.se_b, ..self.estimate }.p_value()
            }
            GateRule::Margin { .. } | GateRule::Shown => self.estimate.p_value(),
        }
    }

    pub(crate) fn effect(&self, alpha: f64) -> Effect {
        let of = &self.estimate;
        let (half, half_b) = (of.half_width(alpha), of.half_width_b(alpha));
        Effect {
            share: share(of.theta),
            lower: share(of.theta - half),
            upper: share(of.theta + half),
            se_ln: of.se,
            p_value: of.p_value(),
            b_lower_us: of.b_ns * (-half_b).exp() / 1000.0,
            b_upper_us: of.b_ns * half_b.exp() / 1000.0,
            blocks: of.blocks,
            block_pairs: of.block_pairs,
            lag1: of.lag1,
            detectable: share(of.detectable(alpha, POWER)),
        }
    }

    /// `rejected`: whether Holm's procedure over all gated endpoints rejects that this one is no worse; `family` is their number.
    pub(crate) fn verdict(&self, rules: &Rules, rejected: bool, family: usize) -> CompareVerdict {
        let (alpha, of) = (rules.alpha_per_look(), &self.estimate);
        match self.endpoint.gate {
            GateRule::Shown => CompareVerdict::Shown,
            GateRule::Margin { share: margin } => {
                let (delta, half) = (margin.ln_1p(), of.half_width(alpha));
                if of.theta + half < delta {
                    let aa = self.endpoint.aa_half_width.unwrap_or(rules.aa_half_width).ln_1p();
                    return CompareVerdict::Pass { improved: of.theta + half < 0.0 && of.theta.abs() > aa };
                }
                if rejected && of.theta > delta {
                    return CompareVerdict::Regress;
                }
                let reason = format!(
                    "{} ± {} against a margin of {}",
                    percent(share(of.theta)),
                    unsigned(share(half)),
                    percent(margin)
                );
                let (half, needed) = if of.theta < delta {
                    (half, delta - of.theta)
                } else {
                    (of.half_width(alpha / family as f64), of.theta)
                };
                CompareVerdict::Inconclusive { more_pairs: self.more_pairs(half, needed), reason }
            }
            GateRule::Ceiling { max_us } => {
                let (over, half) = (of.b_ns.ln() - (max_us * 1000.0).ln(), of.half_width_b(alpha));
                if over + half < 0.0 {
                    return CompareVerdict::Pass { improved: false };
                }
                if rejected && over > 0.0 {
                    return CompareVerdict::Regress;
                }
                let reason = format!("{} ± {} of the ceiling", percent(share(over)), unsigned(share(half)));
                let half = if over < 0.0 { half } else { of.half_width_b(alpha / family as f64) };
                CompareVerdict::Inconclusive { more_pairs: self.more_pairs(half, over.abs()), reason }
            }
        }
    }

    /// Intervals shrink with the root of the number of pairs.
    fn more_pairs(&self, half_width: f64, needed: f64) -> Option<u32> {
        let pairs = f64::from(self.estimate.blocks * self.estimate.block_pairs);
        let more = (pairs * (half_width / needed).powi(2)).ceil() - pairs;
        (more <= MORE_PAIRS_MAX && needed > 0.0).then_some(more.max(1.0) as u32)
    }
}

/// Holm's step-down procedure: which hypotheses are rejected, so that any is rejected wrongly with probability `alpha` at most.
pub(crate) fn holm(p_values: &[f64], alpha: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|i, j| p_values[*i].total_cmp(&p_values[*j]));
    let mut rejected = vec![false; p_values.len()];
    for (rank, index) in order.into_iter().enumerate() {
        if p_values[index] > alpha / (p_values.len() - rank) as f64 {
            break;
        }
        rejected[index] = true;
    }
    rejected
}

/// All gated endpoints together: one regression is a regression; a pass needs every one to pass, which needs no correction.
pub(crate) fn together<'a>(verdicts: impl Iterator<Item = (&'a str, &'a CompareVerdict)>) -> CompareVerdict {
    let (mut gated, mut improved, mut regress) = (0, false, false);
    let (mut invalid, mut open, mut more) = (Vec::new(), Vec::new(), Some(0));
    for (name, verdict) in verdicts {
        gated += usize::from(*verdict != CompareVerdict::Shown);
        match verdict {
            CompareVerdict::Shown => {}
            CompareVerdict::Pass { improved: faster } => improved |= faster,
            CompareVerdict::Regress => regress = true,
            CompareVerdict::Invalid { reasons } => {
                invalid.extend(reasons.iter().map(|reason| format!("{name}: {reason}")));
            }
            CompareVerdict::Inconclusive { more_pairs, reason } => {
                more = more.zip(*more_pairs).map(|(most, this)| most.max(this));
                open.push(format!("{name}: {reason}"));
            }
        }
    }
    if regress {
        CompareVerdict::Regress
    } else if !invalid.is_empty() {
        CompareVerdict::Invalid { reasons: invalid }
    } else if !open.is_empty() {
        CompareVerdict::Inconclusive { more_pairs: more, reason: open.join("; ") }
    } else if gated == 0 {
        let reason = "no endpoint is gated: figures are shown, nothing is judged".to_owned();
        CompareVerdict::Inconclusive { more_pairs: None, reason }
    } else {
        CompareVerdict::Pass { improved }
    }
}

/// A ln-ratio as a share.
pub(crate) fn share(ln_ratio: f64) -> f64 {
    ln_ratio.exp_m1()
}

/// `+4.2 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{}{}", if share < 0.0 { "−" } else { "+" }, unsigned(share))
}

/// `4.2 %`: one digit after the point below 100 %, whole numbers above.
pub(crate) fn unsigned(share: f64) -> String {
    let value = share.abs() * 100.0;
    if value < 99.95 { format!("{value:.1} %") } else { format!("{value:.0} %") }
}

impl Rules {
    /// The one-sided error probability of each bound at each look.
    #[must_use]
    pub fn alpha_per_look(&self) -> f64 {
        self.alpha / f64::from(self.looks_max.max(1))
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            alpha: 0.05,
            looks_max: 1,
            aa_half_width: AA_HALF_WIDTH_DEFAULT,
            seed: 1,
        }
    }
}

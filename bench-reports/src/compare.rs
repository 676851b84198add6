//! Is B slower than A? Interleaved pairs of slices in, an answer with its uncertainty out; "can't tell" is an answer.
//!
//! Pure statistics: the harness runs the slices (`ABBA` or `BAAB`, both sides of a pair with the same arrivals, payloads and
//! mock delays), this decides what they show. Reading order: [`pairs`] (what may be compared), [`cells`] (samples as few
//! numbers), [`resample`] (how far the ratio moves by chance), [`judge`] (what that comes to), [`mod@calibrate`] (how this machine
//! differs from itself), [`fingerprint`] (which saved reports may stand beside each other). The rules, and why these, are in
//! docs/statistics.md.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::schema::{CompareVerdict, Comparison, EndpointComparison, GateRule, Side, SliceFigures};

pub mod calibrate;
mod cells;
mod fingerprint;
mod judge;
mod pairs;
mod resample;
mod says;
pub(crate) mod student;
#[cfg(test)]
mod tests;

pub use calibrate::{Calibration, calibrate};
pub use cells::Samples;
pub use fingerprint::differences;

use judge::Case;
use pairs::{Pair, Pairs};

/// Numbers of pairs at which one may look at the result and stop, when three looks were allowed beforehand.
pub const LOOKS: [u32; 3] = [20, 30, 45];

/// Pairs when one look is allowed.
pub const PAIRS_DEFAULT: u32 = 30;

/// Blocks below which no difference, however large, counts as shown.
pub const BLOCKS_MIN: u32 = 4;

/// The highest quantile whose ratio may be gated: a slice of some hundred requests has two or three beyond its p99.
pub const GATED_QUANTILE_MAX: f64 = 0.9;

/// What stands for this machine's own noise until `mipro aa` has measured it: a share.
pub const AA_HALF_WIDTH_DEFAULT: f64 = 0.05;

/// Samples that must lie on either side of a quantile in the pairs of a side together.
const SAMPLES_BEYOND_MIN: f64 = crate::dist::SAMPLES_BEYOND_MIN as f64;

/// A few seconds of load on one side.
#[derive(Debug, Clone)]
pub struct Slice {
    /// Which side ran.
    pub side: Side,
    /// Counted from 0: slices of one pair have the same number, and pairs 2k and 2k + 1 are one quad (`ABBA` or `BAAB`).
    pub pair: u32,
    /// By endpoint name.
    pub samples: BTreeMap<String, Samples>,
    /// Why the pair is to be set aside; never because of a latency. Empty where it counts.
    pub invalid: Vec<String>,
    /// CPU time that the hypervisor took meanwhile, in percent.
    pub steal_pct: f64,
    /// CPU time that was used meanwhile, in percent of all cores.
    pub cpu_pct: f64,
    /// Seconds from the comparison's start.
    pub started_s: f64,
    /// How long it was measured, in seconds.
    pub length_s: f64,
}

impl Slice {
    /// A slice that counts, of histograms of nanoseconds by endpoint name. Empty histograms are left out.
    #[must_use]
    pub fn new(side: Side, pair: u32, histograms: &BTreeMap<String, Histogram<u64>>) -> Self {
        let samples = histograms
            .iter()
            .filter(|(_, histogram)| !histogram.is_empty())
            .map(|(name, histogram)| (name.clone(), Samples::from(histogram)))
            .collect();
        Self {
            side,
            pair,
            samples,
            invalid: vec![],
            steal_pct: 0.0,
            cpu_pct: 0.0,
            started_s: 0.0,
            length_s: 0.0,
        }
    }
}

/// One quantile of one distribution, and what is asked of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// `rollout.response`, `stages.db.query`, …
    pub name: String,
    /// Between 0 and 1.
    pub quantile: f64,
    /// What is judged.
    pub gate: GateRule,
    /// Half the width of this endpoint's intervals when this machine is held against itself, a share; where unknown,
    /// [`Rules::aa_half_width`].
    pub aa_half_width: Option<f64>,
}

impl Endpoint {
    /// Gated: B may take `margin` (a share) longer.
    #[must_use]
    pub fn gated(name: &str, quantile: f64, margin: f64) -> Self {
        Self { gate: GateRule::Margin { share: margin }, ..Self::shown(name, quantile) }
    }

    /// Gated: B's own quantile stays below `max_us`.
    #[must_use]
    pub fn ceiling(name: &str, quantile: f64, max_us: f64) -> Self {
        Self { gate: GateRule::Ceiling { max_us }, ..Self::shown(name, quantile) }
    }

    /// Measured and shown, not judged.
    #[must_use]
    pub fn shown(name: &str, quantile: f64) -> Self {
        Self { name: name.to_owned(), quantile, gate: GateRule::Shown, aa_half_width: None }
    }
}

/// What is asked of a comparison. All of it is fixed before the first slice runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// In the order in which they are shown.
    pub endpoints: Vec<Endpoint>,
    /// One-sided error probability over all looks: 0.05 gives intervals of 90 %.
    pub alpha: f64,
    /// How often one may look and go on: 1 to 3. Each look gets its part of `alpha`.
    pub looks_max: u32,
    /// Half the width of intervals when this machine is held against itself, a share: what is faster by less is not called
    /// improved.
    pub aa_half_width: f64,
    /// Seed of the resampling: the same slices and seed give the same answer.
    pub seed: u64,
}

/// Rules that nothing can be judged by.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RulesError {
    /// `alpha` is no error probability.
    #[error("alpha is {0}, and must lie between 0 and 0.5")]
    Alpha(f64),
    /// Looks are counted from 1 to 3.
    #[error("{0} looks at the data, and must be 1 to 3: each one more makes false alarms likelier")]
    Looks(u32),
    /// Not between 0 and 1.
    #[error("{name}: quantile {quantile} does not lie between 0 and 1")]
    Quantile {
        /// The endpoint.
        name: String,
        /// As given.
        quantile: f64,
    },
    /// A tail's ratio is too noisy to gate.
    #[error(
        "{name}: the ratio of p{p} can't be gated, only p90 and below; give it a ceiling, or only show it",
        p = quantile * 100.0
    )]
    Tail {
        /// The endpoint.
        name: String,
        /// As given.
        quantile: f64,
    },
    /// A margin or ceiling of 0 or less can't be kept to by anything that is measured.
    #[error("{name}: a margin or ceiling must be a positive number, not {limit}")]
    Limit {
        /// The endpoint.
        name: String,
        /// As given.
        limit: f64,
    },
}

impl Rules {
    /// At how many pairs one looks.
    #[must_use]
    pub fn looks(&self) -> &'static [u32] {
        match self.looks_max {
            0 | 1 => &LOOKS[1..2],
            2 => &LOOKS[..2],
            _ => &LOOKS,
        }
    }

    /// Whether these rules can be judged by.
    ///
    /// # Errors
    /// The first that can't.
    pub fn check(&self) -> Result<(), RulesError> {
        if !(self.alpha > 0.0 && self.alpha < 0.5) {
            return Err(RulesError::Alpha(self.alpha));
        }
        if !(1..=LOOKS.len() as u32).contains(&self.looks_max) {
            return Err(RulesError::Looks(self.looks_max));
        }
        for Endpoint { name, quantile, gate, .. } in &self.endpoints {
            let (name, quantile) = (name.clone(), *quantile);
            if !(quantile > 0.0 && quantile < 1.0) {
                return Err(RulesError::Quantile { name, quantile });
            }
            match *gate {
                GateRule::Margin { .. } if quantile > GATED_QUANTILE_MAX => {
                    return Err(RulesError::Tail { name, quantile });
                }
                GateRule::Margin { share: limit } | GateRule::Ceiling { max_us: limit }
                    if !(limit > 0.0 && limit.is_finite()) =>
                {
                    return Err(RulesError::Limit { name, limit });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Holds side B against side A. Labels (`a`, `b`, `rung`) are left empty for the caller.
///
/// May be called at each look with all slices so far; the looks' part in the error probability is taken from the rules, whether
/// or not they all come about. Takes milliseconds per endpoint.
///
/// # Errors
/// When the rules make no sense; whatever the slices hold is a verdict.
pub fn compare(slices: &[Slice], rules: &Rules) -> Result<Comparison, RulesError> {
    rules.check()?;
    let pairs = Pairs::of(slices);
    let alpha = rules.alpha_per_look();
    let cases: Vec<Result<Case<'_>, CompareVerdict>> =
        rules.endpoints.iter().map(|endpoint| case(endpoint, &pairs.valid, rules)).collect();
    let gated = |endpoint: &Endpoint| endpoint.gate != GateRule::Shown;
    // An endpoint without an estimate stays in the family: what is asked decides how often one may err, not what came out.
    let p_values: Vec<f64> = rules
        .endpoints
        .iter()
        .zip(&cases)
        .filter(|(endpoint, _)| gated(endpoint))
        .map(|(_, case)| case.as_ref().map_or(1.0, Case::p_value))
        .collect();
    let mut rejected = judge::holm(&p_values, alpha).into_iter();
    let endpoints: Vec<EndpointComparison> = rules
        .endpoints
        .iter()
        .zip(&cases)
        .map(|(endpoint, case)| {
            let rejected = gated(endpoint) && rejected.next().unwrap_or(false);
            let verdict = match case {
                Ok(case) => case.verdict(rules, rejected, p_values.len()),
                Err(_) if !gated(endpoint) => CompareVerdict::Shown,
                Err(verdict) => verdict.clone(),
            };
            figures(endpoint, &pairs.valid, case.as_ref().ok(), alpha, verdict)
        })
        .collect();
    let together = judge::together(endpoints.iter().map(|of| (of.name.as_str(), &of.verdict)));
    let doubts = pairs.doubts;
    Ok(Comparison {
        a: String::new(),
        b: String::new(),
        rung: String::new(),
        pairs: pairs.valid.len() as u32,
        pairs_invalid: pairs.invalid,
        alpha,
        looks_max: rules.looks_max,
        seed: rules.seed,
        endpoints,
        verdict: if doubts.is_empty() { together } else { CompareVerdict::Invalid { reasons: doubts } },
        slices: slice_figures(slices, rules),
    })
}

impl Comparison {
    /// Takes back whatever was concluded: the measurement is not to be believed, because of `reason`.
    pub fn invalidate(&mut self, reason: String) {
        match &mut self.verdict {
            CompareVerdict::Invalid { reasons } => reasons.push(reason),
            verdict => *verdict = CompareVerdict::Invalid { reasons: vec![reason] },
        }
    }

    /// Whether one may stop at this look: more pairs would be asked for only by what is inconclusive.
    #[must_use]
    pub fn is_concluded(&self) -> bool {
        !matches!(self.verdict, CompareVerdict::Inconclusive { .. })
    }
}

/// An estimate, or why there can't be one.
fn case<'a>(endpoint: &'a Endpoint, pairs: &[Pair<'_>], rules: &Rules) -> Result<Case<'a>, CompareVerdict> {
    let name = endpoint.name.as_str();
    let both = with_samples(pairs, name);
    let [a, b] = totals(pairs, name);
    let used = both.len() as f64;
    if !pairs.is_empty() && (a == 0 || b == 0) {
        let sides = if a + b == 0 {
            "either side"
        } else if a == 0 {
            "side A"
        } else {
            "side B"
        };
        return Err(CompareVerdict::Invalid { reasons: vec![format!("no samples on {sides}")] });
    }
    if (pairs.len() - both.len()) as f64 > pairs.len() as f64 * pairs::INVALID_SHARE_MAX {
        let reason = format!("only {} of {} pairs have samples on both sides", both.len(), pairs.len());
        return Err(CompareVerdict::Invalid { reasons: vec![reason] });
    }
    let planned = rules.looks().last().copied().unwrap_or(PAIRS_DEFAULT);
    let few = |blocks: usize, what: &str| CompareVerdict::Inconclusive {
        more_pairs: Some(planned.saturating_sub(pairs.len() as u32).max(1)),
        reason: format!("{blocks} {what}: with fewer than {BLOCKS_MIN}, significance is unreachable"),
    };
    if both.len() < BLOCKS_MIN as usize {
        return Err(few(both.len(), "pairs with samples on both sides"));
    }
    // 10 / (1 − 0.9) is a little more than 100 in floating point.
    let needed = (SAMPLES_BEYOND_MIN / endpoint.quantile.min(1.0 - endpoint.quantile) - 1e-6).ceil();
    let fewest = a.min(b) as f64;
    if fewest < needed {
        let more = (used * (needed / fewest - 1.0)).ceil();
        return Err(CompareVerdict::Inconclusive {
            more_pairs: Some(more.max(1.0) as u32),
            reason: format!("{fewest} samples, where this quantile needs {needed}"),
        });
    }
    let estimate = resample::estimate(&both, name, endpoint.quantile, rules.seed);
    let estimate = estimate.ok_or_else(|| few(1, "block"))?;
    if estimate.blocks < BLOCKS_MIN {
        return Err(few(estimate.blocks as usize, "quads, since neighbouring pairs resemble each other"));
    }
    Ok(Case { endpoint, estimate })
}

/// Pairs that have samples of `name` on both sides; a side that did not do the thing says nothing of how long it takes.
fn with_samples<'a>(pairs: &[Pair<'a>], name: &str) -> Vec<Pair<'a>> {
    let has = |slice: &Slice| slice.samples.get(name).is_some_and(|samples| !samples.is_empty());
    pairs.iter().filter(|pair| has(pair.a) && has(pair.b)).copied().collect()
}

fn totals(pairs: &[Pair<'_>], name: &str) -> [u64; 2] {
    let count = |slice: &Slice| slice.samples.get(name).map_or(0, Samples::count);
    [pairs.iter().map(|pair| count(pair.a)).sum(), pairs.iter().map(|pair| count(pair.b)).sum()]
}

fn figures(
    endpoint: &Endpoint,
    pairs: &[Pair<'_>],
    case: Option<&Case<'_>>,
    alpha: f64,
    verdict: CompareVerdict,
) -> EndpointComparison {
    let [samples_a, samples_b] = totals(pairs, &endpoint.name);
    EndpointComparison {
        name: endpoint.name.clone(),
        quantile: endpoint.quantile,
        gate: endpoint.gate,
        samples_a,
        samples_b,
        a_us: case.map(|case| case.estimate.a_ns / 1000.0),
        b_us: case.map(|case| case.estimate.b_ns / 1000.0),
        effect: case.map(|case| case.effect(alpha)),
        verdict,
    }
}

fn slice_figures(slices: &[Slice], rules: &Rules) -> Vec<SliceFigures> {
    let mut in_order: Vec<&Slice> = slices.iter().collect();
    in_order.sort_by(|a, b| a.started_s.total_cmp(&b.started_s));
    let us = |slice: &Slice, endpoint: &Endpoint| {
        slice.samples.get(&endpoint.name)?.quantile_ns(endpoint.quantile).map(|ns| ns / 1000.0)
    };
    in_order
        .into_iter()
        .map(|slice| SliceFigures {
            side: slice.side,
            pair: slice.pair,
            started_s: slice.started_s,
            steal_pct: slice.steal_pct,
            cpu_pct: slice.cpu_pct,
            invalid: slice.invalid.clone(),
            endpoints_us: rules.endpoints.iter().map(|endpoint| us(slice, endpoint)).collect(),
        })
        .collect()
}

//! How much larger or smaller one rung's mean is than another's, with an interval.
//!
//! The rungs of a ladder run one after the other, so these intervals know the spread of the samples and nothing of a machine
//! that changed in between: they are there where no paired comparison is, and the page says which is which.

use crate::dist::Dist;
use crate::schema::{Rung, StageReport};

#[cfg(test)]
mod tests;

/// Normal quantile of the two-sided 90 % interval.
const Z_90: f64 = 1.644_853_626_951_472_2;

/// A ratio with the 90 % interval around it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ratio {
    /// After over before: 0 where nothing is left.
    pub(crate) value: f64,
    /// Lower and upper end; `None` where too little is known.
    pub(crate) interval: Option<(f64, f64)>,
}

/// A mean with what is known of its error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Mean {
    /// Microseconds.
    pub(crate) us: f64,
    /// Standard error over the mean.
    relative_error: Option<f64>,
    /// Samples that may count as independent.
    samples: u64,
}

impl Mean {
    /// Nothing at all: what a stage takes that did not run.
    pub(crate) const fn nothing() -> Self {
        Self { us: 0.0, relative_error: None, samples: 0 }
    }

    /// The mean of a distribution with one sample a rollout.
    pub(crate) fn of(dist: &Dist) -> Option<Self> {
        Some(Self { us: dist.mean_us?, ..Self::with_spread(dist, dist.count) })
    }

    /// The mean per rollout of a stage. Calls of one rollout are alike, so no more samples are counted than rollouts.
    pub(crate) fn per_rollout(stage: &StageReport, rung: &Rung) -> Self {
        let samples = stage.dist.count.min(rung.accounting.ok.max(rung.overhead.count));
        Self { us: stage.per_rollout_us, ..Self::with_spread(&stage.dist, samples) }
    }

    fn with_spread(dist: &Dist, samples: u64) -> Self {
        let spread = dist.stdev_us.zip(dist.mean_us).filter(|(_, mean)| *mean > 0.0);
        let relative_error =
            spread.filter(|_| samples > 1).map(|(stdev, mean)| stdev / mean / (samples as f64).sqrt());
        Self { us: 0.0, relative_error, samples }
    }
}

impl Ratio {
    /// The ratio of two independent means: the errors of their logarithms add in squares (delta method), and the interval is
    /// Student's with the fewer samples' degrees of freedom. `None` where `before` is 0.
    pub(crate) fn of(after: Mean, before: Mean) -> Option<Self> {
        if before.us <= 0.0 {
            return None;
        }
        let value = after.us / before.us;
        let error = after.relative_error.zip(before.relative_error).map(|(a, b)| a.hypot(b));
        let half = error.map(|error| error * t_90(after.samples.min(before.samples) - 1));
        let interval = half.filter(|_| value > 0.0).map(|half| (value * (-half).exp(), value * half.exp()));
        Some(Self { value, interval })
    }
}

/// Student's t quantile of the two-sided 90 % interval, by Cornish and Fisher's expansion around the normal one (Abramowitz
/// and Stegun 26.7.5): within 1 % from 3 degrees of freedom on, wide enough below.
fn t_90(degrees: u64) -> f64 {
    let (z, v) = (Z_90, degrees.max(1) as f64);
    let (z3, z5, z7) = (z.powi(3), z.powi(5), z.powi(7));
    z + (z3 + z) / (4.0 * v)
        + (5.0 * z5 + 16.0 * z3 + 3.0 * z) / (96.0 * v * v)
        + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / (384.0 * v.powi(3))
}

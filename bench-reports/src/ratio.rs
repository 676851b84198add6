//! How much larger or smaller one rung's mean is than another's, with an interval.
//!
//! The rungs of a ladder run one after the other, so these intervals know the spread of the samples and nothing of a machine
//! that changed in between: they are there where no paired comparison is, and the page says which is which.

use crate::compare::student;
use crate::dist::Dist;
use crate::schema::{Rung, StageReport};

#[cfg(test)]
mod tests;

/// One-sided probability of the two-sided 90 % interval.
const ONE_SIDED: f64 = 0.95;

/// Beyond so many degrees of freedom Student's distribution is the normal one, to four digits; reading it takes time in
/// proportion to them.
const DEGREES_MAX: u32 = 10_000;

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
        let degrees = u32::try_from(after.samples.min(before.samples).saturating_sub(1)).unwrap_or(u32::MAX);
        let half = error.map(|error| error * student::quantile(ONE_SIDED, degrees.clamp(1, DEGREES_MAX)));
        let interval = half.filter(|_| value > 0.0).map(|half| (value * (-half).exp(), value * half.exp()));
        Some(Self { value, interval })
    }
}

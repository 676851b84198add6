//! Telling a waiting person how far a run is.

use std::sync::Arc;

use mipro_bench_reports::Accounting;
use mipro_telemetry::Group;

/// Hears how far a run is. Called from the run's own task, so implementations must not block for long.
pub trait Progress: Send + Sync {
    /// The run begins; `total` rollouts are intended, or none can be told beforehand.
    fn started(&self, total: Option<u64>);
    /// Called about ten times a second, and once at the end: rollouts done (`errors` of them failed) and in flight.
    fn tick(&self, done: u64, errors: u64, in_flight: u64);
    /// Asked after each tick: whether [`Progress::figures`] should follow. They cost the run a copy of two histograms, so this
    /// should be true seldom; it never is unless an implementation says so.
    fn wants_figures(&self) -> bool {
        false
    }
    /// What is known so far.
    fn figures(&self, _figures: &Figures) {}
    /// The run is over.
    fn finished(&self);
}

/// What is known of a run that goes on. Percentiles are of all samples so far, however few.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// Where the rollouts that ended went; `intended` and `unsent` are not known yet.
    pub accounting: Accounting,
    /// Samples behind the percentiles.
    pub samples: u64,
    /// p50, p90 and p99 of the rollouts' response times, microseconds.
    pub response_us: Option<[f64; 3]>,
    /// p99 of the lag between intended start and sending: the generator's own lateness, microseconds.
    pub lag_p99_us: Option<f64>,
    /// Mean exclusive time per rollout by roll-up, microseconds; empty where the server says nothing.
    pub groups_us: Vec<(Group, f64)>,
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

/// A listener that tells nobody.
#[must_use]
pub fn silent() -> Arc<dyn Progress> {
    Arc::new(Silent)
}

impl Progress for Silent {
    fn started(&self, _total: Option<u64>) {}
    fn tick(&self, _done: u64, _errors: u64, _in_flight: u64) {}
    fn finished(&self) {}
}

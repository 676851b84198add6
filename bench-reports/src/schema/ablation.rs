//! `ablation`: each optimization alone on the original, and taken from the whole; the same ladder where the LLM takes no time;
//! and what distance to the stores costs.

use serde::{Deserialize, Serialize};

use super::Rung;

/// What each optimization does by itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ablation {
    /// One row an optimization, in the ladder's order.
    pub rows: Vec<AblationRow>,
    /// The five options of the document that began this, each beside its own estimate.
    pub options: Vec<SeedOption>,
    /// Overhead against the round trip to both stores.
    pub distance: Vec<DistancePoint>,
    /// The rungs behind [`Ablation::rows`]: `blob+…`, `full-…`, and `full`.
    pub variants: Vec<Rung>,
    /// The ladder again, where the mock LLM answers at once.
    pub without_llm: Vec<Rung>,
}

/// One optimization.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AblationRow {
    /// `pooled`, `write-through`, …: the rung that turns it on.
    pub optimization: String,
    /// What it saves in the ladder: the step from the rung before.
    pub ladder: Option<Saving>,
    /// What it saves when it is added to `blob` alone (with what it can't do without).
    pub alone: Option<Saving>,
    /// What it saves when all others are there: the whole without it, and the whole.
    pub last: Option<Saving>,
    /// Whether the three differ by more than their intervals: then what it saves depends on what is there already.
    pub order_matters: bool,
}

/// What an overhead's median falls by; negative where it rises. Microseconds a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Saving {
    /// Without the optimization.
    pub before_us: f64,
    /// With it.
    pub after_us: f64,
    /// The difference.
    pub saved_us: f64,
    /// Lower bound of the difference: each median's interval of 95 % at its worse end.
    pub lower_us: f64,
    /// Upper bound.
    pub upper_us: f64,
}

/// One of the five options that the first document proposed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedOption {
    /// As it was called.
    pub option: String,
    /// What was expected of it, in its own words.
    pub estimate: String,
    /// What was measured, in a sentence; says so where it was not.
    pub measured: String,
    /// Overhead saved by it alone, milliseconds a rollout; absent where it saves no overhead or was not measured.
    #[serde(default)]
    pub saved_ms: Option<f64>,
    /// Whether the saving lies in the range that was expected; absent where there is no range of that kind.
    #[serde(default)]
    pub as_expected: Option<bool>,
}

/// One rung at one distance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DistancePoint {
    /// Round trip to the database and to the object store, in microseconds.
    pub rtt_us: u64,
    /// Which rung.
    pub rung: String,
    /// Median overhead of a rollout; null without enough samples.
    pub overhead_p50_us: Option<f64>,
    /// Rollouts it rests on.
    pub samples: u64,
}

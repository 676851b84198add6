//! `comparisons[]` of a report: what interleaved pairs of slices said about two sides, with intervals and verdicts.

use serde::{Deserialize, Serialize};

/// Two sides, held against each other slice by slice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The side held against, for people (`HEAD~1`, `blob`, a path).
    pub a: String,
    /// The side in question.
    pub b: String,
    /// What both sides ran; empty where the sides are rungs themselves.
    #[serde(default)]
    pub rung: String,
    /// Pairs that count.
    pub pairs: u32,
    /// Pairs set aside, with the reasons, none of which looks at a latency.
    pub pairs_invalid: Vec<InvalidPair>,
    /// One-sided error probability of each bound of each interval, after its division among the looks.
    pub alpha: f64,
    /// Looks at the data that were allowed beforehand.
    pub looks_max: u32,
    /// Seed of the resampling.
    pub seed: u64,
    /// In the order in which they were asked for.
    pub endpoints: Vec<EndpointComparison>,
    /// All endpoints together.
    pub verdict: CompareVerdict,
    /// Every slice, in time order, those set aside included.
    #[serde(default)]
    pub slices: Vec<SliceFigures>,
}

/// A pair of slices that was set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvalidPair {
    /// Its number.
    pub pair: u32,
    /// Why, with the side.
    pub reasons: Vec<String>,
}

/// What is judged of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum GateRule {
    /// Non-inferiority: B may take at most this share longer than A (`0.1`: 10 %).
    Margin {
        /// The non-inferiority margin, a share.
        share: f64,
    },
    /// B's own quantile stays below this.
    Ceiling {
        /// The ceiling.
        max_us: f64,
    },
    /// Nothing: it is measured and shown.
    Shown,
}

/// One quantile of one distribution on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointComparison {
    /// `rollout.response`, `stages.db.query`, …
    pub name: String,
    /// 0.5 for the median.
    pub quantile: f64,
    /// What is judged.
    pub gate: GateRule,
    /// Samples of side A in the pairs that count.
    pub samples_a: u64,
    /// Samples of side B in the pairs that count.
    pub samples_b: u64,
    /// The quantile of A's pairs together; null without enough samples.
    pub a_us: Option<f64>,
    /// The quantile of B's pairs together.
    pub b_us: Option<f64>,
    /// The figures of the comparison; null where there are too few pairs or samples for any.
    pub effect: Option<Effect>,
    /// What it comes to.
    pub verdict: CompareVerdict,
}

/// How much longer B takes than A. A share of `0.1` is 10 % longer; intervals leave [`Comparison::alpha`] on each side.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// `b / a − 1`.
    pub share: f64,
    /// Lower bound of the interval of `share`.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Standard error of ln(b / a).
    pub se_ln: f64,
    /// One-sided probability of a ratio as large as this, or larger, if B took no longer than A.
    pub p_value: f64,
    /// Lower bound of B's own quantile.
    pub b_lower_us: f64,
    /// Upper bound of B's own quantile.
    pub b_upper_us: f64,
    /// Blocks that were resampled.
    pub blocks: u32,
    /// Pairs a block: 1, or 2 (a quad) where neighbouring pairs resemble each other.
    pub block_pairs: u32,
    /// Autocorrelation of neighbouring pairs' differences; null where they do not differ.
    pub lag1: Option<f64>,
    /// The smallest lengthening that pairs as many and as noisy as these tell from none four times in five.
    pub detectable: f64,
}

/// How a comparison, or one endpoint of it, came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum CompareVerdict {
    /// Shown to be within the margin.
    Pass {
        /// Shown to be faster, by more than the machine differs from itself.
        improved: bool,
    },
    /// Shown to be slower, by more than the margin.
    Regress,
    /// Neither was shown.
    Inconclusive {
        /// About how many more pairs would show one or the other, if what was seen so far is how it is; null where that is
        /// not known or beyond reach.
        more_pairs: Option<u32>,
        /// What is missing.
        reason: String,
    },
    /// The measurement is not to be believed.
    Invalid {
        /// Why not.
        reasons: Vec<String>,
    },
    /// Not judged, only shown.
    Shown,
}

impl CompareVerdict {
    /// As it is printed: `PASS`, `IMPROVED`, `REGRESS`, `INCONCLUSIVE`, `INVALID`, `shown`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pass { improved: false } => "PASS",
            Self::Pass { improved: true } => "IMPROVED",
            Self::Regress => "REGRESS",
            Self::Inconclusive { .. } => "INCONCLUSIVE",
            Self::Invalid { .. } => "INVALID",
            Self::Shown => "shown",
        }
    }

    /// The process's exit code: 0 for a pass, 99 for a regression, 125 where nothing was shown.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Pass { .. } | Self::Shown => 0,
            Self::Regress => 99,
            Self::Inconclusive { .. } | Self::Invalid { .. } => 125,
        }
    }
}

/// Which side a slice measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Side {
    /// The side held against.
    A,
    /// The side in question.
    B,
}

impl Side {
    /// `A` or `B`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
        }
    }
}

/// What is shown of one slice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SliceFigures {
    /// Which side ran.
    pub side: Side,
    /// Which pair it belongs to.
    pub pair: u32,
    /// Seconds from the comparison's start.
    pub started_s: f64,
    /// CPU time that the hypervisor took meanwhile, in percent.
    pub steal_pct: f64,
    /// CPU time that was used meanwhile, in percent of all cores.
    pub cpu_pct: f64,
    /// Why the slice is set aside; empty where it is not.
    pub invalid: Vec<String>,
    /// The slice's own quantile of each endpoint, in the order of [`Comparison::endpoints`]; null without samples.
    pub endpoints_us: Vec<Option<f64>>,
}

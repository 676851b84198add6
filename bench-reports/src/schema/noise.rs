//! `environment.noise_floor`: how far a machine differs from itself, as `mipro aa` measured it.

use serde::{Deserialize, Serialize};

use super::Environment;

/// How far a machine differs from itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoiseFloor {
    /// Always [`NoiseFloor::SCHEMA`].
    pub schema: String,
    /// When it was measured (RFC 3339, UTC).
    pub measured_at: String,
    /// How it was measured.
    pub command: String,
    /// The machine it is true of.
    pub machine: Machine,
    /// Pairs a comparison.
    pub pairs: u32,
    /// Rollouts a slice.
    pub rollouts: u64,
    /// Comparisons that share no slice.
    pub fresh: Vec<Noise>,
    /// Comparisons drawn again from the same slices.
    pub redrawn: Vec<Noise>,
}

/// What a noise floor is true of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Model name of the CPU.
    pub cpu: String,
    /// Logical cores.
    pub cores: u32,
    /// Kernel release.
    pub kernel: String,
}

/// One endpoint's noise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// `overhead`, `stages.db.query`, …
    pub endpoint: String,
    /// 0.5 for the median.
    pub quantile: f64,
    /// Comparisons that gave an interval.
    pub comparisons: u32,
    /// Those whose interval leaves out "no difference".
    pub false_alarms: u32,
    /// `false_alarms / comparisons`.
    pub rate: f64,
    /// With 95 % confidence the rate is no higher (Clopper and Pearson).
    pub rate_upper: f64,
    /// Half the width of an interval, the median over the comparisons, a share.
    pub half_width: f64,
    /// Differences, without their sign, that 19 of 20 comparisons stay within, a share.
    pub noise: f64,
}

impl Machine {
    /// The machine that an environment describes.
    #[must_use]
    pub fn of(environment: &Environment) -> Self {
        Self { cpu: environment.cpu.clone(), cores: environment.cores, kernel: environment.kernel.clone() }
    }
}

impl NoiseFloor {
    /// The value of [`NoiseFloor::schema`].
    pub const SCHEMA: &str = "mipro.noise/2";

    /// Half the width of `endpoint`'s intervals, a share; `None` where it was not measured.
    #[must_use]
    pub fn half_width(&self, endpoint: &str, quantile: f64) -> Option<f64> {
        let is_it = |of: &&Noise| of.endpoint == endpoint && (of.quantile - quantile).abs() < 1e-9;
        self.fresh.iter().find(is_it).filter(|of| of.comparisons > 0).map(|of| of.half_width)
    }
}

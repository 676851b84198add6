//! What `mipro profile` found: where the time of each side went.

use serde::{Deserialize, Serialize};

/// A profile of one or two sides. Its figures were taken under a profiler: they say where time went, not how long it takes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// A, then B.
    pub sides: Vec<ProfiledSide>,
    /// What could not be had, why, and what is shown in its stead.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// One side.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProfiledSide {
    /// `blob`, a revision, a binary.
    pub name: String,
    /// Wall-clock time inside the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall: Option<WallProfile>,
    /// CPU time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuProfile>,
}

/// Where a rollout's calls spend wall-clock time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WallProfile {
    /// Rollouts it rests on.
    pub rollouts: u64,
    /// All calls of a rollout together, inside the service.
    pub per_rollout_us: f64,
    /// Of it, time in which none of the requests' code ran; null where only stages are known.
    pub await_us: Option<f64>,
    /// By stage, the longest first; `other` is what none claims.
    pub stages: Vec<ProfiledStage>,
    /// The slowest rollout, first call to last answer: the one in `slowest-….trace.json`.
    pub slowest_us: Option<f64>,
    /// `spans`, or `server-timing` where the service gives no more.
    pub source: String,
}

/// A stage's part.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProfiledStage {
    /// Its name.
    pub stage: String,
    /// Its time.
    pub per_rollout_us: f64,
}

/// Where CPU time went.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CpuProfile {
    /// Rollouts it rests on.
    pub rollouts: u64,
    /// Stacks that were sampled.
    pub samples: u64,
    /// CPU time by those samples.
    pub per_rollout_us: f64,
    /// `perf, cpu-clock at 499 Hz`.
    pub recorder: String,
}

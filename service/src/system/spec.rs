//! What a job asked for: a system's settings, fixed when it is made.

use std::sync::Arc;

use rand::RngCore;
use serde::{Deserialize, Serialize};

use super::prompt::Prompt;
use super::refusal::{Refusal, require};
use crate::optimizer::{Arm, ArmsView, Fixed, Policy, Suggestion, Tpe, Uniform};

/// When candidates are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// On live traffic, rollout by rollout.
    #[default]
    Online,
    /// In a run of its own, before traffic comes.
    Offline,
}

impl Mode {
    /// The mode's name in JSON and in the `systems` table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
        }
    }
}

/// Which policy picks candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyKind {
    /// Tree-structured Parzen estimator over the candidates' params.
    #[default]
    Tpe,
    /// Every candidate with the same probability; the control to compare with.
    Uniform,
    /// Always `baseline`; switches learning off.
    Fixed,
}

/// Settings of the TPE policy, as a job's `tpe` object names them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TpeSpec {
    /// The share of candidates that counts as good, in (0, 1). Smaller is greedier. Default 0.25.
    pub gamma: f64,
    /// Draws from the good density at each suggestion; the best of them wins. More is greedier. Default 24.
    pub n_candidates: u32,
    /// Suggestions spread evenly before the model is asked. Default 10.
    pub n_startup_trials: u32,
    /// The probability of a uniform choice, in \[0, 1\]. Default 0.25.
    pub epsilon: f64,
    /// Smoothing count of the priors, above 0: as many pseudo-observations stand beside the real ones. Default 1.0.
    pub alpha: f64,
}

impl Default for TpeSpec {
    fn default() -> Self {
        Self { gamma: 0.25, n_candidates: 24, n_startup_trials: 10, epsilon: 0.25, alpha: 1.0 }
    }
}

/// Bounds of one system, so that no caller can make its state grow without end. Stored with it; no request sets them: a new system
/// has the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Candidates registered, `baseline` among them. Default 1,024.
    pub candidates_max: usize,
    /// Rollouts begun and not closed. Default 100,000.
    pub rollouts_open_max: usize,
    /// Closed rollouts remembered, so that a repeated status call is known as such; the oldest go first. A repeat that comes
    /// later still is refused as unknown, unless it names its candidate: then it can't be told from a first report, and counts
    /// as one. A start that comes again after that is a new rollout. Default 100,000.
    pub rollouts_closed_max: usize,
    /// How long a closed rollout is remembered, microseconds. Default 24 h.
    pub dedup_window_us: u64,
    /// How long a rollout may stay open, rewarded or not, microseconds; then it expires: it is no longer in flight, and remembered
    /// like a closed one. Default 1 h.
    pub rollout_ttl_us: u64,
    /// Bytes in a rollout or candidate id. Default 256.
    pub id_bytes_max: usize,
    /// Bytes in one candidate's content, as JSON. Default 256 KiB.
    pub content_bytes_max: usize,
    /// Dimensions in one candidate's params. Default 32.
    pub params_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        const HOUR_US: u64 = 3_600_000_000;
        Self {
            candidates_max: 1_024,
            rollouts_open_max: 100_000,
            rollouts_closed_max: 100_000,
            dedup_window_us: 24 * HOUR_US,
            rollout_ttl_us: HOUR_US,
            id_bytes_max: 256,
            content_bytes_max: 256 * 1024,
            params_max: 32,
        }
    }
}

/// A system's settings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SystemSpec {
    /// Online or offline.
    pub mode: Mode,
    /// The baseline prompt.
    pub prompt: Arc<Prompt>,
    /// The model rollouts are answered by, where the request names none.
    pub model: String,
    /// The provider of that model: a key of the service's `[providers]`.
    pub provider: String,
    /// Who calls the LLM, as the client words it (`synth_hosted`, …); kept, not judged.
    pub inference_mode: String,
    /// Sampling temperature, where the request gives none.
    pub temperature: Option<f64>,
    /// Completion token limit, where the request gives none.
    pub max_completion_tokens: Option<u32>,
    /// Batch mode: a picked candidate is held for this many rollout starts. Absent: a pick for each rollout.
    pub rollouts_per_candidate: Option<u32>,
    /// Settings of the TPE policy.
    pub tpe: TpeSpec,
    /// Which policy picks.
    pub policy: PolicyKind,
    /// Save after this many events, where the job asks for it.
    pub snapshot_events_max: Option<u32>,
    /// Save after this many seconds, where the job asks for it.
    pub snapshot_s_max: Option<u32>,
    /// Bounds.
    pub limits: Limits,
}

impl SystemSpec {
    /// Checks what JSON types can't: ranges and finiteness.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] with the field's name as the job spells it.
    pub fn validate(&self) -> Result<(), Refusal> {
        let tpe = &self.tpe;
        require(tpe.gamma > 0.0 && tpe.gamma < 1.0, "tpe.gamma", "must lie between 0 and 1, both excluded")?;
        require((0.0..=1.0).contains(&tpe.epsilon), "tpe.epsilon", "must lie between 0 and 1")?;
        require(tpe.alpha > 0.0 && tpe.alpha.is_finite(), "tpe.alpha", "must be a finite number above 0")?;
        require(
            (1..=10_000).contains(&tpe.n_candidates),
            "tpe.n_candidates",
            "must lie between 1 and 10000",
        )?;
        let batch = self.rollouts_per_candidate;
        require(batch != Some(0), "online_rollouts_per_candidate", "must be 1 or more")?;
        let warm = self.temperature;
        require(warm.is_none_or(f64::is_finite), "policy.temperature", "must be a finite number")?;
        self.prompt.validate()
    }

    /// The policy these settings name.
    #[must_use]
    pub fn policy(&self) -> AnyPolicy {
        match self.policy {
            PolicyKind::Tpe => AnyPolicy::Tpe(Tpe::from(&self.tpe)),
            PolicyKind::Uniform => AnyPolicy::Uniform(Uniform),
            PolicyKind::Fixed => AnyPolicy::Fixed(Fixed { arm: 0 }),
        }
    }
}

/// One of the policies; made anew for each command, so it lies on the stack.
#[derive(Debug, Clone, Copy)]
pub enum AnyPolicy {
    /// [`PolicyKind::Tpe`].
    Tpe(Tpe),
    /// [`PolicyKind::Uniform`].
    Uniform(Uniform),
    /// [`PolicyKind::Fixed`].
    Fixed(Fixed),
}

impl Policy for AnyPolicy {
    fn suggest(&self, view: &ArmsView<'_>, dice: &mut dyn RngCore) -> Option<Suggestion> {
        match self {
            Self::Tpe(policy) => policy.suggest(view, dice),
            Self::Uniform(policy) => policy.suggest(view, dice),
            Self::Fixed(policy) => policy.suggest(view, dice),
        }
    }

    fn observe(&self, arm: &mut Arm, reward: f64) {
        match self {
            Self::Tpe(policy) => policy.observe(arm, reward),
            Self::Uniform(policy) => policy.observe(arm, reward),
            Self::Fixed(policy) => policy.observe(arm, reward),
        }
    }
}

impl From<&TpeSpec> for Tpe {
    fn from(spec: &TpeSpec) -> Self {
        Self {
            gamma: spec.gamma,
            draws: spec.n_candidates,
            startup_trials: spec.n_startup_trials,
            epsilon: spec.epsilon,
            alpha: spec.alpha,
            ..Self::default()
        }
    }
}

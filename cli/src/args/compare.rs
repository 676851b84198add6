use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use mipro_harness::compare::OnInconclusive;
use mipro_harness::ladder::RungName;
use mipro_harness::pacing::Pacing;
use mipro_testbed::link::LinkSpec;

use super::ground::GroundArgs;

/// Holds B against A: slices of both in alternation, each pair with the same arrivals, payloads and delays of the mock LLM, and
/// a verdict with its uncertainty: PASS, IMPROVED, REGRESS, INCONCLUSIVE or INVALID. Exits with 0, 99 (REGRESS) or 125.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mipro compare bounded logged                      two rungs of the ladder
  mipro compare --rev HEAD~1 HEAD                   two revisions, built in work trees
  mipro compare --bin old/mipro target/release/mipro --rung parallel
  mipro compare http://10.0.0.7:8090 http://10.0.0.8:8090    two services (key: MIPRO_API_KEY)
  mipro compare pooled@db=10ms pooled@db=12ms       one rung on two links
  mipro compare bounded logged -q closed -c 1       one rollout after the other
  mipro compare runs/a runs/b                       two saved reports: counts are judged, times shown")]
pub(crate) struct CompareArgs {
    /// The side held against: a rung, URL, bin:PATH, rev:REVISION, or a saved report
    pub(crate) a: String,

    /// The side in question
    pub(crate) b: String,

    /// A and B are paths to mipro binaries
    #[arg(long, conflicts_with = "rev")]
    pub(crate) bin: bool,

    /// A and B are git revisions
    #[arg(long)]
    pub(crate) rev: bool,

    #[command(flatten)]
    pub(crate) pairing: PairingArgs,

    /// What an inconclusive first look leads to: more pairs and at most three looks, or an answer at once
    #[arg(long, value_enum, default_value_t = Inconclusive::Extend, value_name = "WHAT")]
    pub(crate) on_inconclusive: Inconclusive,

    #[command(flatten)]
    pub(crate) ground: GroundArgs,
}

/// How sides alternate.
#[derive(Debug, Args)]
pub(crate) struct PairingArgs {
    /// How the services of binaries and revisions are configured
    #[arg(long, default_value = "one-call")]
    pub(crate) rung: RungName,

    /// Pairs of slices (looked at after two thirds, all, and half as many again)
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) pairs: u32,

    /// Length of a slice on the slower side [default: 2s, up to 5s where rollouts are slow]
    #[arg(long, value_parser = crate::duration::parse)]
    pub(crate) slice: Option<Duration>,

    /// Rollouts in flight, at most
    #[arg(short, long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) concurrency: u32,

    /// Arrivals: light (open model, 0.3 of what the slower side can do), N a second, or closed
    #[arg(short = 'q', long, short_alias = 'R', default_value_t = Pacing::Light, value_name = "RATE")]
    pub(crate) rate: Pacing,

    /// How much longer B may take and still pass
    #[arg(long, default_value = "10%", value_parser = margin, value_name = "SHARE")]
    pub(crate) margin: f64,

    /// A pair is set aside where the hypervisor took more than this of the machine's time
    #[arg(long, default_value = "10%", value_parser = share, value_name = "SHARE")]
    pub(crate) steal_max: f64,

    /// Network between services and stores: loopback, same-region, cross-region, or db=12ms,s3=40ms,up=50mbit
    #[arg(long, default_value = "loopback")]
    pub(crate) link: LinkSpec,

    /// The mock LLM's latency: none, fixed:20ms, seed (1.3–2.8 s)
    #[arg(long, default_value = "fixed:20ms")]
    pub(crate) llm: String,

    /// This machine's noise floor, as `mipro aa` keeps it
    #[arg(long, value_name = "FILE", default_value = super::NOISE_FILE)]
    pub(crate) noise: PathBuf,
}

/// What an inconclusive look leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Inconclusive {
    /// Exit 0
    Pass,
    /// Exit 99
    Fail,
    /// More pairs, then 125
    Extend,
}

impl From<Inconclusive> for OnInconclusive {
    fn from(asked: Inconclusive) -> Self {
        match asked {
            Inconclusive::Pass => Self::Pass,
            Inconclusive::Fail => Self::Fail,
            Inconclusive::Extend => Self::Extend,
        }
    }
}

/// Reads `10%` or `0.1` as a share.
fn share(text: &str) -> Result<f64, String> {
    let (number, per) = text.strip_suffix('%').map_or((text, 1.0), |percent| (percent, 100.0));
    let share =
        number.trim().parse::<f64>().map_err(|_| format!("`{text}` is no share; say 10% or 0.1"))? / per;
    if share >= 0.0 && share.is_finite() {
        Ok(share)
    } else {
        Err(format!("`{text}` is no share: it must not be negative"))
    }
}

fn margin(text: &str) -> Result<f64, String> {
    share(text).and_then(|share| {
        if share > 0.0 { Ok(share) } else { Err(format!("`{text}` is no margin: it must be above 0")) }
    })
}

#[cfg(test)]
mod tests;

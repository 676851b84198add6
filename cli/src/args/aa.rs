use std::path::PathBuf;

use clap::Args;

use super::compare::PairingArgs;
use super::ground::GroundArgs;

/// Holds a side against itself, many times: how often that raises a false alarm here, and how far this machine differs from
/// itself. What it finds is kept, and stands in every later comparison's report.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mipro aa                                          20 comparisons of 12 pairs: some minutes
  mipro aa --runs 120 --slice 500ms                 for a bound on the false-alarm rate
  mipro aa --side blob --link same-region           another side")]
pub(crate) struct AaArgs {
    /// The side: a rung, URL, bin:PATH or rev:REVISION
    #[arg(long, default_value = "one-call")]
    pub(crate) side: String,

    /// Comparisons that share no slice
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) runs: u32,

    /// Comparisons drawn again from the same slices
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) redrawn: u32,

    /// Where the noise floor is kept
    #[arg(long, value_name = "FILE", default_value = super::NOISE_FILE)]
    pub(crate) keep: PathBuf,

    #[command(flatten)]
    pub(crate) pairing: PairingArgs,

    #[command(flatten)]
    pub(crate) ground: GroundArgs,
}

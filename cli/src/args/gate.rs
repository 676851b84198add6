use std::path::PathBuf;

use clap::Args;

use super::compare::{Inconclusive, PairingArgs};
use super::ground::GroundArgs;

/// Holds this build against bench-reports/budgets.toml: exact counts a rollout, then ceilings, then (with --base) a comparison with
/// another revision. Exits with 0, with 99 where one is breached, with 125 where one is not known.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mipro gate                                        counts and ceilings: under a minute
  mipro gate --base origin/main                     and a comparison with that revision
  mipro gate --accept                               what was counted becomes what is allowed
  mipro gate --instructions                         what the benches counted in target/instructions
  mipro gate --base HEAD~1 --on-inconclusive pass   for pull requests")]
pub(crate) struct GateArgs {
    /// What is allowed
    #[arg(long, value_name = "FILE", default_value = "bench-reports/budgets.toml")]
    pub(crate) budgets: PathBuf,

    /// The revision (or bin:PATH) to compare with
    #[arg(long, value_name = "REVISION")]
    pub(crate) base: Option<String>,

    /// Write what was counted into the budgets
    #[arg(long, conflicts_with = "base")]
    pub(crate) accept: bool,

    /// Judge what the benches counted (`just instructions`), and nothing else: a file, or a directory of files. Starts nothing
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = "target/instructions", conflicts_with_all = ["base", "markdown"])]
    pub(crate) instructions: Option<PathBuf>,

    /// Write a Markdown summary, fit for a pull request, to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,

    /// What an inconclusive comparison leads to
    #[arg(long, value_enum, default_value_t = Inconclusive::Extend, value_name = "WHAT")]
    pub(crate) on_inconclusive: Inconclusive,

    #[command(flatten)]
    pub(crate) pairing: PairingArgs,

    #[command(flatten)]
    pub(crate) ground: GroundArgs,
}

use std::path::PathBuf;

use clap::Args;
use mipro_harness::ladder::RungName;
use mipro_testbed::link::LinkSpec;

use super::ground::GroundArgs;

/// Where a rollout's time goes: flamegraphs of wall-clock time (waiting told from running) and of the CPU, their differences both ways,
/// and the slowest rollout on a time axis. Without A and B: blob beside bounded. What can't be recorded is said, and why.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mipro profile                                     blob beside bounded, from afar
  mipro profile pooled                              one rung
  mipro profile --rev HEAD~1 HEAD --rung parallel   two revisions, built in work trees
  mipro profile bounded -n 200 --link loopback --llm none    where its own CPU time goes
  just flame                                        the same with frame pointers, for whole CPU stacks")]
pub(crate) struct ProfileArgs {
    /// A rung, URL, bin:PATH or rev:REVISION [default: blob]
    pub(crate) a: Option<String>,

    /// Another, to hold beside it [default: bounded where A is not given either]
    pub(crate) b: Option<String>,

    /// A and B are paths to mipro binaries
    #[arg(long, conflicts_with = "rev", requires = "a")]
    pub(crate) bin: bool,

    /// A and B are git revisions
    #[arg(long, requires = "a")]
    pub(crate) rev: bool,

    /// How the services of binaries and revisions are configured
    #[arg(long, default_value = "one-call")]
    pub(crate) rung: RungName,

    /// Rollouts whose wall-clock time is profiled; five times as many for the CPU
    #[arg(short = 'n', long, default_value_t = mipro_harness::profile::ROLLOUTS_DEFAULT, value_parser = crate::duration::parse_some)]
    pub(crate) rollouts: u64,

    /// Rollouts in flight
    #[arg(short, long, default_value_t = mipro_harness::profile::LANES_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) concurrency: u32,

    /// Network between service and stores: loopback, same-region, cross-region, or db=12ms,s3=40ms,up=50mbit
    #[arg(long, default_value = "cross-region")]
    pub(crate) link: LinkSpec,

    /// The mock LLM's latency: none, fixed:20ms, seed (1.3–2.8 s)
    #[arg(long, default_value = "fixed:100ms")]
    pub(crate) llm: String,

    /// The program perf
    #[arg(long, env = "MIPRO_PERF", default_value = "perf", value_name = "PATH")]
    pub(crate) perf: PathBuf,

    #[command(flatten)]
    pub(crate) ground: GroundArgs,
}

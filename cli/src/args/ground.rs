use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use mipro_testbed::stack::StackKind;

use super::ShowArgs;
use super::containers::ContainerArgs;

/// What every command that starts a testbed may be told about it.
#[derive(Debug, Args)]
pub(crate) struct GroundArgs {
    /// Where Postgres and S3 come from: auto, embedded, native, containers, external
    #[arg(long, default_value = "auto")]
    pub(crate) stack: StackKind,

    /// Database of `--stack external`, as `serve --database` takes it
    #[arg(long, value_name = "URL", requires = "blobs")]
    pub(crate) database: Option<String>,

    /// Blobs of `--stack external`, as `serve --blobs` takes them
    #[arg(long, value_name = "URL", requires = "database")]
    pub(crate) blobs: Option<String>,

    /// Fetch Postgres with pip where none is installed
    #[arg(long)]
    pub(crate) fetch_postgres: bool,

    /// Directory with train.csv and test.csv (`text,category`); without it the built-in set
    #[arg(long, value_name = "DIR")]
    pub(crate) dataset: Option<PathBuf>,

    /// Seed of payloads and mock delays
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    /// One rollout's time limit
    #[arg(long, default_value = "60s", value_parser = crate::duration::parse)]
    pub(crate) timeout: Duration,

    /// How long an interrupted run waits for rollouts in flight
    #[arg(long, default_value = "5s", value_parser = crate::duration::parse)]
    pub(crate) drain: Duration,

    /// Where the run's folder goes [default: bench-reports/runs/TIME-COMMIT]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) show: ShowArgs,

    #[command(flatten)]
    pub(crate) containers: ContainerArgs,
}

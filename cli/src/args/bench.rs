use std::path::PathBuf;

use clap::Args;
use mipro_bench_reports::threshold::Threshold;
use mipro_harness::ladder::{RungName, UnknownRung, parse_list};
use mipro_testbed::link::LinkSpec;

use super::ReportFormat;
use super::ground::GroundArgs;

#[derive(Debug, Clone)]
pub(crate) struct Rungs(pub(crate) Vec<RungName>);

fn rungs(text: &str) -> Result<Rungs, UnknownRung> {
    parse_list(text).map(Rungs)
}

/// Starts Postgres, S3, the mock LLM, the task app and the service, replays rollouts through the whole path once per rung
/// of the ladder, and writes a report. Stops and removes everything it started, also when interrupted.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mipro bench                                       the whole story
  mipro bench --quick                               under a minute of measuring
  mipro bench --rungs blob,pooled --history 2000    what a grown state costs
  mipro bench --ablate                              each optimization by itself, too
  mipro bench --link db=12ms,s3=40ms,up=50mbit      your own network
  mipro bench --stack containers --s3-image minio/minio    others' servers")]
pub(crate) struct BenchArgs {
    /// Rungs of the ladder, comma-separated: direct, blob, pooled, write-through, write-back, logged, bounded, one-call, parallel, same-region
    #[arg(long, default_value = "all", value_parser = rungs)]
    pub(crate) rungs: Rungs,

    /// Network between service and stores: loopback, same-region, cross-region, or db=12ms,s3=40ms,up=50mbit
    #[arg(long, default_value = "cross-region")]
    pub(crate) link: LinkSpec,

    /// The mock LLM's latency: none, fixed:20ms, seed (1.3–2.8 s) [default: seed; with --quick fixed:100ms]
    #[arg(long)]
    pub(crate) llm: Option<String>,

    /// Systems side by side; rollouts of one system are serial where the rung says so
    #[arg(long, default_value_t = mipro_harness::options::SYSTEMS_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) systems: u32,

    /// Rollouts in flight in the parallel rungs
    #[arg(short, long, default_value_t = mipro_harness::options::CONCURRENCY_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) concurrency: u32,

    /// Rollouts each rung measures [default: 48 for the slow rungs, 100 for the others; with --quick 24]
    #[arg(short = 'n', long, value_parser = crate::duration::parse_some)]
    pub(crate) rollouts: Option<u64>,

    /// Past rollouts in every system's state when a rung begins
    #[arg(long, default_value = "0", value_parser = crate::duration::parse_count)]
    pub(crate) history: u64,

    /// Fewer rollouts and a fast LLM: under 60 s of measuring
    #[arg(long)]
    pub(crate) quick: bool,

    /// Leave out what is lost on a kill and under concurrent calls
    #[arg(long)]
    pub(crate) no_loss: bool,

    /// Leave out CPU and memory of the service with 1, 10 and 50 clients (--quick does)
    #[arg(long)]
    pub(crate) no_resources: bool,

    /// Measure each optimization alone, too: added to the original, and taken from the whole; and overhead against distance
    #[arg(long)]
    pub(crate) ablate: bool,

    #[command(flatten)]
    pub(crate) ground: GroundArgs,
}

/// Reads a run's report.json and prints it again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mipro report bench-reports/runs/latest
  mipro report bench-reports/runs/latest --format json | jq .rungs[].overhead.p50_us
  mipro report bench-reports/runs/latest --html page.html
  mipro report latest --format markdown             for a pull request's comment
  mipro report latest --format k6 --rung parallel   as k6 summarizes it
  mipro report latest --rung parallel --threshold 'overhead:med<10ms'")]
pub(crate) struct ReportArgs {
    /// A run's folder, or its report.json
    pub(crate) run: PathBuf,

    /// What stdout gets
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    pub(crate) format: ReportFormat,

    /// The rung that --format oha and k6 are about [default: the last]
    #[arg(long, value_name = "NAME")]
    pub(crate) rung: Option<String>,

    /// Exit with 99 unless this holds on every rung, or on --rung: 'rollout.response:p(99)<250ms' (may be repeated)
    #[arg(long = "threshold", value_name = "THRESHOLD")]
    pub(crate) thresholds: Vec<Threshold>,

    /// Also write the page to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// Exit with 125 unless the accounting holds and every figure may be believed
    #[arg(long)]
    pub(crate) check: bool,

    /// No colour (NO_COLOR does the same)
    #[arg(long)]
    pub(crate) no_color: bool,
}

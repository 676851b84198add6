use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};
use url::Url;
use uuid::Uuid;

use super::ShowArgs;

/// Drives rollouts (a task-app call, then status calls) against a service that is already running, or plain requests
/// against any HTTP endpoint. The API key comes from MIPRO_API_KEY.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("what").required(true).args(["target", "url"]),
    after_help = "Examples:
  mipro load --target http://127.0.0.1:8090 -n 100 -c 10
  mipro load --target http://127.0.0.1:8090 --system 0b6d… -d 30s
  mipro load --url http://127.0.0.1:8088/v1/chat/completions --body request.json -n 10k -c 32"
)]
pub(crate) struct LoadArgs {
    /// The service
    #[arg(long, value_name = "URL")]
    pub(crate) target: Option<Url>,

    /// The task app
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8016")]
    pub(crate) task_app: Url,

    /// A system to use; without it a job is created for each of --systems
    #[arg(long, value_name = "ID", conflicts_with = "url")]
    pub(crate) system: Option<Uuid>,

    /// A plain HTTP endpoint instead of rollouts
    #[arg(long, value_name = "URL", requires = "body")]
    pub(crate) url: Option<Url>,

    /// The JSON that is posted to --url
    #[arg(long, value_name = "FILE", requires = "url")]
    pub(crate) body: Option<PathBuf>,

    /// Systems to create when --system is absent
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) systems: u32,

    /// In flight at most
    #[arg(short, long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) concurrency: u32,

    /// How many [default: 100, or no limit with --duration]
    #[arg(short = 'n', long, value_parser = crate::duration::parse_some)]
    pub(crate) rollouts: Option<u64>,

    /// How long
    #[arg(short, long, visible_short_alias = 'z', value_parser = crate::duration::parse)]
    pub(crate) duration: Option<Duration>,

    /// Rollouts made first and not reported
    #[arg(short, long, default_value = "0", value_parser = crate::duration::parse_count)]
    pub(crate) warmup: u64,

    /// Report with `reward`, then `done`, instead of one `reward_done`
    #[arg(long)]
    pub(crate) two_calls: bool,

    /// One rollout after the other within each system
    #[arg(long)]
    pub(crate) serial: bool,

    /// Seed of payloads
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    /// One rollout's time limit
    #[arg(long, default_value = "60s", value_parser = crate::duration::parse)]
    pub(crate) timeout: Duration,

    /// How long to wait for what is in flight after Ctrl-C
    #[arg(long, default_value = "5s", value_parser = crate::duration::parse)]
    pub(crate) drain: Duration,

    /// Write a run's folder here
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) show: ShowArgs,
}

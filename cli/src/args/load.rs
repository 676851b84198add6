use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use mipro_bench_reports::threshold::Threshold;
use mipro_loadgen::{Arrivals, Error, Rate, Schedule, Shape, Warmup};
use url::Url;
use uuid::Uuid;

use super::ShowArgs;

mod rate;

pub(crate) use rate::{RateArg, StepsArg};

/// Drives rollouts (a task-app call, then status calls) against a service that is already running, or plain requests
/// against any HTTP endpoint. The API key comes from MIPRO_API_KEY.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("what").required(true).args(["target", "url", "calibrate"]),
    after_help = "Examples:
  mipro load --target http://127.0.0.1:8090 -n 100 -c 10
  mipro load --target http://127.0.0.1:8090 --system 0b6d… -d 30s
  mipro load --target http://127.0.0.1:8090 -q 50 -d 60s -c 200 -w 10s --arrival poisson
  mipro load --target http://127.0.0.1:8090 --steps 50,100,200@30s -c 400
  mipro load --target http://127.0.0.1:8090 -n 200 --record demo.jsonl
  mipro load --target http://127.0.0.1:8090 --replay demo.jsonl --speed 2x -c 50
  mipro load --target http://127.0.0.1:8090 --find-knee 'response:p(99)<250ms' -c 400
  mipro load --calibrate -q 2000
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

    /// A plain HTTP endpoint instead of rollouts; `{rollout}` in it becomes an id of its own in each request
    #[arg(long, value_name = "URL", requires = "body")]
    pub(crate) url: Option<Url>,

    /// The JSON that is posted to --url
    #[arg(long, value_name = "FILE", requires = "url")]
    pub(crate) body: Option<PathBuf>,

    /// Systems to create when --system is absent
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) systems: u32,

    /// In flight; in the open model: at most
    #[arg(short, long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) concurrency: u32,

    /// How many [default: 100, or no limit with --duration or --steps]
    #[arg(short = 'n', long, value_parser = crate::duration::parse_some)]
    pub(crate) rollouts: Option<u64>,

    /// How long
    #[arg(short, long, visible_short_alias = 'z', value_parser = crate::duration::parse)]
    pub(crate) duration: Option<Duration>,

    /// Arrivals per second, whatever the answers take (open model); A:B goes evenly from A to B over --duration. Without
    /// it, each of -c starts anew when its last one is done (closed model)
    #[arg(short = 'q', long, visible_short_alias = 'R', value_name = "N|A:B")]
    pub(crate) rate: Option<RateArg>,

    /// Rates one after the other, each for the same time, e.g. 50,100,200@30s
    #[arg(long, value_name = "RATES@TIME", conflicts_with_all = ["rate", "duration"])]
    pub(crate) steps: Option<StepsArg>,

    /// How arrivals follow one another: evenly (to compare), or as from users who know nothing of one another (capacity)
    #[arg(long, value_enum, default_value_t = Arrival::Constant)]
    pub(crate) arrival: Arrival,

    /// Made first and not reported: a number, or for how long
    #[arg(short, long, value_name = "TIME|COUNT", default_value = "0", value_parser = rate::parse_warmup)]
    pub(crate) warmup: Warmup,

    /// Report with `reward`, then `done`, instead of one `reward_done`
    #[arg(long)]
    pub(crate) two_calls: bool,

    /// One rollout after the other within each system
    #[arg(long)]
    pub(crate) serial: bool,

    /// Seed of payloads and arrivals
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    /// One call's time limit
    #[arg(long, default_value = "60s", value_parser = crate::duration::parse)]
    pub(crate) timeout: Duration,

    /// One rollout's time limit from its intended start; those that miss it are counted as such
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
    pub(crate) deadline: Option<Duration>,

    /// How long to wait for what is due after --duration, or for what is in flight after Ctrl-C
    #[arg(long, default_value = "5s", value_parser = crate::duration::parse)]
    pub(crate) drain: Duration,

    /// Accepted and ignored: times from the intended start and from sending are both always reported
    #[arg(long)]
    pub(crate) latency_correction: bool,

    /// What must hold, e.g. 'response:p(99)<250ms', 'stages.db.p(99)<50ms', 'accounting.errors:rate<1%'; may be given more
    /// than once. A breach exits 99
    #[arg(long, value_name = "CONDITION")]
    pub(crate) threshold: Vec<Threshold>,

    /// Find the highest rate at which a condition holds: doubling from --rate, then halving, in stages of --duration
    /// [default: 10s; longer where a rate is too low to judge by], confirmed by one three times as long
    #[arg(long, value_name = "CONDITION", conflicts_with_all = ["steps", "replay", "record", "rollouts", "threshold"])]
    pub(crate) find_knee: Option<Threshold>,

    /// Measure this generator and this machine instead, against a server that does nothing: ceiling, noise floor, and
    /// how well arrivals are paced at --rate [default: 2000]
    #[arg(long)]
    pub(crate) calibrate: bool,

    /// Write when each rollout began and what it was about to this file (docs/formats.md)
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,

    /// With --record and --system: make no rollouts, write down those that the system has had, as its service tells them
    #[arg(long, requires_all = ["record", "system", "target"])]
    pub(crate) from_events: bool,

    /// Make the rollouts of a recording: its arrivals, examples and pauses, with at most -c in flight
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rate", "steps"])]
    pub(crate) replay: Option<PathBuf>,

    /// How much faster than recorded, e.g. 2x
    #[arg(long, value_name = "N", requires = "replay", default_value = "1x", value_parser = rate::parse_speed)]
    pub(crate) speed: f64,

    /// Write a run's folder here
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) show: ShowArgs,
}

/// How arrivals follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arrival {
    /// Evenly
    Constant,
    /// Exponential gaps
    Poisson,
}

impl LoadArgs {
    /// The schedule that the flags ask for; a recording's is made by who reads it.
    ///
    /// # Errors
    /// When they ask for none that there is.
    pub(crate) fn schedule(&self) -> Result<Schedule, Error> {
        let rate = match (&self.rate, &self.steps) {
            (None, None) => return Ok(Schedule::Closed),
            (_, Some(steps)) => Rate::Steps { rates: steps.rates.clone(), each: steps.each },
            (Some(RateArg::Constant(rate)), None) => Rate::Constant(*rate),
            (Some(RateArg::Ramp { from, to }), None) => {
                let over = self.duration.ok_or_else(|| {
                    Error::Options(format!(
                        "--rate {from}:{to} needs --duration: over what time should it rise?"
                    ))
                })?;
                Rate::Ramp { from: *from, to: *to, over }
            }
        };
        Ok(Schedule::Open(Arrivals::new(self.shape(), rate, self.seed)?))
    }

    /// How arrivals follow one another.
    pub(crate) fn shape(&self) -> Shape {
        match self.arrival {
            Arrival::Constant => Shape::Constant,
            Arrival::Poisson => Shape::Poisson,
        }
    }

    /// Whether something else than -n ends the run.
    pub(crate) fn ends_by_time(&self) -> bool {
        self.duration.is_some() || self.steps.is_some() || self.replay.is_some()
    }
}

#[cfg(test)]
mod tests;

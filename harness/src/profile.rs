//! `mipro profile`: where a rollout's time goes, on one side or two.
//!
//! The steps for each side, one side after the other: start its service; record its CPU with perf over a stretch of rollouts (`perf`);
//! start it again on the same data with its own layers on ([`mipro_telemetry::profile`]) and drive another stretch (`wall`); stop it,
//! which writes what the layers gathered. So the CPU's picture holds no profiler of ours, and no figure is taken from a stretch that
//! was profiled for another. Then the pictures are drawn (`pictures`), with the differences where there are two sides.
//!
//! What can't be had is a note in the report, with the reason and what is shown in its stead; it is no error.

use std::path::{Path, PathBuf};

use mipro_bench_reports::{Profile, Report, Rung, SCHEMA, Side as Which};
use mipro_loadgen::{Options as Load, Outcome, Progress};
use mipro_telemetry::clock;
use mipro_testbed::process::Fleet;
use tokio_util::sync::CancellationToken;

use crate::bench::Watcher;
use crate::compare::executable;
use crate::environment::{CpuTimes, filesystem_of};
use crate::ground::{environment, run_entry, start_stack};
use crate::options::{BenchOptions, Error, STOP_DEADLINE};
use crate::roles;
use crate::side::{Ground, Side};
use crate::subject::Subject;

mod perf;
mod pictures;
mod wall;

/// Rollouts of the stretch whose wall-clock time is profiled, unless told otherwise.
pub const ROLLOUTS_DEFAULT: u64 = 48;
/// Rollouts in flight unless told otherwise.
pub const LANES_DEFAULT: u32 = 8;
/// The stretch whose CPU is recorded makes so many times as many rollouts: a sample is 2 ms of CPU, and a rollout may take less.
const CPU_TIMES: u64 = 5;

/// Everything `mipro profile` may be told.
#[derive(Debug, Clone)]
pub struct ProfileOptions {
    /// What the sides stand on. Rungs, rollouts and losses in it are not looked at.
    pub bench: BenchOptions,
    /// One side.
    pub a: Subject,
    /// Another to hold beside it.
    pub b: Option<Subject>,
    /// Rollouts of the stretch whose wall-clock time is profiled.
    pub rollouts: u64,
    /// Rollouts in flight at most.
    pub lanes: u32,
    /// What services that run already take as a key.
    pub api_key: Option<String>,
    /// The program `perf`.
    pub perf: PathBuf,
}

/// What a profile leaves behind.
#[derive(Debug)]
pub struct Profiled {
    /// What was found.
    pub report: Report,
    /// The configurations used, as text; without passwords.
    pub config: String,
    /// Flamegraphs, folded stacks and traces: name and text.
    pub files: Vec<(String, String)>,
}

/// What is known of one side.
struct Found {
    label: String,
    config: String,
    wall: Option<wall::Wall>,
    cpu: Option<perf::Cpu>,
}

/// Profiles one side, or two. Everything it starts is stopped before it returns, also on errors. Cancelling `cancel` ends it after the
/// rollouts in flight: what was found is kept. `scratch` must exist and is the caller's to remove.
///
/// # Errors
/// When a revision does not build, something could not be started or stopped answering, or no rollout of a side succeeded.
pub async fn run(
    options: &ProfileOptions,
    scratch: &Path,
    watcher: &dyn Watcher,
    cancel: &CancellationToken,
) -> Result<Profiled, Error> {
    let mut sides = Vec::with_capacity(2);
    for (which, subject) in [(Which::A, Some(&options.a)), (Which::B, options.b.as_ref())] {
        if let Some(subject) = subject {
            sides.push((which, subject, executable(subject, &options.bench.exe, watcher).await?));
        }
    }
    let fleet = Fleet::new(scratch);
    let outcome = match fleet.guard(Box::pin(all(options, &sides, scratch, &fleet, watcher, cancel))).await {
        Ok(outcome) => outcome,
        Err(death) => Err(Error::Unexpected(death.to_string())),
    };
    fleet.drain(STOP_DEADLINE).await;
    outcome
}

async fn all(
    options: &ProfileOptions,
    sides: &[(Which, &Subject, PathBuf)],
    scratch: &Path,
    fleet: &Fleet,
    watcher: &dyn Watcher,
    cancel: &CancellationToken,
) -> Result<Profiled, Error> {
    let (started_us, cpu) = (clock::unix_us(), CpuTimes::read());
    let ground = Box::pin(start(options, sides, scratch, fleet, watcher)).await?;
    let stretches = Stretches { options, ground: &ground, watcher, cancel };
    let (mut found, mut notes) = (Vec::with_capacity(2), Vec::new());
    for (which, subject, exe) in sides {
        if !cancel.is_cancelled() {
            found.push(Box::pin(stretches.side(*which, subject, exe, &mut notes)).await?);
        }
    }
    let environment = match &ground.stack {
        Some(stack) => {
            environment(&options.bench, stack, CpuTimes::read().steal_pct_since(cpu), filesystem_of(scratch))
        }
        None => crate::compare::environment_of_theirs(CpuTimes::read().steal_pct_since(cpu)),
    };
    let (files, profiled) = pictures::draw(&found);
    notes.sort_unstable();
    notes.dedup();
    let mut config = format!("# {}\n", options.bench.command);
    for side in &found {
        config.push_str(&format!("\n# {}\n{}", side.label, side.config));
    }
    let report = Report {
        schema: SCHEMA.to_owned(),
        run: run_entry(&options.bench.command, options.bench.seed, started_us, cancel.is_cancelled()),
        environment,
        profile: Some(Profile { sides: profiled, notes }),
        ..Report::default()
    };
    Ok(Profiled { report, config, files })
}

/// What the sides stand on; without stores and a mock where everything runs already.
async fn start<'a>(
    options: &'a ProfileOptions,
    sides: &[(Which, &Subject, PathBuf)],
    scratch: &'a Path,
    fleet: &'a Fleet,
    watcher: &dyn Watcher,
) -> Result<Ground<'a>, Error> {
    let bench = &options.bench;
    let (mut stack, mut mock) = (None, None);
    if !sides.iter().all(|(_, subject, _)| subject.is_running()) {
        watcher.step("starting Postgres, S3 and the link between");
        stack = Some(start_stack(bench, scratch, fleet).await?);
        mock = Some(roles::mock_llm(fleet, bench).await?);
    }
    let task_app = roles::task_app(fleet, bench).await?;
    let api_key = options.api_key.clone();
    Ok(Ground { options: bench, fleet, dir: scratch, stack, mock, task_app, api_key })
}

/// Drives stretches of rollouts on one side after the other.
struct Stretches<'a> {
    options: &'a ProfileOptions,
    ground: &'a Ground<'a>,
    watcher: &'a dyn Watcher,
    cancel: &'a CancellationToken,
}

impl Stretches<'_> {
    async fn side(
        &self,
        which: Which,
        subject: &Subject,
        exe: &Path,
        notes: &mut Vec<String>,
    ) -> Result<Found, Error> {
        let mut side = Side::start(self.ground, which, subject, exe).await?;
        let (mut cpu, mut wall) = (None, None);
        match side.service().map(|service| service.child.pid()) {
            Some(pid) => match Box::pin(self.cpu(&side, pid)).await? {
                Ok((found, said)) => {
                    cpu = Some(found);
                    notes.extend(said);
                }
                Err(why) => notes.push(why),
            },
            None => notes.push(format!(
                "{}: a service that runs already can't be profiled from here, for its process is not ours; its stages are as it tells them in \
                 Server-Timing, without [await] and [poll]. For more start it with {}=DIR: SIGUSR1 begins, SIGTERM writes; \
                 and where it runs, perf record -e cpu-clock -F {} --call-graph fp -p PID.",
                side.label,
                mipro_telemetry::profile::DIR_VARIABLE,
                perf::HERTZ
            )),
        }
        if !self.cancel.is_cancelled() {
            wall = Some(Box::pin(self.wall(&mut side, notes)).await?);
        }
        side.stop(self.ground).await;
        Ok(Found { label: side.label, config: side.config, wall, cpu })
    }

    /// The side's load, a system made for each lane; nothing waits for a link while they are made.
    async fn prepared(&self, side: &Side, prefix: &str, rollouts: u64) -> Result<Load, Error> {
        side.set_link(self.ground, false).await?;
        let mut load = Load {
            rollouts,
            rollout_prefix: prefix.to_owned(),
            ..side.load(self.ground, self.options.lanes)
        };
        load.system_ids = mipro_loadgen::prepare(&load).await.map_err(|source| failed(side, source))?;
        Ok(load)
    }

    /// So much that connections are open and code has run once.
    async fn warm(&self, side: &Side, load: &Load) -> Result<(), Error> {
        let rollouts = u64::from(self.options.lanes);
        let warm = Load { rollouts, rollout_prefix: format!("{}-warm", load.rollout_prefix), ..load.clone() };
        self.drive(side, warm, mipro_loadgen::silent()).await.map(|_| ())
    }

    async fn drive(
        &self,
        side: &Side,
        load: Load,
        progress: std::sync::Arc<dyn Progress>,
    ) -> Result<Outcome, Error> {
        let outcome = mipro_loadgen::run(load, progress, self.cancel.clone());
        let outcome = outcome.await.map_err(|source| failed(side, source))?;
        if outcome.accounting.ok == 0 && !self.cancel.is_cancelled() {
            let mut rung = Rung::default();
            outcome.fill(&mut rung);
            let why = rung.validity.reasons.join("; ");
            return Err(Error::Unexpected(format!("no rollout of {} succeeded: {why}", side.label)));
        }
        Ok(outcome)
    }
}

fn failed(side: &Side, source: mipro_loadgen::Error) -> Error {
    Error::Side { side: side.label.clone(), source }
}

//! A run of the ladder, from nothing to a report.

use std::path::Path;
use std::sync::Arc;

use mipro_bench_reports::hlog::Logs;
use mipro_bench_reports::{Environment, Report, Rung, SCHEMA, Speedup, seed_table};
use mipro_loadgen::Progress;
use mipro_telemetry::clock;
use mipro_testbed::process::Fleet;
use mipro_testbed::stack::Stack;
use tokio_util::sync::CancellationToken;

use crate::bed::Bed;
use crate::environment::{CpuTimes, filesystem_of};
use crate::ground::{environment, run_entry, start_stack, without_password};
use crate::options::{BenchOptions, Error, STOP_DEADLINE};
use crate::rung::measure;
use crate::service_config::{self, Places};
use crate::{ablate, roles, verdicts};

/// What a run leaves behind.
#[derive(Debug)]
pub struct Finished {
    /// What was found.
    pub report: Report,
    /// The configurations used, as text; without passwords.
    pub config: String,
    /// Interval logs beside those that the report makes, by file name without ending.
    pub logs: Logs,
}

/// Hears of each rung as it begins, and gives the rung its progress display.
pub trait Watcher: Send + Sync {
    /// A step that takes a moment (`starting Postgres`, …).
    fn step(&self, what: &str);
    /// A rung begins.
    fn rung(&self, name: &str, index: usize, of: usize) -> Arc<dyn Progress>;
}

/// Runs the ladder. Everything it starts is stopped before it returns, also on errors; dropping the future does the same,
/// less politely. Cancelling `cancel` ends the run after the rollouts in flight: the report is then partial and says so.
/// `scratch` takes configurations, logs and data; it must exist and is the caller's to remove.
///
/// # Errors
/// When something could not be started or stopped answering. A child that dies in mid-run is such an error, with the last
/// lines it wrote.
pub async fn run(
    options: &BenchOptions,
    scratch: &Path,
    watcher: &dyn Watcher,
    cancel: &CancellationToken,
) -> Result<Finished, Error> {
    let fleet = Fleet::new(scratch);
    let work = with_fleet(options, scratch, &fleet, watcher, cancel);
    let outcome = match fleet.guard(Box::pin(work)).await {
        Ok(outcome) => outcome,
        Err(death) => Err(Error::Unexpected(death.to_string())),
    };
    fleet.drain(STOP_DEADLINE).await;
    outcome
}

async fn with_fleet(
    options: &BenchOptions,
    scratch: &Path,
    fleet: &Fleet,
    watcher: &dyn Watcher,
    cancel: &CancellationToken,
) -> Result<Finished, Error> {
    let (started_us, started) = (clock::unix_us(), clock::now());
    let cpu_before = CpuTimes::read();
    watcher.step("starting Postgres, S3 and the link between");
    let stack = start_stack(options, scratch, fleet).await?;
    watcher.step("starting the mock LLM and the task app");
    let mock = roles::mock_llm(fleet, options).await?;
    let task_app = roles::task_app(fleet, options).await?;
    let bed = Bed { options, fleet, stack: &stack, mock: &mock, task_app: &task_app, dir: scratch, started };

    let mut measured = Vec::with_capacity(options.rungs.len());
    for (index, name) in options.rungs.iter().enumerate() {
        if cancel.is_cancelled() {
            break;
        }
        let progress = watcher.rung(name.name(), index, options.rungs.len());
        measured.push(Box::pin(measure(&bed, &name.plan(), progress, cancel)).await?);
    }
    let ablation = match options.ablate && !cancel.is_cancelled() {
        true => Some(Box::pin(ablate::run(&bed, &measured, watcher, cancel)).await?),
        false => None,
    };
    let steal_pct = CpuTimes::read().steal_pct_since(cpu_before);
    let environment = environment(options, &stack, steal_pct, filesystem_of(scratch));
    let config = configurations(options, &stack, &roles::llm_base(&mock.url));
    let mut report = finish(options, environment, started_us, measured, cancel.is_cancelled());
    report.ablation = ablation;
    Ok(Finished { report, config, logs: Logs::new() })
}

/// Every rung's service configuration, one after the other, each under its rung's name.
fn configurations(options: &BenchOptions, stack: &Stack, upstream: &str) -> String {
    let (database_url, blobs_url) =
        (without_password(stack.database_url()), without_password(stack.blobs_url()));
    let places = Places { database_url: &database_url, blobs_url: &blobs_url, upstream };
    let mut text = format!("# {}\n", options.command);
    for rung in &options.rungs {
        let own = service_config::text(&rung.plan(), places).unwrap_or_else(|| "# no service\n".to_owned());
        text.push_str(&format!("\n# rung {rung}\n{own}"));
    }
    text
}

fn finish(
    options: &BenchOptions,
    environment: Environment,
    started_us: u64,
    rungs: Vec<Rung>,
    interrupted: bool,
) -> Report {
    let mut report = Report {
        schema: SCHEMA.to_owned(),
        run: run_entry(&options.command, options.seed, started_us, interrupted),
        environment,
        rungs,
        ..Report::default()
    };
    speedups(&mut report);
    report.seed_rows =
        report.rungs.iter().find(|r| r.name == "blob").map(seed_table::compare).unwrap_or_default();
    report.verdicts = verdicts::all(&report);
    report
}

/// Ratios of medians against the first rung that has a service.
fn speedups(report: &mut Report) {
    let Some(first) = report.rungs.iter().find(|r| r.overhead.p50_us.is_some_and(|us| us > 0.0)).cloned()
    else {
        return;
    };
    for rung in &mut report.rungs {
        let ratio = |before: Option<f64>, after: Option<f64>| Some(before? / after.filter(|us| *us > 0.0)?);
        let overhead = ratio(first.overhead.p50_us, rung.overhead.p50_us);
        let rollout = ratio(first.rollout.service.p50_us, rung.rollout.service.p50_us);
        rung.speedup = overhead.zip(rollout).map(|(overhead, rollout)| Speedup { overhead, rollout });
    }
}

//! `mipro load`

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use mipro_bench_reports::folder::{rfc3339, run_id};
use mipro_bench_reports::{Report, Run, RunFolder, Rung, SCHEMA};
use mipro_harness::environment::{CpuTimes, Revision, load_1m, machine, noise_sentence};
use mipro_loadgen::{Options, StatusStyle};
use mipro_telemetry::clock;

use super::bench::Interrupt;
use super::report::show;
use super::screen::Screen;
use crate::args::LoadArgs;
use crate::exit::Code;

const ROLLOUTS_DEFAULT: u64 = 100;
/// The load generator's word for "as many as the duration allows".
const UNLIMITED: u64 = 0;
const TASK_APP_KEY_VARIABLE: &str = "ENVIRONMENT_API_KEY";
const API_KEY_VARIABLE: &str = "MIPRO_API_KEY";

pub(crate) async fn run(args: LoadArgs) -> anyhow::Result<Code> {
    let interrupt = Interrupt::watch()?;
    let screen = Screen { quiet: args.show.quiet, no_color: args.show.no_color };
    let started_us = clock::unix_us();
    let cpu_before = CpuTimes::read();
    let mut rung = Rung {
        name: "load".to_owned(),
        durability: "as the target says".to_owned(),
        turns_on: "nothing: driven as it is".to_owned(),
        ..Rung::default()
    };
    if let Some(url) = &args.url {
        let body = args.body.as_deref().context("--url needs --body")?;
        let body = std::fs::read(body).with_context(|| format!("{} could not be read", body.display()))?;
        "plain requests".clone_into(&mut rung.title);
        let plain = mipro_loadgen::plain::Options {
            url: url.clone(),
            body: body.into(),
            api_key: variable(API_KEY_VARIABLE),
            load: load_options(&args),
        };
        let outcome =
            mipro_loadgen::plain::run(plain, screen.progress("requests"), interrupt.token.clone()).await?;
        outcome.fill(&mut rung);
    } else {
        "rollouts against a running service".clone_into(&mut rung.title);
        let outcome = rollouts(&args, &screen, &interrupt).await?;
        outcome.fill(&mut rung);
    }
    let report = report(&args, rung, started_us, cpu_before, interrupt.code().is_some());
    if let Some(dir) = &args.out {
        let folder = RunFolder::at(dir).context("the run's folder could not be made")?;
        folder
            .write(&report, &format!("# {}\n", report.run.command))
            .context("the run's files could not be written")?;
    }
    show(&report, args.show.format, args.show.no_color)?;
    Ok(interrupt.code().unwrap_or_else(|| {
        if report.rungs.iter().all(|r| r.accounting.holds()) { Code::Ok } else { Code::Invalid }
    }))
}

async fn rollouts(
    args: &LoadArgs,
    screen: &Screen,
    interrupt: &Interrupt,
) -> anyhow::Result<mipro_loadgen::Outcome> {
    let mut options = load_options(args);
    if options.system_ids.is_empty() {
        options.system_ids = mipro_loadgen::prepare(&options).await.context("no system could be made")?;
    }
    if args.warmup > 0 {
        let warm = Options {
            rollouts: args.warmup,
            duration: None,
            rollout_prefix: "warm".to_owned(),
            ..options.clone()
        };
        mipro_loadgen::run(warm, screen.progress("warm-up"), interrupt.token.clone()).await?;
    }
    Ok(mipro_loadgen::run(options, screen.progress("rollouts"), interrupt.token.clone()).await?)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|key| !key.is_empty())
}

fn load_options(args: &LoadArgs) -> Options {
    let by_default = if args.duration.is_some() { UNLIMITED } else { ROLLOUTS_DEFAULT };
    Options {
        target: args.target.clone(),
        task_app: args.task_app.clone(),
        api_key: variable(API_KEY_VARIABLE),
        task_app_key: variable(TASK_APP_KEY_VARIABLE),
        system_ids: args.system.into_iter().collect(),
        systems: args.systems,
        concurrency: args.concurrency,
        rollouts: args.rollouts.unwrap_or(by_default),
        duration: args.duration,
        status_calls: if args.two_calls { StatusStyle::RewardThenDone } else { StatusStyle::RewardDone },
        serial_per_system: args.serial,
        seed: args.seed,
        timeout: args.timeout,
        drain: args.drain,
        // Two runs against one system must not share rollout ids.
        rollout_prefix: format!("load-{:x}", clock::unix_us()),
        ..Options::default()
    }
}

fn report(args: &LoadArgs, rung: Rung, started_us: u64, cpu_before: CpuTimes, interrupted: bool) -> Report {
    let revision = Revision::of(Path::new("."));
    let mut environment = machine();
    environment.steal_pct = CpuTimes::read().steal_pct_since(cpu_before);
    environment.noise = noise_sentence(load_1m(), environment.cores);
    "the target's own".clone_into(&mut environment.stack);
    "its database".clone_into(&mut environment.database);
    "its object store".clone_into(&mut environment.object_store);
    for part in [&mut environment.link, &mut environment.llm, &mut environment.dataset] {
        "as it is".clone_into(part);
    }
    let limit = args.duration.map_or(String::new(), |d: Duration| format!(" -d {}s", d.as_secs_f64()));
    Report {
        schema: SCHEMA.to_owned(),
        run: Run {
            id: run_id(started_us, &revision.commit),
            started_at: rfc3339(started_us),
            finished_at: rfc3339(clock::unix_us()),
            commit: revision.commit,
            dirty: revision.dirty,
            command: format!("mipro load -n {} -c {}{limit}", rung.rollouts, rung.concurrency),
            seed: args.seed,
            interrupted,
        },
        environment,
        rungs: vec![rung],
        ..Report::default()
    }
}

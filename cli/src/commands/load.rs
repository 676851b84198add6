//! `mipro load`

mod knee;

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use mipro_bench_reports::folder::{rfc3339, run_id};
use mipro_bench_reports::threshold::Threshold;
use mipro_bench_reports::{Report, Run, RunFolder, Rung, SCHEMA, Verdict};
use mipro_harness::environment::{CpuTimes, Revision, load_1m, machine, noise_sentence};
use mipro_loadgen::{Options, Outcome, Recording, Replay, Runner, Schedule, StatusStyle, Warmup};
use mipro_telemetry::clock;

use super::bench::Interrupt;
use super::report::show;
use super::screen::Screen;
use crate::args::{LoadArgs, RateArg};
use crate::exit::Code;

const ROLLOUTS_DEFAULT: u64 = 100;
/// The load generator's word for "as many as the duration allows".
const UNLIMITED: u64 = 0;
const TASK_APP_KEY_VARIABLE: &str = "ENVIRONMENT_API_KEY";
const API_KEY_VARIABLE: &str = "MIPRO_API_KEY";

pub(crate) async fn run(args: LoadArgs) -> anyhow::Result<Code> {
    match Box::pin(measure(args)).await {
        Err(error) => match error.downcast_ref() {
            // Known before anything was sent: as invalid as if it had been measured.
            Some(preflight @ mipro_loadgen::Error::Preflight(_)) => {
                warn(&preflight.to_string());
                Ok(Code::Invalid)
            }
            Some(wrong @ mipro_loadgen::Error::Options(_)) => {
                warn(&format!("error: {wrong}"));
                Ok(Code::Usage)
            }
            _ => Err(error),
        },
        done => done,
    }
}

async fn measure(args: LoadArgs) -> anyhow::Result<Code> {
    let interrupt = Interrupt::watch()?;
    if args.calibrate {
        return Box::pin(calibrate(&args, &interrupt)).await;
    }
    if let (true, Some(system)) = (args.from_events, args.system) {
        let recording = mipro_loadgen::record_events(&load_options(&args)?, system).await?;
        write_recording(args.record.as_deref().context("--from-events needs --record")?, &recording)?;
        return Ok(Code::Ok);
    }
    let screen = Screen { quiet: args.show.quiet, no_color: args.show.no_color };
    let started_us = clock::unix_us();
    let cpu_before = CpuTimes::read();
    let runner = runner(&args).await?;
    let measured = match &args.find_knee {
        Some(condition) => {
            let found = Box::pin(knee::find(&args, condition, &runner, &screen, &interrupt)).await?;
            Measured { rungs: found.rungs, verdicts: vec![found.verdict], code: found.code }
        }
        None => once(&args, &runner, &screen, &interrupt).await?,
    };
    let report = report(&args, measured.rungs, measured.verdicts, started_us, cpu_before);
    let report = Report { run: Run { interrupted: interrupt.code().is_some(), ..report.run }, ..report };
    if let Some(dir) = &args.out {
        let folder = RunFolder::at(dir).context("the run's folder could not be made")?;
        folder
            .write(&report, &format!("# {}\n", report.run.command))
            .context("the run's files could not be written")?;
    }
    show(&report, args.show.format, args.show.no_color)?;
    Ok(interrupt.code().unwrap_or(measured.code))
}

/// What goes into the report, and what it comes to.
struct Measured {
    rungs: Vec<Rung>,
    verdicts: Vec<Verdict>,
    code: Code,
}

/// One run, held against the thresholds.
async fn once(
    args: &LoadArgs,
    runner: &Runner,
    screen: &Screen,
    interrupt: &Interrupt,
) -> anyhow::Result<Measured> {
    let progress = screen.progress(if args.url.is_some() { "requests" } else { "rollouts" });
    let outcome = runner.run(runner.slice(), progress, interrupt.token.clone()).await?;
    record(args, &outcome)?;
    let mut rung = new_rung("load", args);
    outcome.fill(&mut rung);
    let verdicts: Vec<Verdict> = args.threshold.iter().map(|threshold| verdict(threshold, &rung)).collect();
    let breached = verdicts.iter().any(|verdict| verdict.outcome != "pass");
    let reasons = &rung.validity.reasons;
    if !reasons.is_empty() {
        warn(&format!("the measurement is not valid: {}", reasons.join("; ")));
    }
    // What the service did is a breach however much of it failed; what the generator did is none of the service's.
    let code = match (breached, rung.validity.ok) {
        (true, _) if outcome.generator_limits().is_empty() => Code::Breached,
        (_, false) | (true, true) => Code::Invalid,
        (false, true) => Code::Ok,
    };
    Ok(Measured { rungs: vec![rung], verdicts, code })
}

fn verdict(threshold: &Threshold, rung: &Rung) -> Verdict {
    let checked = threshold.check(rung);
    let outcome = if checked.holds { "pass" } else { "fail" };
    Verdict { name: checked.threshold, outcome: outcome.to_owned(), detail: checked.seen }
}

/// Says something on stderr. Nobody is left to tell if that is gone.
fn warn(message: &str) {
    let _ = writeln!(std::io::stderr(), "{message}");
}

/// What is driven, ready.
async fn runner(args: &LoadArgs) -> anyhow::Result<Runner> {
    let load = load_options(args)?;
    let Some(url) = &args.url else {
        return Runner::prepare(load).await.context("no system could be made");
    };
    let body = args.body.as_deref().context("--url needs --body")?;
    let body = std::fs::read(body).with_context(|| format!("{} could not be read", body.display()))?;
    let api_key = variable(API_KEY_VARIABLE);
    let plain = mipro_loadgen::plain::Options { url: url.clone(), body: body.into(), api_key, load };
    Ok(Runner::plain(&plain)?)
}

fn new_rung(name: &str, args: &LoadArgs) -> Rung {
    let title = if args.url.is_some() { "plain requests" } else { "rollouts against a running service" };
    Rung {
        name: name.to_owned(),
        title: title.to_owned(),
        durability: "as the target says".to_owned(),
        turns_on: "nothing: driven as it is".to_owned(),
        ..Rung::default()
    }
}

/// How often `--calibrate` paces when no rate is told, per second.
const CALIBRATION_RATE: f64 = 2_000.0;
const CALIBRATION_EACH: Duration = Duration::from_secs(3);

async fn calibrate(args: &LoadArgs, interrupt: &Interrupt) -> anyhow::Result<Code> {
    let rate = args.rate.map_or(CALIBRATION_RATE, RateArg::highest);
    let each = args.duration.unwrap_or(CALIBRATION_EACH);
    let plan = mipro_loadgen::calibrate::Plan { concurrency: args.concurrency, rate, each };
    let found = Box::pin(mipro_loadgen::calibrate::calibrate(plan, interrupt.token.clone())).await;
    if let Some(code) = interrupt.code() {
        return Ok(code);
    }
    super::print(&found?.to_string())?;
    Ok(Code::Ok)
}

/// Writes what was recorded, if that was asked for.
fn record(args: &LoadArgs, outcome: &Outcome) -> anyhow::Result<()> {
    match (&args.record, outcome.recording()) {
        (Some(path), Some(recording)) => write_recording(path, recording),
        _ => Ok(()),
    }
}

fn write_recording(path: &Path, recording: &Recording) -> anyhow::Result<()> {
    let file = std::fs::File::create(path).and_then(|file| {
        let mut file = std::io::BufWriter::new(file);
        recording.write(&mut file)?;
        file.flush()
    });
    file.with_context(|| format!("{} could not be written", path.display()))
}

/// When rollouts should start: as the flags say, or as a recording does.
fn schedule(args: &LoadArgs) -> anyhow::Result<Schedule> {
    let Some(path) = &args.replay else { return Ok(args.schedule()?) };
    let file = std::fs::File::open(path).with_context(|| format!("{} could not be read", path.display()))?;
    let recording = Recording::read(std::io::BufReader::new(file))
        .with_context(|| format!("{} is no recording", path.display()))?;
    Ok(Schedule::Replay(Replay::new(recording, args.speed)?))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|key| !key.is_empty())
}

fn load_options(args: &LoadArgs) -> anyhow::Result<Options> {
    let by_default = if args.ends_by_time() { UNLIMITED } else { ROLLOUTS_DEFAULT };
    Ok(Options {
        target: args.target.clone(),
        task_app: args.task_app.clone(),
        api_key: variable(API_KEY_VARIABLE),
        task_app_key: variable(TASK_APP_KEY_VARIABLE),
        system_ids: args.system.into_iter().collect(),
        systems: args.systems,
        concurrency: args.concurrency,
        rollouts: args.rollouts.unwrap_or(by_default),
        duration: args.duration,
        warmup: args.warmup,
        schedule: schedule(args)?,
        record: args.record.is_some(),
        deadline: args.deadline,
        // A service in production does not tell its stages.
        stages_expected: false,
        status_calls: if args.two_calls { StatusStyle::RewardThenDone } else { StatusStyle::RewardDone },
        serial_per_system: args.serial,
        seed: args.seed,
        timeout: args.timeout,
        drain: args.drain,
        // Two runs against one system must not share rollout ids.
        rollout_prefix: format!("load-{:x}", clock::unix_us()),
        ..Options::default()
    })
}

/// The options that make a run what it is. URLs are left out: they may hold passwords.
fn command_line(args: &LoadArgs, rungs: &[Rung]) -> String {
    let mut words = vec!["mipro load".to_owned()];
    match (&args.find_knee, rungs) {
        (Some(condition), _) => words.push(format!("--find-knee '{condition}' -c {}", args.concurrency)),
        (None, rungs) => {
            words.extend(rungs.iter().map(|rung| format!("-n {} -c {}", rung.rollouts, rung.concurrency)));
        }
    }
    words.extend(args.duration.map(|d| format!("-d {}s", d.as_secs_f64())));
    words.extend(args.rate.as_ref().map(|rate| format!("-q {rate}")));
    words.extend(args.replay.as_ref().map(|_| format!("--replay FILE --speed {}x", args.speed)));
    words.extend(args.steps.as_ref().map(|steps| format!("--steps {steps}")));
    if args.rate.is_some() || args.steps.is_some() {
        words.push(format!("--arrival {}", args.shape().name()));
    }
    match args.warmup {
        Warmup::Rollouts(0) => {}
        Warmup::Rollouts(count) => words.push(format!("-w {count}")),
        Warmup::Time(time) => words.push(format!("-w {}s", time.as_secs_f64())),
    }
    words.extend(args.threshold.iter().map(|threshold| format!("--threshold '{threshold}'")));
    words.join(" ")
}

fn report(
    args: &LoadArgs,
    rungs: Vec<Rung>,
    verdicts: Vec<Verdict>,
    started_us: u64,
    cpu_before: CpuTimes,
) -> Report {
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
    Report {
        schema: SCHEMA.to_owned(),
        run: Run {
            id: run_id(started_us, &revision.commit),
            started_at: rfc3339(started_us),
            finished_at: rfc3339(clock::unix_us()),
            commit: revision.commit,
            dirty: revision.dirty,
            command: command_line(args, &rungs),
            seed: args.seed,
            interrupted: false,
        },
        environment,
        rungs,
        verdicts,
        ..Report::default()
    }
}

//! `mipro profile`

use anyhow::Context as _;
use mipro_bench_reports::hlog::Logs;
use mipro_harness::profile::{ProfileOptions, Profiled};
use mipro_harness::subject::{Naming, Subject};
use mipro_harness::{Finished, RungName, Watcher as _};

use super::bench::Interrupt;
use super::compare::could_not;
use super::ground::{self, check_dataset, keep_with};
use super::report::show;
use super::scratch::Scratch;
use super::screen::Screen;
use crate::args::ProfileArgs;
use crate::exit::{self, Code};

const API_KEY_VARIABLE: &str = "MIPRO_API_KEY";

pub(crate) async fn run(args: ProfileArgs) -> anyhow::Result<Code> {
    let sides = match sides(&args) {
        Ok(sides) => sides,
        Err(error) => return Ok(exit::misused(&error)),
    };
    let options = options(&args, sides)?;
    check_dataset(args.ground.dataset.as_deref())?;
    let interrupt = Interrupt::watch()?;
    let scratch = Scratch::new(&mipro_harness::environment::scratch_parent())?;
    let screen = Screen { quiet: args.ground.show.quiet, no_color: args.ground.show.no_color };
    let running = mipro_harness::profile::run(&options, scratch.path(), &screen, &interrupt.token);
    let outcome = tokio::select! {
        outcome = Box::pin(running) => outcome,
        // Dropping the run ends its children.
        () = interrupt.at_once.cancelled() => return Ok(interrupt.code().unwrap_or(Code::Interrupted)),
    };
    let Profiled { report, config, files } = match outcome {
        Ok(profiled) => profiled,
        Err(error) => return could_not(error, &scratch),
    };
    let finished = Finished { report, config, logs: Logs::new() };
    let kept = keep_with(finished, &files, args.ground.out.as_deref())?;
    show(&kept.report, args.ground.show.format, args.ground.show.no_color)?;
    if !args.ground.show.quiet {
        screen.step(&format!("report: {}", kept.folder.path().join("report.html").display()));
    }
    Ok(interrupt.code().unwrap_or(Code::Ok))
}

/// What is profiled: what was named, or the first rung and the one that is bounded.
fn sides(args: &ProfileArgs) -> anyhow::Result<(Subject, Option<Subject>)> {
    let naming = match (args.bin, args.rev) {
        (true, _) => Naming::Binary,
        (_, true) => Naming::Revision,
        _ => Naming::Plain,
    };
    let side = |which: &'static str, text: &str| -> anyhow::Result<Subject> {
        let subject = Subject::parse(text, naming, args.rung).context(which)?;
        anyhow::ensure!(
            subject.rung() != Some(RungName::Direct),
            "rung `direct` has no service whose time could be seen; profile one of the others, say `blob`"
        );
        Ok(subject)
    };
    let a = args.a.as_deref().unwrap_or(RungName::Blob.name());
    let by_default = args.a.is_none().then_some(RungName::Bounded.name());
    let b = args.b.as_deref().or(by_default);
    Ok((side("A", a)?, b.map(|b| side("B", b)).transpose()?))
}

fn options(args: &ProfileArgs, (a, b): (Subject, Option<Subject>)) -> anyhow::Result<ProfileOptions> {
    let (link, llm) = (&args.link, &args.llm);
    let mut bench = ground::options(&args.ground, link.clone(), llm.clone())?;
    let named: Vec<String> = std::iter::once(&a).chain(&b).map(ToString::to_string).collect();
    bench.command = format!(
        "mipro profile {} --rung {} --link {link} --llm {llm} --stack {} -n {} -c {} --seed {}",
        named.join(" "),
        args.rung,
        args.ground.stack,
        args.rollouts,
        args.concurrency,
        args.ground.seed
    );
    Ok(ProfileOptions {
        bench,
        a,
        b,
        rollouts: args.rollouts,
        lanes: args.concurrency,
        api_key: std::env::var(API_KEY_VARIABLE).ok().filter(|key| !key.is_empty()),
        perf: args.perf.clone(),
    })
}

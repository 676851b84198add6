//! `mipro gate`

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use mipro_bench_reports::export;
use mipro_bench_reports::gates::{self, Budgets, GateOutcome, Outcome};
use mipro_harness::gate::GateOptions;
use mipro_harness::subject::{Naming, Subject};
use mipro_harness::{BenchOptions, Watcher as _};
use mipro_telemetry::clock;
use mipro_testbed::link::LinkSpec;

use super::bench::Interrupt;
use super::compare::{compare_options, could_not};
use super::ground::{self, check_dataset, keep};
use super::print;
use super::report::rendered;
use super::scratch::Scratch;
use super::screen::Screen;
use crate::args::{GateArgs, Inconclusive, ReportFormat};
use crate::exit::Code;

mod instructions;

pub(crate) async fn run(args: GateArgs) -> anyhow::Result<Code> {
    let budgets_text = std::fs::read_to_string(&args.budgets)
        .with_context(|| format!("{} could not be read", args.budgets.display()))?;
    let budgets = Budgets::parse(&budgets_text)?;
    if let Some(path) = &args.instructions {
        return instructions::run(&args, path, &budgets, &budgets_text);
    }
    let options = options(&args, budgets)?;
    check_dataset(args.ground.dataset.as_deref())?;
    let interrupt = Interrupt::watch()?;
    let scratch = Scratch::new(&mipro_harness::environment::scratch_parent())?;
    let screen = Screen { quiet: args.ground.show.quiet, no_color: args.ground.show.no_color };
    let running = mipro_harness::gate::run(&options, scratch.path(), &screen, &interrupt.token);
    let outcome = tokio::select! {
        outcome = Box::pin(running) => outcome,
        // Dropping the run ends its children.
        () = interrupt.at_once.cancelled() => return Ok(interrupt.code().unwrap_or(Code::Interrupted)),
    };
    let gated = match outcome {
        Ok(gated) => gated,
        Err(error) => return could_not(error, &scratch),
    };
    let kept = keep(gated.finished, args.ground.out.as_deref())?;
    if let Some(path) = &args.markdown {
        std::fs::write(path, export::markdown(&kept.report))
            .with_context(|| format!("{} could not be written", path.display()))?;
    }
    let code = code(&gated.outcomes, args.on_inconclusive);
    print(&match args.ground.show.format {
        ReportFormat::Text => text(&gated.outcomes, code),
        other => rendered(&kept.report, other, args.ground.show.no_color, None, &[])?,
    })?;
    if !args.ground.show.quiet {
        screen.step(&format!("report: {}", kept.folder.path().join("report.html").display()));
    }
    if let Some(code) = interrupt.code() {
        return Ok(code);
    }
    if !args.accept {
        return Ok(code);
    }
    accept(&args.budgets, &gates::accept(&budgets_text, &kept.report)?)
}

fn code(outcomes: &[GateOutcome], on_inconclusive: Inconclusive) -> Code {
    let policy = match on_inconclusive {
        Inconclusive::Pass => gates::OnInconclusive::Pass,
        Inconclusive::Fail => gates::OnInconclusive::Fail,
        Inconclusive::Extend => gates::OnInconclusive::Extend,
    };
    match gates::exit_code(outcomes, policy) {
        0 => Code::Ok,
        99 => Code::Breached,
        _ => Code::Invalid,
    }
}

fn options(args: &GateArgs, budgets: Budgets) -> anyhow::Result<GateOptions> {
    let mut bench = ground::options(&args.ground, LinkSpec::loopback(), "none".to_owned())?;
    bench.command = format!("mipro gate --stack {} --seed {}", args.ground.stack, args.ground.seed);
    let compare = match &args.base {
        None => None,
        Some(base) => {
            let a = Subject::parse(base, Naming::Revision, args.pairing.rung).context("--base")?;
            let b = this_build(args, &bench);
            let command = format!("{} --base {a}", bench.command);
            let mut compare =
                compare_options(&args.ground, &args.pairing, [a, b], args.on_inconclusive, &command)?;
            compare.rules = Some(budgets.rules(args.pairing.rung.name(), args.ground.seed));
            Some(compare)
        }
    };
    Ok(GateOptions { bench, budgets, compare, today: today() })
}

fn this_build(args: &GateArgs, bench: &BenchOptions) -> Subject {
    Subject::Binary { path: bench.exe.clone(), rung: args.pairing.rung }
}

fn today() -> time::Date {
    let seconds = i64::try_from(clock::unix_us() / 1_000_000).unwrap_or(0);
    time::OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::OffsetDateTime::UNIX_EPOCH).date()
}

/// One line with what it comes to, then what did not just pass, then what did.
fn text(outcomes: &[GateOutcome], code: Code) -> String {
    let passed = outcomes.iter().filter(|gate| gate.outcome == Outcome::Pass).count();
    let word = match code {
        Code::Ok => "PASS",
        Code::Breached => "BREACH",
        _ => "NOT KNOWN",
    };
    let mut text = format!("{word}: {passed} of {} gates hold\n", outcomes.len());
    for gate in outcomes.iter().filter(|gate| gate.outcome != Outcome::Pass) {
        let _ = writeln!(text, "{}", gate.to_text());
    }
    for gate in outcomes.iter().filter(|gate| gate.outcome == Outcome::Pass) {
        let _ = writeln!(text, "{}", gate.to_text());
    }
    text
}

fn accept(path: &Path, accepted: &gates::Accepted) -> anyhow::Result<Code> {
    std::fs::write(path, &accepted.text)
        .with_context(|| format!("{} could not be written", path.display()))?;
    let mut said = format!("accepted {} changed counts into {}\n", accepted.changed.len(), path.display());
    for line in accepted.changed.iter().chain(&accepted.kept) {
        let _ = writeln!(said, "  {line}");
    }
    print(&said)?;
    Ok(if accepted.kept.is_empty() { Code::Ok } else { Code::Invalid })
}

#[cfg(test)]
mod tests;

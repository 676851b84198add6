//! `mipro load --find-knee`: the highest rate at which a condition holds, and each stage on the way as a rung of the report.

use std::time::Duration;

use mipro_bench_reports::threshold::Threshold;
use mipro_bench_reports::{Rung, Verdict};
use mipro_harness::Watcher as _;
use mipro_loadgen::knee::{Knee, Next, Search, Trial};
use mipro_loadgen::{Arrivals, Outcome, Rate, Runner, Schedule, Slice, Warmup};

use super::super::bench::Interrupt;
use super::super::screen::Screen;
use crate::args::LoadArgs;
use crate::exit::Code;

/// Where the search begins when no rate is told, per second.
const FIRST: f64 = 10.0;
const LOWEST: f64 = 0.1;
const HIGHEST: f64 = 100_000.0;

/// A stage's length when none is told.
const EACH: Duration = Duration::from_secs(10);

/// How much longer a stage may be because its rate is low; rates lower still are not tried.
const SLOW_TIMES: u32 = 6;

/// How much longer the stage is that confirms.
const CONFIRM_TIMES: u32 = 3;

/// A stage with more failures than this share does not hold, whatever the condition says of those that succeeded.
const FAILED_SHARE_MAX: f64 = 0.01;

/// What a search came to.
pub(super) struct Found {
    pub(super) rungs: Vec<Rung>,
    pub(super) verdict: Verdict,
    pub(super) code: Code,
}

/// Searches. An interrupt ends it with what there is.
pub(super) async fn find(
    args: &LoadArgs,
    condition: &Threshold,
    runner: &Runner,
    screen: &Screen,
    interrupt: &Interrupt,
) -> anyhow::Result<Found> {
    let each = args.duration.unwrap_or(EACH);
    // Where one stage of the usual length is enough to judge.
    let by_default = FIRST.max(samples_needed(condition) / each.as_secs_f64());
    let first = args.rate.map_or(by_default, crate::args::RateArg::highest);
    let lowest = LOWEST.max(samples_needed(condition) / (each * SLOW_TIMES).as_secs_f64());
    let mut search = Search::new(first, lowest, HIGHEST);
    let mut rungs: Vec<Rung> = Vec::new();
    let mut again = true;
    loop {
        let (rate, times) = match search.next() {
            Next::Try(rate) => (rate, 1),
            Next::Confirm(rate) => (rate, CONFIRM_TIMES),
            Next::Done(knee) => return Ok(done(condition, knee, rungs)),
        };
        let name = format!("{}/s{}", short(rate), if times > 1 { " (confirming)" } else { "" });
        // Slow rates take longer to tell anything.
        let enough = Duration::from_secs_f64(samples_needed(condition) / rate);
        let slice = slice(args, runner, rate, each.max(enough) * times, rungs.len())?;
        let outcome = runner.run(slice, screen.progress(&name), interrupt.token.clone()).await?;
        let mut rung = super::new_rung(&name, args);
        outcome.fill(&mut rung);
        let trial = judge(condition, &outcome, &rung);
        screen.step(&format!("{name}: {}: {}", word(trial), condition.check(&rung).seen));
        rungs.push(rung);
        if let Some(code) = interrupt.code() {
            let verdict = verdict(condition, "inconclusive", "interrupted".to_owned());
            return Ok(Found { rungs, verdict, code });
        }
        // A neighbour's burst on this machine is no limit of the generator: a rate gets a second chance.
        if trial == Trial::GeneratorLimit && std::mem::take(&mut again) {
            continue;
        }
        again = true;
        search.tell(trial);
    }
}

/// With some to spare: a few may fail.
fn samples_needed(condition: &Threshold) -> f64 {
    condition.samples_needed() as f64 * 1.05
}

fn slice(
    args: &LoadArgs,
    runner: &Runner,
    rate: f64,
    duration: Duration,
    stage: usize,
) -> anyhow::Result<Slice> {
    let arrivals = Arrivals::new(args.shape(), Rate::Constant(rate), args.seed)?;
    let base = runner.slice();
    Ok(Slice {
        rollout_prefix: format!("{}-{stage}", base.rollout_prefix),
        rollouts: 0,
        duration: Some(duration),
        schedule: Schedule::Open(arrivals),
        // Connections are warm after the first stage, and a warm-up's preflight would refuse what the search is to find out.
        warmup: if stage == 0 { Warmup::Rollouts(u64::from(base.concurrency)) } else { Warmup::default() },
        ..base
    })
}

fn judge(condition: &Threshold, outcome: &Outcome, rung: &Rung) -> Trial {
    let books = &outcome.accounting;
    let failed = books.errors() + books.unsent + books.in_flight_at_end;
    let well = failed as f64 <= FAILED_SHARE_MAX * books.intended as f64;
    match () {
        () if !outcome.generator_limits().is_empty() => Trial::GeneratorLimit,
        () if well && condition.check(rung).holds => Trial::Held,
        () => Trial::Broke,
    }
}

fn word(trial: Trial) -> &'static str {
    match trial {
        Trial::Held => "holds",
        Trial::Broke => "does not hold",
        Trial::GeneratorLimit => "beyond this generator",
    }
}

fn done(condition: &Threshold, knee: Knee, rungs: Vec<Rung>) -> Found {
    let (outcome, detail, code) = match knee {
        Knee::At { rate, broke_at } => {
            ("pass", format!("holds at {}/s, not at {}/s", short(rate), short(broke_at)), Code::Ok)
        }
        Knee::Below(rate) => ("fail", format!("does not even hold at {}/s", short(rate)), Code::Breached),
        Knee::AtLeast { rate, generator: false } => {
            ("pass", format!("still holds at {}/s, where the search ends", short(rate)), Code::Ok)
        }
        Knee::AtLeast { rate, generator: true } => {
            let detail = format!(
                "holds at {}/s; this generator cannot offer more, so the knee is unknown",
                short(rate)
            );
            ("inconclusive", detail, Code::Invalid)
        }
        Knee::Unsteady(rate) => {
            let detail =
                format!("what held for one stage did not for a longer one, down to {}/s", short(rate));
            ("inconclusive", detail, Code::Invalid)
        }
    };
    Found { verdict: verdict(condition, outcome, detail), rungs, code }
}

fn verdict(condition: &Threshold, outcome: &str, detail: String) -> Verdict {
    Verdict { name: format!("knee of {condition}"), outcome: outcome.to_owned(), detail }
}

/// Three digits are more than a knee is worth.
fn short(rate: f64) -> String {
    if rate >= 100.0 { format!("{rate:.0}") } else { format!("{rate:.1}") }
}

#[cfg(test)]
mod tests;

//! `mipro compare`

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use mipro_bench_reports::{CompareVerdict, Comparison, Report, folder, json};
use mipro_harness::compare::{CompareOptions, OnInconclusive, STEAL_PCT_MAX};
use mipro_harness::saved::{self, Saved};
use mipro_harness::subject::{Naming, Subject};
use mipro_harness::{Error, Watcher as _};

use super::bench::Interrupt;
use super::ground::{self, check_dataset, keep};
use super::report::{REPORTS_DIR, rendered};
use super::scratch::Scratch;
use super::screen::Screen;
use super::{noise, print};
use crate::args::{CompareArgs, GroundArgs, Inconclusive, PairingArgs, ReportFormat};
use crate::exit::Code;

const API_KEY_VARIABLE: &str = "MIPRO_API_KEY";

pub(crate) async fn run(args: CompareArgs) -> anyhow::Result<Code> {
    if !args.bin
        && !args.rev
        && let Some(reports) = saved_reports(&args.a, &args.b)?
    {
        return saved_runs(&reports);
    }
    let options = options(&args)?;
    check_dataset(args.ground.dataset.as_deref())?;
    let interrupt = Interrupt::watch()?;
    let scratch = Scratch::new(&mipro_harness::environment::scratch_parent())?;
    let screen = Screen { quiet: args.ground.show.quiet, no_color: args.ground.show.no_color };
    let running = mipro_harness::compare::run(&options, scratch.path(), &screen, &interrupt.token);
    let outcome = tokio::select! {
        outcome = Box::pin(running) => outcome,
        // Dropping the run ends its children.
        () = interrupt.at_once.cancelled() => return Ok(interrupt.code().unwrap_or(Code::Interrupted)),
    };
    let finished = match outcome {
        Ok(finished) => finished,
        Err(error) => return could_not(error, &scratch),
    };
    let kept = keep(finished, args.ground.out.as_deref())?;
    let comparison = kept.report.comparisons.first().context("the run made no comparison")?;
    print(&match args.ground.show.format {
        ReportFormat::Text => text(comparison),
        other => rendered(&kept.report, other, args.ground.show.no_color, None, &[])?,
    })?;
    if !args.ground.show.quiet {
        screen.step(&format!("report: {}", kept.folder.path().join("report.html").display()));
    }
    Ok(interrupt.code().unwrap_or_else(|| code(&comparison.verdict, options.on_inconclusive)))
}

/// A revision that does not build says nothing about itself; everything else is a failure to run.
pub(crate) fn could_not(error: Error, scratch: &Scratch) -> anyhow::Result<Code> {
    if let Error::Revision(revision) = &error
        && revision.is_unbuildable()
    {
        crate::exit::tell(&error);
        return Ok(Code::Invalid);
    }
    scratch.keep_for(&error);
    Err(error.into())
}

/// What a comparison's verdict is as an exit code.
pub(crate) fn code(verdict: &CompareVerdict, on_inconclusive: OnInconclusive) -> Code {
    match (verdict, on_inconclusive) {
        (CompareVerdict::Pass { .. } | CompareVerdict::Shown, _) => Code::Ok,
        (CompareVerdict::Regress, _) => Code::Breached,
        (CompareVerdict::Inconclusive { .. }, OnInconclusive::Pass) => Code::Ok,
        (CompareVerdict::Inconclusive { .. }, OnInconclusive::Fail) => Code::Breached,
        (CompareVerdict::Inconclusive { .. } | CompareVerdict::Invalid { .. }, _) => Code::Invalid,
    }
}

fn options(args: &CompareArgs) -> anyhow::Result<CompareOptions> {
    let naming = match (args.bin, args.rev) {
        (true, _) => Naming::Binary,
        (_, true) => Naming::Revision,
        _ => Naming::Plain,
    };
    let side = |text: &str| Subject::parse(text, naming, args.pairing.rung);
    let (a, b) = (side(&args.a).context("A")?, side(&args.b).context("B")?);
    let command = format!("mipro compare {a} {b}");
    compare_options(&args.ground, &args.pairing, [a, b], args.on_inconclusive, &command)
}

/// What all that alternate have in common. `command` is how the command line begins.
pub(crate) fn compare_options(
    ground: &GroundArgs,
    pairing: &PairingArgs,
    [a, b]: [Subject; 2],
    on_inconclusive: Inconclusive,
    command: &str,
) -> anyhow::Result<CompareOptions> {
    let PairingArgs { rung, pairs, slice, concurrency, rate, margin, steal_max, link, llm, noise } = pairing;
    let mut bench = ground::options(ground, link.clone(), llm.clone())?;
    let slice_text = slice.map_or(String::new(), |slice| format!(" --slice {}ms", slice.as_millis()));
    bench.command = format!(
        "{command} --rung {rung} --link {link} --llm {llm} --stack {} --pairs {pairs}{slice_text} -c {concurrency} -q {rate} --margin {margin} --seed {}",
        ground.stack, ground.seed
    );
    let steal_pct_max = steal_max * 100.0;
    if steal_pct_max.to_bits() != STEAL_PCT_MAX.to_bits() {
        let _ = write!(bench.command, " --steal-max {steal_pct_max}%");
    }
    Ok(CompareOptions {
        bench,
        a,
        b,
        pairs: *pairs,
        slice: *slice,
        lanes: *concurrency,
        pacing: *rate,
        steal_pct_max,
        margin: *margin,
        on_inconclusive: on_inconclusive.into(),
        api_key: std::env::var(API_KEY_VARIABLE).ok().filter(|key| !key.is_empty()),
        rules: None,
        noise: noise::read(noise),
    })
}

/// The verdict first, then what it rests on.
pub(crate) fn text(comparison: &Comparison) -> String {
    let mut text = format!("{}: {} against {}", comparison.verdict.word(), comparison.b, comparison.a);
    let detail = comparison.verdict.detail();
    if detail.is_empty() {
        text.push('\n');
    } else {
        let _ = writeln!(text, "; {detail}");
    }
    let table = comparison.to_text();
    // The verdict stands above already.
    let table = table.trim_end().rsplit_once('\n').map_or("", |(table, _)| table);
    let _ = writeln!(text, "{table}");
    text
}

/// Both reports, where both names are reports.
fn saved_reports(a: &str, b: &str) -> anyhow::Result<Option<[Report; 2]>> {
    let find = |name: &str| folder::find_report(Path::new(REPORTS_DIR), name).ok();
    match (find(a), find(b)) {
        (Some(a), Some(b)) => Ok(Some([json::read(&a)?, json::read(&b)?])),
        _ => Ok(None),
    }
}

fn saved_runs([a, b]: &[Report; 2]) -> anyhow::Result<Code> {
    match saved::compare(a, b) {
        Ok(found) => {
            print(&saved_text(&found))?;
            Ok(if found.is_worse() { Code::Breached } else { Code::Ok })
        }
        Err(reasons) => {
            print(&format!("INVALID: these runs can't be compared\n  {}\n", reasons.join("\n  ")))?;
            Ok(Code::Invalid)
        }
    }
}

fn saved_text(saved: &Saved) -> String {
    let word = if saved.is_worse() { "REGRESS" } else { "PASS" };
    let counts = match saved.counts.len() {
        0 => "every count a rollout is the same".to_owned(),
        1 => "1 count a rollout differs".to_owned(),
        n => format!("{n} counts a rollout differ"),
    };
    let mut text =
        format!("{word}: {counts}; times are shown and not judged, for the runs were not interleaved\n");
    for change in &saved.counts {
        let _ = writeln!(text, "  {} {}: {} → {} a rollout", change.rung, change.count, change.a, change.b);
    }
    for change in &saved.times {
        let share = (change.b_us / change.a_us - 1.0) * 100.0;
        let (a_ms, b_ms) = (change.a_us / 1e3, change.b_us / 1e3);
        let _ =
            writeln!(text, "  {} {} p50: {a_ms:.3} → {b_ms:.3} ms ({share:+.1} %)", change.rung, change.what);
    }
    text
}

#[cfg(test)]
mod tests;

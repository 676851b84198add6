//! `mipro report`

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use mipro_bench_reports::threshold::{Outcome, Threshold};
use mipro_bench_reports::{Report, export, folder, html, json, text};
use mipro_harness::verdicts;

use super::{ablation, print, screen};
use crate::args::{ReportArgs, ReportFormat};
use crate::exit::Code;

/// Where runs go unless told otherwise.
pub(crate) const REPORTS_DIR: &str = "bench-reports";

pub(crate) fn run(args: &ReportArgs) -> anyhow::Result<Code> {
    let wanted = args.run.to_string_lossy();
    let path = folder::find_report(Path::new(REPORTS_DIR), &wanted).context("no such run")?;
    let report = json::read(&path)?;
    if let Some(name) = &args.rung {
        let names: Vec<&str> = report.rungs.iter().map(|rung| rung.name.as_str()).collect();
        anyhow::ensure!(names.contains(&name.as_str()), "no rung {name} in this run: {}", names.join(", "));
    }
    if let Some(page) = &args.html {
        let flames = html::flamegraphs(path.parent().unwrap_or_else(|| Path::new(".")));
        std::fs::write(page, html::render_with(&report, &flames))
            .with_context(|| format!("{} could not be written", page.display()))?;
    }
    let outcomes = thresholds(&report, &args.thresholds, args.rung.as_deref());
    let shown = rendered(&report, args.format, args.no_color, args.rung.as_deref(), &outcomes)?;
    print(&shown).context("the report could not be printed")?;
    let kept = say(&outcomes);
    let doubtful = report.run.interrupted || report.rungs.iter().any(|rung| !rung.validity.ok);
    Ok(match kept {
        // What can't be believed keeps no threshold, and breaches none.
        _ if !outcomes.is_empty() && doubtful => Code::Invalid,
        false => Code::Breached,
        true if args.check => check(&report),
        true => Code::Ok,
    })
}

/// Prints a report to stdout.
pub(crate) fn show(report: &Report, format: ReportFormat, no_color: bool) -> anyhow::Result<()> {
    let shown = rendered(report, format, no_color, None, &[])?;
    print(&shown).context("the report could not be printed")
}

pub(crate) fn rendered(
    report: &Report,
    format: ReportFormat,
    no_color: bool,
    rung: Option<&str>,
    outcomes: &[Outcome],
) -> anyhow::Result<String> {
    let one = || export::rung(report, rung).context("the run has no rung");
    Ok(match format {
        ReportFormat::Text => {
            let ablation = report.ablation.as_ref().map(ablation::text).unwrap_or_default();
            text::render(report, screen::style(no_color)) + &ablation
        }
        ReportFormat::Json => json::to_text(report),
        ReportFormat::Oha => export::oha(one()?),
        ReportFormat::K6 => {
            let rung = one()?;
            let own: Vec<Outcome> = outcomes.iter().filter(|of| of.rung == rung.name).cloned().collect();
            export::k6(rung, &own)
        }
        ReportFormat::Bencher => export::bencher(report),
        ReportFormat::Github => export::github(report),
        ReportFormat::Markdown => export::markdown(report),
    })
}

/// Each threshold on the rung named, or on every one; one that no rung could be held against does not hold.
pub(crate) fn thresholds(report: &Report, thresholds: &[Threshold], rung: Option<&str>) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for threshold in thresholds {
        let rungs = report.rungs.iter().filter(|of| rung.is_none_or(|rung| of.name == rung));
        outcomes.extend(rungs.map(|rung| threshold.check(rung)));
        if report.rungs.is_empty() {
            let seen = "no rung ran".to_owned();
            outcomes.push(Outcome {
                threshold: threshold.to_string(),
                rung: String::new(),
                holds: false,
                seen,
            });
        }
    }
    outcomes
}

/// Says on stderr how thresholds came out, so that stdout stays what was asked for; whether all hold.
pub(crate) fn say(outcomes: &[Outcome]) -> bool {
    let mut stderr = std::io::stderr().lock();
    for Outcome { threshold, rung, holds, seen } in outcomes {
        let word = if *holds { "holds" } else { "BREACHED" };
        // Nobody is left to tell if stderr is gone; the exit code says it, too.
        let _ = writeln!(stderr, "{word}: {threshold} ({rung}: {seen})");
    }
    outcomes.iter().all(|outcome| outcome.holds)
}

/// Whether a report's figures may be believed.
pub(crate) fn check(report: &Report) -> Code {
    if !verdicts::accounting_holds(report) || report.run.interrupted {
        return Code::Invalid;
    }
    let good = report.rungs.iter().all(|r| r.validity.ok && r.accounting.ok > 0) && !report.rungs.is_empty();
    if good { Code::Ok } else { Code::Invalid }
}

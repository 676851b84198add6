//! `mipro report`

use std::path::Path;

use anyhow::Context as _;
use mipro_bench_reports::{Report, folder, html, json, text};
use mipro_harness::verdicts;

use super::{ablation, print, screen};
use crate::args::{Format, ReportArgs};
use crate::exit::Code;

/// Where runs go unless told otherwise.
pub(crate) const REPORTS_DIR: &str = "bench-reports";

pub(crate) fn run(args: &ReportArgs) -> anyhow::Result<Code> {
    let wanted = args.run.to_string_lossy();
    let path = folder::find_report(Path::new(REPORTS_DIR), &wanted).context("no such run")?;
    let report = json::read(&path)?;
    if let Some(page) = &args.html {
        let flames = html::flamegraphs(path.parent().unwrap_or(Path::new(".")));
        std::fs::write(page, html::render_with(&report, &flames))
            .with_context(|| format!("{} could not be written", page.display()))?;
    }
    show(&report, args.format, args.no_color)?;
    if args.check { check(&report) } else { Ok(Code::Ok) }
}

/// Prints a report to stdout.
pub(crate) fn show(report: &Report, format: Format, no_color: bool) -> anyhow::Result<()> {
    let shown = match format {
        Format::Text => {
            let ablation = report.ablation.as_ref().map(ablation::text).unwrap_or_default();
            text::render(report, screen::style(no_color)) + &ablation
        }
        Format::Json => json::to_text(report),
    };
    print(&shown).context("the report could not be printed")
}

/// Whether a report's figures may be believed.
pub(crate) fn check(report: &Report) -> anyhow::Result<Code> {
    if !verdicts::accounting_holds(report) || report.run.interrupted {
        return Ok(Code::Invalid);
    }
    let good = report.rungs.iter().all(|r| r.validity.ok && r.accounting.ok > 0) && !report.rungs.is_empty();
    Ok(if good { Code::Ok } else { Code::Invalid })
}

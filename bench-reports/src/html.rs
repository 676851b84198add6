//! `report.html`: the whole report in one file, with inline style, inline SVG and a few lines of script; it loads nothing.
//!
//! Reading order: `markup` (escaped text, tables), `svg` (scales and marks), then one module a section. The output is a
//! pure function of the report, so that two renderings of one run are the same bytes.

use crate::schema::Report;

mod ablation;
mod compared;
mod details;
pub(crate) mod flame;
mod forest;
mod head;
mod ladder;
mod lines;
mod markup;
mod percentiles;
mod resources;
mod seed;
mod stages;
mod svg;
#[cfg(test)]
mod tests;
mod waterfall;

pub use flame::{Flamegraph, flamegraphs};

pub(crate) use markup::Esc;
use markup::Html;

const STYLE: &str = include_str!("html/style.css");
const SCRIPT: &str = include_str!("html/script.js");
/// `sha256-` of [`SCRIPT`], so that the page's policy lets this one script run and no other; a test says when it is stale.
const SCRIPT_HASH: &str = "sha256-Vg3MksPtvJ9OqEWkeaVMfVaujD6kgpQ/jendgztshsc=";

/// Flamegraphs are drawn as far as the page stays below this; 3 MB open at once everywhere.
const PAGE_BYTES_MAX: usize = 2_800_000;

/// What a run that measured rungs has found.
fn figures(page: &mut Html, report: &Report) {
    stages::render(page, report);
    ladder::render(page, report);
    forest::render(page, report);
    ablation::render(page, report);
    compared::render(page, report);
    percentiles::render(page, report);
    ladder::counts(page, report);
    seed::render(page, report);
    resources::render(page, report);
}

/// The page of a report without flamegraphs.
#[must_use]
pub fn render(report: &Report) -> String {
    render_with(report, &[])
}

/// The page, with flamegraphs drawn into it (see [`flamegraphs`]). Figures, drawings and a full ladder's tables take some
/// 600 KB; of the flamegraphs as much is drawn as keeps the page under 3 MB, and the page names what was left out.
#[must_use]
pub fn render_with(report: &Report, flames: &[Flamegraph]) -> String {
    let mut page = Html::default();
    page.put(format_args!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src '{SCRIPT_HASH}'; img-src data:; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>mipro {command} · {id}</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        command = head::command(report),
        id = Esc(&report.run.id)
    ));
    page.raw(svg::PATTERNS);
    head::render(&mut page, report);
    page.raw("<main>\n");
    let mut rest = Html::default();
    // A run that only profiled has no rung to show.
    if report.profile.is_none() || !report.rungs.is_empty() {
        figures(&mut page, report);
        details::render(&mut rest, report);
    }
    let room = PAGE_BYTES_MAX.saturating_sub(page.len() + rest.len());
    flame::render(&mut page, report, flames, room);
    page.raw(&rest.finish());
    page.raw("</main>\n");
    head::foot(&mut page, report);
    page.raw("<p id=\"tip\" role=\"status\" hidden></p>\n");
    page.put(format_args!("<script>{SCRIPT}</script>\n</body>\n</html>\n"));
    page.finish()
}

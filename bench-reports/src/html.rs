//! `report.html`: the whole report in one file, with inline style, inline SVG and a few lines of script; it loads nothing.
//!
//! Reading order: `markup` (escaped text, tables), `svg` (scales and marks), then one module a section. The output is a
//! pure function of the report, so that two renderings of one run are the same bytes.

use crate::schema::Report;

mod details;
mod head;
mod ladder;
mod markup;
mod percentiles;
mod seed;
mod stages;
mod svg;
#[cfg(test)]
mod tests;

use markup::{Esc, Html};

const STYLE: &str = include_str!("html/style.css");
const SCRIPT: &str = include_str!("html/script.js");
/// `sha256-` of [`SCRIPT`], so that the page's policy lets this one script run and no other; a test says when it is stale.
const SCRIPT_HASH: &str = "sha256-WnPbZFrYyD9xcatoO1wUUR0s8iWcAyBWarrRo7ZMZgI=";

/// The page.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut page = Html::default();
    page.put(format_args!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src '{SCRIPT_HASH}'; img-src data:; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>mipro bench · {}</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        Esc(&report.run.id)
    ));
    page.raw(svg::PATTERNS);
    head::render(&mut page, report);
    page.raw("<main>\n");
    ladder::render(&mut page, report);
    stages::render(&mut page, report);
    percentiles::render(&mut page, report);
    seed::render(&mut page, report);
    ladder::counts(&mut page, report);
    details::render(&mut page, report);
    page.raw("</main>\n");
    head::foot(&mut page, report);
    page.put(format_args!("<script>{SCRIPT}</script>\n</body>\n</html>\n"));
    page.finish()
}

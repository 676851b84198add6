//! The seed's table beside ours: their range as a band, our p50 as a dot in or out of it.

use super::markup::{Cell, Column, Esc, Html, Table};
use super::svg::{Scale, axis, grid};
use crate::format::{NOTHING, thousands, three_digits};
use crate::schema::{Report, SeedRow};
use crate::seed_table::caveat;

pub(super) fn render(page: &mut Html, report: &Report) {
    if report.seed_rows.is_empty() {
        return;
    }
    page.section("seed", "The seed’s table beside ours", "Rung blob does what the seed’s service did. Band: their min to max, with their average as a tick. Dot: our p50.");
    let values = report.seed_rows.iter().flat_map(|row| {
        [Some(row.seed_min_ms), Some(row.seed_max_ms), row.p50_ms.filter(|ms| *ms > 1.0)]
            .into_iter()
            .flatten()
    });
    let scale = Scale::log(values);
    let columns = [
        Column::text("Operation"),
        Column::text("Row"),
        Column::text("on a log scale, ms"),
        Column::number("seed min"),
        Column::number("seed max"),
        Column::number("seed avg"),
        Column::number("ours p50"),
        Column::number("samples"),
        Column::text("Verdict"),
    ];
    let mut table = Table::new("Milliseconds per call, theirs and ours", &columns).under(2, axis(scale, ""));
    let mut last = "";
    for row in &report.seed_rows {
        let operation = if row.operation == last {
            Cell::markup(format!("<span class=\"repeat\">{}</span>", Esc(&row.operation)))
        } else {
            Cell::text(&row.operation)
        };
        last = &row.operation;
        let (word, class) = verdict(row);
        table.row(vec![
            operation,
            Cell::text(&row.row),
            Cell::markup(range(row, scale)).class("logcell broad"),
            Cell::figure(&thousands(row.seed_min_ms), row.seed_min_ms),
            Cell::figure(&thousands(row.seed_max_ms), row.seed_max_ms),
            Cell::figure(&thousands(row.seed_avg_ms), row.seed_avg_ms),
            row.p50_ms.map_or_else(Cell::nothing, |ms| Cell::figure(&three_digits(ms), ms).class("n strong")),
            Cell::whole(row.samples),
            Cell::text(word).class(class),
        ]);
    }
    table.render(page);
    page.put(format_args!("<p class=\"note\">{}</p>\n", Esc(&caveat())));
    page.end_section();
}

fn verdict(row: &SeedRow) -> (&'static str, &'static str) {
    match row.p50_ms {
        None if row.samples > 0 => ("too few samples", "faint"),
        None => ("not measured", "faint"),
        Some(_) if row.inside => ("inside", "good"),
        Some(ms) if ms < row.seed_min_ms => ("below", "bad"),
        Some(_) => ("above", "bad"),
    }
}

fn range(row: &SeedRow, scale: Scale) -> String {
    let (from, to) = (scale.percent(row.seed_min_ms), scale.percent(row.seed_max_ms));
    let average = scale.percent(row.seed_avg_ms);
    let ours = row.p50_ms.map_or_else(|| NOTHING.to_owned(), three_digits);
    let grid = grid(scale, 18);
    let dot = row.p50_ms.map_or_else(String::new, |ms| {
        let class = if row.inside { "dot" } else { "dot out" };
        format!("<circle class=\"{class}\" cx=\"{:.2}%\" cy=\"9\" r=\"4.5\"><title>ours: {ours} ms</title></circle>", scale.percent(ms))
    });
    format!(
        "<svg class=\"bar range\" width=\"100%\" height=\"18\" role=\"img\" aria-label=\"seed {} to {}, ours {ours} milliseconds\">{grid}\
         <rect class=\"band\" x=\"{from:.2}%\" y=\"5\" width=\"{:.2}%\" height=\"8\" rx=\"2\"/>\
         <line class=\"average\" x1=\"{average:.2}%\" x2=\"{average:.2}%\" y1=\"3\" y2=\"15\"/>{dot}</svg>",
        thousands(row.seed_min_ms),
        thousands(row.seed_max_ms),
        to - from
    )
}

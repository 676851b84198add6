//! The ladder: one row a rung, sortable, with the overhead drawn on a log scale since it spans three decades.

use super::markup::{Cell, Column, Esc, Html, Table};
use super::svg::{Scale, axis, grid};
use crate::format::{bytes, ms, per_rollout, thousands, times};
use crate::losses::losses;
use crate::schema::{LossCount, Report, Rung};
use crate::view;

/// A rung's name, with a mark where its figures must not be believed.
pub(super) fn name(rung: &Rung) -> Cell {
    let mark = if view::sound(rung) {
        ""
    } else {
        " <abbr class=\"bad\" title=\"invalid: see Accounting\">!</abbr>"
    };
    Cell::markup(format!("{}{mark}", Esc(&rung.name)))
}

pub(super) fn render(page: &mut Html, report: &Report) {
    page.section(
        "ladder",
        "The ladder",
        "One optimization a rung, each on top of those before. Overhead is what the service adds to a rollout: its calls' totals, \
         less its LLM time. Click a heading to sort.",
    );
    let overheads = report.rungs.iter().filter_map(|rung| rung.overhead.p50_us).map(|us| us / 1000.0);
    let scale = Scale::log(overheads);
    let columns = [
        Column::text("Rung"),
        Column::number("Rollout p50 ms").hint("Intended start to last answer, the LLM included"),
        Column::number("Overhead p50 ms"),
        Column::text("on a log scale, ms").hint("Overhead p50; each gridline is ten times the one before"),
        Column::number("Speedup").hint("Of the overhead p50, against the first rung that has one"),
        Column::number("Lost on a kill")
            .hint("Acknowledged rewards not found after SIGKILL, of those acknowledged"),
        Column::text("Durability").hint("What a 200 to a status call promises"),
        Column::wide("Turns on"),
    ];
    let mut table = Table::new("Latency by rung", &columns).sortable().under(3, axis(scale, ""));
    for (index, rung) in report.rungs.iter().enumerate() {
        table.row(vec![
            name(rung).sorted_by(index as f64),
            Cell::ms(rung.rollout.response.p50_us),
            Cell::ms(rung.overhead.p50_us).strong(),
            log_bar(rung, scale),
            speedup(rung),
            lost(rung.loss.as_ref().and_then(|loss| loss.process_killed)),
            Cell::markup(format!("<span class=\"tag\">{}</span>", Esc(&rung.durability))),
            Cell::text(&rung.turns_on).class("wide"),
        ]);
    }
    table.render(page);
    if let Some(losses) = losses(report) {
        page.put(format_args!("<p class=\"note\">{}</p>\n", Esc(&losses)));
    }
    page.end_section();
}

fn speedup(rung: &Rung) -> Cell {
    rung.speedup
        .filter(|_| view::through_service(rung))
        .map_or_else(Cell::nothing, |speedup| Cell::figure(&times(speedup.overhead), speedup.overhead))
}

fn lost(count: Option<LossCount>) -> Cell {
    count.map_or_else(Cell::nothing, |count| {
        let text = format!("{} of {}", thousands(count.lost as f64), thousands(count.acknowledged as f64));
        let cell = Cell::figure(&text, count.lost as f64);
        if count.lost > 0 { cell.class("n bad") } else { cell }
    })
}

fn log_bar(rung: &Rung, scale: Scale) -> Cell {
    let Some(p50_us) = rung.overhead.p50_us else { return Cell::markup(String::new()) };
    let (value, shown) = (p50_us / 1000.0, ms(p50_us));
    let svg = format!(
        "<svg class=\"bar log\" width=\"100%\" height=\"16\" role=\"img\" aria-label=\"overhead {shown} milliseconds\">{}\
         <rect class=\"ink\" y=\"3\" height=\"10\" rx=\"1.5\" width=\"{:.3}%\"><title>{}: overhead p50 {shown} ms</title></rect></svg>",
        grid(scale, 16),
        scale.percent(value).max(0.6),
        Esc(&rung.name),
    );
    Cell::markup(svg).class("logcell").sorted_by(value)
}

/// What each rung costs in requests, on the critical path and behind it, and what it loses in all three tests.
pub(super) fn counts(page: &mut Html, report: &Report) {
    page.section(
        "counts",
        "Requests and losses",
        "Per rollout, after warm-up. Waited: a caller waited for it. Behind: in the background. Lost: acknowledged rewards not found \
         again after the process was killed under load, after the host was gone, and after hundreds of status calls raced on one system.",
    );
    let columns = [
        Column::text("Rung"),
        Column::number("DB trips waited"),
        Column::number("behind"),
        Column::number("Statements").hint("Waited and behind together"),
        Column::number("S3 GET waited"),
        Column::number("S3 PUT waited"),
        Column::number("GET + PUT behind"),
        Column::number("S3 bytes").hint("Both ways, waited and behind together"),
        Column::number("LLM calls"),
        Column::number("Log syncs").hint("In the background; one serves all that waits"),
        Column::number("Lost: killed"),
        Column::number("host gone"),
        Column::number("racing"),
    ];
    let mut table = Table::new("Requests per rollout, and acknowledged rewards lost", &columns).sortable();
    for (index, rung) in report.rungs.iter().enumerate() {
        let (waited, behind) = (&rung.counts.critical, &rung.counts.background);
        let count = |value: f64| {
            let cell = Cell::figure(&per_rollout(value), value);
            if value == 0.0 { cell.class("n faint") } else { cell }
        };
        let loss = rung.loss.clone().unwrap_or_default();
        table.row(vec![
            name(rung).sorted_by(index as f64),
            count(waited.db_round_trips),
            count(behind.db_round_trips),
            count(waited.db_statements + behind.db_statements),
            count(waited.s3_get),
            count(waited.s3_put),
            count(view::s3_requests(behind)),
            Cell::figure(&bytes(waited.s3_bytes + behind.s3_bytes), waited.s3_bytes + behind.s3_bytes),
            count(waited.llm_calls + behind.llm_calls),
            count(waited.log_syncs + behind.log_syncs),
            lost(loss.process_killed),
            lost(loss.host_gone),
            lost(loss.concurrent_calls),
        ]);
    }
    table.render(page);
    if let Some(allocations) = view::allocations(&report.rungs) {
        page.put(format_args!("<p>{}</p>\n", Esc(&allocations)));
    }
    page.end_section();
}

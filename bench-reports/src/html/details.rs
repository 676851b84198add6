//! What stands behind the ladder: attribution by operation, the database's own word, growth, makespan, processes, accounting.

use super::ladder::name;
use super::markup::{Cell, Column, Esc, Html, Table};
use crate::format::{bytes, ms, percent, thousands, three_digits, times};
use crate::schema::Report;
use crate::seed_table::SEED_DATABASE_SAYS_MS;
use crate::view::{self, Attribution, GROUPS};

pub(super) fn render(page: &mut Html, report: &Report) {
    operations(page, report);
    database(page, report);
    growth(page, report);
    makespan(page, report);
    processes(page, report);
    accounting(page, report);
    verdicts(page, report);
}

fn show(page: &mut Html, id: &str, title: &str, note: &str, table: &Table) {
    if table.is_empty() {
        return;
    }
    page.section(id, title, note);
    table.render(page);
    page.end_section();
}

fn operations(page: &mut Html, report: &Report) {
    let mut columns = vec![
        Column::text("Rung"),
        Column::text("Operation"),
        Column::number("calls"),
        Column::number("total").hint("The service’s own, the LLM included"),
    ];
    columns.extend(GROUPS.map(|group| Column::number(view::label(group))));
    columns.extend([
        Column::text("sum").hint("Whether the stages and other make up the total"),
        Column::number("other’s share").hint("Of the call less its LLM part"),
    ]);
    let mut table = Table::new("Mean ms per call", &columns).sortable();
    for (index, rung) in report.rungs.iter().enumerate() {
        for (operation, figures) in view::operations(rung) {
            let Some(parts) = Attribution::of(figures) else { continue };
            let mut row = vec![
                name(rung).sorted_by(index as f64),
                Cell::markup(format!("<code>{}</code>", Esc(operation))),
                Cell::whole(figures.total.count),
                Cell::ms(Some(parts.total_us)).class("n strong"),
            ];
            row.extend(parts.groups_us.map(|us| Cell::stage_ms(Some(us))));
            row.push(if parts.adds_up() {
                Cell::text("= total").class("good")
            } else {
                Cell::text(&format!("{} ms off", ms(parts.unlisted_us))).class("bad")
            });
            row.push(
                parts.other_share().map_or_else(Cell::nothing, |share| Cell::figure(&percent(share), share)),
            );
            table.row(row);
        }
    }
    show(
        page,
        "attribution",
        "Attribution by operation",
        "Stages + other = total, for every operation; what no stage claims is shown, not spread.",
        &table,
    );
}

fn database(page: &mut Html, report: &Report) {
    let columns = [
        Column::text("Rung"),
        Column::text("Statement"),
        Column::number("the database says it spent, ms").hint("Mean execution time per statement"),
        Column::number("the client waited, ms")
            .hint("Mean of db.acquire and db.query per call in which a query ran"),
        Column::number("waited over spent"),
    ];
    let mut table = Table::new("Per statement and per call", &columns);
    for rung in &report.rungs {
        let Some(waited) = view::database_wait_us(rung) else { continue };
        for (kind, spent) in &rung.database.server_execution_us {
            let ratio = waited / spent;
            table.row(vec![
                name(rung),
                Cell::text(kind),
                Cell::ms(Some(*spent)),
                Cell::ms(Some(waited)),
                Cell::figure(&times(ratio), ratio),
            ]);
        }
    }
    let note = format!(
        "The seed saw {SEED_DATABASE_SAYS_MS} ms on its database’s dashboard, and 200–740 ms in its client."
    );
    show(page, "database", "What the database says, and what the client waited", &note, &table);
}

fn growth(page: &mut Html, report: &Report) {
    let columns = [
        Column::text("Rung"),
        Column::number("history").hint("Past rollouts in the state when the rung began"),
        Column::number("smallest"),
        Column::number("largest"),
        Column::number("per rollout").hint("Slope by least squares"),
        Column::number("PUT p50 ms"),
        Column::number("GET p50 ms"),
    ];
    let mut table = Table::new("Bytes of one whole-state PUT", &columns);
    for rung in &report.rungs {
        let Some(growth) = rung.state_growth else { continue };
        let slope = growth.bytes_per_rollout;
        let sign = if slope >= 0.0 { "+" } else { "−" };
        table.row(vec![
            name(rung),
            Cell::whole(growth.history),
            Cell::figure(&bytes(growth.bytes_min as f64), growth.bytes_min as f64),
            Cell::figure(&bytes(growth.bytes_max as f64), growth.bytes_max as f64),
            Cell::figure(&format!("{sign}{}", bytes(slope.abs())), slope),
            Cell::ms(view::ran(growth.put_p50_us)),
            Cell::ms(view::ran(growth.get_p50_us)),
        ]);
    }
    let note = "All history is inside one system’s stored state, so every save carries all that came before.";
    show(page, "growth", "How the state grows", note, &table);
}

fn makespan(page: &mut Html, report: &Report) {
    let columns = [
        Column::text("Rung"),
        Column::number("rollouts"),
        Column::number("in flight"),
        Column::number("planned s").hint("The mock’s planned delays laid out on as many lanes"),
        Column::number("measured s"),
        Column::number("ratio"),
    ];
    let mut table = Table::new("First start to last answer", &columns);
    for rung in &report.rungs {
        let Some(makespan) = rung.makespan else { continue };
        table.row(vec![
            name(rung),
            Cell::whole(rung.rollouts),
            Cell::whole(u64::from(rung.concurrency)),
            Cell::figure(&three_digits(makespan.planned_seconds), makespan.planned_seconds),
            Cell::figure(&three_digits(makespan.measured_seconds), makespan.measured_seconds),
            Cell::figure(&times(makespan.ratio), makespan.ratio).class("n strong"),
        ]);
    }
    let note = "The least time the mock LLM’s own planned delays need, against the time taken.";
    show(page, "makespan", "Makespan", note, &table);
}

fn processes(page: &mut Html, report: &Report) {
    let columns = [
        Column::text("Rung"),
        Column::text("Process"),
        Column::number("CPU s").hint("User and system time during the rung"),
        Column::number("CPU ms per rollout"),
        Column::number("largest RSS"),
    ];
    let mut table = Table::new("Processor and memory by process", &columns).sortable();
    for (index, rung) in report.rungs.iter().enumerate() {
        for (process, used) in &rung.process {
            let per_rollout = used.cpu_seconds * 1000.0 / rung.rollouts.max(1) as f64;
            table.row(vec![
                name(rung).sorted_by(index as f64),
                Cell::text(process),
                Cell::figure(&three_digits(used.cpu_seconds), used.cpu_seconds),
                Cell::figure(&three_digits(per_rollout), per_rollout),
                Cell::figure(&bytes(used.rss_max_bytes as f64), used.rss_max_bytes as f64),
            ]);
        }
    }
    show(page, "processes", "Processes", "", &table);
}

fn accounting(page: &mut Html, report: &Report) {
    let columns = [
        Column::text("Rung"),
        Column::number("intended"),
        Column::number("ok"),
        Column::text("Not ok"),
        Column::text("Sum"),
        Column::number("in flight"),
        Column::number("systems"),
        Column::number("wall s"),
        Column::wide("Figures"),
    ];
    let mut table = Table::new("Where every intended rollout went", &columns);
    for rung in &report.rungs {
        let accounting = &rung.accounting;
        let not_ok: Vec<String> = view::not_ok(accounting)
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(class, count)| format!("{class} {}", thousands(*count as f64)))
            .collect();
        let holds = accounting.holds();
        table.row(vec![
            name(rung),
            Cell::whole(accounting.intended),
            Cell::whole(accounting.ok),
            if not_ok.is_empty() {
                Cell::text("none").class("faint")
            } else {
                Cell::text(&not_ok.join(", ")).class("bad")
            },
            if holds { Cell::text("holds").class("good") } else { Cell::text("broken").class("bad") },
            Cell::whole(u64::from(rung.concurrency)),
            Cell::whole(u64::from(rung.systems)),
            Cell::figure(&three_digits(rung.wall_seconds), rung.wall_seconds),
            if rung.validity.ok {
                Cell::text("valid").class("good wide")
            } else {
                Cell::text(&format!("invalid: {}", rung.validity.reasons.join("; "))).class("bad wide")
            },
        ]);
    }
    let note = "Intended = ok + every error class + unsent + in flight at the end, always.";
    show(page, "accounting", "Accounting", note, &table);
}

fn verdicts(page: &mut Html, report: &Report) {
    let columns = [Column::text("Check"), Column::text("Outcome"), Column::wide("Figures")];
    let mut table = Table::new("Checks and their outcome", &columns);
    for verdict in &report.verdicts {
        let class = if verdict.outcome == "pass" { "good" } else { "bad" };
        table.row(vec![
            Cell::text(&verdict.name),
            Cell::text(&verdict.outcome).class(class),
            Cell::text(&verdict.detail).class("wide"),
        ]);
    }
    show(page, "checks", "Checks", "", &table);
}

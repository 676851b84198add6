//! What each optimization does by itself: in three orders, beside what was expected of it, over distance, and where the LLM
//! takes no time.

use super::ladder::name;
use super::lines::{Point, Series, chart};
use super::markup::{Cell, Column, Html, Table};
use super::svg::Scale;
use crate::format::{counted, ms, three_digits};
use crate::schema::{Ablation, AblationRow, Report, Saving};

pub(super) fn render(page: &mut Html, report: &Report) {
    let Some(ablation) = &report.ablation else { return };
    page.section(
        "ablation",
        "What each optimization does by itself",
        "The ladder adds one optimization to those before it, and so says nothing of the order. Here each is also added to the first rung \
         alone, and taken from the whole. Overhead saved, p50, ms a rollout, with the interval; where the three differ by more than \
         their intervals, the order matters.",
    );
    savings(page, ablation);
    options(page, ablation);
    distance(page, report, ablation);
    without_llm(page, ablation);
    page.end_section();
}

fn savings(page: &mut Html, ablation: &Ablation) {
    let columns = [
        Column::text("Optimization"),
        Column::number("in the ladder"),
        Column::number("added to blob alone"),
        Column::number("with all others there"),
        Column::text("Order"),
    ];
    let mut table = Table::new("Overhead saved, ms a rollout", &columns).sortable();
    for AblationRow { optimization, ladder, alone, last, order_matters } in &ablation.rows {
        let order = if *order_matters { ("matters", "bad") } else { ("does not matter", "faint") };
        let saving = |saving: &Option<Saving>| saving.as_ref().map_or_else(Cell::nothing, saved);
        table.row(vec![
            Cell::text(optimization),
            saving(ladder),
            saving(alone),
            saving(last),
            Cell::text(order.0).class(order.1),
        ]);
    }
    if !table.is_empty() {
        table.render(page);
    }
}

fn saved(saving: &Saving) -> Cell {
    let text = format!("{} ({} to {})", ms(saving.saved_us), ms(saving.lower_us), ms(saving.upper_us));
    Cell::figure(&text.replace('-', "−"), saving.saved_us)
}

fn options(page: &mut Html, ablation: &Ablation) {
    let columns = [
        Column::wide("Option"),
        Column::wide("Expected"),
        Column::wide("Measured"),
        Column::number("saved ms"),
        Column::text("As expected"),
    ];
    let mut table =
        Table::new("The five options of the first document, each beside its own estimate", &columns);
    for option in &ablation.options {
        let (held, class) = match option.as_expected {
            Some(true) => ("yes", "good"),
            Some(false) => ("no", "bad"),
            None => ("–", "faint"),
        };
        table.row(vec![
            Cell::text(&option.option),
            Cell::text(&option.estimate).class("wide"),
            Cell::text(&option.measured).class("wide"),
            option
                .saved_ms
                .map_or_else(Cell::nothing, |ms| Cell::figure(&three_digits(ms).replace('-', "−"), ms)),
            Cell::text(held).class(class),
        ]);
    }
    if !table.is_empty() {
        table.render(page);
    }
}

/// Overhead against the round trip to both stores, one line a rung.
fn distance(page: &mut Html, report: &Report, ablation: &Ablation) {
    let mut rungs: Vec<&str> = Vec::new();
    for point in &ablation.distance {
        if !rungs.contains(&point.rung.as_str()) {
            rungs.push(&point.rung);
        }
    }
    let points = |rung: &str| {
        let of_rung = ablation.distance.iter().filter(|point| point.rung == rung);
        let mut points: Vec<Point> = of_rung
            .filter_map(|point| {
                let (rtt_ms, y) = (point.rtt_us as f64 / 1e3, point.overhead_p50_us? / 1e3);
                let rollouts = counted(point.samples as usize, "rollout", "rollouts");
                let title =
                    format!("{} ms away: {} ms p50 of {rollouts}", three_digits(rtt_ms), three_digits(y));
                Some(Point { x: rtt_ms, y, title })
            })
            .collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        points
    };
    // A rung has the ladder's colour, where the ladder has the rung.
    let hue =
        |index: usize, rung: &str| report.rungs.iter().position(|other| other.name == rung).unwrap_or(index);
    let series: Vec<Series<'_>> = rungs
        .iter()
        .enumerate()
        .map(|(index, rung)| Series { name: rung, hue: hue(index, rung), points: points(rung) })
        .filter(|line| !line.points.is_empty())
        .collect();
    if !series.is_empty() {
        let scale = Scale::log(series.iter().flat_map(|line| line.points.iter().map(|point| point.y)));
        let tick = |rtt_ms: f64| format!("{} ms", three_digits(rtt_ms));
        chart(page, "Overhead p50, ms, by round trip to the stores", (scale, "round trip"), tick, &series);
    }
}

fn without_llm(page: &mut Html, ablation: &Ablation) {
    let columns = [
        Column::text("Rung"),
        Column::number("Overhead p50 ms"),
        Column::number("Rollout p50 ms"),
        Column::number("rollouts per s"),
    ];
    let mut table =
        Table::new("The ladder where the LLM answers at once: the service itself is the limit", &columns)
            .sortable();
    for (index, rung) in ablation.without_llm.iter().enumerate() {
        let rate = rung.accounting.ok as f64 / rung.wall_seconds;
        table.row(vec![
            name(rung).sorted_by(index as f64),
            Cell::ms(rung.overhead.p50_us).strong(),
            Cell::ms(rung.rollout.response.p50_us),
            if rate.is_finite() { Cell::figure(&three_digits(rate), rate) } else { Cell::nothing() },
        ]);
    }
    if !table.is_empty() {
        table.render(page);
    }
}

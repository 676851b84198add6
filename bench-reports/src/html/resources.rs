//! What the service used with more and more clients at once: one line a rung, for CPU and for memory.

use super::ladder::name;
use super::lines::{Point, Series, chart};
use super::markup::{Cell, Column, Html, Table};
use super::svg::Scale;
use crate::format::{bytes, counted, thousands, three_digits};
use crate::schema::{Report, ResourcePoint, Rung};

/// One of the two figures of a level.
struct Figure {
    title: &'static str,
    value: fn(&ResourcePoint) -> f64,
    shown: fn(&ResourcePoint) -> String,
}

const FIGURES: [Figure; 2] = [
    Figure {
        title: "CPU of the service, % of one core",
        value: |point| point.cpu_pct,
        shown: |point| format!("{} % CPU", three_digits(point.cpu_pct)),
    },
    Figure {
        title: "Memory of the service, MiB resident",
        value: |point| point.rss_bytes as f64 / 1_048_576.0,
        shown: |point| bytes(point.rss_bytes as f64),
    },
];

pub(super) fn render(page: &mut Html, report: &Report) {
    let rungs: Vec<(usize, &Rung)> =
        report.rungs.iter().enumerate().filter(|(_, rung)| !rung.resources.is_empty()).collect();
    if rungs.is_empty() {
        return;
    }
    page.section(
        "resources",
        "CPU and memory as clients are added",
        "The service’s own process, with so many rollouts in flight at once.",
    );
    page.raw("<div class=\"pair\">\n");
    for figure in &FIGURES {
        drawing(page, &rungs, figure);
    }
    page.raw("</div>\n");
    table(page, &rungs);
    page.end_section();
}

fn drawing(page: &mut Html, rungs: &[(usize, &Rung)], figure: &Figure) {
    let point = |point: &ResourcePoint| Point {
        x: f64::from(point.clients),
        y: (figure.value)(point),
        title: format!("{}, {}", counted(point.clients as usize, "client", "clients"), (figure.shown)(point)),
    };
    let line = |(hue, rung): &(usize, &'_ Rung)| (*hue, rung.resources.iter().map(point).collect::<Vec<_>>());
    let series: Vec<Series<'_>> = rungs
        .iter()
        .map(|rung| {
            let (hue, points) = line(rung);
            Series { name: &rung.1.name, hue, points }
        })
        .collect();
    let highest = series.iter().flat_map(|line| line.points.iter().map(|point| point.y)).fold(0.0, f64::max);
    chart(page, figure.title, (Scale::linear(highest), "clients"), thousands, &series);
}

fn table(page: &mut Html, rungs: &[(usize, &Rung)]) {
    let columns = [
        Column::text("Rung"),
        Column::number("clients"),
        Column::number("CPU, % of one core"),
        Column::number("RSS"),
    ];
    let mut table = Table::new("CPU and resident memory by clients", &columns).sortable();
    for (index, rung) in rungs {
        for point in &rung.resources {
            table.row(vec![
                name(rung).sorted_by(*index as f64),
                Cell::whole(u64::from(point.clients)),
                Cell::figure(&three_digits(point.cpu_pct), point.cpu_pct),
                Cell::figure(&bytes(point.rss_bytes as f64), point.rss_bytes as f64),
            ]);
        }
    }
    page.raw("<details><summary>Every figure</summary>\n");
    table.render(page);
    page.raw("</details>\n");
}

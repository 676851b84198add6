//! What the service used with more and more clients at once: one line a rung, for CPU and for memory.

use super::ladder::name;
use super::markup::{Cell, Column, Esc, Html, Table};
use super::svg::{EndLabel, Scale, end_labels, hue, y_axis};
use crate::format::{bytes, counted, three_digits};
use crate::schema::{Report, ResourcePoint, Rung};

/// Height of each drawing in CSS pixels.
const HEIGHT: f64 = 220.0;

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
        chart(page, &rungs, figure);
    }
    page.raw("</div>\n");
    table(page, &rungs);
    page.end_section();
}

/// Places of client counts along the axis, in percent; each doubling is as wide as the one before.
struct Levels(Vec<u32>);

impl Levels {
    fn of(rungs: &[(usize, &Rung)]) -> Self {
        let points = rungs.iter().flat_map(|(_, rung)| &rung.resources);
        let levels: std::collections::BTreeSet<u32> = points.map(|point| point.clients).collect();
        Self(levels.into_iter().collect())
    }

    fn percent(&self, clients: u32) -> f64 {
        let ln = |clients: Option<&u32>| f64::from(clients.copied().unwrap_or(1).max(1)).ln();
        let (first, last) = (ln(self.0.first()), ln(self.0.last()));
        if last > first { (ln(Some(&clients)) - first) / (last - first) * 100.0 } else { 50.0 }
    }
}

fn chart(page: &mut Html, rungs: &[(usize, &Rung)], figure: &Figure) {
    let levels = Levels::of(rungs);
    let values = rungs.iter().flat_map(|(_, rung)| rung.resources.iter().map(figure.value));
    let scale = Scale::linear(values.fold(0.0, f64::max));
    page.put(format_args!(
        "<figure>\n<figcaption>{0}</figcaption>\n<div class=\"plot\" data-marks><svg width=\"100%\" height=\"{HEIGHT}\" role=\"img\" \
         aria-label=\"{0}, by clients; arrow keys tell the figures\">\n{1}",
        figure.title,
        y_axis(scale)
    ));
    for clients in &levels.0 {
        let x = levels.percent(*clients);
        page.put(format_args!("<text class=\"xtick\" x=\"{x:.2}%\" y=\"100%\" dy=\"18\">{clients}</text>\n"));
    }
    let mut labels = Vec::new();
    for (index, rung) in rungs {
        let place = |point: &ResourcePoint| {
            (levels.percent(point.clients), 100.0 - scale.percent((figure.value)(point)))
        };
        for pair in rung.resources.windows(2) {
            let ((x1, y1), (x2, y2)) = (place(&pair[0]), place(&pair[1]));
            page.put(format_args!(
                "<line class=\"curve {}\" x1=\"{x1:.2}%\" y1=\"{y1:.2}%\" x2=\"{x2:.2}%\" y2=\"{y2:.2}%\"/>\n",
                hue(*index)
            ));
        }
        for point in &rung.resources {
            let (x, y) = place(point);
            page.put(format_args!(
                "<circle class=\"knot {}\" cx=\"{x:.2}%\" cy=\"{y:.2}%\" r=\"3.5\"><title>{}, {}: {}</title></circle>\n",
                hue(*index),
                Esc(&rung.name),
                counted(point.clients as usize, "client", "clients"),
                Esc(&(figure.shown)(point))
            ));
        }
        let y_percent = rung.resources.last().map_or(0.0, |point| place(point).1);
        labels.push(EndLabel { y_percent, hue: *index, name: &rung.name });
    }
    page.raw(&end_labels(labels, HEIGHT));
    page.raw("</svg></div>\n</figure>\n");
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

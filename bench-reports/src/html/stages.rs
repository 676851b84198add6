//! Where a rollout's time goes: stacked bars of exclusive means, one a rung; then the same without the LLM, as shares, since
//! the later rungs' overhead is too small to see beside the earlier ones'.

use mipro_telemetry::{Group, Stage};

use super::ladder;
use super::markup::{Cell, Column, Esc, Html, Table};
use super::svg::{Scale, Segment, axis, group_class, stacked};
use crate::format::{counted, ms, percent};
use crate::schema::{Report, Rung};
use crate::view::{self, GROUPS, label};

pub(super) fn render(page: &mut Html, report: &Report) {
    page.section(
        "stages",
        "Where a rollout’s time goes",
        "Mean exclusive time per rollout. Outside: the client, the network and the task app. Hover for figures; the table below has \
         them all.",
    );
    legend(page);
    waterfall(page, report);
    page.raw("<h3>What the overhead is made of</h3>\n<p class=\"note\">The same without the LLM and the outside, each bar scaled to its own total.</p>\n");
    shares(page, report);
    group_table(page, report);
    stage_table(page, report);
    page.end_section();
}

fn legend(page: &mut Html) {
    page.raw("<ul class=\"legend\" aria-label=\"Legend\">");
    for group in GROUPS {
        page.put(format_args!(
            "<li><svg width=\"12\" height=\"12\" aria-hidden=\"true\"><rect class=\"{}\" width=\"12\" height=\"12\" rx=\"2\"/></svg>{}</li>",
            group_class(group),
            label(group)
        ));
    }
    page.raw(
        "<li><svg width=\"12\" height=\"12\" aria-hidden=\"true\"><rect class=\"g-outside\" width=\"12\" height=\"12\" rx=\"2\"/></svg>outside</li></ul>\n",
    );
}

fn segments(rung: &Rung, with_llm: bool) -> Vec<Segment> {
    let whole: f64 = GROUPS
        .iter()
        .filter(|group| with_llm || **group != Group::Llm)
        .filter_map(|group| view::group_us(rung, *group))
        .sum();
    GROUPS
        .iter()
        .filter(|group| with_llm || **group != Group::Llm)
        .filter_map(|group| {
            let us = view::group_us(rung, *group)?;
            let title = format!("{}: {} {} ms ({})", rung.name, label(*group), ms(us), percent(us / whole));
            Some(Segment { class: group_class(*group), value: us / 1000.0, title })
        })
        .collect()
}

fn spoken(rung: &Rung, segments: &[Segment]) -> String {
    let parts: Vec<&str> = segments
        .iter()
        .filter(|segment| segment.value > 0.0)
        .map(|segment| {
            segment.title.strip_prefix(&rung.name).unwrap_or(&segment.title).trim_start_matches(": ")
        })
        .collect();
    format!("{}: {}", rung.name, if parts.is_empty() { "no stages".to_owned() } else { parts.join(", ") })
}

fn bar_row(page: &mut Html, rung: &Rung, bar: &str, figure: &str) {
    page.put(format_args!(
        "<li><span class=\"who\">{}</span>{bar}<span class=\"figure\">{figure}</span></li>\n",
        Esc(&rung.name)
    ));
}

fn waterfall(page: &mut Html, report: &Report) {
    let longest = report
        .rungs
        .iter()
        .map(|rung| {
            segments(rung, true).iter().map(|s| s.value).sum::<f64>() + view::outside_us(rung) / 1000.0
        })
        .fold(0.0, f64::max);
    let scale = Scale::linear(longest);
    page.raw("<ul class=\"bars\">\n");
    for rung in &report.rungs {
        let mut segments = segments(rung, true);
        let outside = view::outside_us(rung);
        let title = format!("{}: outside the service {} ms", rung.name, ms(outside));
        segments.push(Segment { class: "g-outside", value: outside / 1000.0, title });
        let whole: f64 = segments.iter().map(|segment| segment.value).sum();
        let bar = stacked(&spoken(rung, &segments), &segments, scale);
        bar_row(page, rung, &bar, &format!("{} ms", ms(whole * 1000.0)));
    }
    page.put(format_args!(
        "<li class=\"scale\"><span></span>{}<span></span></li>\n</ul>\n",
        axis(scale, " ms")
    ));
}

fn shares(page: &mut Html, report: &Report) {
    page.raw("<ul class=\"bars\">\n");
    for rung in report.rungs.iter().filter(|rung| view::through_service(rung)) {
        let segments = segments(rung, false);
        let whole: f64 = segments.iter().map(|segment| segment.value).sum();
        if whole <= 0.0 {
            continue;
        }
        let bar = stacked(&spoken(rung, &segments), &segments, Scale::Linear { max: whole });
        bar_row(page, rung, &bar, &format!("{} ms", ms(whole * 1000.0)));
    }
    page.raw("</ul>\n");
}

fn group_table(page: &mut Html, report: &Report) {
    let mut columns = vec![Column::text("Rung")];
    columns.extend(GROUPS.map(|group| Column::number(label(group))));
    columns.extend([
        Column::number("overhead").hint("All but the LLM"),
        Column::number("other’s share").hint("Of the overhead"),
        Column::number("outside"),
    ]);
    let mut table = Table::new("Mean ms per rollout by group of stages", &columns).sortable();
    for (index, rung) in report.rungs.iter().enumerate() {
        let mut row = vec![ladder::name(rung).sorted_by(index as f64)];
        row.extend(GROUPS.map(|group| Cell::stage_ms(view::group_us(rung, group))));
        let through = view::through_service(rung);
        row.push(if through {
            Cell::ms(Some(view::overhead_mean_us(rung))).class("n strong")
        } else {
            Cell::nothing()
        });
        row.push(
            view::other_share(rung).map_or_else(Cell::nothing, |share| Cell::figure(&percent(share), share)),
        );
        row.push(Cell::ms(Some(view::outside_us(rung))));
        table.row(row);
    }
    table.render(page);
}

fn stage_table(page: &mut Html, report: &Report) {
    let columns = [
        Column::text("Stage"),
        Column::text("Rung"),
        Column::number("per rollout ms"),
        Column::number("calls per rollout"),
        Column::number("p50 ms").hint("Per call in which the stage ran"),
        Column::number("p90 ms"),
        Column::number("p99 ms"),
        Column::number("hidden ms").hint("Time per rollout beside another stage: shown, never summed"),
    ];
    let mut table = Table::new("Every stage", &columns).sortable();
    let known = Stage::ALL.iter().map(|stage| stage.name());
    let unknown: std::collections::BTreeSet<&str> = report
        .rungs
        .iter()
        .flat_map(|rung| rung.stages.keys().map(String::as_str))
        .filter(|name| Stage::from_name(name).is_none())
        .collect();
    for stage in known.chain(unknown) {
        for rung in &report.rungs {
            let Some(figures) = rung.stages.get(stage) else { continue };
            table.row(vec![
                Cell::markup(format!("<code>{}</code>", Esc(stage))),
                Cell::text(&rung.name),
                Cell::stage_ms(Some(figures.per_rollout_us)),
                Cell::figure(
                    &crate::format::per_rollout(figures.calls_per_rollout),
                    figures.calls_per_rollout,
                ),
                Cell::ms(figures.dist.p50_us),
                Cell::ms(figures.dist.p90_us),
                Cell::ms(figures.dist.p99_us),
                Cell::stage_ms(Some(figures.overlap_per_rollout_us)),
            ]);
        }
    }
    if table.is_empty() {
        return;
    }
    let rows = report.rungs.iter().map(|rung| rung.stages.len()).sum();
    page.put(format_args!(
        "<details><summary>Every stage of every rung ({})</summary>\n",
        counted(rows, "row", "rows")
    ));
    table.render(page);
    page.raw("</details>\n");
}

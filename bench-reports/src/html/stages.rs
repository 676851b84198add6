//! Where a rollout's time goes: stacked bars of exclusive means, one a rung, the service's own part first and the LLM's pale
//! behind it; then the service's part alone, since the later rungs' is too small to see beside the earlier ones'; then a
//! waterfall by stage for each rung.

use mipro_telemetry::{Group, Stage};

use super::markup::{Cell, Column, Esc, Html, Table};
use super::svg::{Scale, Segment, axis, group_class, stacked};
use super::{ladder, waterfall};
use crate::format::{counted, ms, percent};
use crate::headline::before_after;
use crate::schema::{Report, Rung};
use crate::view::{self, GROUPS, label};

pub(super) fn render(page: &mut Html, report: &Report) {
    page.section(
        "stages",
        "Where a rollout’s time goes",
        "Mean exclusive time per rollout. In colour, from the left: what the service adds. Pale behind it: the LLM, and what is outside \
         (client, network, task app).",
    );
    if let Some((before, _)) = before_after(report) {
        answer(page, before);
    }
    legend(page);
    whole(page, report);
    page.raw("<h3>What the overhead is made of</h3>\n<p class=\"note\">Only what the service adds, each bar scaled to its own total.</p>\n");
    shares(page, report);
    waterfall::render(page, report);
    group_table(page, report);
    stage_table(page, report);
    page.end_section();
}

/// The question that most readers come with, answered in words: what the service's time was spent on before.
fn answer(page: &mut Html, rung: &Rung) {
    let Some((group, us)) = view::dominant_group(rung) else { return };
    let whole = view::overhead_mean_us(rung);
    let stage = view::dominant_stage(rung).map_or_else(String::new, |(stage, us)| {
        format!(", the largest stage being <code>{}</code> ({})", Esc(stage), Esc(&percent(us / whole)))
    });
    page.put(format_args!(
        "<p class=\"answer\">Rung <strong>{}</strong> spends most on <strong class=\"t {}\">{}</strong>: {} of the {} ms that the service adds on average ({}){stage}.</p>\n",
        Esc(&rung.name),
        group_class(group),
        label(group),
        Esc(&ms(us)),
        Esc(&ms(whole)),
        Esc(&percent(us / whole)),
    ));
}

fn legend(page: &mut Html) {
    page.raw("<ul class=\"legend\" aria-label=\"Legend\">");
    let groups = ours().chain([Group::Llm]).map(|group| (group_class(group), label(group)));
    for (class, name) in groups.chain([("g-outside", "outside")]) {
        page.put(format_args!(
            "<li><svg width=\"12\" height=\"12\" aria-hidden=\"true\"><rect class=\"{class}\" width=\"12\" height=\"12\" rx=\"2\"/></svg>{name}</li>"
        ));
    }
    page.raw("</ul>\n");
}

/// The roll-ups that make up the overhead.
fn ours() -> impl Iterator<Item = Group> {
    GROUPS.into_iter().filter(|group| *group != Group::Llm)
}

/// The overhead's pieces, each with its share of it.
fn overhead(rung: &Rung) -> Vec<Segment> {
    let whole = view::overhead_mean_us(rung);
    let piece = |group: Group| {
        let us = view::group_us(rung, group)?;
        let share = percent(us / whole);
        let title = format!("{}: {} {} ms, {share} of the overhead", rung.name, label(group), ms(us));
        Some(Segment { class: group_class(group), value: us / 1000.0, title, label: (label(group), share) })
    };
    ours().filter_map(piece).collect()
}

/// What is behind the overhead in the whole bar.
fn behind(rung: &Rung) -> [Segment; 2] {
    let (llm, outside) = (view::group_us(rung, Group::Llm).unwrap_or_default(), view::outside_us(rung));
    // Without a service, nobody tells the LLM's part from the rest.
    let outside_is =
        if view::through_service(rung) { "outside the service" } else { "LLM, task app and client" };
    let segment = |class, us: f64, what: &str, short| Segment {
        class,
        value: us / 1000.0,
        title: format!("{}: {what} {} ms", rung.name, ms(us)),
        label: (short, format!("{} ms", ms(us))),
    };
    let short = if view::through_service(rung) { "" } else { "LLM and outside" };
    [segment(group_class(Group::Llm), llm, "LLM", "LLM"), segment("g-outside", outside, outside_is, short)]
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
        "<li><span class=\"who\">{}</span>{bar}<span class=\"figure\">{}</span></li>\n",
        Esc(&rung.name),
        Esc(figure)
    ));
}

fn whole(page: &mut Html, report: &Report) {
    let rows: Vec<Vec<Segment>> = report
        .rungs
        .iter()
        .map(|rung| {
            let mut segments = overhead(rung);
            for segment in &mut segments {
                segment.label.1 = format!("{} ms", ms(segment.value * 1000.0));
            }
            segments.extend(behind(rung));
            segments
        })
        .collect();
    let total = |segments: &[Segment]| segments.iter().map(|segment| segment.value).sum::<f64>();
    let scale = Scale::linear(rows.iter().map(|row| total(row)).fold(0.0, f64::max));
    page.raw("<ul class=\"bars\" data-marks>\n");
    for (rung, segments) in report.rungs.iter().zip(&rows) {
        let bar = stacked(&spoken(rung, segments), segments, scale);
        bar_row(page, rung, &bar, &format!("{} ms", ms(total(segments) * 1000.0)));
    }
    page.put(format_args!(
        "<li class=\"scale\"><span></span>{}<span></span></li>\n</ul>\n",
        axis(scale, " ms")
    ));
}

fn shares(page: &mut Html, report: &Report) {
    page.raw("<ul class=\"bars\" data-marks>\n");
    for rung in report.rungs.iter().filter(|rung| view::through_service(rung)) {
        let segments = overhead(rung);
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

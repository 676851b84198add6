//! Percentile curves: the whole distribution of each rung on an axis of 1/(1 − p), where each further nine is as wide as the
//! one before, so that the tail is not squeezed into a corner.

use std::fmt::Write as _;

use super::markup::{Esc, Html};
use super::svg::{EndLabel, Scale, end_labels, hue, y_axis};
use crate::dist::{Dist, SAMPLES_BEYOND_MIN};
use crate::format::{ms, ms_or_nothing};
use crate::schema::{Report, Rung};

/// Height of the drawing in CSS pixels; label spacing depends on it.
const HEIGHT: f64 = 320.0;
/// Largest over smallest beyond which the time axis is logarithmic.
const LOG_FROM_RATIO: f64 = 20.0;
/// Least distance of two points of a curve, as a share of the axis.
const POINT_GAP: f64 = 0.002;
/// Percentiles that the axis names.
const TICKS: [(f64, &str); 7] = [
    (0.0, "0"),
    (0.5, "50 %"),
    (0.9, "90 %"),
    (0.99, "99 %"),
    (0.999, "99.9 %"),
    (0.999_9, "99.99 %"),
    (0.999_99, "99.999 %"),
];

/// One rung's line: points of (quantile, milliseconds), rising.
struct Curve<'a> {
    rung: &'a Rung,
    dist: &'a Dist,
    hue: usize,
    points: Vec<(f64, f64)>,
}

pub(super) fn render(page: &mut Html, report: &Report) {
    page.section(
        "percentiles",
        "Percentiles",
        "The share of rollouts that took no longer. Each further nine of the lower axis is as wide as the one before. A dashed line has \
         fewer than 10 samples beyond it: a hint, not a figure.",
    );
    let overhead = |rung: &'_ Rung| -> Dist { rung.overhead.clone() };
    let rollout = |rung: &'_ Rung| -> Dist { rung.rollout.response.clone() };
    chart(page, report, "Overhead per rollout, ms", overhead);
    chart(page, report, "Whole rollout, ms", rollout);
    page.end_section();
}

fn chart(page: &mut Html, report: &Report, title: &str, of: impl Fn(&Rung) -> Dist) {
    let dists: Vec<Dist> = report.rungs.iter().map(of).collect();
    let curves: Vec<Curve<'_>> = report
        .rungs
        .iter()
        .zip(&dists)
        .enumerate()
        .filter_map(|(hue, (rung, dist))| Some(Curve { rung, dist, hue, points: points(dist)? }))
        .collect();
    page.put(format_args!("<h3>{}</h3>\n", Esc(title)));
    if curves.is_empty() {
        page.raw("<p class=\"note\">Not measured in this run.</p>\n");
        return;
    }
    legend(page, &curves);
    let x_max =
        curves.iter().filter_map(|curve| curve.points.last()).map(|(q, _)| nines(*q)).fold(1.0, f64::max);
    let scale = vertical(&curves);
    let spoken: Vec<String> = curves
        .iter()
        .map(|curve| format!("{} p50 {}", curve.rung.name, ms_or_nothing(curve.dist.p50_us)))
        .collect();
    page.put(format_args!(
        "<div class=\"plot\" data-marks><svg width=\"100%\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"{} by percentile: {}\">\n",
        Esc(title),
        Esc(&spoken.join(", "))
    ));
    axes(page, scale, x_max);
    page.raw("<svg viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\" width=\"100%\" height=\"100%\">\n");
    for curve in &curves {
        line(page, curve, scale, x_max);
    }
    page.raw("</svg>\n");
    for curve in &curves {
        knots(page, curve, scale, x_max);
    }
    let end = |curve: &Curve<'_>| curve.points.last().map_or(0.0, |(_, value)| 100.0 - scale.percent(*value));
    let labels =
        curves.iter().map(|curve| EndLabel { y_percent: end(curve), hue: curve.hue, name: &curve.rung.name });
    page.raw(&end_labels(labels.collect(), HEIGHT));
    page.raw("</svg></div>\n");
}

/// log10 of 1/(1 − q): one for each nine.
fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).max(1e-12).log10()
}

/// The curve through all recorded values; none where there is no readable histogram.
fn points(dist: &Dist) -> Option<Vec<(f64, f64)>> {
    let histogram = dist.decode().ok().filter(|histogram| !histogram.is_empty())?;
    let count = histogram.len() as f64;
    let at_least = dist.min_us.unwrap_or(0.0) / 1000.0;
    let at_most = dist.max_us.map_or(f64::MAX, |us| us / 1000.0);
    let mut points = vec![(0.0, histogram.min() as f64 / 1e6)];
    let mut below = 0.0;
    for step in histogram.iter_recorded() {
        below += step.count_at_value() as f64;
        let value = histogram.median_equivalent(step.value_iterated_to()) as f64 / 1e6;
        // Half of the last sample lies beyond: the largest of n stands at 1 − 1/2n, not at infinity.
        points.push(((below - 0.5) / count, value));
    }
    for point in &mut points {
        // A bucket's middle may lie a rounding beyond the extremes.
        point.1 = if at_least <= at_most { point.1.clamp(at_least, at_most) } else { point.1 };
    }
    Some(points)
}

fn vertical(curves: &[Curve<'_>]) -> Scale {
    let values = curves.iter().flat_map(|curve| curve.points.iter().map(|(_, value)| *value));
    let (low, high) =
        values.clone().fold((f64::MAX, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    if low > 0.0 && high / low > LOG_FROM_RATIO { Scale::log(values) } else { Scale::linear(high) }
}

fn axes(page: &mut Html, scale: Scale, x_max: f64) {
    page.raw(&y_axis(scale));
    for (quantile, label) in TICKS.iter().filter(|(quantile, _)| nines(*quantile) <= x_max) {
        let x = nines(*quantile) / x_max * 100.0;
        page.put(format_args!(
            "<line class=\"grid\" x1=\"{x:.2}%\" x2=\"{x:.2}%\" y2=\"100%\"/><text class=\"xtick\" x=\"{x:.2}%\" y=\"100%\" dy=\"18\">{label}</text>\n"
        ));
    }
}

/// Solid as far as percentiles are shown as figures, dashed beyond.
fn line(page: &mut Html, curve: &Curve<'_>, scale: Scale, x_max: f64) {
    let count = curve.dist.count as f64;
    let trusted = 1.0 - SAMPLES_BEYOND_MIN as f64 / count;
    let mut kept: Vec<(f64, f64)> = Vec::new();
    let last = curve.points.len() - 1;
    for (index, point) in curve.points.iter().enumerate() {
        let far = kept.last().is_none_or(|(q, _)| nines(point.0) - nines(*q) >= POINT_GAP * x_max);
        if far || index == last {
            kept.push(*point);
        }
    }
    let split = kept.iter().filter(|(quantile, _)| *quantile <= trusted).count();
    let coordinates = |points: &[(f64, f64)]| {
        points.iter().fold(String::new(), |mut text, (quantile, value)| {
            let (x, y) = (nines(*quantile) / x_max * 1000.0, 1000.0 - scale.percent(*value) * 10.0);
            // Writing to a String cannot fail.
            let _ = write!(text, "{x:.1},{y:.1} ");
            text
        })
    };
    let figures = [("p50", curve.dist.p50_us), ("p90", curve.dist.p90_us), ("p99", curve.dist.p99_us)];
    let figures: Vec<String> =
        figures.iter().filter_map(|(name, us)| us.map(|us| format!("{name} {} ms", ms(us)))).collect();
    let title = format!("{}: {} ({} samples)", curve.rung.name, figures.join(", "), curve.dist.count);
    for (class, points) in [("", &kept[..split]), (" unsure", &kept[split.saturating_sub(1)..])] {
        if points.len() < 2 {
            continue;
        }
        page.put(format_args!(
            "<polyline class=\"curve{class} {}\" points=\"{}\"><title>{}</title></polyline>\n",
            hue(curve.hue),
            coordinates(points).trim_end(),
            Esc(&title)
        ));
    }
}

/// The percentiles that are figures, as points to hover and to walk through with the keyboard.
fn knots(page: &mut Html, curve: &Curve<'_>, scale: Scale, x_max: f64) {
    let dist = curve.dist;
    let figures = [
        (0.5, "p50", dist.p50_us),
        (0.9, "p90", dist.p90_us),
        (0.95, "p95", dist.p95_us),
        (0.99, "p99", dist.p99_us),
        (0.999, "p99.9", dist.p99_9_us),
    ];
    for (quantile, name, us) in figures {
        let Some(us) = us else { continue };
        page.put(format_args!(
            "<circle class=\"knot {}\" cx=\"{:.2}%\" cy=\"{:.2}%\" r=\"3.5\"><title>{}: {name} {} ms</title></circle>\n",
            hue(curve.hue),
            nines(quantile) / x_max * 100.0,
            100.0 - scale.percent(us / 1000.0),
            Esc(&curve.rung.name),
            Esc(&ms(us))
        ));
    }
}

fn legend(page: &mut Html, curves: &[Curve<'_>]) {
    page.raw("<ul class=\"legend curves\" aria-label=\"Legend\">");
    for curve in curves {
        page.put(format_args!(
            "<li><svg width=\"16\" height=\"12\" aria-hidden=\"true\"><line class=\"curve {}\" x2=\"16\" y1=\"6\" y2=\"6\"/></svg>{}</li>",
            hue(curve.hue),
            Esc(&curve.rung.name)
        ));
    }
    page.raw("</ul>\n");
}

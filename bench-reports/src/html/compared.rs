//! Paired comparisons: what each endpoint came to, and every slice in time order, so that a machine that changed meanwhile
//! is seen.

use super::markup::{Cell, Column, Esc, Html, Table};
use super::svg::{Scale, axis, grid, tick, y_axis};
use crate::format::{counted, ms, thousands, three_digits};
use crate::schema::{
    CompareVerdict, Comparison, Effect, EndpointComparison, GateRule, Report, Side, SliceFigures,
};
use crate::view;

/// Height of a scatter in CSS pixels.
const HEIGHT: u32 = 200;
/// The largest change that the scale shows, in percent either way; more is drawn at its end.
const CHANGE_MAX_PCT: f64 = 1000.0;

pub(super) fn render(page: &mut Html, report: &Report) {
    if report.comparisons.is_empty() {
        return;
    }
    page.section(
        "comparisons",
        "Paired comparisons",
        "Both sides by turns in short slices, the order drawn by lot, the same arrivals, payloads and delays in each pair. Intervals come from \
         resampling pairs. A verdict needs its margin and its interval; what is only shown has no verdict.",
    );
    for comparison in &report.comparisons {
        compared(page, comparison);
    }
    page.end_section();
}

/// A verdict's word with the class that colours it.
pub(super) fn tone(verdict: &CompareVerdict) -> &'static str {
    match verdict {
        CompareVerdict::Pass { .. } => "good",
        CompareVerdict::Regress => "bad",
        CompareVerdict::Inconclusive { .. } | CompareVerdict::Invalid { .. } => "unsure-word",
        CompareVerdict::Shown => "faint",
    }
}

fn compared(page: &mut Html, comparison: &Comparison) {
    let on = if comparison.rung.is_empty() { String::new() } else { format!(" on {}", comparison.rung) };
    let (word, said) = (comparison.verdict.word(), comparison.verdict.detail());
    let set_aside = match comparison.pairs_invalid.len() {
        0 => String::new(),
        set_aside => format!(", {} set aside", thousands(set_aside as f64)),
    };
    page.put(format_args!(
        "<h3>{} against {}{}: <span class=\"{}\">{word}</span></h3>\n<p class=\"note\">{}{set_aside}; {} % intervals, at most {}.{}{}</p>\n",
        Esc(&comparison.b),
        Esc(&comparison.a),
        Esc(&on),
        tone(&comparison.verdict),
        counted(comparison.pairs as usize, "pair", "pairs"),
        view::confidence(comparison.alpha),
        counted(comparison.looks_max as usize, "look", "looks"),
        if said.is_empty() { "" } else { " " },
        Esc(&said)
    ));
    endpoints(page, comparison);
    page.raw("<div class=\"pair\">\n");
    for (index, endpoint) in comparison.endpoints.iter().enumerate() {
        scatter(page, comparison, endpoint, index);
    }
    page.raw("</div>\n");
    for pair in &comparison.pairs_invalid {
        page.put(format_args!(
            "<p class=\"note\">Pair {} set aside: {}.</p>\n",
            pair.pair,
            Esc(&pair.reasons.join("; "))
        ));
    }
}

fn change(share: f64) -> String {
    let percent = share * 100.0;
    let decimals = usize::from(percent.abs() < 99.95);
    format!("{percent:+.decimals$} %").replace('-', "−")
}

/// Changes lie on a scale of the ratio, so that halving and doubling are equally far from the middle.
fn scale(comparison: &Comparison) -> Scale {
    let effects = comparison.endpoints.iter().filter_map(|endpoint| endpoint.effect);
    let ends = effects.flat_map(|effect| [effect.lower, effect.upper]).chain(
        comparison
            .endpoints
            .iter()
            .filter_map(|e| if let GateRule::Margin { share } = e.gate { Some(share) } else { None }),
    );
    let widest = ends
        .map(|share| (1.0 + share).max(1.0 / CHANGE_MAX_PCT).ln().abs())
        .fold(0.05, f64::max)
        .min((CHANGE_MAX_PCT / 100.0).ln());
    let high = (widest * 1.15).exp();
    Scale::Ratio { low: 1.0 / high, high }
}

fn endpoints(page: &mut Html, comparison: &Comparison) {
    let scale = scale(comparison);
    let columns = [
        Column::text("Endpoint"),
        Column::text("Verdict"),
        Column::number("change").hint("B over A, less one"),
        Column::text("with its interval; the band is the margin"),
        Column::number("from"),
        Column::number("to"),
        Column::number("A ms"),
        Column::number("B ms"),
        Column::number("detectable")
            .hint("The smallest lengthening that as many pairs tell from none four times in five"),
        Column::wide("Rule"),
    ];
    let caption = format!("{} against {}", comparison.b, comparison.a);
    let mut table = Table::new(&caption, &columns).sortable().under(3, axis(scale, "×"));
    for endpoint in &comparison.endpoints {
        let share = |of: fn(&Effect) -> f64| {
            endpoint
                .effect
                .as_ref()
                .map_or_else(Cell::nothing, |effect| Cell::figure(&change(of(effect)), of(effect)))
        };
        table.row(vec![
            Cell::markup(format!("<code>{}</code>", Esc(&endpoint.title()))),
            Cell::text(endpoint.verdict.word()).class(tone(&endpoint.verdict)),
            share(|effect| effect.share).strong(),
            Cell::markup(tree(endpoint, scale)).class("logcell"),
            share(|effect| effect.lower),
            share(|effect| effect.upper),
            Cell::ms(endpoint.a_us),
            Cell::ms(endpoint.b_us),
            share(|effect| effect.detectable),
            Cell::text(&rule(endpoint)).class("wide"),
        ]);
    }
    table.render(page);
}

fn rule(endpoint: &EndpointComparison) -> String {
    let parts = [endpoint.rule(), endpoint.verdict.detail()];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
}

fn tree(endpoint: &EndpointComparison, scale: Scale) -> String {
    let x = |share: f64| scale.percent(1.0 + share);
    let margin = match endpoint.gate {
        GateRule::Margin { share } => format!(
            "<rect class=\"margin\" x=\"{:.2}%\" width=\"{:.2}%\" height=\"18\"/>",
            x(1.0 / (1.0 + share) - 1.0),
            x(share) - x(1.0 / (1.0 + share) - 1.0)
        ),
        _ => String::new(),
    };
    let Some(effect) = endpoint.effect else { return String::new() };
    let title = format!("{}: {}", endpoint.title(), endpoint.seen());
    let tone = match () {
        () if effect.upper < 0.0 => "less",
        () if effect.lower > 0.0 => "more",
        () => "same",
    };
    format!(
        "<svg class=\"bar tree\" width=\"100%\" height=\"18\" role=\"img\" aria-label=\"{title}\">{grid}{margin}\
         <line class=\"one\" x1=\"{one:.2}%\" x2=\"{one:.2}%\" y2=\"18\"/><g class=\"paired {tone}\">\
         <line class=\"whisker\" x1=\"{from:.2}%\" x2=\"{to:.2}%\" y1=\"9\" y2=\"9\"/><circle class=\"point\" cx=\"{at:.2}%\" cy=\"9\" r=\"4\"/>\
         <title>{title}</title></g></svg>",
        title = Esc(&title),
        grid = grid(scale, 18),
        one = x(0.0),
        from = x(effect.lower),
        to = x(effect.upper),
        at = x(effect.share),
    )
}

/// Every slice's own quantile in time order: drift shows as a slope, a step as a step, on both sides.
fn scatter(page: &mut Html, comparison: &Comparison, endpoint: &EndpointComparison, index: usize) {
    let value_us = |slice: &SliceFigures| slice.endpoints_us.get(index).copied().flatten();
    let slices: Vec<(&SliceFigures, f64)> =
        comparison.slices.iter().filter_map(|slice| Some((slice, value_us(slice)?))).collect();
    let Some(last_s) = slices.iter().map(|(slice, _)| slice.started_s).reduce(f64::max) else { return };
    let scale = Scale::linear(slices.iter().map(|(_, us)| us / 1000.0).fold(0.0, f64::max));
    let name = endpoint.title();
    let name = Esc(&name);
    page.put(format_args!(
        "<figure>\n<figcaption>{name} of each slice, ms, in time order</figcaption>\n\
         <ul class=\"legend\" aria-label=\"Legend\"><li><svg width=\"12\" height=\"12\" aria-hidden=\"true\"><circle class=\"slice side-a\" cx=\"6\" cy=\"6\" r=\"4\"/></svg>A: {}</li>\
         <li><svg width=\"12\" height=\"12\" aria-hidden=\"true\"><rect class=\"slice side-b\" x=\"2\" y=\"2\" width=\"8\" height=\"8\"/></svg>B: {}</li><li>hollow: set aside</li></ul>\n\
         <div class=\"plot scatter\" data-marks><svg width=\"100%\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"{name} of {} slices in time order\">\n{}",
        Esc(&comparison.a),
        Esc(&comparison.b),
        slices.len(),
        y_axis(scale)
    ));
    let seconds = Scale::linear(last_s);
    for second in seconds.ticks() {
        let x = seconds.percent(second);
        page.put(format_args!(
            "<text class=\"xtick\" x=\"{x:.2}%\" y=\"100%\" dy=\"18\">{} s</text>\n",
            tick(second)
        ));
    }
    for (slice, us) in &slices {
        page.raw(&dot(slice, *us, seconds.percent(slice.started_s), 100.0 - scale.percent(us / 1000.0)));
    }
    page.raw("</svg></div>\n</figure>\n");
}

fn dot(slice: &SliceFigures, us: f64, x: f64, y: f64) -> String {
    let aside = if slice.invalid.is_empty() { "" } else { " aside" };
    let why = if slice.invalid.is_empty() {
        String::new()
    } else {
        format!("; set aside: {}", slice.invalid.join("; "))
    };
    let title = format!(
        "{}, pair {}, at {} s: {} ms, {} % CPU, {} % stolen{why}",
        slice.side.name(),
        slice.pair,
        three_digits(slice.started_s),
        ms(us),
        three_digits(slice.cpu_pct),
        three_digits(slice.steal_pct)
    );
    let title = Esc(&title);
    match slice.side {
        Side::A => format!(
            "<circle class=\"slice side-a{aside}\" cx=\"{x:.2}%\" cy=\"{y:.2}%\" r=\"4\"><title>{title}</title></circle>\n"
        ),
        // A rectangle's place is its corner: a drawing of its own around it is moved by half its size.
        Side::B => format!(
            "<svg class=\"side\" x=\"{x:.2}%\" y=\"{y:.2}%\" width=\"1\" height=\"1\"><rect class=\"slice side-b{aside}\" x=\"-4\" y=\"-4\" width=\"8\" height=\"8\"><title>{title}</title></rect></svg>\n"
        ),
    }
}

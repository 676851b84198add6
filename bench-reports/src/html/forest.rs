//! The forest plot of the ladder: for each rung and stage, how much larger or smaller than a rung before it, with an interval
//! and the margin within which nothing is said to have changed.

use mipro_telemetry::Group;

use super::markup::{Esc, Html};
use super::svg::{Scale, axis, grid};
use crate::format::{ms, times};
use crate::ratio::{Mean, Ratio};
use crate::schema::{Comparison, EndpointComparison, GateRule, Report, Rung};
use crate::view::{self, GROUPS, label};

/// The margin that is drawn where no comparison brings its own: a lengthening by this share or less is let pass.
const MARGIN_SHARE: f64 = 0.1;
/// A roll-up is left out where on both sides it is less than this share of the overhead.
const SHARE_MIN: f64 = 0.01;
/// Ends of the scale; what lies beyond is drawn as an arrow.
const NEAR: Scale = Scale::Ratio { low: 0.1, high: 3.0 };
const FAR: Scale = Scale::Ratio { low: 0.0001, high: 3.0 };

/// What an interval rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Paired,
    Histograms,
}

/// One line of the plot.
struct Line {
    name: &'static str,
    before_us: f64,
    after_us: f64,
    /// `None`: nothing was there before.
    ratio: Option<Ratio>,
    margin_share: f64,
    source: Source,
}

/// One rung against another.
struct Card<'a> {
    after: &'a Rung,
    before: &'a Rung,
    lines: Vec<Line>,
}

pub(super) fn render(page: &mut Html, report: &Report) {
    let measured: Vec<&Rung> = report.rungs.iter().filter(|rung| view::through_service(rung)).collect();
    let [first, .., _] = measured[..] else { return };
    page.section(
        "forest",
        "How much each rung changed",
        "Mean time per rollout as a ratio; left of the line is less. The bar is the 90 % interval, the band the margin within which \
         nothing is said to have changed; an arrow points beyond the scale. Stages under 1 % of the overhead on both sides are left \
         out, and the LLM is the control: it should not move.",
    );
    let near: Vec<Card<'_>> = measured.windows(2).map(|pair| card(report, pair[0], pair[1])).collect();
    let far: Vec<Card<'_>> = measured[1..].iter().map(|after| card(report, first, after)).collect();
    sources(page, near.iter().chain(&far));
    page.put(format_args!(
        "<div class=\"modes\">\n<fieldset><legend>Ratio to</legend>\n\
         <label><input type=\"radio\" name=\"forest\" checked> the rung before</label>\n\
         <label><input type=\"radio\" name=\"forest\" id=\"forest-first\"> {}</label>\n</fieldset>\n",
        Esc(&first.name)
    ));
    cards(page, "near", &near, NEAR);
    cards(page, "far", &far, FAR);
    page.raw("</div>\n");
    page.end_section();
}

/// Says where the intervals come from, and what those of the ladder itself can't know.
fn sources<'a>(page: &mut Html, cards: impl Iterator<Item = &'a Card<'a>>) {
    let sources: Vec<Source> = cards.flat_map(|card| card.lines.iter().map(|line| line.source)).collect();
    let key = |class: &str, text: &str| {
        format!(
            "<li><svg width=\"22\" height=\"12\" aria-hidden=\"true\"><g class=\"{class} same\"><line class=\"whisker\" x2=\"22\" y1=\"6\" y2=\"6\"/>\
             <circle class=\"point\" cx=\"11\" cy=\"6\" r=\"4\"/></g></svg>{text}</li>"
        )
    };
    let mut keys = String::new();
    if sources.contains(&Source::Paired) {
        keys += &key("paired", "a paired comparison’s p50, interleaved slices");
    }
    if sources.contains(&Source::Histograms) {
        keys += &key(
            "loose",
            "this run’s own histograms: the rungs ran one after the other and their rollouts are taken as independent, so a machine that \
             changed in between is not in the interval",
        );
    }
    page.put(format_args!("<ul class=\"legend\" aria-label=\"What the intervals rest on\">{keys}</ul>\n"));
}

fn card<'a>(report: &Report, before: &'a Rung, after: &'a Rung) -> Card<'a> {
    let paired = report
        .comparisons
        .iter()
        .rev()
        .find(|comparison| comparison.a == before.name && comparison.b == after.name);
    let whole = view::overhead_mean_us(before).max(view::overhead_mean_us(after));
    let mut lines = vec![
        line(
            "rollout",
            "rollout.response",
            paired,
            Mean::of(&before.rollout.response),
            Mean::of(&after.rollout.response),
        ),
        line("overhead", "overhead", paired, Mean::of(&before.overhead), Mean::of(&after.overhead)),
    ];
    for group in GROUPS {
        let mean =
            |rung: &Rung| rung.stage_groups.get(group.name()).map(|stage| Mean::per_rollout(stage, rung));
        let us = |rung: &Rung| view::group_us(rung, group).unwrap_or_default();
        if group == Group::Llm || us(before).max(us(after)) > whole * SHARE_MIN {
            lines.push(line(
                label(group),
                &format!("groups.{}", group.name()),
                paired,
                mean(before),
                mean(after),
            ));
        }
    }
    Card { after, before, lines }
}

fn line(
    name: &'static str,
    endpoint: &str,
    paired: Option<&Comparison>,
    before: Option<Mean>,
    after: Option<Mean>,
) -> Line {
    let us = |mean: Option<Mean>| mean.map_or(0.0, |mean| mean.us);
    let median = |endpoints: &EndpointComparison| endpoints.name == endpoint && endpoints.quantile == 0.5;
    let compared = paired.and_then(|comparison| comparison.endpoints.iter().find(|found| median(found)));
    if let Some((endpoint, effect)) = compared.and_then(|found| Some((found, found.effect?))) {
        let margin_share = if let GateRule::Margin { share } = endpoint.gate { share } else { MARGIN_SHARE };
        return Line {
            name,
            before_us: endpoint.a_us.unwrap_or_default(),
            after_us: endpoint.b_us.unwrap_or_default(),
            ratio: Some(Ratio {
                value: 1.0 + effect.share,
                interval: Some((1.0 + effect.lower, 1.0 + effect.upper)),
            }),
            margin_share,
            source: Source::Paired,
        };
    }
    let nothing = Mean::nothing();
    Line {
        name,
        before_us: us(before),
        after_us: us(after),
        ratio: before.and_then(|before| Ratio::of(after.unwrap_or(nothing), before)),
        margin_share: MARGIN_SHARE,
        source: Source::Histograms,
    }
}

fn cards(page: &mut Html, class: &str, cards: &[Card<'_>], scale: Scale) {
    page.put(format_args!("<div class=\"cards {class}\">\n"));
    for card in cards {
        let (after, before) = (&card.after.name, &card.before.name);
        page.put(format_args!(
            "<div class=\"card\">\n<h3>{} <span>against {}</span></h3>\n<ul class=\"bars trees\" data-marks>\n",
            Esc(after),
            Esc(before)
        ));
        for line in &card.lines {
            row(page, card, line, scale);
        }
        page.put(format_args!(
            "<li class=\"scale\"><span></span>{}<span></span></li>\n</ul>\n</div>\n",
            axis(scale, "×")
        ));
    }
    page.raw("</div>\n");
}

fn row(page: &mut Html, card: &Card<'_>, line: &Line, scale: Scale) {
    let figure = match line.ratio {
        Some(ratio) if ratio.value > 0.0 => times(ratio.value),
        Some(_) => "gone".to_owned(),
        None if line.after_us > 0.0 => "new".to_owned(),
        None => "–".to_owned(),
    };
    let interval = line.ratio.and_then(|ratio| ratio.interval);
    let range =
        interval.map_or_else(String::new, |(low, high)| format!(" ({} to {})", times(low), times(high)));
    let title = format!(
        "{} against {}, {}: {figure}{range}, {} ms before and {} ms after, {}",
        card.after.name,
        card.before.name,
        line.name,
        ms(line.before_us),
        ms(line.after_us),
        if line.source == Source::Paired { "p50 of a paired comparison" } else { "means of this run" },
    );
    page.put(format_args!(
        "<li><span class=\"who\">{}</span>{}<span class=\"figure\">{}</span></li>\n",
        line.name,
        drawing(line, scale, &title),
        Esc(&figure)
    ));
}

fn drawing(line: &Line, scale: Scale, title: &str) -> String {
    let title = Esc(title);
    let (band, band_end) =
        (scale.percent(1.0 / (1.0 + line.margin_share)), scale.percent(1.0 + line.margin_share));
    let mark = mark(line, scale);
    let source = if line.source == Source::Paired { "paired" } else { "loose" };
    format!(
        "<svg class=\"bar tree\" width=\"100%\" height=\"18\" role=\"img\" aria-label=\"{title}\">{grid}\
         <rect class=\"margin\" x=\"{band:.2}%\" width=\"{width:.2}%\" height=\"18\"/>\
         <line class=\"one\" x1=\"{one:.2}%\" x2=\"{one:.2}%\" y2=\"18\"/>\
         <g class=\"{source} {tone}\">{mark}<title>{title}</title></g></svg>",
        grid = grid(scale, 18),
        width = band_end - band,
        one = scale.percent(1.0),
        tone = tone(line),
    )
}

/// Less, more, or neither within its interval and margin.
fn tone(line: &Line) -> &'static str {
    let Some(ratio) = line.ratio else { return if line.after_us > 0.0 { "more" } else { "same" } };
    let (low, high) = ratio.interval.unwrap_or((ratio.value, ratio.value));
    match () {
        () if high < 1.0 => "less",
        () if low > 1.0 && ratio.value > 1.0 + line.margin_share => "more",
        () => "same",
    }
}

/// A point with its interval; an arrow where the point lies beyond the scale.
fn mark(line: &Line, scale: Scale) -> String {
    let Scale::Ratio { low, high } = scale else { return String::new() };
    let arrow = |tip: &str, points: &str| {
        format!(
            "<svg x=\"{tip}\" width=\"9\" height=\"18\"><polygon class=\"point\" points=\"{points}\"/></svg>"
        )
    };
    let value =
        line.ratio.map_or(if line.after_us > 0.0 { f64::INFINITY } else { f64::NAN }, |ratio| ratio.value);
    match value {
        value if value.is_nan() => String::new(),
        value if value < low => arrow("0%", "9,3 0,9 9,15"),
        value if value > high => arrow("100%", "-9,3 0,9 -9,15"),
        value => {
            let (from, to) = line.ratio.and_then(|ratio| ratio.interval).unwrap_or((value, value));
            format!(
                "<line class=\"whisker\" x1=\"{:.2}%\" x2=\"{:.2}%\" y1=\"9\" y2=\"9\"/><circle class=\"point\" cx=\"{:.2}%\" cy=\"9\" r=\"4\"/>",
                scale.percent(from),
                scale.percent(to),
                scale.percent(value)
            )
        }
    }
}

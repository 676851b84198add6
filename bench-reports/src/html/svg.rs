//! Hand-written SVG: scales, bars and axes in percent of their box, so that drawings stretch with the page while their text
//! keeps its size.

use std::fmt::Write as _;

use mipro_telemetry::Group;

use super::markup::Esc;
use crate::format::three_digits;

/// Patterns that drawings refer to by name; the one thing shared by all of them.
pub(super) const PATTERNS: &str = "<svg class=\"defs\" width=\"0\" height=\"0\" aria-hidden=\"true\" focusable=\"false\"><defs>\
<pattern id=\"hatch\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
<rect width=\"5\" height=\"5\" class=\"hatch-ground\"/><rect width=\"2\" height=\"5\" class=\"hatch-line\"/></pattern>\
</defs></svg>\n";

/// Maps figures to percent of a length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scale {
    /// From zero to the given value.
    Linear { max: f64 },
    /// Between powers of ten, given as their exponents.
    Log { from: i32, to: i32 },
    /// Logarithmic between any two positive values: ratios around 1.
    Ratio { low: f64, high: f64 },
}

impl Scale {
    /// Linear, with room to a round number above the largest.
    pub(super) fn linear(max: f64) -> Self {
        let step = Self::step(max.max(f64::MIN_POSITIVE));
        Self::Linear { max: (max / step).ceil().max(1.0) * step }
    }

    /// Logarithmic over whole powers of ten that hold all positive values; at least one decade.
    pub(super) fn log(values: impl Iterator<Item = f64> + Clone) -> Self {
        let positive = values.filter(|value| value.is_finite() && *value > 0.0);
        let (low, high) =
            positive.fold((f64::MAX, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        if high <= 0.0 {
            return Self::Log { from: 0, to: 1 };
        }
        let from = low.log10().floor() as i32;
        Self::Log { from, to: (high.log10().ceil() as i32).max(from + 1) }
    }

    fn step(max: f64) -> f64 {
        let rough = max / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let lead = rough / power;
        power
            * if lead <= 1.0 {
                1.0
            } else if lead <= 2.0 {
                2.0
            } else if lead <= 5.0 {
                5.0
            } else {
                10.0
            }
    }

    /// Where a value lies, in percent, kept within 0 … 100.
    pub(super) fn percent(self, value: f64) -> f64 {
        let share = match self {
            Self::Linear { max } => value / max,
            Self::Log { .. } if value <= 0.0 => 0.0,
            Self::Log { from, to } => (value.log10() - f64::from(from)) / f64::from(to - from),
            Self::Ratio { .. } if value <= 0.0 => 0.0,
            Self::Ratio { low, high } => (value / low).ln() / (high / low).ln(),
        };
        if share.is_finite() { share.clamp(0.0, 1.0) * 100.0 } else { 0.0 }
    }

    /// Round values to label.
    pub(super) fn ticks(self) -> Vec<f64> {
        match self {
            Self::Linear { max } => {
                let step = Self::step(max);
                (0..=(max / step).round() as i32).map(|index| f64::from(index) * step).collect()
            }
            Self::Log { from, to } => (from..=to).map(|exponent| 10_f64.powi(exponent)).collect(),
            Self::Ratio { low, high } => ratios(low, high),
        }
    }
}

/// Round ratios between two: tenths or twentieths around 1 where they are near, else 1, 2, 5 or powers of ten.
fn ratios(low: f64, high: f64) -> Vec<f64> {
    let within = |value: &f64| (low..=high).contains(value);
    if high / low <= 2.5 {
        let each = if high / low <= 1.4 { 20.0 } else { 10.0 };
        let (first, last) = ((low * each).ceil() as i32, (high * each).floor() as i32);
        return (first..=last).map(|step| f64::from(step) / each).collect();
    }
    let leads: &[f64] = if high / low > 100.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let exponents = low.log10().floor() as i32..=high.log10().ceil() as i32;
    exponents
        .flat_map(|exponent| leads.iter().map(move |lead| lead * 10_f64.powi(exponent)))
        .filter(within)
        .collect()
}

/// A tick's label: `0.01`, `1`, `2,000`, `10k`.
pub(super) fn tick(value: f64) -> String {
    if value >= 10_000.0 && (value / 1000.0).fract() == 0.0 {
        return format!("{}k", crate::format::thousands(value / 1000.0));
    }
    if value != 0.0 && value < 1.0 {
        let text = format!("{value:.6}");
        return text.trim_end_matches('0').to_owned();
    }
    if value.fract().abs() < 1e-9 { crate::format::thousands(value) } else { three_digits(value) }
}

/// The class that gives a roll-up its colour.
pub(super) fn group_class(group: Group) -> &'static str {
    match group {
        Group::Db => "g-db",
        Group::S3 => "g-s3",
        Group::Tpe => "g-tpe",
        Group::Llm => "g-llm",
        Group::Log => "g-log",
        Group::Cpu => "g-cpu",
        Group::Queue => "g-queue",
        Group::Other | Group::Background => "g-other",
    }
}

/// One piece of a stacked bar.
pub(super) struct Segment {
    pub(super) class: &'static str,
    pub(super) value: f64,
    /// Shown on hover and on focus.
    pub(super) title: String,
    /// Written into the piece where there is room: a name, and the figure after it.
    pub(super) label: (&'static str, String),
}

/// Least width of a piece, in percent, that has room for its name; and for its figure, too.
const NAME_FROM: f64 = 7.0;
const FIGURE_FROM: f64 = 15.0;

/// Vertical lines at a scale's ticks.
pub(super) fn grid(scale: Scale, height: u32) -> String {
    scale.ticks().iter().map(|value| scale.percent(*value)).fold(String::new(), |mut lines, x| {
        // Writing to a String cannot fail.
        let _ = write!(lines, "<line class=\"grid\" x1=\"{x:.2}%\" x2=\"{x:.2}%\" y2=\"{height}\"/>");
        lines
    })
}

/// A horizontal stacked bar on a linear scale; `label` says to those who cannot see it what it shows.
pub(super) fn stacked(label: &str, segments: &[Segment], scale: Scale) -> String {
    let mut svg = format!(
        "<svg class=\"bar\" width=\"100%\" height=\"22\" role=\"img\" aria-label=\"{}\">{}",
        Esc(label),
        grid(scale, 28)
    );
    let mut from = 0.0;
    for segment in segments.iter().filter(|segment| segment.value > 0.0) {
        let (x, end) = (scale.percent(from), scale.percent(from + segment.value));
        // Writing to a String cannot fail.
        let _ = write!(
            svg,
            "<rect class=\"{}\" x=\"{x:.3}%\" width=\"{:.3}%\" height=\"22\"><title>{}</title></rect>",
            segment.class,
            end - x,
            Esc(&segment.title)
        );
        svg.push_str(&inner_label(segment, x, end - x));
        from += segment.value;
    }
    svg.push_str("</svg>");
    svg
}

fn inner_label(segment: &Segment, x: f64, width: f64) -> String {
    let (name, figure) = &segment.label;
    if width < NAME_FROM || name.is_empty() {
        return String::new();
    }
    let figure = if width >= FIGURE_FROM {
        format!("<tspan class=\"roomy\"> {}</tspan>", Esc(figure))
    } else {
        String::new()
    };
    format!(
        "<text class=\"in {}\" x=\"{x:.3}%\" dx=\"6\" y=\"15\">{}{figure}</text>",
        segment.class,
        Esc(name)
    )
}

/// Labels under a scale, as HTML so that they can be left out where narrow.
pub(super) fn axis(scale: Scale, unit: &str) -> String {
    let mut axis = String::from("<span class=\"axis\" aria-hidden=\"true\">");
    let ticks = scale.ticks();
    let last = ticks.len().saturating_sub(1);
    for (index, value) in ticks.iter().enumerate() {
        let side = match index {
            0 => " class=\"first\"",
            _ if index == last => " class=\"last\"",
            _ => "",
        };
        let unit = if index == last { unit } else { "" };
        let _ =
            write!(axis, "<i{side} style=\"left:{:.3}%\">{}{unit}</i>", scale.percent(*value), tick(*value));
    }
    axis.push_str("</span>");
    axis
}

/// Least distance of two labels at the right edge, in CSS pixels.
const LABEL_GAP: f64 = 15.0;

/// A name at the right edge of a drawing: where its line ends in percent from the top, its colour's place, the name.
pub(super) struct EndLabel<'a> {
    pub(super) y_percent: f64,
    pub(super) hue: usize,
    pub(super) name: &'a str,
}

/// Names beside the ends of their lines, pushed apart where they would cover each other.
pub(super) fn end_labels(mut labels: Vec<EndLabel<'_>>, height: f64) -> String {
    labels.sort_by(|a, b| a.y_percent.total_cmp(&b.y_percent));
    let mut places: Vec<f64> = labels.iter().map(|label| label.y_percent / 100.0 * height).collect();
    let mut least = 0.0;
    for place in &mut places {
        *place = place.max(least);
        least = *place + LABEL_GAP;
    }
    let mut most = height;
    for place in places.iter_mut().rev() {
        *place = place.min(most);
        most = *place - LABEL_GAP;
    }
    labels.iter().zip(places).fold(String::new(), |mut text, (label, y)| {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "<text class=\"endlabel {}\" x=\"100%\" dx=\"8\" y=\"{y:.1}\" dy=\"4\">{}</text>",
            hue(label.hue),
            Esc(label.name)
        );
        text
    })
}

/// The colour of a rung, by its place on the ladder.
pub(super) fn hue(index: usize) -> String {
    format!("h{}", index % 10)
}

/// Horizontal grid lines with their values at the left edge.
pub(super) fn y_axis(scale: Scale) -> String {
    scale.ticks().iter().fold(String::new(), |mut text, value| {
        let y = 100.0 - scale.percent(*value);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "<line class=\"grid\" x2=\"100%\" y1=\"{y:.2}%\" y2=\"{y:.2}%\"/><text class=\"ytick\" x=\"-8\" y=\"{y:.2}%\" dy=\"4\">{}</text>",
            tick(*value)
        );
        text
    })
}

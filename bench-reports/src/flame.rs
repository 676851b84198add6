//! Flamegraphs of our own: folded stacks drawn as one SVG that stands alone, with a zoom and a search, and the same bytes each time.
//!
//! The root is at the top, as on the report's page, which reads these files back (`html/flame/read.rs`): a frame is a `<g>` with its
//! `<title>` (`name (count, share)`) and its `<rect>`. What waits never looks like what works: see `colour`.
//!
//! A **difference** shows the second profile with its widths, coloured by what changed against the first. A frame that is gone has
//! no width: so there are two, one each way.

use std::fmt::Write as _;

use mipro_telemetry::Folded;

use crate::format::{counted, thousands, with_ms};
use crate::html::Esc;
use tree::{Node, Placed};

mod colour;
#[cfg(test)]
mod tests;
mod tree;
pub mod views;
pub mod waits;

const STYLE: &str = include_str!("flame/style.css");
const SCRIPT: &str = include_str!("flame/script.js");
/// Height of a row in CSS pixels.
const ROW: usize = 17;
/// Where the first row begins: title, subtitle and tools are above it.
const TOP: usize = 64;
/// Frames narrower than this, in percent, are left out.
const WIDTH_MIN: f64 = 0.02;
/// Frames wider than this, in percent, carry their name; the others get it when zoomed.
const NAMED_FROM: f64 = 0.6;

/// What counts stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Samples of a CPU profiler.
    Samples,
    /// Nanoseconds of so many rollouts, shown as milliseconds a rollout.
    Nanoseconds {
        /// At least 1.
        rollouts: u64,
    },
}

impl Unit {
    fn text(self, count: f64) -> String {
        match self {
            Self::Samples => format!("{} samples", thousands(count)),
            Self::Nanoseconds { rollouts } => {
                format!("{} a rollout", with_ms(count / 1e3 / rollouts.max(1) as f64))
            }
        }
    }
}

/// How two profiles are held against each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// As they are: for times of as many rollouts on both sides, where the absolute change is the point.
    Absolute,
    /// The first scaled to the second's total: for samples, of which there are as many as the profiler ran.
    Normalised,
}

/// What stands above a flamegraph.
#[derive(Debug, Clone, Copy)]
pub struct Heading<'a> {
    /// What it is: `wall clock: blob`.
    pub title: &'a str,
    /// How to read it, and what it does not show.
    pub note: &'a str,
    /// What its counts are.
    pub unit: Unit,
}

/// Draws one profile.
#[must_use]
pub fn svg(folded: &Folded, heading: &Heading<'_>) -> String {
    let root = Node::of(folded);
    let total = root.after;
    draw(&root, heading, &|placed| {
        let unit = heading.unit.text(placed.node.after);
        let title = format!("{} ({unit}, {})", placed.name, share(placed.node.after, total));
        (title, colour::of(placed.name))
    })
}

/// Draws `after` with its widths, coloured by what changed against `before`.
#[must_use]
pub fn difference(before: &Folded, after: &Folded, scale: Scale, heading: &Heading<'_>) -> String {
    let factor = match scale {
        Scale::Normalised if before.total() > 0 => after.total() as f64 / before.total() as f64,
        Scale::Normalised | Scale::Absolute => 1.0,
    };
    let root = Node::of_both(before, factor, after);
    let (total, largest) = (root.after, root.largest_change());
    draw(&root, heading, &|placed| {
        let (was, is) = (placed.node.before, placed.node.after);
        let change = match is - was {
            change if change < 0.0 => format!("{} less", heading.unit.text(-change)),
            change => format!("{} more", heading.unit.text(change)),
        };
        let title = format!("{} ({}, {}; {change})", placed.name, heading.unit.text(is), share(is, total));
        (title, colour::of_change(is - was, largest))
    })
}

fn share(count: f64, total: f64) -> String {
    format!("{:.2}%", if total > 0.0 { count * 100.0 / total } else { 0.0 })
}

/// A frame's title and colour.
type Says<'a> = &'a dyn Fn(&Placed<'_>) -> (String, [u8; 3]);

fn draw(root: &Node, heading: &Heading<'_>, says: Says<'_>) -> String {
    let (mut frames, mut rows, mut narrow) = (String::new(), 1, 0_usize);
    root.walk(&mut |placed| {
        if placed.width < WIDTH_MIN {
            narrow += 1;
            return false;
        }
        rows = rows.max(placed.depth + 1);
        let (title, colour) = says(&placed);
        frame(&mut frames, &placed, &title, colour);
        true
    });
    if root.after <= 0.0 {
        frames = "<text class=\"none\" x=\"10\" y=\"80\">no stack was recorded</text>\n".to_owned();
    }
    let narrow = match narrow {
        0 => String::new(),
        n => format!(" {} too narrow to draw.", counted(n, "frame is", "frames are")),
    };
    let height = TOP + rows * ROW + 8;
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"100%\" height=\"{height}\" \
         role=\"img\" aria-label=\"{title}\">\n<style>\n{STYLE}</style>\n<rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n\
         <text class=\"title\" x=\"10\" y=\"22\">{title}</text>\n<text class=\"note\" x=\"10\" y=\"40\">{note}{narrow}</text>\n\
         <text class=\"tool\" id=\"whole\" x=\"10\" y=\"57\">whole</text>\n<text class=\"tool\" id=\"find\" x=\"70\" y=\"57\">find …</text>\n\
         <text class=\"note\" id=\"told\" x=\"130\" y=\"57\"></text>\n<g id=\"frames\">\n{frames}</g>\n\
         <script><![CDATA[\n{SCRIPT}]]></script>\n</svg>\n",
        title = Esc(heading.title),
        note = Esc(heading.note),
    )
}

fn frame(out: &mut String, placed: &Placed<'_>, title: &str, [r, g, b]: [u8; 3]) {
    let (x, width, y) = (placed.x, placed.width, TOP + placed.depth * ROW);
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "<g class=\"f\"><title>{}</title><rect x=\"{x:.4}%\" y=\"{y}\" width=\"{width:.4}%\" height=\"{}\" fill=\"rgb({r},{g},{b})\"/>\
         <svg x=\"{x:.4}%\" y=\"{y}\" width=\"{width:.4}%\" height=\"{}\">",
        Esc(title),
        ROW - 1,
        ROW - 1,
    );
    if width >= NAMED_FROM {
        let _ = write!(out, "<text x=\"3\" y=\"12\">{}</text>", Esc(placed.name));
    }
    out.push_str("</svg></g>\n");
}

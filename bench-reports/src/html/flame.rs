//! Flamegraphs of a run's folder, drawn anew into the page: root at the top, a click zooms, no script of theirs is kept.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::markup::{Esc, Html};
use crate::flame::views;
use crate::format::counted;
use crate::schema::Report;
use read::Frame;

pub(crate) mod read;

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Files that are read at most.
const FILES_MAX: usize = 64;
/// Height of a row in CSS pixels.
const ROW: u32 = 17;
/// Frames narrower than this, in percent, are less than a pixel wide on any screen.
const WIDTH_MIN: f64 = 0.05;
/// Frames wider than this, in percent, carry their name; the others get it when zoomed.
const NAMED_FROM: f64 = 0.6;

/// A flamegraph of a run: the name of its file, without the ending, and the SVG's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flamegraph {
    /// `cpu-blob` of `cpu-blob.svg`.
    pub name: String,
    /// As it was in the file.
    pub svg: String,
}

/// The flamegraphs in a run's folder: its files `*.svg`, by name. A file that cannot be read, is longer than 64 MiB or is no
/// text is no flamegraph; of a folder with more than 64, the first are taken.
#[must_use]
pub fn flamegraphs(dir: &Path) -> Vec<Flamegraph> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "svg"))
        .collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let small = fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() <= FILE_BYTES_MAX);
        let name = path.file_stem()?.to_string_lossy().into_owned();
        small.then(|| fs::read_to_string(path).ok()).flatten().map(|svg| Flamegraph { name, svg })
    };
    paths.iter().take(FILES_MAX).filter_map(read).collect()
}

/// The section, in at most about `bytes_max` bytes of markup.
pub(super) fn render(page: &mut Html, report: &Report, flames: &[Flamegraph], bytes_max: usize) {
    let mut flames: Vec<&Flamegraph> = flames.iter().collect();
    flames.sort_by_cached_key(|flame| views::place(&flame.name));
    let drawn: Vec<(&Flamegraph, Vec<Frame>)> = flames
        .into_iter()
        .map(|flame| (flame, read::frames(&flame.svg)))
        .filter(|(_, frames)| !frames.is_empty())
        .collect();
    let notes = report.profile.as_ref().map_or(&[][..], |profile| &profile.notes);
    if drawn.is_empty() && notes.is_empty() {
        return;
    }
    page.section(
        "flames",
        "Flamegraphs",
        "Each row is called by the one above it; width is time. Click a frame to zoom in (or walk with the arrow keys and press Enter), the \
         top frame or Escape to zoom out. [await] is waiting, not CPU.",
    );
    for note in notes {
        page.put(format_args!("<p class=\"note\">{}</p>\n", Esc(note)));
    }
    let each = bytes_max / drawn.len().max(1);
    for (index, (flame, frames)) in drawn.iter().enumerate() {
        // A pair is seen at a glance: both sides' first view is open.
        let open = index == 0 || index == 1 && views::place(&drawn[0].0.name).0 == 0 && is_pair(&flame.name);
        graph(page, flame, frames, each, open);
    }
    page.end_section();
}

/// Whether a picture is one side's wall clock.
fn is_pair(name: &str) -> bool {
    let (view, difference, _) = views::place(name);
    view == 0 && !difference
}

fn graph(page: &mut Html, flame: &Flamegraph, frames: &[Frame], bytes_max: usize, open: bool) {
    let difference = views::is_difference(&flame.name);
    let (markup, left_out) = within(frames, difference, bytes_max);
    let whole = frames.iter().find(|frame| frame.depth == 0).map_or("", |root| counts(&root.title));
    let says = match views::note(&flame.name) {
        note if note.is_empty() => note,
        note => format!("<p class=\"note\">{}</p>\n", Esc(&note)),
    };
    let rows = frames.iter().map(|frame| frame.depth + 1).max().unwrap_or(1);
    let open = if open { " open" } else { "" };
    let left_out = if left_out == 0 {
        String::new()
    } else {
        format!("; {} too narrow to draw", counted(left_out, "frame is", "frames are"))
    };
    page.put(format_args!(
        "<details class=\"flame\"{open}><summary><strong>{name}</strong> ({whole}{count}{left_out})</summary>\n{says}\
         <p class=\"tools\"><label>Find <input type=\"search\" spellcheck=\"false\"></label> <button type=\"button\" data-reset>Whole</button> <output></output></p>\n\
         <div class=\"flames\" data-marks><svg width=\"100%\" height=\"{height}\" role=\"img\" aria-label=\"flamegraph {name}\">\n{markup}</svg></div>\n</details>\n",
        name = Esc(&flame.name),
        whole = Esc(&if whole.is_empty() { String::new() } else { format!("{whole}; ") }),
        count = counted(frames.len(), "frame", "frames"),
        height = rows * ROW,
    ));
}

/// The widest frames' markup within the bytes, in the order of the drawing, and how many frames were left out.
fn within(frames: &[Frame], difference: bool, bytes_max: usize) -> (String, usize) {
    let mut order: Vec<usize> = (0..frames.len()).filter(|index| frames[*index].width >= WIDTH_MIN).collect();
    order.sort_by(|a, b| {
        let (a, b) = (&frames[*a], &frames[*b]);
        b.width.total_cmp(&a.width).then(a.depth.cmp(&b.depth)).then(a.x.total_cmp(&b.x))
    });
    let mut kept: Vec<(usize, String)> = Vec::new();
    let mut length = 0;
    for index in order {
        let markup = frame(&frames[index], difference);
        length += markup.len();
        if length > bytes_max {
            break;
        }
        kept.push((index, markup));
    }
    // Top to bottom and left to right: that is how the arrow keys walk.
    kept.sort_by(|(a, _), (b, _)| {
        let (a, b) = (&frames[*a], &frames[*b]);
        a.depth.cmp(&b.depth).then(a.x.total_cmp(&b.x))
    });
    let left_out = frames.len() - kept.len();
    (kept.into_iter().map(|(_, markup)| markup).collect(), left_out)
}

/// The function of a title `name (123 samples, 4.5%)`.
fn function(title: &str) -> &str {
    title.rsplit_once(" (").map_or(title, |(name, _)| name)
}

/// The counts of a title, without the share.
fn counts(title: &str) -> &str {
    let counts = title.rsplit_once(" (").map_or("", |(_, counts)| counts.trim_end_matches(')'));
    counts.rsplit_once(", ").map_or(counts, |(counts, _)| counts)
}

fn frame(frame: &Frame, difference: bool) -> String {
    let name = function(&frame.title);
    // Waiting is no work: whatever the file's colours, it must not look like it. In a difference colours mean something else.
    let class = match name {
        _ if name.starts_with("[await]") && !difference => " class=\"await\"".to_owned(),
        _ => frame.fill.map_or_else(String::new, |[r, g, b]| format!(" fill=\"rgb({r},{g},{b})\"")),
    };
    let mut markup = format!(
        "<svg class=\"fr\" x=\"{:.3}%\" y=\"{}\" width=\"{:.3}%\" height=\"{}\"><rect width=\"100%\" height=\"100%\"{class}><title>{}</title></rect>",
        frame.x,
        frame.depth * ROW,
        frame.width,
        ROW - 1,
        Esc(&frame.title)
    );
    if frame.width >= NAMED_FROM {
        // Writing to a String cannot fail.
        let _ = write!(markup, "<text x=\"3\" y=\"12\">{}</text>", Esc(name));
    }
    markup.push_str("</svg>\n");
    markup
}

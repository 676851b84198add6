//! HdrHistogram interval logs (`.hlog`), which HdrHistogram's own tools plot: one line an interval, values in nanoseconds.
//!
//! Of a run: `rollout`, `overhead` and `stage.<name>`, one interval a rung, tagged by its name. Of a comparison:
//! `compare.<endpoint>`, one interval a slice, tagged `A` or `B`. Tags have neither commas nor white space. The version line and
//! the legend are part of the format and written here; `hdrhistogram`'s writer leaves them out and its reader skips the first
//! and does not know the second, which every reader of HdrHistogram's own tools does.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::compare::Slice;
use crate::dist::encode;
use crate::schema::Report;

#[cfg(test)]
mod tests;

/// Logs by file name without ending.
pub type Logs = BTreeMap<String, String>;

/// One line.
struct Interval<'a> {
    tag: &'a str,
    /// From the log's base time.
    start_s: f64,
    length_s: f64,
    max_ns: f64,
    /// Base64 of V2-deflate.
    hdr: &'a str,
}

/// The interval logs of a report: of whole rollouts, of the overhead, and of each stage.
#[must_use]
pub fn of_report(report: &Report) -> Logs {
    let base_s = seconds(&report.run.started_at);
    let mut logs = Logs::new();
    for rung in &report.rungs {
        let fixed = [("rollout".to_owned(), &rung.rollout.response), ("overhead".to_owned(), &rung.overhead)];
        let stages = rung.stages.iter().map(|(stage, of)| (format!("stage.{stage}"), &of.dist));
        for (name, dist) in fixed.into_iter().chain(stages).filter(|(_, dist)| !dist.hdr.is_empty()) {
            let interval = Interval {
                tag: &rung.name,
                start_s: rung.started_seconds,
                length_s: rung.wall_seconds,
                max_ns: dist.max_us.unwrap_or_default() * 1000.0,
                hdr: &dist.hdr,
            };
            add(&mut logs, &name, "one interval a rung", base_s, &interval);
        }
    }
    logs
}

/// The interval logs of a comparison's slices, in time order, those set aside included. `started_at` is RFC 3339.
#[must_use]
pub fn of_slices(slices: &[Slice], started_at: &str) -> Logs {
    let base_s = seconds(started_at);
    let mut in_order: Vec<&Slice> = slices.iter().collect();
    in_order.sort_by(|a, b| a.started_s.total_cmp(&b.started_s));
    let mut logs = Logs::new();
    for slice in in_order {
        for (endpoint, samples) in slice.samples.iter().filter(|(_, samples)| !samples.is_empty()) {
            let histogram = samples.histogram();
            let interval = Interval {
                tag: slice.side.name(),
                start_s: slice.started_s,
                length_s: slice.length_s,
                max_ns: histogram.max() as f64,
                hdr: &encode(&histogram),
            };
            add(&mut logs, &format!("compare.{endpoint}"), "one interval a slice", base_s, &interval);
        }
    }
    logs
}

/// Appends one interval line, `Tag=<tag>,<start>,<length>,<largest>,<histogram>`, to the log of that name.
fn add(logs: &mut Logs, name: &str, what: &str, base_s: f64, interval: &Interval<'_>) {
    let log = logs.entry(file_safe(name)).or_insert_with(|| header(&file_safe(name), what, base_s));
    let Interval { tag, start_s, length_s, max_ns, hdr } = interval;
    // Writing to a String cannot fail.
    let _ = writeln!(log, "Tag={},{start_s:.3},{length_s:.3},{max_ns:.0},{hdr}", tag_safe(tag));
}

/// Seconds since the epoch, to the millisecond that the header shows; 0 for what is no time.
fn seconds(rfc3339: &str) -> f64 {
    OffsetDateTime::parse(rfc3339, &Rfc3339)
        .map_or(0.0, |at| (at.unix_timestamp_nanos() / 1_000_000) as f64 / 1000.0)
}

fn header(name: &str, what: &str, base_s: f64) -> String {
    format!(
        "#[{name}: {what}, values in nanoseconds]\n#[Histogram log format version 1.3]\n#[StartTime: {base_s:.3} (seconds since \
         epoch)]\n#[BaseTime: {base_s:.3} (seconds since epoch)]\n\
         \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n"
    )
}

fn tag_safe(name: &str) -> String {
    name.chars().map(|c| if c == ',' || c.is_whitespace() || c.is_control() { '_' } else { c }).collect()
}

fn file_safe(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect()
}

//! Telling a scraper: the text exposition format (version 0.0.4), and every metric's name, kind and help in one place.
//!
//! Labels that come from traffic are the vocabulary's enums and nothing else, so that no caller can make series.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use crate::recorder::Snapshot;

#[cfg(test)]
mod tests;

/// The `Content-Type` of an exposition.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the histograms' buckets in nanoseconds: 10 µs to 60 s. Derived at scraping time from HDR histograms, so
/// they cost recording nothing.
pub const BUCKETS_NS: [u64; 20] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    60_000_000_000,
];

/// A metric's name and what it means. The unit ends the name; counters end in `_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    /// As scraped.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
}

/// Every metric that the project's processes expose.
pub mod names {
    use super::Name;

    macro_rules! names {
        ($($(#[$meta:meta])* $id:ident = $name:literal, $help:literal;)+) => {
            $($(#[$meta])* pub const $id: Name = Name { name: $name, help: $help };)+

            /// All of them.
            pub const ALL: &[Name] = &[$($id),+];
        };
    }

    names! {
        /// Histogram over operation, stage and phase.
        STAGE_SECONDS = "mipro_stage_seconds", "Exclusive time of one stage within one request.";
        /// Histogram over operation.
        REQUEST_SECONDS = "mipro_request_seconds", "Time of one request inside the service, LLM included.";
        /// Counter over operation, stage and phase.
        STAGE_CANCELLED = "mipro_stage_cancelled_total", "Stages that were cancelled or failed.";
        /// Counter over operation, stage and phase.
        STAGE_ROUND_TRIPS = "mipro_stage_round_trips_total", "Round trips that stages made on the wire.";
        /// Counter over operation, stage and phase.
        STAGE_BYTES = "mipro_stage_bytes_total", "Payload bytes that stages moved.";
        /// Counter over operation, stage and phase.
        STAGE_CALLS = "mipro_stage_calls_total", "Statements or requests that stages made.";
        /// Counter over operation, stage and phase.
        STAGE_OVERLAP_SECONDS = "mipro_stage_overlap_seconds_total", "Time that stages ran hidden beside others.";
        /// Counter over operation and status code.
        REQUESTS = "mipro_requests_total", "Requests answered, by operation and status code.";
        /// Gauge.
        REQUESTS_IN_FLIGHT = "mipro_requests_in_flight", "Requests being worked on.";
        /// Gauge.
        SYSTEMS_RESIDENT = "mipro_systems_resident", "Systems whose state is in memory.";
        /// Gauge.
        SYSTEMS_DIRTY = "mipro_systems_dirty", "Systems with changes that are not saved yet.";
        /// Counter.
        SAVES = "mipro_saves_total", "Whole states saved.";
        /// Counter.
        SAVE_FAILURES = "mipro_save_failures_total", "Saves that failed and will be tried again.";
        /// Counter; only where the process was asked to count.
        ALLOCATIONS = "mipro_alloc_total", "Calls that asked the allocator for memory, since the process began to count.";
        /// Counter; only where the process was asked to count.
        ALLOCATED_BYTES = "mipro_alloc_bytes_total", "Bytes that those calls asked for.";
        /// Gauge.
        BUILD_INFO = "mipro_build_info", "Always 1; the labels say which build this is.";
        /// Gauge.
        START_TIME_SECONDS = "process_start_time_seconds", "When the process started, in seconds since the Unix epoch.";
    }
}

/// A page of metrics being written. Samples of one name are kept together, whatever the order they come in.
#[derive(Debug, Default)]
pub struct Exposition {
    families: Vec<Family>,
}

#[derive(Debug)]
struct Family {
    name: Name,
    kind: &'static str,
    samples: String,
}

impl Exposition {
    /// An empty page.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One sample of something that only grows.
    pub fn counter(&mut self, name: Name, labels: &[(&str, &str)], value: f64) {
        self.sample(name, "counter", labels, value);
    }

    /// One sample of something that goes up and down.
    pub fn gauge(&mut self, name: Name, labels: &[(&str, &str)], value: f64) {
        self.sample(name, "gauge", labels, value);
    }

    /// One histogram of nanoseconds, shown in seconds with the buckets of [`BUCKETS_NS`].
    pub fn histogram(
        &mut self,
        name: Name,
        labels: &[(&str, &str)],
        histogram: &Histogram<u64>,
        sum_seconds: f64,
    ) {
        let below = cumulative(histogram);
        let family = self.family(name, "histogram");
        let (text, id) = (&mut family.samples, name.name);
        let bounds = BUCKETS_NS.iter().map(|bound| (*bound as f64 / 1e9).to_string());
        let counts = below.into_iter().chain([histogram.len()]);
        for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(counts) {
            let with_bound = labels.iter().copied().chain([("le", bound.as_str())]);
            line(text, id, "_bucket", with_bound, count as f64);
        }
        line(text, id, "_sum", labels.iter().copied(), sum_seconds);
        line(text, id, "_count", labels.iter().copied(), histogram.len() as f64);
    }

    /// Everything a service's recorders know.
    pub fn recorders(&mut self, snapshot: &Snapshot) {
        for row in &snapshot.operations {
            let labels = [("operation", row.operation.name())];
            let sum_seconds = row.total.mean() * row.total.len() as f64 / 1e9;
            self.histogram(names::REQUEST_SECONDS, &labels, &row.total, sum_seconds);
        }
        for row in &snapshot.stages {
            let phase = row.phase.map_or("", crate::stage::Phase::name);
            let labels = [("operation", row.operation.name()), ("stage", row.stage.name()), ("phase", phase)];
            self.histogram(names::STAGE_SECONDS, &labels, &row.exclusive, row.exclusive_ns as f64 / 1e9);
            self.counter(names::STAGE_CALLS, &labels, row.count as f64);
            self.counter(names::STAGE_BYTES, &labels, row.bytes as f64);
            self.counter(names::STAGE_ROUND_TRIPS, &labels, row.round_trips as f64);
            self.counter(names::STAGE_CANCELLED, &labels, row.cancelled as f64);
            self.counter(names::STAGE_OVERLAP_SECONDS, &labels, row.overlap_ns as f64 / 1e9);
        }
    }

    /// The page.
    #[must_use]
    pub fn finish(self) -> String {
        let mut text = String::new();
        for family in self.families {
            let Name { name, help } = family.name;
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {}", escape_help(help), family.kind);
            text.push_str(&family.samples);
        }
        text
    }

    fn sample(&mut self, name: Name, kind: &'static str, labels: &[(&str, &str)], value: f64) {
        let family = self.family(name, kind);
        line(&mut family.samples, name.name, "", labels.iter().copied(), value);
    }

    fn family(&mut self, name: Name, kind: &'static str) -> &mut Family {
        let at = self.families.iter().position(|f| f.name.name == name.name).unwrap_or_else(|| {
            self.families.push(Family { name, kind, samples: String::new() });
            self.families.len() - 1
        });
        &mut self.families[at]
    }
}

/// How many values lie at or below each bound, in one pass over the filled slots. A slot counts by its lowest value, so a
/// bound is met to within the histogram's precision.
fn cumulative(histogram: &Histogram<u64>) -> [u64; BUCKETS_NS.len()] {
    let mut counts = [0; BUCKETS_NS.len()];
    for slot in histogram.iter_recorded() {
        let lowest = histogram.lowest_equivalent(slot.value_iterated_to());
        let bucket = BUCKETS_NS.partition_point(|bound| *bound < lowest);
        if let Some(count) = counts.get_mut(bucket) {
            *count += slot.count_since_last_iteration();
        }
    }
    let mut below = 0;
    for count in &mut counts {
        below += *count;
        *count = below;
    }
    counts
}

fn line<'a>(
    text: &mut String,
    name: &str,
    suffix: &str,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
    value: f64,
) {
    let _ = write!(text, "{name}{suffix}");
    let mut open = '{';
    for (label, value) in labels {
        let _ = write!(text, "{open}{label}=\"{}\"", escape_label(value));
        open = ',';
    }
    if open == ',' {
        text.push('}');
    }
    let _ = match value {
        f64::INFINITY => writeln!(text, " +Inf"),
        f64::NEG_INFINITY => writeln!(text, " -Inf"),
        _ => writeln!(text, " {value}"),
    };
}

fn escape_label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn escape_help(help: &str) -> String {
    help.replace('\\', "\\\\").replace('\n', "\\n")
}

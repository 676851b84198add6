use std::time::Duration;

use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use proptest::prelude::*;

use super::*;
use crate::compare::{Samples, Slice};
use crate::{Dist, Recorder, Rung, Side};

/// A line as HdrHistogram's reader for Rust sees it: tag, start, length, largest, values with their counts.
#[derive(Debug, PartialEq)]
struct Read {
    tag: String,
    start: Duration,
    length: Duration,
    max: f64,
    samples: Samples,
}

/// Reads a log with `hdrhistogram`'s own reader. It takes lines for comments or intervals and knows no legend.
fn read(log: &str) -> (Vec<f64>, Vec<Read>) {
    let lines: String =
        log.lines().filter(|line| !line.starts_with('"')).map(|line| format!("{line}\n")).collect();
    let (mut times, mut intervals) = (vec![], vec![]);
    for entry in IntervalLogIterator::new(lines.as_bytes()) {
        match entry.expect("a line that reads") {
            LogEntry::StartTime(at) | LogEntry::BaseTime(at) => times.push(at.as_secs_f64()),
            LogEntry::Interval(of) => intervals.push(Read {
                tag: of.tag().expect("a tag").as_str().to_owned(),
                start: of.start_timestamp(),
                length: of.duration(),
                max: of.max(),
                samples: Samples::from(
                    &Dist { hdr: of.encoded_histogram().to_owned(), ..Dist::default() }.decode().unwrap(),
                ),
            }),
        }
    }
    (times, intervals)
}

fn slice(side: Side, pair: u32, started_s: f64, values_ns: &[u64]) -> Slice {
    let mut slice = Slice::new(side, pair, &BTreeMap::new());
    slice.samples.insert("rollout.response".to_owned(), values_ns.iter().copied().collect());
    (slice.started_s, slice.length_s) = (started_s, 2.0);
    slice
}

#[test]
fn a_report_reads_back() {
    let dist = [1_500_000, 2_500_000].into_iter().collect::<Recorder>().to_dist();
    let rung = |name: &str, started_seconds| Rung {
        name: name.to_owned(),
        started_seconds,
        wall_seconds: 1.5,
        overhead: dist.clone(),
        ..Rung::default()
    };
    let mut report = Report { rungs: vec![rung("blob", 4.0), rung("a b,c", 6.25)], ..Report::default() };
    "2026-03-02T10:15:02.125Z".clone_into(&mut report.run.started_at);
    let logs = of_report(&report);
    assert_eq!(logs.keys().collect::<Vec<_>>(), ["overhead"], "nothing without samples");
    insta::assert_snapshot!(logs["overhead"], @r#"
    #[overhead: one interval a rung, values in nanoseconds]
    #[Histogram log format version 1.3]
    #[StartTime: 1772446502.125 (seconds since epoch)]
    #[BaseTime: 1772446502.125 (seconds since epoch)]
    "StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"
    Tag=blob,4.000,1.500,2500000,HISTFAAAACZ4nJNpmSzMwMDAzgABzFCaEUza//9v/wEi8H4bI9NUHiYAfocHCQ==
    Tag=a_b_c,6.250,1.500,2500000,HISTFAAAACZ4nJNpmSzMwMDAzgABzFCaEUza//9v/wEi8H4bI9NUHiYAfocHCQ==
    "#);
    let (times, intervals) = read(&logs["overhead"]);
    assert_eq!(times, [1_772_446_502.125; 2]);
    let tags: Vec<_> = intervals.iter().map(|of| (of.tag.as_str(), of.start.as_secs_f64(), of.max)).collect();
    assert_eq!(tags, [("blob", 4.0, 2_500_000.0), ("a_b_c", 6.25, 2_500_000.0)]);
    assert_eq!(intervals[0].samples.count(), 2);
}

#[test]
fn slices_in_time_order() {
    let slices = [slice(Side::B, 0, 2.5, &[2_000_000; 3]), slice(Side::A, 0, 0.0, &[1_000_000])];
    let logs = of_slices(&slices, "not a time");
    assert_eq!(logs.keys().collect::<Vec<_>>(), ["compare.rollout.response"]);
    let (times, intervals) = read(&logs["compare.rollout.response"]);
    assert_eq!(times, [0.0, 0.0]);
    assert_eq!(intervals.iter().map(|of| of.tag.as_str()).collect::<Vec<_>>(), ["A", "B"]);
    assert_eq!(intervals[1].length, Duration::from_secs(2));
}

proptest! {
    #[test]
    fn samples_survive_the_log(values in prop::collection::vec(1_u64..3_600_000_000_000, 1..50)) {
        let logs = of_slices(&[slice(Side::A, 0, 0.0, &values)], "");
        let (_, intervals) = read(&logs["compare.rollout.response"]);
        prop_assert_eq!(&intervals[0].samples, &values.iter().copied().collect::<Samples>());
    }
}

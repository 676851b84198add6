use std::fs;

use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use mipro_bench_reports::folder::{find_report, rfc3339, run_id};
use mipro_bench_reports::{RunFolder, json};

use crate::fixture;

#[test]
fn a_report_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.json");
    let report = fixture::report();
    json::write(&path, &report).unwrap();
    assert_eq!(json::read(&path).unwrap(), report);
}

#[test]
fn a_folder_has_everything_and_latest_points_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(dir.path(), "20260302T101502Z-3f1c2ab").unwrap();
    let latest = dir.path().join("runs/latest");
    assert!(fs::symlink_metadata(&latest).is_err(), "latest moved before there was a report");
    folder.write(&fixture::report(), "listen = \"127.0.0.1:0\"\n").unwrap();

    let mut names: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with("stage."))
        .collect();
    names.sort();
    assert_eq!(names, ["config.toml", "overhead.hlog", "report.html", "report.json", "rollout.hlog"]);
    assert!(folder.path().join("stage.db.query.hlog").is_file());
    assert_eq!(fs::read_link(&latest).unwrap().to_str().unwrap(), folder.id());

    let next = RunFolder::create(dir.path(), "20260302T101502Z-3f1c2ab").unwrap();
    assert_eq!(next.id(), "20260302T101502Z-3f1c2ab-2");
    next.write(&fixture::empty(), "").unwrap();
    assert_eq!(fs::read_link(&latest).unwrap().to_str().unwrap(), next.id());
    assert_eq!(fs::read_dir(dir.path().join("runs")).unwrap().count(), 3, "no litter");

    let found = find_report(dir.path(), "latest").unwrap();
    assert_eq!(json::read(&found).unwrap().rungs.len(), 0);
    assert_eq!(
        find_report(dir.path(), folder.path().to_str().unwrap()).unwrap(),
        folder.path().join("report.json")
    );
    assert!(find_report(dir.path(), "nothing").unwrap_err().to_string().contains("runs/nothing/report.json"));
}

#[test]
fn out_may_exist_and_moves_no_link() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("mine.txt"), "keep").unwrap();
    let folder = RunFolder::at(dir.path()).unwrap();
    folder.write(&fixture::report(), "").unwrap();
    folder.write(&fixture::report(), "").unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("mine.txt")).unwrap(), "keep");
    assert!(!dir.path().join("latest").exists());
    assert!(RunFolder::at(&dir.path().join("mine.txt")).is_err());
}

#[test]
fn interval_logs_are_read_by_others() {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::at(dir.path()).unwrap();
    let report = fixture::report();
    folder.write(&report, "").unwrap();
    let log = fs::read_to_string(dir.path().join("overhead.hlog")).unwrap();
    let head: Vec<&str> = log.lines().take(5).collect();
    assert_eq!(head[1], "#[Histogram log format version 1.3]");
    assert_eq!(head[2], "#[StartTime: 1772446502.000 (seconds since epoch)]");
    assert_eq!(
        head[4],
        "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\""
    );

    // The reader knows no legend line, which the format's own tools write and skip.
    let lines: String =
        log.lines().filter(|line| !line.starts_with('"')).map(|line| format!("{line}\n")).collect();
    let intervals: Vec<_> = IntervalLogIterator::new(lines.as_bytes())
        .map(|entry| entry.expect("a line that reads"))
        .filter_map(|entry| if let LogEntry::Interval(interval) = entry { Some(interval) } else { None })
        .collect();
    let measured: Vec<_> = report.rungs.iter().filter(|rung| rung.overhead.count > 0).collect();
    assert_eq!(intervals.len(), measured.len());
    for (interval, rung) in intervals.iter().zip(measured) {
        assert_eq!(interval.tag().unwrap().as_str(), rung.name);
        assert_eq!(interval.encoded_histogram(), rung.overhead.hdr);
        assert!((interval.max() - rung.overhead.max_us.unwrap() * 1000.0).abs() < 1.0);
    }
}

#[test]
fn names_and_times() {
    assert_eq!(run_id(1_772_446_502_123_456, "3f1c2ab"), "20260302T101502Z-3f1c2ab");
    assert_eq!(run_id(0, "../../etc"), "19700101T000000Z-etc");
    assert_eq!(run_id(0, ""), "19700101T000000Z-unknown");
    assert_eq!(rfc3339(1_772_446_502_123_456), "2026-03-02T10:15:02.123Z");
}

use mipro_bench_reports::text::{Style, render};
use mipro_bench_reports::{Validity, headline};

use crate::fixture;

fn plain(width: usize) -> Style {
    Style { color: false, width }
}

/// Text without ANSI colours.
fn uncolored(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or("").to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').unwrap().1)
}

#[test]
fn the_whole_page() {
    insta::assert_snapshot!(render(&fixture::report(), Style::default()));
}

#[test]
fn a_profile() {
    insta::assert_snapshot!(render(&fixture::profiled(), Style::default()));
}

#[test]
fn the_first_line_is_the_headline_unbroken() {
    let report = fixture::report();
    let text = render(&report, plain(60));
    assert_eq!(text.lines().next().unwrap(), headline(&report));
}

#[test]
fn nothing_but_the_headline_is_wider_than_the_terminal() {
    for width in [80, 100, 120, 400] {
        for report in [fixture::report(), fixture::empty(), fixture::profiled()] {
            let text = render(&report, plain(width));
            for line in text.lines().skip(1) {
                assert!(line.chars().count() <= width.min(120), "{} columns: {line}", line.chars().count());
                assert_eq!(line, line.trim_end());
            }
        }
    }
}

#[test]
fn color_only_when_asked_and_the_words_stay_the_same() {
    let report = fixture::report();
    let colored = render(&report, Style { color: true, width: 120 });
    assert!(colored.contains("\x1b["));
    assert_eq!(uncolored(&colored), render(&report, plain(120)));
}

#[test]
fn texts_cannot_reach_the_terminal_as_commands() {
    let text = render(&fixture::hostile(), plain(120));
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
}

#[test]
fn a_run_without_rungs_still_prints() {
    let text = render(&fixture::empty(), plain(120));
    assert!(text.starts_with("No rung went through the service"));
}

#[test]
fn allocations_are_shown_where_somebody_counted() {
    let mut report = fixture::report();
    assert!(!render(&report, plain(200)).contains("Allocations"));
    report.rungs[1].counts.process.insert("allocations".to_owned(), 1_028.4);
    let shown = "Allocations per rollout, the service’s whole process: blob 1,028.";
    assert!(render(&report, plain(200)).contains(shown));
    assert!(mipro_bench_reports::html::render(&report).contains(shown));
}

#[test]
fn what_went_wrong_is_named() {
    let mut report = fixture::report();
    let rung = &mut report.rungs[1];
    rung.accounting.ok -= 3;
    rung.accounting.timeout = 2;
    rung.validity =
        Validity { ok: false, reasons: vec!["the load generator lagged 12 ms at p99".to_owned()] };
    rung.operations.get_mut("status_done").unwrap().stage_mean_us.remove("s3.put");
    report.seed_rows[0].p50_ms = Some(900.0);
    report.seed_rows[0].inside = false;
    let text = render(&report, plain(120));
    for expected in
        ["blob !", "timeout 2", "BROKEN", "invalid: the load generator lagged 12 ms at p99", " off", "above"]
    {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
}

#[test]
fn an_operation_without_stage_means_still_shows_its_rows() {
    let mut report = fixture::report();
    for operation in report.rungs[1].operations.values_mut() {
        operation.stage_mean_us.clear();
    }
    let text = render(&report, plain(120));
    let line = text
        .lines()
        .find(|line| line.trim_start().starts_with("status_done  ") && line.contains("= total"))
        .unwrap();
    assert!(line.contains("579"), "{line}");
}

#[test]
fn a_generators_run_shows_its_times_and_the_parts_of_the_lag() {
    let mut report = fixture::report();
    assert!(!render(&report, plain(120)).contains("\nTimes  "), "the ladder has its own table");
    let rung = &mut report.rungs[0];
    let times = &mut rung.rollout;
    (times.pacer_lag, times.slot_wait) = (times.lag.clone(), times.lag.clone());
    let text = render(&report, plain(120));
    let section: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("Times")).skip(1).collect();
    for view in ["response", "service", "lag", "the pacer's", "for a slot"] {
        let row =
            section.iter().find(|line| line.contains(view)).unwrap_or_else(|| panic!("no {view}: {text}"));
        assert!(row.split_whitespace().count() >= 8, "eight figures: {row}");
    }
}

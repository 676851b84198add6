use super::*;
use crate::compare::{Endpoint, Rules, Slice, compare};
use crate::schema::{
    Accounting, Comparison, CountSet, Counts, Side, Speedup, StageReport, Times, Validity, Verdict,
};
use crate::threshold::Threshold;
use crate::{Recorder, Rung};

fn dist(values_ms: impl IntoIterator<Item = u64>) -> Dist {
    values_ms.into_iter().map(|ms| ms * 1_000_000).collect::<Recorder>().to_dist()
}

fn comparison() -> Comparison {
    let slice = |pair: u32, side| {
        let factor = if side == Side::B { 1.2 } else { 1.0 };
        let wobble = 1.0 + f64::from((pair * 7) % 5) / 500.0;
        let values: Recorder =
            (0..100).map(|n| ((5e6 + f64::from(n) * 1e4) * factor * wobble) as u64).collect();
        Slice::new(side, pair, &[("rollout.response".to_owned(), values.histogram())].into())
    };
    let slices: Vec<Slice> = (0..8).flat_map(|pair| [slice(pair, Side::A), slice(pair, Side::B)]).collect();
    let endpoints =
        vec![Endpoint::gated("rollout.response", 0.5, 0.1), Endpoint::shown("rollout.response", 0.99)];
    let made = compare(&slices, &Rules { endpoints, ..Rules::default() }).unwrap();
    Comparison { a: "HEAD~1".to_owned(), b: "HEAD".to_owned(), rung: "one-call".to_owned(), ..made }
}

fn report() -> Report {
    let through = Rung {
        name: "one-call".to_owned(),
        wall_seconds: 20.0,
        accounting: Accounting { intended: 120, ok: 100, timeout: 3, unsent: 17, ..Accounting::default() },
        validity: Validity { ok: true, reasons: vec![] },
        rollout: Times {
            response: dist(101..=200),
            service: dist(100..200),
            lag: Some(dist([1; 100])),
            ..Times::default()
        },
        overhead: dist(1..=100),
        steps: [("rollout".to_owned(), Times { service: dist(100..200), ..Times::default() })].into(),
        stages: [("gate.wait".to_owned(), StageReport { dist: dist(1..=30), ..StageReport::default() })]
            .into(),
        counts: Counts {
            critical: CountSet { llm_calls: 1.0, ..CountSet::default() },
            background: CountSet { log_syncs: 1.5, ..CountSet::default() },
            ..Counts::default()
        },
        speedup: Some(Speedup { overhead: 48.5, rollout: 12.0 }),
        ..Rung::default()
    };
    let floor = Rung {
        name: "direct".to_owned(),
        wall_seconds: 2.0,
        accounting: Accounting { intended: 5, ok: 5, ..Accounting::default() },
        validity: Validity { ok: true, reasons: vec![] },
        rollout: Times { response: dist([90; 5]), ..Times::default() },
        ..Rung::default()
    };
    let verdict = |name: &str, outcome: &str| Verdict {
        name: name.to_owned(),
        outcome: outcome.to_owned(),
        detail: "4, budget 3".to_owned(),
    };
    Report {
        rungs: vec![floor, through],
        comparisons: vec![comparison()],
        verdicts: vec![
            verdict("gate: one-call critical.s3_put", "fail"),
            verdict("all accounted for", "pass"),
        ],
        ..Report::default()
    }
}

#[test]
fn as_oha_prints_it() {
    insta::assert_snapshot!(oha(rung(&report(), None).unwrap()));
    let empty: serde_json::Value = serde_json::from_str(&oha(&Rung::default())).unwrap();
    assert!(empty["summary"]["successRate"].is_null() && empty["latencyPercentiles"]["p50"].is_null());
}

/// The parts that oha's own schema requires, and the sums that its readers rely on.
#[test]
fn oha_has_what_its_readers_need() {
    let text: serde_json::Value = serde_json::from_str(&oha(rung(&report(), None).unwrap())).unwrap();
    for part in [
        "summary",
        "responseTimeHistogram",
        "latencyPercentiles",
        "rps",
        "details",
        "statusCodeDistribution",
        "errorDistribution",
    ] {
        assert!(text[part].is_object(), "{part}");
    }
    let bars: u64 =
        text["responseTimeHistogram"].as_object().unwrap().values().map(|bar| bar.as_u64().unwrap()).sum();
    assert_eq!(bars, 100, "every sample is in a bar");
    assert_eq!(text["summary"]["requestsPerSec"], 5.0);
    let p50 = text["latencyPercentiles"]["p50"].as_f64().unwrap();
    assert!((p50 - 0.15).abs() < 0.001, "seconds: {p50}");
    assert!(text["latencyPercentiles"]["p99"].is_null(), "one sample beyond it is none to speak of");
}

#[test]
fn as_k6_hands_it_over() {
    let report = report();
    let rung = rung(&report, Some("one-call")).unwrap();
    let outcomes: Vec<_> = [
        "rollout.response:p(90)<250ms",
        "rollout.response:p(99)<250ms",
        "stages.gate.wait:med<1ms",
        "steps.rollout.service:max<1s",
        "accounting.errors:rate<1%",
        "overhead:med<1s",
    ]
    .iter()
    .map(|text| text.parse::<Threshold>().unwrap().check(rung))
    .collect();
    insta::assert_snapshot!(k6(rung, &outcomes));
}

#[test]
fn as_bencher_reads_it() {
    insta::assert_snapshot!(bencher(&report()));
}

#[test]
fn as_github_action_benchmark_reads_it() {
    insta::assert_snapshot!(github(&report()));
}

#[test]
fn as_a_comment() {
    insta::assert_snapshot!(markdown(&report()));
}

#[test]
fn nothing_breaks_out_of_a_comment() {
    let mut report = report();
    let bad = "<img src=x onerror=alert(1)> @everyone [a](javascript:b) | `x` | \n# loud ![p](http://h/i.png) <!-- -->";
    for rung in &mut report.rungs {
        bad.clone_into(&mut rung.name);
    }
    report.comparisons[0].invalidate(bad.to_owned());
    bad.clone_into(&mut report.comparisons[0].b);
    bad.clone_into(&mut report.verdicts[0].detail);
    bad.clone_into(&mut report.environment.link);
    let page = markdown(&report);
    let ours = page
        .replace(MARK, "")
        .replace("<details><summary>", "")
        .replace("</summary>", "")
        .replace("</details>", "");
    assert!(
        !ours.contains('<')
            && !ours.contains("@e")
            && !ours.replace("\\]", "").contains("](")
            && !ours.contains("\n# "),
        "{ours}"
    );
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).collect();
    let cells = |row: &str| row.replace("\\|", "").matches('|').count();
    assert!(rows.iter().all(|row| [6, 8].contains(&cells(row))), "{rows:#?}");
    report.verdicts = vec![report.verdicts[0].clone(); 2_000];
    assert!(markdown(&report).chars().count() < 65_536, "GitHub takes no more");
}

#[test]
fn the_rung_meant() {
    let report = report();
    assert_eq!(rung(&report, None).unwrap().name, "one-call", "the last one");
    assert_eq!(rung(&report, Some("direct")).unwrap().name, "direct");
    assert!(rung(&report, Some("nope")).is_none() && rung(&Report::default(), None).is_none());
}

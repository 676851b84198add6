use super::{BUCKETS_NS, Exposition, Name, names};
use crate::ledger::{Breakdown, StageEntry};
use crate::recorder::Recorders;
use crate::stage::{Operation, Phase, Stage};

const ODD: Name = Name { name: "odd_total", help: "Back\\slash\nand line." };

#[test]
fn samples_of_one_name_stay_together_and_odd_values_are_escaped() {
    let mut page = Exposition::new();
    page.counter(ODD, &[("path", "a\\b\"c\nd")], 1.0);
    page.gauge(names::REQUESTS_IN_FLIGHT, &[], 2.5);
    page.counter(ODD, &[("path", "plain"), ("code", "200")], f64::INFINITY);
    insta::assert_snapshot!(page.finish(), @r#"
    # HELP odd_total Back\\slash\nand line.
    # TYPE odd_total counter
    odd_total{path="a\\b\"c\nd"} 1
    odd_total{path="plain",code="200"} +Inf
    # HELP mipro_requests_in_flight Requests being worked on.
    # TYPE mipro_requests_in_flight gauge
    mipro_requests_in_flight 2.5
    "#);
}

#[test]
fn recorders_become_histograms_in_seconds() {
    let recorders = Recorders::new();
    let put = StageEntry {
        stage: Stage::S3Put,
        phase: Some(Phase::Save),
        exclusive_ns: 30_000_000,
        overlap_ns: 0,
        count: 1,
        bytes: 512,
        round_trips: 1,
        cancelled: 0,
    };
    for total_ns in [30_000_000, 31_000_000, 2_000_000_000, 120_000_000_000] {
        let other_ns = total_ns - put.exclusive_ns;
        let entries = vec![put.clone()];
        recorders.record(&Breakdown { operation: Operation::StatusDone, total_ns, other_ns, entries });
    }
    let mut page = Exposition::new();
    page.recorders(&recorders.snapshot());
    let page = page.finish();
    let shown = |needles: &[&str]| -> String {
        let lines = page.lines().filter(|l| needles.iter().all(|n| l.contains(n)));
        lines.map(|l| format!("{l}\n")).collect()
    };
    insta::assert_snapshot!(shown(&["mipro_request_seconds_bucket"]), @r#"
    mipro_request_seconds_bucket{operation="status_done",le="0.00001"} 0
    mipro_request_seconds_bucket{operation="status_done",le="0.000025"} 0
    mipro_request_seconds_bucket{operation="status_done",le="0.00005"} 0
    mipro_request_seconds_bucket{operation="status_done",le="0.0001"} 0
    mipro_request_seconds_bucket{operation="status_done",le="0.00025"} 0
    mipro_request_seconds_bucket{operation="status_done",le="0.0005"} 0
    mipro_request_seconds_bucket{operation="status_done",le="0.001"} 0
    mipro_request_seconds_bucket{operation="status_done",le="0.0025"} 0
    mipro_request_seconds_bucket{operation="status_done",le="0.005"} 0
    mipro_request_seconds_bucket{operation="status_done",le="0.01"} 0
    mipro_request_seconds_bucket{operation="status_done",le="0.025"} 0
    mipro_request_seconds_bucket{operation="status_done",le="0.05"} 2
    mipro_request_seconds_bucket{operation="status_done",le="0.1"} 2
    mipro_request_seconds_bucket{operation="status_done",le="0.25"} 2
    mipro_request_seconds_bucket{operation="status_done",le="0.5"} 2
    mipro_request_seconds_bucket{operation="status_done",le="1"} 2
    mipro_request_seconds_bucket{operation="status_done",le="2.5"} 3
    mipro_request_seconds_bucket{operation="status_done",le="5"} 3
    mipro_request_seconds_bucket{operation="status_done",le="10"} 3
    mipro_request_seconds_bucket{operation="status_done",le="60"} 3
    mipro_request_seconds_bucket{operation="status_done",le="+Inf"} 4
    "#);
    insta::assert_snapshot!(shown(&["s3.put", "seconds_sum"]), @r#"mipro_stage_seconds_sum{operation="status_done",stage="s3.put",phase="save"} 0.12"#);
    insta::assert_snapshot!(shown(&["s3.put", "bytes"]), @r#"mipro_stage_bytes_total{operation="status_done",stage="s3.put",phase="save"} 2048"#);
    assert_eq!(shown(&["# TYPE"]).lines().count(), 7);
}

#[test]
fn names_are_unique_and_well_formed() {
    let mut seen = std::collections::BTreeSet::new();
    for Name { name, help } in names::ALL {
        assert!(seen.insert(name), "{name} twice");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
        assert!(help.ends_with('.'), "{name}");
    }
    assert!(BUCKETS_NS.is_sorted());
}

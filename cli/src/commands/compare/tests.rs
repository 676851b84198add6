use mipro_harness::saved::{CountChange, TimeChange};

use super::*;

#[test]
fn each_verdict_has_its_code() {
    let open = CompareVerdict::Inconclusive { more_pairs: None, reason: String::new() };
    let invalid = CompareVerdict::Invalid { reasons: Vec::new() };
    for (verdict, policy, expected) in [
        (&CompareVerdict::Pass { improved: false }, OnInconclusive::Extend, Code::Ok),
        (&CompareVerdict::Pass { improved: true }, OnInconclusive::Fail, Code::Ok),
        (&CompareVerdict::Regress, OnInconclusive::Pass, Code::Breached),
        (&open, OnInconclusive::Extend, Code::Invalid),
        (&open, OnInconclusive::Pass, Code::Ok),
        (&open, OnInconclusive::Fail, Code::Breached),
        (&invalid, OnInconclusive::Pass, Code::Invalid),
    ] {
        assert_eq!(code(verdict, policy), expected, "{verdict:?} {policy:?}");
    }
}

#[test]
fn saved_runs_are_judged_by_their_counts() {
    let count = CountChange { rung: "blob".to_owned(), count: "s3_put", a: 3.0, b: 4.0 };
    let time = TimeChange { rung: "blob".to_owned(), what: "overhead", a_us: 2_000.0, b_us: 2_500.0 };
    insta::assert_snapshot!(saved_text(&Saved { counts: vec![count], times: vec![time] }), @r#"
    REGRESS: 1 count a rollout differs; times are shown and not judged, for the runs were not interleaved
      blob s3_put: 3 → 4 a rollout
      blob overhead p50: 2.000 → 2.500 ms (+25.0 %)
    "#);
}

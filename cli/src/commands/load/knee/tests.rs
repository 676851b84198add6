use mipro_bench_reports::threshold::Threshold;
use mipro_loadgen::knee::Knee;

use super::done;

#[test]
fn a_knee_is_told_in_words_and_by_its_code() {
    let condition: Threshold = "response:p(99)<250ms".parse().unwrap();
    let told = [
        Knee::At { rate: 480.2, broke_at: 491.7 },
        Knee::Below(0.1),
        Knee::AtLeast { rate: 100_000.0, generator: false },
        Knee::AtLeast { rate: 12_000.0, generator: true },
        Knee::Unsteady(55.25),
    ]
    .map(|knee| {
        let found = done(&condition, knee, Vec::new());
        format!("{:?} {} {}: {}", found.code, found.verdict.outcome, found.verdict.name, found.verdict.detail)
    });
    insta::assert_snapshot!(told.join("\n"), @"");
}

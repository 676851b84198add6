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
        Knee::Unsteady(55.2),
    ]
    .map(|knee| {
        let found = done(&condition, knee, Vec::new());
        format!("{:?} {} {}: {}", found.code, found.verdict.outcome, found.verdict.name, found.verdict.detail)
    });
    insta::assert_snapshot!(told.join("\n"), @r"
    Ok pass knee of rollout.response:p(99)<250ms: holds at 480/s, not at 492/s
    Breached fail knee of rollout.response:p(99)<250ms: does not even hold at 0.1/s
    Ok pass knee of rollout.response:p(99)<250ms: still holds at 100000/s, where the search ends
    Invalid inconclusive knee of rollout.response:p(99)<250ms: holds at 12000/s; this generator cannot offer more, so the knee is unknown
    Invalid inconclusive knee of rollout.response:p(99)<250ms: what held for one stage did not for a longer one, down to 55.2/s
    ");
}

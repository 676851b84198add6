use mipro_bench_reports::gates::Kind;

use super::*;

fn gate(name: &str, outcome: Outcome) -> GateOutcome {
    GateOutcome {
        kind: Kind::Count,
        name: name.to_owned(),
        limit: "3".to_owned(),
        seen: "4".to_owned(),
        outcome,
        advice: if outcome == Outcome::Pass { String::new() } else { "look at s3.put".to_owned() },
    }
}

#[test]
fn what_failed_stands_first() {
    let gates =
        [gate("blob critical.llm_calls", Outcome::Pass), gate("blob critical.s3_put", Outcome::Breach)];
    insta::assert_snapshot!(text(&gates, code(&gates, Inconclusive::Extend)), @r#"
    BREACH: 1 of 2 gates hold
    BREACH        blob critical.s3_put: 4, budget 3
                  look at s3.put
    pass          blob critical.llm_calls: 4, budget 3
    "#);
}

#[test]
fn each_outcome_has_its_code() {
    let of = |outcome, policy| code(&[gate("x", Outcome::Pass), gate("y", outcome)], policy);
    assert_eq!(of(Outcome::Better, Inconclusive::Extend), Code::Ok);
    assert_eq!(of(Outcome::Soft, Inconclusive::Extend), Code::Ok);
    assert_eq!(of(Outcome::Breach, Inconclusive::Pass), Code::Breached);
    assert_eq!(of(Outcome::Inconclusive, Inconclusive::Pass), Code::Ok);
    assert_eq!(of(Outcome::Inconclusive, Inconclusive::Fail), Code::Breached);
    assert_eq!(of(Outcome::Inconclusive, Inconclusive::Extend), Code::Invalid);
    assert_eq!(of(Outcome::Invalid, Inconclusive::Pass), Code::Invalid);
    assert_eq!(code(&[], Inconclusive::Pass), Code::Invalid, "no gate holds nothing");
}

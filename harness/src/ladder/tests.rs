use super::*;

#[test]
fn each_rung_changes_one_thing_over_the_one_below() {
    let plans: Vec<RungPlan> = RungName::ALL.iter().map(|r| r.plan()).collect();
    for pair in plans.windows(2) {
        let [below, above] = [pair[0], pair[1]];
        let changes = [
            below.keeping != above.keeping,
            below.pooled != above.pooled,
            below.one_call != above.one_call,
            below.parallel != above.parallel,
            below.link != above.link,
        ];
        assert_eq!(changes.iter().filter(|c| **c).count(), 1, "{} → {}", below.name, above.name);
    }
}

#[test]
fn lists_are_read_in_the_ladders_order() {
    assert_eq!(parse_list("pooled, blob,pooled").unwrap(), [RungName::Blob, RungName::Pooled]);
    assert_eq!(parse_list("all").unwrap(), RungName::ALL);
}

#[test]
fn an_unknown_rung_is_named_with_those_there_are() {
    insta::assert_snapshot!(
        parse_list("blob,fast").unwrap_err(),
        @"there is no rung `fast`; rungs are all, direct, blob, pooled, write-through, write-back, logged, bounded, one-call, parallel, same-region"
    );
}

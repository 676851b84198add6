use proptest::prelude::*;

use super::*;
use crate::schema::{OperationReport, StageReport};
use crate::{Recorder, Rung};

fn dist(values_ms: impl IntoIterator<Item = u64>) -> Dist {
    values_ms.into_iter().map(|ms| ms * 1_000_000).collect::<Recorder>().to_dist()
}

fn rung() -> Rung {
    let hundred = dist(1..=100);
    let stage = |dist: &Dist| StageReport { dist: dist.clone(), ..StageReport::default() };
    let times = |dist: &Dist| Times { response: dist.clone(), service: dist.clone(), ..Times::default() };
    Rung {
        name: "parallel".to_owned(),
        wall_seconds: 20.0,
        accounting: Accounting { intended: 100, ok: 97, timeout: 1, http_5xx: 2, ..Accounting::default() },
        rollout: Times { lag: Some(dist(1..=3)), ..times(&dist(1..=2000)) },
        overhead: hundred.clone(),
        steps: [("v1.chat".to_owned(), times(&hundred))].into(),
        stages: [("db.query".to_owned(), stage(&hundred)), ("s3.get".to_owned(), stage(&Dist::default()))]
            .into(),
        stage_groups: [("db".to_owned(), stage(&dist(101..=200)))].into(),
        operations: [(
            "start_rollout".to_owned(),
            OperationReport { load_db: hundred, ..OperationReport::default() },
        )]
        .into(),
        ..Rung::default()
    }
}

fn check(threshold: &str) -> (bool, String) {
    let outcome =
        threshold.parse::<Threshold>().unwrap_or_else(|error| panic!("{}", error.pointed())).check(&rung());
    (outcome.holds, outcome.seen)
}

fn error(threshold: &str) -> String {
    threshold.parse::<Threshold>().unwrap_err().pointed()
}

#[test]
fn the_grammar() {
    let said = |text: &str| text.parse::<Threshold>().unwrap().to_string();
    for (given, canonical) in [
        ("rollout.response:p(99)<250ms", "rollout.response:p(99)<250ms"),
        ("stages.db.p(99)<50ms", "stages.db:p(99)<50ms"),
        ("stages.db.query.p(99.9)<=50.5us", "stages.db.query:p(99.9)<=50.5us"),
        ("response:p(99)<250ms", "rollout.response:p(99)<250ms"),
        (" lag : max >= 1 µs ", "rollout.lag:max>=1us"),
        ("rollout:avg<1s", "rollout.response:avg<1s"),
        ("steps.v1.chat.service:med!=1m", "steps.v1.chat.service:med!=1m"),
        ("steps.v1.chat:min>0ns", "steps.v1.chat.response:min>0ns"),
        ("operations.start_rollout.load_db:med<1s", "operations.start_rollout.load_db:med<1s"),
        ("operations.start_rollout:med<1s", "operations.start_rollout.total:med<1s"),
        ("accounting.errors:count==0", "accounting.errors:count==0"),
        ("accounting.errors.rate<1%", "accounting.errors:rate<1%"),
        ("accounting.ok:rate>20/s", "accounting.ok:rate>20/s"),
        ("groups.llm:count>10", "groups.llm:count>10"),
        ("overhead:p(50)<5ms", "overhead:p(50)<5ms"),
    ] {
        assert_eq!(said(given), canonical);
        assert_eq!(said(canonical), canonical);
    }
}

#[test]
fn on_a_rung() {
    let held = |text| check(text).0;
    assert!(held("rollout.response:p(99)<2s") && !held("rollout.response:p(99)<1.9s"));
    assert!(
        held("response:p(75)>1499ms") && held("response:p(75)<1503ms"),
        "a percentile that the report lacks"
    );
    assert!(held("lag:max<=3ms") && held("lag:max==3ms") && !held("lag:max!=3ms") && !held("lag:max<3ms"));
    assert!(held("stages.db:min>100ms"), "the roll-up where there is no stage of that name");
    assert!(held("stages.db.query:med<51ms") && !held("stages.db.query:med<50000us"));
    assert!(held("operations.start_rollout.load_db:max<=0.1s"));
    assert!(held("steps.v1.chat:count==100"));
    assert!(held("accounting.errors:count==3") && held("accounting.timeout:count<2"));
    assert!(held("accounting.errors:rate<=3%") && !held("accounting.errors:rate<2.9%"));
    assert!(held("accounting.ok:rate>4.8/s") && !held("accounting.ok:rate>4.9/s"));
    assert_eq!(check("accounting.errors:rate<1%").1, "3.0 %");
    assert_eq!(check("accounting.ok:rate>1/s").1, "4.8/s");
    assert_eq!(check("overhead:med<1s").1, "50.0 ms");
    assert_eq!(check("accounting.ok:count>1").1, "97");
}

#[test]
fn what_was_not_measured_fails_and_says_why() {
    let fails = |text| {
        let (holds, seen) = check(text);
        assert!(!holds, "{text} held: {seen}");
        seen
    };
    assert_eq!(fails("stages.s3.get:p(50)<1s"), "no samples of stages.s3.get");
    assert_eq!(fails("stages.s3.get:count==0"), "no samples of stages.s3.get");
    assert_eq!(fails("steps.nope:p(50)<1s"), "no steps.nope.response in rung parallel");
    assert_eq!(fails("groups.s3:max<1s"), "no groups.s3 in rung parallel");
    assert_eq!(
        fails("overhead:p(99)<1s"),
        "p(99) needs 1,000 samples, of which 10 lie beyond it, and there are 100"
    );
    assert_eq!(
        fails("overhead:p(95.5)<1s"),
        "p(95.5) needs 223 samples, of which 10 lie beyond it, and there are 100"
    );
    assert_eq!(fails("lag:med<1s"), "med needs 20 samples, of which 10 lie beyond it, and there are 3");
    let nothing = Rung::default();
    for text in ["accounting.errors:count==0", "accounting.errors:rate<1%"] {
        let outcome = text.parse::<Threshold>().unwrap().check(&nothing);
        assert_eq!((outcome.holds, outcome.seen.as_str()), (false, "no rollouts were intended"));
    }
}

#[test]
fn every_rung_of_a_report() {
    let report = Report { rungs: vec![rung(), Rung::default()], ..Report::default() };
    let outcomes = "accounting.ok:count>90".parse::<Threshold>().unwrap().check_all(&report);
    assert_eq!(outcomes.iter().map(|outcome| outcome.holds).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn errors_point_at_the_place() {
    insta::assert_snapshot!(error("rollout.response:p(99)<250"), @"
    rollout.response:p(99)<250
                              ^ a unit is missing after 250: ns, us, ms, s or m
    ");
    insta::assert_snapshot!(error("rollout.response:p(99)<250min"), @"
    rollout.response:p(99)<250min
                              ^ 'min' is no unit of this: ns, us, ms, s or m
    ");
    insta::assert_snapshot!(error("rollout.response:p99<250ms"), @"
    rollout.response:p99<250ms
                     ^ 'p99' is no aggregation: p(99), avg, min, max, med, count or rate
    ");
    insta::assert_snapshot!(error("µ:p(101)<250ms"), @"
    µ:p(101)<250ms
    ^ 'µ' is no metric: rollout.response, rollout.service, rollout.lag, overhead, steps.NAME, stages.NAME, groups.NAME, operations.NAME or accounting.CLASS
    ");
    insta::assert_snapshot!(error("overhead:p(101)<250ms"), @"
    overhead:p(101)<250ms
             ^ '101' is no percentile: a number above 0 and below 100 (`min` and `max` have names of their own)
    ");
    insta::assert_snapshot!(error("stages.dbb:p(50)<250ms"), @"
    stages.dbb:p(50)<250ms
    ^ 'dbb' is no stage: queue, db.acquire, db.query, db.decode, s3.get, s3.put, state.encode, state.decode, policy.suggest, policy.observe, log.append, gate.wait, prompt.render, llm.connect, llm.first_byte, llm.body, other, log.sync, snapshot.encode, snapshot.put, pointer.update, db, s3, tpe, llm, log, cpu, background
    ");
    insta::assert_snapshot!(error("accounting.errors:p(50)<1ms"), @"
    accounting.errors:p(50)<1ms
                      ^ accounting.errors has no p(50): count and rate
    ");
    insta::assert_snapshot!(error("overhead:rate<1%"), @"
    overhead:rate<1%
             ^ overhead has no rate: p(99), avg, min, max, med and count
    ");
    insta::assert_snapshot!(error("accounting.errors:count==0%"), @"
    accounting.errors:count==0%
                              ^ '%' is no unit of this: a count has none
    ");
    insta::assert_snapshot!(error("accounting.errors:rate<0.01"), @"
    accounting.errors:rate<0.01
                               ^ a unit is missing after 0.01: % of the rollouts intended, or /s
    ");
    insta::assert_snapshot!(error("overhead:p(50)"), @"
    overhead:p(50)
                  ^ an operator is missing: <, <=, >, >=, == or !=
    ");
    insta::assert_snapshot!(error("overhead<1ms"), @"
    overhead<1ms
            ^ an aggregation is missing: p(99), avg, min, max, med, count or rate after the metric and a colon
    ");
    insta::assert_snapshot!(error("overhead:p(50)< -1ms"), @"
    overhead:p(50)< -1ms
                    ^ a number is missing after the operator
    ");
    assert_eq!(
        "x".parse::<Threshold>().unwrap_err().to_string(),
        "column 2: an operator is missing: <, <=, >, >=, == or !="
    );
}

fn some_threshold() -> impl Strategy<Value = String> {
    let metric =
        prop::sample::select(vec!["rollout.lag", "overhead", "stages.db.query", "groups.llm", "steps.a.b"]);
    let aggregation = prop_oneof![
        (0.1_f64..99.9).prop_map(|p| format!("p({p})")),
        prop::sample::select(vec!["avg", "min", "max", "med"]).prop_map(str::to_owned),
    ];
    let operator = prop::sample::select(vec!["<", "<=", ">", ">=", "==", "!="]);
    let unit = prop::sample::select(vec!["ns", "us", "µs", "ms", "s", "m"]);
    let separator = prop::sample::select(vec![":", "."]);
    (metric, separator, aggregation, operator, 0.0_f64..1e6, unit).prop_map(
        |(metric, separator, aggregation, operator, number, unit)| {
            format!("{metric}{separator}{aggregation}{operator}{number}{unit}")
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_reads_back(text in some_threshold()) {
        let threshold: Threshold = text.parse().map_err(|error: ThresholdError| TestCaseError::fail(error.pointed()))?;
        prop_assert_eq!(threshold.to_string().parse::<Threshold>().unwrap(), threshold);
    }

    /// Whatever is typed is read or refused at a place within it.
    #[test]
    fn any_text_is_read_or_pointed_at(text in "\\PC{0,40}") {
        if let Err(error) = text.parse::<Threshold>() {
            prop_assert!((1..=text.chars().count() + 1).contains(&error.column), "{error:?}");
        }
    }

    /// A threshold with one character cut out, doubled or replaced.
    #[test]
    fn nearly_right_text_is_read_or_pointed_at(text in some_threshold(), at in any::<prop::sample::Index>(), with in "[a-z0-9.:()<>=!%/µ ]{0,2}") {
        let mut characters: Vec<char> = text.chars().collect();
        let at = at.index(characters.len());
        characters.splice(at..=at, with.chars());
        let text: String = characters.into_iter().collect();
        match text.parse::<Threshold>() {
            Ok(threshold) => prop_assert_eq!(threshold.to_string().parse::<Threshold>().unwrap(), threshold),
            Err(error) => prop_assert!((1..=text.chars().count() + 1).contains(&error.column), "{error:?}"),
        }
    }
}

#[test]
fn a_threshold_tells_how_many_samples_it_needs() {
    let needed = |text: &str| text.parse::<Threshold>().unwrap().samples_needed();
    assert_eq!(needed("response:p(99)<250ms"), 1_000);
    assert_eq!((needed("response:med<250ms"), needed("response:max<250ms")), (20, 1));
}

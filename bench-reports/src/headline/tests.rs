use super::*;
use crate::dist::Recorder;
use crate::schema::{
    CompareVerdict, Comparison, EndpointComparison, GateRule, Loss, SCHEMA, StageReport, Validity,
};

fn rung(name: &str, overhead_us: u64, llm_us: f64) -> Rung {
    let overhead: Recorder = [overhead_us * 1000; 20].into_iter().collect();
    let validity = Validity { ok: true, reasons: Vec::new() };
    let mut rung = Rung { name: name.to_owned(), overhead: overhead.to_dist(), validity, ..Rung::default() };
    rung.stage_groups
        .insert("llm".to_owned(), StageReport { per_rollout_us: llm_us, ..StageReport::default() });
    rung
}

fn report(rungs: Vec<Rung>) -> Report {
    Report { schema: SCHEMA.to_owned(), rungs, ..Report::default() }
}

#[test]
fn before_and_after() {
    let report = report(vec![
        Rung { overhead: crate::Dist::default(), ..rung("direct", 1, 0.0) },
        rung("blob", 2_912_000, 2_012_000.0),
        rung("pooled", 900_000, 2_000_000.0),
        rung("parallel", 3_900, 2_009_000.0),
    ]);
    insta::assert_snapshot!(headline(&report), @"The service added 2,912 ms to a rollout before (blob) and 3.90 ms after (parallel), 747× less; what a kill loses was not measured; the LLM's part did not change (2,012 ms and 2,009 ms).");
}

#[test]
fn losses_and_a_changed_llm_are_said() {
    let (mut before, mut after) = (rung("blob", 3_000, 2_000.0), rung("write-back", 6_000, 3_000.0));
    let loss = |lost| {
        let count = LossCount { acknowledged: 60, recovered: 60 - lost, lost };
        Some(Loss { process_killed: Some(count), ..Loss::default() })
    };
    (before.loss, after.loss) = (loss(0), loss(14));
    let mut report = report(vec![before, after]);
    report.run.interrupted = true;
    insta::assert_snapshot!(headline(&report), @"Interrupted, partial: The service added 3.00 ms to a rollout before (blob) and 6.00 ms after (write-back), 2.00× more; a kill lost 0 of 60 acknowledged rewards before and 14 of 60 acknowledged rewards after; the LLM's part CHANGED, from 2.00 ms to 3.00 ms.");
}

#[test]
fn one_rung_or_none() {
    insta::assert_snapshot!(headline(&report(vec![rung("blob", 3_000, 2_000.0)])), @"The service added 3.00 ms to a rollout (blob, the only rung that ran); what a kill loses was not measured; the LLM took 2.00 ms.");
    let direct = Rung { overhead: crate::Dist::default(), ..rung("direct", 1, 0.0) };
    insta::assert_snapshot!(headline(&report(vec![direct])), @"No rung went through the service, so there is no overhead to report.");
}

#[test]
fn the_generator_alone_says_what_it_drove_and_from_when_it_counts() {
    let response: Recorder = [2_000_000; 2_000].into_iter().collect();
    let mut level = Rung { name: "200/s".to_owned(), wall_seconds: 10.0, ..Rung::default() };
    level.rollout.response = response.to_dist();
    (level.accounting.intended, level.accounting.ok) = (2_000, 2_000);
    level.validity.ok = true;
    let mut driven = report(vec![level.clone()]);
    driven.run.command = "mipro load --target URL -c 10".to_owned();
    insta::assert_snapshot!(headline(&driven), @"2,000 of 2,000 intended succeeded, 200 a second; p50 2.00 ms, p99 2.00 ms.");
    level.rollout.pacer_lag = Some(crate::Dist::default());
    level.overhead = level.rollout.response.clone();
    driven.rungs.push(level);
    insta::assert_snapshot!(headline(&driven), @"At 200/s, the last of 2 levels: 2,000 of 2,000 intended succeeded, 200 a second; p50 2.00 ms, p99 2.00 ms from the intended start; of a rollout the service itself took 2.00 ms (p50).");
}

#[test]
fn a_rung_not_to_be_believed_is_named_first() {
    let mut doubtful = report(vec![rung("blob", 3_000, 2_000.0), rung("pooled", 2_000, 2_000.0)]);
    doubtful.rungs[1].validity =
        Validity { ok: false, reasons: vec!["4 of 48 rollouts did not succeed".to_owned()] };
    let sentence = headline(&doubtful);
    assert!(
        sentence.starts_with("Not to be believed (see the accounting of pooled): The service"),
        "{sentence}"
    );
}

#[test]
fn too_few_rollouts_for_a_p50_have_a_mean() {
    let mut few = rung("blob", 3_000, 2_000.0);
    few.overhead = [3_000_000; 4].into_iter().collect::<Recorder>().to_dist();
    assert_eq!(few.overhead.p50_us, None);
    let sentence = headline(&report(vec![few, rung("pooled", 1_000, 2_000.0)]));
    assert!(sentence.starts_with("The service added 3.00 ms (mean; too few rollouts for a p50) to a rollout before (blob) and 1.00 ms after (pooled), 3.00× less;"), "{sentence}");
}

#[test]
fn a_run_that_only_compared_says_what_came_of_it() {
    let endpoint = |name: &str, verdict| EndpointComparison {
        name: name.to_owned(),
        quantile: 0.5,
        gate: GateRule::Margin { share: 0.1 },
        samples_a: 400,
        samples_b: 400,
        a_us: Some(1_900.0),
        b_us: Some(2_280.0),
        effect: None,
        verdict,
    };
    let comparison = Comparison {
        a: "HEAD~1".to_owned(),
        b: "HEAD".to_owned(),
        rung: "parallel".to_owned(),
        pairs: 20,
        pairs_invalid: Vec::new(),
        alpha: 0.05,
        looks_max: 1,
        seed: 1,
        endpoints: vec![
            endpoint("overhead", CompareVerdict::Pass { improved: false }),
            endpoint("stages.gate.wait", CompareVerdict::Regress),
        ],
        verdict: CompareVerdict::Regress,
        slices: Vec::new(),
    };
    let mut report = Report { comparisons: vec![comparison], ..report(Vec::new()) };
    insta::assert_snapshot!(headline(&report), @"HEAD against HEAD~1 on rung parallel: REGRESS; stages.gate.wait p50: 1.90 → 2.28 ms.");
    report.comparisons[0].invalidate("the generator lagged".to_owned());
    insta::assert_snapshot!(headline(&report), @"HEAD against HEAD~1 on rung parallel: INVALID (the generator lagged).");
}

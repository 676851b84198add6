use time::macros::date;

use super::*;
use crate::compare::{Endpoint, Rules, Slice, compare};
use crate::schema::{Accounting, Comparison, CountSet, Counts, Side, StageReport, Validity};
use crate::{Recorder, Rung, Times};

const TODAY: Date = date!(2026 - 11 - 21);

const BUDGETS: &str = r#"# What a rollout may cost.
schema = "mipro.budgets/1"

# Exact.
[counts.blob.critical]
db_round_trips = 18   # six queries, each on its own connection
db_statements = 6
s3_put = 3
s3_bytes = { value = 1000, soft = "5%", hard = "20%" } # grows with the state

[counts.blob.background]
log_syncs = { value = 2, hard = 0.5 }

[[ceilings]]
rung = "blob"
soft = "overhead:med<50ms"
hard = "overhead:med<100ms"

[[comparisons]]
endpoint = "rollout.response"
p = 50
soft = "3%"
hard = "10%"
"#;

fn rung() -> Rung {
    let critical = CountSet {
        db_round_trips: 18.0,
        db_statements: 6.0,
        s3_put: 3.0,
        s3_bytes: 1000.0,
        ..CountSet::default()
    };
    let background = CountSet { log_syncs: 2.0, ..CountSet::default() };
    let stage = |calls_per_rollout| StageReport { calls_per_rollout, ..StageReport::default() };
    let dist = (1..=48).map(|n| n * 1_000_000).collect::<Recorder>().to_dist();
    Rung {
        name: "blob".to_owned(),
        accounting: Accounting { intended: 48, ok: 48, ..Accounting::default() },
        validity: Validity { ok: true, reasons: vec![] },
        counts: Counts { critical, background, ..Counts::default() },
        overhead: dist.clone(),
        rollout: Times { response: dist, ..Times::default() },
        stages: [("db.query", 6.0), ("s3.put", 3.0), ("log.sync", 2.0)]
            .into_iter()
            .map(|(name, calls)| (name.to_owned(), stage(calls)))
            .collect(),
        ..Rung::default()
    }
}

/// 30 pairs of 100 samples, B as much longer.
fn comparison(factor: f64, margin: f64) -> Comparison {
    let slice = |pair: u32, side| {
        let factor = if side == Side::B { factor } else { 1.0 };
        let wobble = 1.0 + f64::from((pair * 7) % 5) / 500.0;
        let values: Recorder =
            (0..100).map(|n| ((5e6 + f64::from(n) * 1e4) * factor * wobble) as u64).collect();
        Slice::new(side, pair, &[("rollout.response".to_owned(), values.histogram())].into())
    };
    let slices: Vec<Slice> = (0..30).flat_map(|pair| [slice(pair, Side::A), slice(pair, Side::B)]).collect();
    let endpoints = vec![Endpoint::gated("rollout.response", 0.5, margin)];
    compare(&slices, &Rules { endpoints, ..Rules::default() }).unwrap()
}

fn report() -> Report {
    Report { rungs: vec![rung()], comparisons: vec![comparison(1.0, 0.1)], ..Report::default() }
}

fn gates_of(text: &str, report: &Report) -> Vec<GateOutcome> {
    evaluate(&Budgets::parse(text).unwrap(), report, TODAY)
}

fn with(change: impl FnOnce(&mut Rung)) -> Report {
    let mut report = report();
    change(&mut report.rungs[0]);
    report
}

/// The one gate that does not pass.
fn not_passing(report: &Report) -> GateOutcome {
    let mut gates = gates_of(BUDGETS, report);
    gates.retain(|gate| gate.outcome != Outcome::Pass);
    assert_eq!(gates.len(), 1, "{gates:?}");
    gates.remove(0)
}

#[test]
fn all_in_their_order() {
    let gates = gates_of(BUDGETS, &report());
    let text: Vec<String> = gates.iter().map(GateOutcome::to_text).collect();
    insta::assert_snapshot!(text.join("\n"), @r#"
    pass          blob critical.db_round_trips: 18, budget 18
    pass          blob critical.db_statements: 6, budget 6
    pass          blob critical.s3_bytes: 1,000, budget 1,000 (at most 1,200)
    pass          blob critical.s3_put: 3, budget 3
    pass          blob background.log_syncs: 2, budget 2 (at most 2.50)
    pass          blob overhead:med: 24.0 ms, budget overhead:med<100ms (soft overhead:med<50ms)
    pass          rollout.response p50: 5.52 → 5.52 ms  +0.0 % (+0.0 % … +0.0 %), budget at most 10 % longer (soft 3.0 %)
    "#);
    assert_eq!(exit_code(&gates, OnInconclusive::Fail), 0);
}

#[test]
fn one_more_of_anything_is_caught_with_its_stage() {
    let planted = [
        with(|rung| {
            rung.counts.critical.db_statements += 1.0;
            rung.stages.get_mut("db.query").unwrap().calls_per_rollout = 7.0;
        }),
        with(|rung| rung.counts.critical.s3_put += 1.0),
        with(|rung| rung.counts.background.log_syncs += 1.0),
    ];
    let found: Vec<String> = planted.iter().map(|report| not_passing(report).to_text()).collect();
    insta::assert_snapshot!(found.join("\n"), @r#"
    BREACH        blob critical.db_statements: 7, budget 6
                  1 more a rollout; look at db.query (7 calls a rollout)
    BREACH        blob critical.s3_put: 4, budget 3
                  1 more a rollout; look at s3.put (3 calls a rollout)
    BREACH        blob background.log_syncs: 3, budget 2 (at most 2.50)
                  1 more a rollout; look at log.sync (2 calls a rollout)
    "#);
    for report in &planted {
        assert_eq!(exit_code(&gates_of(BUDGETS, report), OnInconclusive::Pass), 99);
    }
}

#[test]
fn a_stage_behind_the_answers_is_named_though_no_report_counts_its_calls() {
    let report = with(|rung| {
        rung.counts.background.log_syncs += 1.0;
        rung.stages.remove("log.sync");
    });
    let advice = not_passing(&report).advice;
    assert_eq!(advice, "1 more a rollout; look at log.sync (behind the answers)");
}

#[test]
fn not_one_more_in_the_whole_run() {
    let one_in_the_run = with(|rung| rung.counts.critical.db_statements += 1.0 / 48.0);
    assert_eq!(not_passing(&one_in_the_run).outcome, Outcome::Breach);
    let rounding = with(|rung| rung.counts.critical.db_statements += 0.001);
    assert!(gates_of(BUDGETS, &rounding).iter().all(|gate| gate.outcome == Outcome::Pass));
}

#[test]
fn soft_and_hard_and_better() {
    let bytes = |bytes| not_passing(&with(|rung| rung.counts.critical.s3_bytes = bytes));
    assert_eq!(bytes(1051.0).outcome, Outcome::Soft);
    assert_eq!(bytes(1201.0).outcome, Outcome::Breach);
    let better = bytes(900.0);
    assert_eq!((better.outcome, better.advice.as_str()), (Outcome::Better, "accept it, so that it stays so"));
    let gates = gates_of(BUDGETS, &with(|rung| rung.counts.critical.s3_bytes = 1051.0));
    assert_eq!(exit_code(&gates, OnInconclusive::Fail), 0, "soft limits pass");
    let slow = |factor| {
        not_passing(&with(|rung| {
            let values: Recorder = (1_u64..=48).map(|n| n * factor * 1_000_000).collect();
            rung.overhead = values.to_dist();
        }))
    };
    assert_eq!(slow(3).outcome, Outcome::Soft);
    assert_eq!(slow(5).outcome, Outcome::Breach);
}

#[test]
fn comparisons_are_taken_at_their_word() {
    let with = |made: Vec<Comparison>| not_passing(&Report { comparisons: made, ..report() });
    assert_eq!(with(vec![comparison(1.2, 0.1)]).outcome, Outcome::Breach);
    assert_eq!(with(vec![comparison(1.05, 0.1)]).outcome, Outcome::Soft);
    let other = with(vec![comparison(1.0, 0.2)]);
    assert_eq!(other.advice, "it was compared by another margin: measure again");
    assert_eq!(with(vec![]).outcome, Outcome::Invalid);
    let mut doubtful = comparison(1.0, 0.1);
    doubtful.invalidate("the clock stepped".to_owned());
    let gate = with(vec![doubtful]);
    assert_eq!((gate.outcome, gate.advice.as_str()), (Outcome::Invalid, "the clock stepped"));
    let mut few = comparison(1.0, 0.1);
    let reason = "±9 %".to_owned();
    few.endpoints[0].verdict = crate::CompareVerdict::Inconclusive { more_pairs: Some(12), reason };
    let gates = gates_of(BUDGETS, &Report { comparisons: vec![few], ..report() });
    let codes = [OnInconclusive::Pass, OnInconclusive::Fail, OnInconclusive::Extend];
    assert_eq!(codes.map(|policy| exit_code(&gates, policy)), [0, 99, 125]);
    assert_eq!(gates.last().unwrap().advice, "±9 %; about 12 more pairs");
}

#[test]
fn what_was_not_measured_passes_nothing() {
    let advice = |report: &Report| {
        let gates = gates_of(BUDGETS, report);
        assert_eq!(exit_code(&gates, OnInconclusive::Pass), 125);
        gates[0].advice.clone()
    };
    assert_eq!(advice(&Report { rungs: vec![], ..report() }), "rung blob did not run");
    let mut interrupted = report();
    interrupted.run.interrupted = true;
    assert_eq!(advice(&interrupted), "the run was interrupted");
    let doubtful =
        with(|rung| rung.validity = Validity { ok: false, reasons: vec!["it disagrees".to_owned()] });
    assert_eq!(advice(&doubtful), "it disagrees");
    let failed =
        with(|rung| rung.accounting = Accounting { intended: 5, timeout: 5, ..Accounting::default() });
    assert_eq!(advice(&failed), "0 of 5 rollouts ended well");
    assert_eq!(exit_code(&[], OnInconclusive::Pass), 125, "no gate holds nothing");
    let text = "schema = \"mipro.budgets/1\"\n[counts.blob.critical]\nallocations = { value = 100, hard = \"2%\" }\n";
    assert_eq!(gates_of(text, &report())[0].advice, "allocations was not counted");
    let counted = with(|rung| {
        rung.counts.extra_critical.insert("allocations".to_owned(), 103.0);
    });
    assert_eq!(gates_of(text, &counted)[0].outcome, Outcome::Breach);
}

#[test]
fn counts_of_another_kind_of_run_are_not_taken() {
    let run = "[run]\nrollouts = 48\nconcurrency = 1\nsystems = 1\nllm = \"fixed:20ms\"\nlink = \"same-region\"\n\n# Exact.";
    let text = BUDGETS.replace("# Exact.", run);
    let shaped =
        |concurrency| with(|rung| (rung.rollouts, rung.concurrency, rung.systems) = (48, concurrency, 1));
    assert!(gates_of(&text, &shaped(1)).iter().all(|gate| gate.outcome == Outcome::Pass));
    let many = &gates_of(&text, &shaped(10))[0];
    assert_eq!(
        (many.outcome, many.advice.as_str()),
        (
            Outcome::Invalid,
            "counts are of 48 rollouts, 1 in flight, on 1 systems; this run made 48 rollouts, 10 in flight, on 1 systems"
        )
    );
    assert_eq!(accept(&text, &shaped(10)).unwrap().text, text, "nor accepted");
}

#[test]
fn calls_of_a_stage_are_counts() {
    let text = "schema = \"mipro.budgets/1\"\n[counts.blob.critical]\n\"calls.db.query\" = 5\n\"calls.s3.get\" = 0\n\"calls.nope\" = 1\n";
    let outcomes: Vec<Outcome> = gates_of(text, &report()).iter().map(|gate| gate.outcome).collect();
    assert_eq!(outcomes, [Outcome::Breach, Outcome::Invalid, Outcome::Pass], "in the order of their names");
}

/// The file that the project itself goes by.
#[test]
fn the_projects_own_budgets_read() {
    let budgets = Budgets::parse(include_str!("../../budgets.toml")).unwrap();
    assert!(budgets.run.is_some());
    assert!(budgets.counts.len() >= 8, "the whole ladder has counts");
    assert!(budgets.rules("parallel", 1).endpoints.iter().any(|of| of.name == "overhead"));
}

#[test]
fn erratic_marks_end() {
    let marked = |until: &str| {
        let text = format!(
            "schema = \"mipro.budgets/1\"\n[counts.blob.critical]\n\
             db_statements = {{ value = 5, erratic = {{ reason = \"being mended\", until = {until} }} }}\n"
        );
        let gates = gates_of(&text, &report());
        (gates[0].outcome, gates[0].advice.clone(), exit_code(&gates, OnInconclusive::Fail))
    };
    let (outcome, advice, code) = marked("2026-11-22");
    assert_eq!((outcome, code), (Outcome::Erratic, 0));
    assert_eq!(advice, "would be BREACH; marked erratic until 2026-11-22 (being mended)");
    let (outcome, advice, code) = marked("2026-11-21");
    assert_eq!((outcome, code), (Outcome::Breach, 99));
    assert_eq!(
        advice,
        "marked erratic until 2026-11-21 (being mended): mend it, or mark it again with a new day"
    );
}

#[test]
fn into_the_reports_verdicts() {
    let outcome = |report: &Report| {
        let gate = not_passing(report);
        Verdict::from(&gate)
    };
    let verdict = outcome(&with(|rung| rung.counts.critical.s3_put += 1.0));
    assert_eq!((verdict.name.as_str(), verdict.outcome.as_str()), ("gate: blob critical.s3_put", "fail"));
    assert_eq!(verdict.detail, "4, budget 3; BREACH; 1 more a rollout; look at s3.put (3 calls a rollout)");
    let verdict = outcome(&with(|rung| rung.counts.critical.s3_bytes = 1051.0));
    assert_eq!(verdict.outcome, "pass");
    assert!(verdict.detail.contains("; soft limit; "), "{}", verdict.detail);
}

#[test]
fn budgets_that_make_no_sense_are_refused() {
    let refused = |more: &str| {
        Budgets::parse(&format!("schema = \"mipro.budgets/1\"\n{more}")).unwrap_err().to_string()
    };
    let found = [
        refused("[counts.blob.critical]\ndb_statements = \"six\"\n"),
        refused("[counts.blob.critical]\ndb_statements = -1\n"),
        refused("[counts.blob.critical]\ndb_statements = { value = 1, hard = \"5\" }\n"),
        refused("[counts.blob.foreground]\n"),
        refused("[[ceilings]]\nrung = \"blob\"\nhard = \"overhead:med<100\"\n"),
        refused("[[ceilings]]\nrung = \"blob\"\n"),
        refused("[[comparisons]]\nendpoint = \"overhead\"\np = 99\nhard = \"5%\"\n"),
        refused(
            "[[comparisons]]\nendpoint = \"overhead\"\np = 50\nhard = \"5%\"\nerratic = { reason = \"?\", until = 2026-02-30 }\n",
        ),
        Budgets::parse("schema = \"mipro.budgets/2\"").unwrap_err().to_string(),
    ];
    insta::assert_snapshot!(found.map(|text| text.trim_end().to_owned()).join("\n\n"), @r#"
    budgets: TOML parse error at line 3, column 17
      |
    3 | db_statements = "six"
      |                 ^^^^^
    invalid type: string "six", expected a count per rollout, or { value, soft, hard, erratic }

    budgets: TOML parse error at line 3, column 17
      |
    3 | db_statements = -1
      |                 ^^
    invalid value: floating point `-1.0`, expected a finite number of 0 or more

    budgets: TOML parse error at line 3, column 37
      |
    3 | db_statements = { value = 1, hard = "5" }
      |                                     ^^^
    invalid value: string "5", expected a share such as "5%", or a number that may be added

    budgets: TOML parse error at line 2, column 14
      |
    2 | [counts.blob.foreground]
      |              ^^^^^^^^^^
    unknown field `foreground`, expected one of `critical`, `background`, `process`

    budgets: TOML parse error at line 4, column 8
      |
    4 | hard = "overhead:med<100"
      |        ^^^^^^^^^^^^^^^^^^
    'overhead:med<100', column 17: a unit is missing after 100: ns, us, ms, s or m

    a ceiling of rung blob has neither `soft` nor `hard`

    budgets: overhead: the ratio of p99 can't be gated, only p90 and below; give it a ceiling, or only show it

    budgets: TOML parse error at line 6, column 35
      |
    6 | erratic = { reason = "?", until = 2026-02-30 }
      |                                   ^^^^^^^^^^
    invalid date, expected day between 01 and 28

    budgets of schema "mipro.budgets/2"; this build reads "mipro.budgets/1"
    "#);
}

#[test]
fn accepting_changes_the_counts_and_nothing_else() {
    let mut measured = with(|rung| {
        rung.counts.critical.db_round_trips = 19.0;
        rung.counts.critical.s3_bytes = 1_234.567_89;
        rung.counts.background.log_syncs = 2.0;
    });
    (measured.run.id, measured.run.command) = ("run-1".to_owned(), "bench --quick".to_owned());
    let accepted = accept(BUDGETS, &measured).unwrap();
    assert_eq!(
        accepted.changed,
        ["blob critical.db_round_trips: 18 → 19", "blob critical.s3_bytes: 1,000 → 1,235"]
    );
    assert_eq!(accepted.kept, Vec::<String>::new());
    let expected = BUDGETS
        .replace("db_round_trips = 18", "db_round_trips = 19")
        .replace("value = 1000", "value = 1234.568")
        .replace(
            "schema = \"mipro.budgets/1\"\n",
            "schema = \"mipro.budgets/1\"\naccepted_from = \"run-1: bench --quick\"\n",
        );
    assert_eq!(accepted.text, expected);
    let again = accept(&accepted.text, &measured).unwrap();
    assert_eq!((again.text.as_str(), again.changed.len()), (expected.as_str(), 0), "twice is once");
    let gates = counts(&Budgets::parse(&accepted.text).unwrap(), &measured, TODAY);
    assert!(gates.iter().all(|gate| gate.outcome == Outcome::Pass), "{gates:?}");
    let nothing = accept(BUDGETS, &Report::default()).unwrap();
    assert_eq!((nothing.text.as_str(), nothing.changed.len()), (BUDGETS, 0));
    assert_eq!(nothing.kept[0], "blob critical.db_round_trips: rung blob did not run");
}

#[test]
fn margins_become_rules() {
    let budgets = Budgets::parse(BUDGETS).unwrap();
    assert_eq!(budgets.rungs(), ["blob"]);
    let rules = budgets.rules("blob", 7);
    assert_eq!(rules.endpoints, [Endpoint::gated("rollout.response", 0.5, 0.1)]);
    assert_eq!(rules.seed, 7);
}

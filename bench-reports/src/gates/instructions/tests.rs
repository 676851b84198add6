use time::macros::date;

use super::*;
use crate::gates::{OnInconclusive, accept_instructions, exit_code};
use crate::instructions::Toolchain;

const BUDGETS: &str = r#"schema = "mipro.budgets/1"

# Of single functions.
[instructions]
soft = "2%"
hard = "5%"

[instructions.toolchain]
rustc = "1.95.0"
target = "x86_64-unknown-linux-gnu"
valgrind = "3.19.0"
libc = "glibc 2.36"
simd = "avx2"

[instructions.scenes]
"service/tpe.suggest_8" = 5000 # TPE
"telemetry/recorder.record" = 812.5
"#;

fn toolchain() -> Toolchain {
    Toolchain {
        rustc: "1.95.0".to_owned(),
        target: "x86_64-unknown-linux-gnu".to_owned(),
        valgrind: "3.19.0".to_owned(),
        libc: "glibc 2.36".to_owned(),
        simd: "avx2".to_owned(),
    }
}

fn of(toolchain: &Toolchain, scenes: &[(&str, u64)]) -> Instructions {
    let mut counted = Instructions::of(toolchain.clone());
    // Ten operations a call.
    let count = |instructions| SceneCount { instructions, operations: 10 };
    counted.scenes = scenes.iter().map(|(name, each)| ((*name).to_owned(), count(*each))).collect();
    counted
}

/// Two rooms' files; TPE takes so many instructions in ten suggestions.
fn counted(tpe: u64) -> [Instructions; 2] {
    [
        of(&toolchain(), &[("service/tpe.suggest_8", tpe)]),
        of(&toolchain(), &[("telemetry/recorder.record", 8_125)]),
    ]
}

fn gates(counted: &[Instructions]) -> Vec<GateOutcome> {
    instructions(&Budgets::parse(BUDGETS).unwrap(), counted)
}

#[test]
fn one_more_clone_in_a_scene_is_seen() {
    // A copy of a few hundred bytes with its allocation takes some 300 instructions: 6 % of such a scene.
    let found = gates(&counted(50_000 + 10 * 300));
    let text: Vec<String> = found.iter().map(GateOutcome::to_text).collect();
    insta::assert_snapshot!(text.join("\n"), @r"
    BREACH        service/tpe.suggest_8 instructions: 5,300, budget 5,000 (at most 5,250)
                  +6.0 %; `callgrind_annotate target/instructions/service.tpe.suggest_8.callgrind` says where
    pass          telemetry/recorder.record instructions: 812.5, budget 812.5 (at most 853.1)
    ");
    assert_eq!(exit_code(&found, OnInconclusive::Pass), 99);
}

#[test]
fn a_little_more_is_said_and_less_is_told_to_be_kept() {
    let outcome = |tpe| gates(&counted(tpe))[0].outcome;
    assert_eq!(outcome(50_000), Outcome::Pass);
    assert_eq!(outcome(50_990), Outcome::Pass, "2 % is what an unrelated change may move");
    assert_eq!(outcome(51_100), Outcome::Soft);
    assert_eq!(outcome(52_600), Outcome::Breach);
    assert_eq!(outcome(48_000), Outcome::Better);
}

#[test]
fn another_compiler_breaches_nothing() {
    let newer = Toolchain { rustc: "1.96.0".to_owned(), ..toolchain() };
    let found = gates(&[of(&newer, &[("service/tpe.suggest_8", 99_999)]), counted(0)[1].clone()]);
    assert_eq!(found[0].outcome, Outcome::Inconclusive);
    assert_eq!(found[0].advice, "skipped: the budget is of another toolchain: rustc 1.96.0, not 1.95.0");
    assert_eq!(exit_code(&found, OnInconclusive::Pass), 0);
    assert_eq!(exit_code(&found, OnInconclusive::Extend), 125);
}

#[test]
fn what_was_not_counted_passes_nothing_and_what_has_no_budget_is_told() {
    let found = gates(&[of(&toolchain(), &[("service/new", 10), ("service/tpe.suggest_8", 50_000)])]);
    let text: Vec<String> = found.iter().map(GateOutcome::to_text).collect();
    insta::assert_snapshot!(text.join("\n"), @r"
    pass          service/tpe.suggest_8 instructions: 5,000, budget 5,000 (at most 5,250)
    INVALID       telemetry/recorder.record instructions: nothing, budget 812.5 (at most 853.1)
                  it was not counted: `just instructions`
    INCONCLUSIVE  service/new instructions: 1.0, budget none
                  `just bench-accept` gives it a budget
    ");
    assert_eq!(exit_code(&found, OnInconclusive::Pass), 125);
    let without = Budgets::parse("schema = \"mipro.budgets/1\"").unwrap();
    assert_eq!(instructions(&without, &counted(1)), Vec::new(), "and no gate holds nothing");
}

#[test]
fn accepting_takes_new_scenes_along_and_leaves_comments() {
    let [service, telemetry] = counted(60_000);
    let more = of(&toolchain(), &[("loadgen/join", 77)]);
    let accepted = accept_instructions(BUDGETS, &[service, telemetry, more]).unwrap();
    assert_eq!(
        accepted.changed,
        ["instructions loadgen/join: no budget → 7.7", "instructions service/tpe.suggest_8: 5000.0 → 6000.0"]
    );
    assert_eq!(accepted.kept, Vec::<String>::new());
    let expected = BUDGETS.replace("= 5000 # TPE", "= 6000 # TPE") + "\"loadgen/join\" = 7.7\n";
    assert_eq!(accepted.text, expected);
}

#[test]
fn another_toolchain_is_accepted_whole_or_not_at_all() {
    let newer = Toolchain { rustc: "1.96.0".to_owned(), ..toolchain() };
    let part = [of(&newer, &[("service/tpe.suggest_8", 1)])];
    let refused = accept_instructions(BUDGETS, &part).unwrap();
    assert_eq!((refused.text.as_str(), refused.changed.len()), (BUDGETS, 0));
    assert_eq!(refused.kept, ["instructions telemetry/recorder.record: not counted"]);

    let whole = [of(&newer, &[("service/tpe.suggest_8", 50_000), ("telemetry/recorder.record", 9_000)])];
    let accepted = accept_instructions(BUDGETS, &whole).unwrap();
    assert_eq!(
        accepted.text,
        BUDGETS.replace("rustc = \"1.95.0\"", "rustc = \"1.96.0\"").replace("= 812.5", "= 900")
    );

    let mixed = accept_instructions(BUDGETS, &[counted(1)[0].clone(), whole[0].clone()]).unwrap();
    assert_eq!(mixed.text, BUDGETS);
    assert_eq!(mixed.kept, ["instructions: counted with several toolchains (rustc 1.96.0, not 1.95.0)"]);
}

#[test]
fn allocations_of_the_process_are_a_count_like_others() {
    let text = "schema = \"mipro.budgets/1\"\n[counts.bounded.process]\nallocations = { value = 1000, hard = \"2%\" }\n";
    let budgets = Budgets::parse(text).unwrap();
    let report = |allocations: Option<f64>| {
        let mut rung = crate::Rung { name: "bounded".to_owned(), ..crate::Rung::default() };
        (rung.accounting.intended, rung.accounting.ok, rung.validity.ok) = (20, 20, true);
        rung.counts.process.extend(allocations.map(|count| ("allocations".to_owned(), count)));
        crate::Report { rungs: vec![rung], ..crate::Report::default() }
    };
    let outcome = |allocations| {
        let gate = crate::gates::counts(&budgets, &report(allocations), date!(2026 - 11 - 21)).remove(0);
        (gate.outcome, gate.advice)
    };
    assert_eq!(outcome(Some(1_019.0)), (Outcome::Pass, String::new()));
    let (breached, advice) = outcome(Some(1_030.0));
    assert_eq!((breached, advice.as_str()), (Outcome::Breach, "30 more a rollout"));
    assert_eq!(outcome(None), (Outcome::Invalid, "allocations was not counted".to_owned()));
    let accepted = crate::gates::accept(text, &report(Some(1_030.0))).unwrap();
    assert_eq!(accepted.changed, ["bounded process.allocations: 1,000 → 1,030"]);
}

use std::time::Duration;

use mipro_testbed::link::LinkSpec;
use mipro_testbed::stack::StackKind;

use super::*;

fn options() -> BenchOptions {
    BenchOptions {
        exe: "mipro".into(),
        rungs: vec![RungName::SameRegion],
        link: LinkSpec::loopback(),
        llm: "none".to_owned(),
        stack: StackKind::Auto,
        external: None,
        containers: mipro_testbed::containers::Settings::default(),
        fetch_postgres: false,
        systems: 8,
        concurrency: 10,
        rollouts: None,
        history: 7,
        quick: false,
        dataset: None,
        seed: 1,
        timeout: Duration::from_secs(60),
        drain: Duration::from_secs(5),
        loss: true,
        ablate: true,
        count_allocations: false,
        command: String::new(),
    }
}

const COUNTS: &str = "[counts.pooled.critical]\ns3_put = 3\n[counts.blob.critical]\ns3_put = 3\n\
                      [[ceilings]]\nrung = \"bounded\"\nhard = \"overhead:med<1s\"\n";

fn ladder_of(text: &str) -> Result<BenchOptions, Error> {
    ladder(&options(), &Budgets::parse(&format!("schema = \"mipro.budgets/1\"\n{text}")).unwrap())
}

#[test]
fn what_is_budgeted_is_measured_one_rollout_at_a_time() {
    let ladder = ladder_of(COUNTS).unwrap();
    assert_eq!(ladder.rungs, [RungName::Blob, RungName::Pooled, RungName::Bounded]);
    assert_eq!((ladder.systems, ladder.concurrency, ladder.history, ladder.loss), (1, 1, 0, false));
    assert_eq!((ladder.rollouts, ladder.count_allocations), (Some(ROLLOUTS), true));
    assert!(ladder_of("").is_err(), "nothing is budgeted");
}

#[test]
fn a_run_is_of_the_shape_that_the_counts_are_of() {
    let run =
        "[run]\nrollouts = 7\nconcurrency = 2\nsystems = 3\nllm = \"fixed:20ms\"\nlink = \"same-region\"\n";
    let ladder = ladder_of(&format!("{run}{COUNTS}")).unwrap();
    assert_eq!((ladder.rollouts, ladder.concurrency, ladder.systems), (Some(7), 2, 3));
    assert_eq!((ladder.llm.as_str(), ladder.link), ("fixed:20ms", LinkSpec::same_region()));
    let nowhere = run.replace("same-region", "nowhere");
    assert!(ladder_of(&format!("{nowhere}{COUNTS}")).is_err());
}

#[test]
fn a_database_without_a_wire_makes_its_counts_invalid() {
    let gate = |name: &str, kind| GateOutcome {
        kind,
        name: name.to_owned(),
        limit: "18".to_owned(),
        seen: "0".to_owned(),
        outcome: Outcome::Better,
        advice: String::new(),
    };
    let names = [
        "blob critical.db_round_trips",
        "blob critical.db_connections",
        "blob background.db_statements",
        "blob critical.db_statements",
        "blob critical.s3_put",
    ];
    let mut gates = names.map(|name| gate(name, Kind::Count));
    gates.iter_mut().for_each(without_a_wire);
    let (wired, told) = gates.split_at(3);
    assert!(wired.iter().all(|gate| gate.outcome == Outcome::Invalid), "{wired:?}");
    assert!(told.iter().all(|gate| gate.outcome == Outcome::Better), "the service itself tells: {told:?}");
}

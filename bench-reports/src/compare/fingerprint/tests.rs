use super::*;
use crate::schema::{Rung, SCHEMA};

fn report() -> Report {
    let rung = Rung { name: "parallel".to_owned(), concurrency: 10, systems: 1, ..Rung::default() };
    let environment = Environment { cpu: "Example".to_owned(), cores: 2, ..Environment::default() };
    Report { schema: SCHEMA.to_owned(), environment, rungs: vec![rung], ..Report::default() }
}

#[test]
fn runs_of_one_place_and_kind_may_be_compared() {
    let mut later = report();
    later.run.commit = "3f1c2ab".to_owned();
    later.environment.steal_pct = 4.0;
    assert_eq!(differences(&report(), &later), Vec::<String>::new());
}

#[test]
fn each_difference_is_named() {
    let mut other = report();
    other.environment.cpu = "Another".to_owned();
    other.environment.link = "same-region".to_owned();
    other.run.seed = 7;
    other.rungs[0].concurrency = 20;
    other.run.interrupted = true;
    insta::assert_snapshot!(differences(&report(), &other).join("\n"), @"
    CPU: Example and Another
    link: unknown and same-region
    seed: 0 and 7
    parallel, rollouts in flight: 10 and 20
    the second run was interrupted
    ");
    other.rungs.clear();
    assert_eq!(differences(&report(), &other).last().unwrap(), "they have no rung in common");
}

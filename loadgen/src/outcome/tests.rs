use std::time::Duration;

use mipro_bench_reports::Rung;
use mipro_telemetry::server_timing::{breakdown_from, parse};

use super::Outcome;
use crate::account::Failure;
use crate::record::{Sheet, Times};
use crate::run::Ran;
use crate::session::{Books, Call, Finished, Step};
use crate::validity::Health;

const HEADER: &str = "queue;dur=1;n=1, s3.put;dur=2;n=1;bytes=400;phase=save, llm.first_byte;dur=6;n=1, other;dur=1, \
                      total;dur=10;op=start_rollout";

fn ran(good: u64, bad: u64) -> Ran {
    let mut sheet = Sheet::new(1);
    let times = Times { lag_ns: 1_000, service_ns: 11_000_000, released: None };
    for index in 0..good + bad {
        let books = vec![breakdown_from(&parse(HEADER)).unwrap()];
        let failure = (index >= good).then(|| Failure::invalid("odd"));
        let calls = vec![Call { step: Step::Rollout, service_ns: 11_000_000, books, failure }];
        let finished = Finished { calls, reward: Some(0.5), ..Finished::default() };
        sheet.finished(times, &finished, (0, index));
    }
    sheet.accounting.intended = good + bad;
    let (wall, planned) = (Duration::from_secs(2), Some(Duration::from_secs(1)));
    let (health, open, recording) = (Health::default(), None, None);
    Ran {
        sheet,
        wall,
        planned,
        interrupted: false,
        lanes: 3,
        books: Books::Expected,
        health,
        open,
        recording,
    }
}

fn filled(outcome: &Outcome) -> Rung {
    let mut rung = Rung::default();
    outcome.fill(&mut rung);
    rung
}

#[test]
fn a_rung_is_filled_per_rollout() {
    let rung = filled(&Outcome::new(ran(20, 0), 7, 1));
    assert_eq!((rung.rollouts, rung.concurrency, rung.systems, rung.wall_seconds), (20, 3, 1, 2.0));
    assert!(rung.validity.ok && rung.accounting.holds(), "{:?}", rung.validity);
    assert_eq!(rung.rollout.lag.unwrap().count, 20);
    assert_eq!(rung.overhead.mean_us, Some(4_000.0));
    let names: Vec<&str> = rung.stages.keys().map(String::as_str).collect();
    assert_eq!(names, ["llm.first_byte", "other", "queue", "s3.put"]);
    let put = &rung.stages["s3.put"];
    assert_eq!((put.per_rollout_us, put.calls_per_rollout, put.dist.count), (2_000.0, 1.0, 20));
    let groups: Vec<&str> = rung.stage_groups.keys().map(String::as_str).collect();
    assert_eq!(groups, ["cpu", "db", "llm", "log", "other", "queue", "s3", "tpe"]);
    let sum: f64 = rung.stage_groups.values().map(|g| g.per_rollout_us).sum();
    assert_eq!((sum, rung.stage_groups["db"].per_rollout_us), (10_000.0, 0.0));
    let operation = &rung.operations["start_rollout"];
    assert_eq!((operation.save_s3.count, operation.load_db.count), (20, 0));
    assert_eq!(operation.stage_mean_us.values().sum::<f64>(), operation.total.mean_us.unwrap());
    assert_eq!((rung.counts.critical.s3_put, rung.counts.critical.s3_bytes), (1.0, 400.0));
    let growth = rung.state_growth.unwrap();
    assert_eq!((growth.history, growth.bytes_min, growth.bytes_per_rollout), (7, 400, 0.0));
    assert!((growth.put_p50_us - 2_000.0).abs() < 2.0, "{}", growth.put_p50_us);
    assert_eq!(rung.makespan.unwrap().ratio, 2.0);
    assert_eq!(rung.steps.keys().collect::<Vec<_>>(), ["rollout"]);
}

#[test]
fn the_share_of_other_leaves_the_llm_out() {
    let outcome = Outcome::new(ran(20, 0), 0, 1);
    assert_eq!(outcome.identity.other_share["start_rollout"], 0.25);
    assert_eq!((outcome.reward_mean, outcome.rollouts_per_second()), (Some(0.5), 10.0));
}

#[test]
fn one_late_rollout_of_a_few_is_no_doubt() {
    let mut one_late = ran(20, 0);
    one_late.sheet.lag.record_ns(40_000_000);
    assert_eq!(filled(&Outcome::new(one_late, 0, 1)).validity.reasons, Vec::<String>::new());
}

#[test]
fn doubts_are_told() {
    let outcome = Outcome::new(ran(9, 1), 0, 1);
    assert!(outcome.planned.is_none(), "a failed rollout's delay was not waited for");
    let mut rung = Rung::default();
    rung.validity.reasons.push("earlier".to_owned());
    outcome.fill(&mut rung);
    assert!(!rung.validity.ok);
    assert_eq!(
        rung.validity.reasons,
        ["earlier", "1 of 10 rollouts did not succeed; first rollout: odd (invalid)"]
    );

    let mut late = ran(5, 0);
    late.interrupted = true;
    late.sheet.joined = 4;
    late.sheet.identity.client_below_server = 2;
    late.sheet.identity.sums_off = 1;
    late.sheet.accounting.intended = 6;
    (0..1_000).for_each(|_| late.sheet.lag.record_ns(40_000_000));
    let reasons = filled(&Outcome::new(late, 0, 1)).validity.reasons.join("\n");
    insta::assert_snapshot!(reasons, @r"
    interrupted: the figures are partial
    the accounting does not hold: some rollouts are nowhere
    2 of 5 calls took the client less time than the server says it spent
    in 1 of 5 calls stages and other do not add up to the total
    1 of 5 rollouts came without the service's times: start it with --server-timing
    the generator fell behind: lag p99 40000 µs, allowed 1000 µs
    ");
}

#[test]
fn nothing_at_all_is_no_division_by_zero() {
    let rung = filled(&Outcome::new(ran(0, 0), 0, 1));
    assert!(rung.stage_groups.is_empty() && rung.state_growth.is_none());
    assert_eq!(rung.counts.critical.db_statements, 0.0);
}

#[test]
fn a_run_without_a_rollout_is_not_valid() {
    let rung = filled(&Outcome::new(ran(0, 0), 0, 1));
    assert!(!rung.validity.ok && rung.accounting.holds());
    assert_eq!(rung.validity.reasons, ["no rollout was made, so there is nothing to believe"]);
}

#[test]
fn histograms_are_by_endpoint_and_by_rollout() {
    let outcome = Outcome::new(ran(20, 2), 0, 1);
    let all = outcome.histograms();
    let names: Vec<&str> = all.keys().map(String::as_str).collect();
    insta::assert_snapshot!(names.join(" "), @"groups.cpu groups.db groups.llm groups.log groups.other groups.queue groups.s3 groups.tpe overhead rollout.lag rollout.response rollout.service stages.llm.first_byte stages.other stages.queue stages.s3.put steps.rollout.service");
    let count = |name: &str| all[name].len();
    assert_eq!(
        (count("rollout.response"), count("rollout.lag"), count("steps.rollout.service")),
        (20, 22, 20)
    );
    assert_eq!((count("stages.queue"), count("groups.db"), count("overhead")), (20, 20, 20));
    assert_eq!((all["stages.s3.put"].min(), all["groups.db"].max()), (all["groups.s3"].min(), 1));
    assert!((1_999_000..2_002_000).contains(&all["groups.s3"].value_at_quantile(0.5)), "nanoseconds");
}

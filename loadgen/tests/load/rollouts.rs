//! Rollouts against a fake service and task app: what is sent, what is joined, and where every rollout goes.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fake::{Behaviour, Fake, PLANNED_US};
use mipro_bench_reports::{Accounting, Rung};
use mipro_loadgen::{Error, Options, Outcome, StatusStyle, Warmup, history, plain, prepare, run, silent};
use tokio_util::sync::CancellationToken;

async fn outcome(options: Options) -> Outcome {
    let outcome = run(options, silent(), CancellationToken::new()).await.unwrap();
    assert!(outcome.accounting.holds(), "{:?}", outcome.accounting);
    outcome
}

fn rung(outcome: &Outcome) -> Rung {
    let mut rung = Rung::default();
    outcome.fill(&mut rung);
    rung
}

#[tokio::test]
async fn systems_are_made_from_what_the_task_app_tells() {
    let fake = Fake::start(|_| Behaviour::Good, None).await;
    let mut options = Options { systems: 2, ..fake.options() };
    options.job_overrides.insert("online_rollouts_per_candidate".to_owned(), 5.into());
    let systems = prepare(&options).await.unwrap();
    assert_eq!(systems, [uuid::Uuid::from_u128(1), uuid::Uuid::from_u128(2)]);
    let seen = fake.seen.lock().unwrap();
    assert_eq!((seen.jobs.len(), seen.candidates.len()), (2, 4));
    let job = &seen.jobs[0]["config_body"]["prompt_learning"];
    assert_eq!(job["initial_prompt"]["id"], "p");
    assert_eq!(
        (&job["mipro"]["mode"], &job["mipro"]["online_rollouts_per_candidate"]),
        (&"online".into(), &5.into())
    );
    assert_eq!(seen.candidates[0]["params"]["instruction"], 1);
    assert_eq!(seen.keys, [Some("Bearer k".to_owned()), Some("Bearer k".to_owned())]);
}

#[tokio::test]
async fn what_cannot_be_prepared_is_said() {
    let fake = Fake::start(|_| Behaviour::Good, None).await;
    let mut options = fake.options();
    options.task_app.set_path("/nowhere");
    let error = prepare(&options).await.unwrap_err().to_string();
    assert_eq!(error, "cannot read the task app's /info: answer 404 (http_4xx)");
    for wrong in [
        Options { target: None, ..fake.options() },
        Options { concurrency: 0, ..fake.options() },
        Options { systems: 0, ..fake.options() },
        Options { rollouts: 0, ..fake.options() },
        Options { timeout: Duration::ZERO, ..fake.options() },
    ] {
        let refused = run(wrong, silent(), CancellationToken::new()).await;
        assert!(matches!(refused, Err(Error::Options(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn client_and_server_are_joined() {
    let fake = Fake::start(|_| Behaviour::Good, None).await;
    let options =
        Options { rollouts: 20, warmup: Warmup::Rollouts(5), concurrency: 4, systems: 2, ..fake.options() };
    let outcome = outcome(options).await;
    assert_eq!(outcome.accounting, Accounting { intended: 20, ok: 20, ..Accounting::default() });
    assert_eq!((outcome.acknowledged, outcome.reward_mean), (20, Some(1.0)));
    assert_eq!((outcome.identity.checked, outcome.identity.client_below_server), (60, 0));
    let rung = rung(&outcome);
    assert_eq!((rung.rollouts, rung.concurrency, rung.systems), (20, 4, 2));
    assert_eq!(rung.overhead.mean_us, Some(10.0), "8 + 3 + 3 µs less the LLM's 4");
    let steps: BTreeMap<&str, u64> = rung.steps.iter().map(|(n, t)| (n.as_str(), t.service.count)).collect();
    assert_eq!(steps, [("rollout", 20), ("status_reward", 20), ("status_done", 20)].into());
    let totals: BTreeMap<&str, u64> =
        rung.operations.iter().map(|(n, o)| (n.as_str(), o.total.count)).collect();
    assert_eq!(totals, [("start_rollout", 20), ("status_reward", 20), ("status_done", 20)].into());
    let critical = rung.counts.critical;
    assert_eq!((critical.db_round_trips, critical.db_statements, critical.llm_calls), (3.0, 2.0, 1.0));
    assert_eq!((critical.s3_get, critical.s3_put, critical.s3_bytes), (1.0, 2.0, 500.0));
    assert_eq!(outcome.planned, Some(Duration::from_micros(5 * PLANNED_US)), "20 rollouts on 4 lanes");
    assert_eq!(rung.rollout.response.count, 20);
    let seen = fake.seen.lock().unwrap();
    assert_eq!((seen.rollouts.len(), seen.statuses.len()), (25, 50), "the warm-up was made, and left out");
}

#[tokio::test]
async fn the_same_seed_makes_the_same_rollouts() {
    let fake = Fake::start(|_| Behaviour::Good, None).await;
    let options = Options {
        system_ids: vec![uuid::Uuid::from_u128(7)],
        status_calls: StatusStyle::RewardDone,
        rollouts: 6,
        ..fake.options()
    };
    outcome(options.clone()).await;
    outcome(options).await;
    let seen = fake.seen.lock().unwrap();
    assert_eq!(seen.rollouts[..6], seen.rollouts[6..]);
    assert_eq!(seen.rollouts[5].0, "r-1-00000005");
    let wanted =
        format!("{}api/mipro/v1/{}/r-1-00000000/chat/completions", fake.url, uuid::Uuid::from_u128(7));
    assert_eq!(seen.inference_urls[0], wanted);
    assert_eq!(seen.statuses[0], ("r-1-00000000".to_owned(), "reward_done".to_owned(), Some(1.0)));
    assert!(seen.jobs.is_empty(), "a system that is named is not made");
}

#[tokio::test]
async fn straight_at_the_llm_nothing_is_reported() {
    let fake = Fake::start(|_| Behaviour::NoCandidate, None).await;
    let options = Options {
        target: None,
        llm_url: Some("http://127.0.0.1:1/v1".parse().unwrap()),
        rollouts: 4,
        concurrency: 2,
        serial_per_system: true,
        ..fake.options()
    };
    let outcome = outcome(options).await;
    assert_eq!(outcome.accounting.ok, 4);
    let rung = rung(&outcome);
    assert_eq!((rung.systems, rung.concurrency), (0, 2));
    let seen = fake.seen.lock().unwrap();
    assert_eq!(seen.inference_urls[0], "http://127.0.0.1:1/v1/chat/completions");
    assert!(seen.statuses.is_empty() && seen.jobs.is_empty());
}

#[tokio::test]
async fn every_failure_goes_to_its_class() {
    let rule = |index| match index % 8 {
        0 => Behaviour::Status(429),
        1 => Behaviour::Status(500),
        2 => Behaviour::NotJson,
        3 => Behaviour::LlmFault,
        4 => Behaviour::NoCandidate,
        5 => Behaviour::StatusRefused,
        6 => Behaviour::NoTimes,
        _ => Behaviour::Good,
    };
    let fake = Fake::start(rule, None).await;
    let outcome = outcome(Options { rollouts: 80, concurrency: 5, ..fake.options() }).await;
    let wanted =
        Accounting { intended: 80, ok: 20, http_4xx: 20, http_5xx: 10, invalid: 30, ..Accounting::default() };
    assert_eq!(outcome.accounting, wanted);
    assert_eq!(outcome.acknowledged, 30, "the refused ones had their reward acknowledged before");
    let counts: BTreeMap<String, u64> =
        outcome.failures.iter().map(|f| (format!("{}: {}", f.step, f.failure), f.count)).collect();
    assert_eq!(counts["rollout: the task app says error: the llm is gone (invalid)"], 10);
    assert_eq!(counts["status_done: answer 409: another reward (http_4xx)"], 10);
    assert_eq!(outcome.overhead().count(), 10, "those without times give none");
    assert!(outcome.planned.is_none());
    let failed = fake.seen.lock().unwrap().statuses.iter().filter(|s| s.1 == "failed").count();
    assert_eq!(failed, 10, "an llm's fault is not charged to the prompt");
    let rung = rung(&outcome);
    assert!(!rung.validity.ok);
    assert_eq!(rung.stages["other"].dist.count, 50, "stages of what succeeded only: 10 × 3 calls and 10 × 2");
}

#[tokio::test]
async fn a_dead_task_app_is_accounted_for() {
    let fake = Fake::start(|_| Behaviour::Good, None).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let options =
        Options { task_app: dead, system_ids: vec![uuid::Uuid::from_u128(1)], rollouts: 7, ..fake.options() };
    let outcome = outcome(options).await;
    assert_eq!(outcome.accounting, Accounting { intended: 7, connect: 7, ..Accounting::default() });
}

#[tokio::test]
async fn rollouts_of_one_system_follow_one_another_while_systems_run_side_by_side() {
    // The barrier lets rollouts pass only three at a time: one of each system.
    let fake = Fake::start(|_| Behaviour::Good, Some(3)).await;
    let options =
        Options { systems: 3, rollouts: 18, concurrency: 50, serial_per_system: true, ..fake.options() };
    let outcome = outcome(options).await;
    assert_eq!(outcome.accounting.ok, 18);
    assert_eq!(rung(&outcome).concurrency, 3);
    let seen = fake.seen.lock().unwrap();
    for system in 1..=3 {
        let most = seen.in_flight[&uuid::Uuid::from_u128(system).to_string()].1;
        assert_eq!(most, 1, "system {system}");
    }
    assert_eq!(outcome.planned, Some(Duration::from_micros(6 * PLANNED_US)));
}

#[tokio::test]
async fn a_past_is_pushed_by_status_calls_alone() {
    let fake = Fake::start(|_| Behaviour::Good, None).await;
    let systems = [uuid::Uuid::from_u128(1), uuid::Uuid::from_u128(2)];
    assert_eq!(history(&fake.options(), &systems, 40).await.unwrap(), 80);
    {
        let seen = fake.seen.lock().unwrap();
        assert!(seen.rollouts.is_empty() && seen.statuses.iter().all(|s| s.1 == "reward_done"));
        let rewards: f64 = seen.statuses.iter().filter_map(|s| s.2).sum();
        assert_eq!((seen.statuses.len(), rewards), (80, 48.0));
    }
    let mut nowhere = fake.options();
    nowhere.target.as_mut().unwrap().set_path("/nowhere");
    let error = history(&nowhere, &systems, 40).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot push a past rollout: answer 404 (http_4xx)");
}

#[tokio::test]
async fn a_plain_endpoint_is_accounted_for_alike() {
    let fake = Fake::start(|_| Behaviour::Good, None).await;
    let load = Options { rollouts: 30, concurrency: 3, warmup: Warmup::Rollouts(2), ..Options::default() };
    let mut url = fake.url.clone();
    url.set_path("/plain");
    let plain = plain::Options { url, body: "{}".into(), api_key: None, load };
    let outcome = plain::run(plain.clone(), silent(), CancellationToken::new()).await.unwrap();
    assert_eq!(outcome.accounting, Accounting { intended: 30, ok: 30, ..Accounting::default() });
    let rung = rung(&outcome);
    assert_eq!((rung.steps["request"].service.count, rung.operations["get_state"].total.count), (30, 30));
    assert!(rung.validity.ok, "{:?}", rung.validity);

    let mut missing = plain;
    missing.url.set_path("/nowhere");
    missing.body = "".into();
    let outcome = plain::run(missing, silent(), CancellationToken::new()).await.unwrap();
    assert_eq!(outcome.accounting.http_4xx, 30);
}

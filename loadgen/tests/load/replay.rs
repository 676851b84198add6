//! Rollouts recorded, and replayed.

use std::time::Duration;

use crate::fake::{Behaviour, Fake};
use mipro_loadgen::recording::{Recorded, Source};
use mipro_loadgen::{Arrivals, Options, Outcome, Rate, Recording, Replay, Schedule, Shape, run, silent};
use tokio_util::sync::CancellationToken;

const SYSTEM: uuid::Uuid = uuid::Uuid::from_u128(1);

async fn outcome(options: Options) -> Outcome {
    run(options, silent(), CancellationToken::new()).await.unwrap()
}

#[tokio::test]
async fn what_was_recorded_is_replayed() {
    let fake = Fake::start(|_| Behaviour::Good, None).await;
    let arrivals = Arrivals::new(Shape::Constant, Rate::Constant(100.0), 1).unwrap();
    let options = Options { record: true, rollouts: 6, seed: 9, system_ids: vec![SYSTEM], ..fake.options() };
    let open = Options { schedule: Schedule::Open(arrivals), ..options.clone() };
    let recording = outcome(open).await.recording().unwrap().clone();
    let starts: Vec<u64> = recording.rollouts().iter().map(|r| r.at_us).collect();
    assert_eq!((starts, recording.source()), (vec![0, 10_000, 20_000, 30_000, 40_000, 50_000], Source::Run));

    let again = Options {
        rollouts: 0,
        seed: 77,
        rollout_prefix: "again".to_owned(),
        schedule: Schedule::Replay(Replay::new(recording.clone(), 2.0).unwrap()),
        ..options
    };
    let replayed = outcome(again).await;
    assert_eq!((replayed.accounting.intended, replayed.accounting.ok), (6, 6));
    assert!(replayed.wall >= Duration::from_millis(25), "{:?}", replayed.wall);
    let twice: Vec<u64> = replayed.recording().unwrap().rollouts().iter().map(|r| r.at_us).collect();
    assert_eq!(twice, [0, 5_000, 10_000, 15_000, 20_000, 25_000]);
    let seen = fake.seen.lock().unwrap();
    let mut seeds: Vec<_> = seen.rollouts.iter().map(|(_, seed)| *seed).collect();
    seeds[..6].sort_unstable();
    seeds[6..].sort_unstable();
    assert_eq!(seeds[..6], seeds[6..], "the same examples, whatever the seed");
}

#[tokio::test]
async fn a_closed_run_is_recorded_as_it_went() {
    let fake = Fake::start(|_| Behaviour::Good, None).await;
    let options = Options { record: true, rollouts: 5, system_ids: vec![SYSTEM], ..fake.options() };
    let first = outcome(options).await;
    let rollouts = first.recording().unwrap().rollouts();
    assert!(rollouts.len() == 5 && rollouts[0].at_us == 0 && rollouts.iter().all(|r| r.seed.is_some()));
    let seen = fake.seen.lock().unwrap();
    let seeds: Vec<u64> = rollouts.iter().filter_map(|r| r.seed.map(u64::from)).collect();
    assert_eq!(seeds, seen.rollouts.iter().map(|(_, seed)| *seed).collect::<Vec<_>>());
}

#[tokio::test]
async fn pauses_are_made_before_the_status_calls() {
    let fake = Fake::start(|_| Behaviour::Good, None).await;
    let rollouts = vec![Recorded { at_us: 0, seed: None, think_us: [40_000, 60_000] }];
    let recording = Recording::new(Source::Events, rollouts);
    let options = Options {
        rollouts: 0,
        schedule: Schedule::Replay(Replay::new(recording, 1.0).unwrap()),
        system_ids: vec![SYSTEM],
        ..fake.options()
    };
    let outcome = outcome(options).await;
    assert_eq!(outcome.accounting.ok, 1);
    assert!(outcome.service().quantile_ns(0.5).unwrap() >= 100_000_000, "a pause is part of the rollout");
    assert!(outcome.recording().is_none(), "nobody asked for one");
}

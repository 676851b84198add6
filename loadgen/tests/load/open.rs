//! The open model: rollouts arrive when they are due, at most so many are in flight, and every one is accounted for.

use std::time::Duration;

use crate::fake::{Behaviour, Fake};
use mipro_bench_reports::{Accounting, Rung};
use mipro_loadgen::{Arrivals, Error, Options, Outcome, Rate, Runner, Schedule, Shape, Warmup, run, silent};
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

const SYSTEM: uuid::Uuid = uuid::Uuid::from_u128(1);

fn at_rate(rate: f64) -> Schedule {
    Schedule::Open(Arrivals::new(Shape::Constant, Rate::Constant(rate), 1).unwrap())
}

async fn outcome(options: Options) -> Outcome {
    let outcome = run(options, silent(), CancellationToken::new()).await.unwrap();
    assert!(outcome.accounting.holds(), "{:?}", outcome.accounting);
    outcome
}

#[tokio::test]
async fn rollouts_arrive_at_the_rate_and_in_order() {
    let fake = Fake::start(|_| Behaviour::Good, None).await;
    let options = Options {
        rollouts: 40,
        concurrency: 1,
        schedule: at_rate(200.0),
        system_ids: vec![SYSTEM],
        ..fake.options()
    };
    let outcome = outcome(options).await;
    assert_eq!(outcome.accounting, Accounting { intended: 40, ok: 40, ..Accounting::default() });
    assert!(outcome.wall >= Duration::from_millis(195), "the last is due after 195 ms: {:?}", outcome.wall);
    let offered = outcome.offered_per_second().unwrap();
    assert!((200.0..210.0).contains(&offered), "{offered}");
    let mut rung = Rung::default();
    outcome.fill(&mut rung);
    let times = &rung.rollout;
    assert_eq!((times.response.count, times.service.count), (40, 40));
    let counts = [&times.lag, &times.pacer_lag, &times.slot_wait].map(|d| d.as_ref().unwrap().count);
    assert_eq!((counts, rung.makespan), ([40; 3], None));
    let seen = fake.seen.lock().unwrap();
    assert!(seen.rollouts.is_sorted() && seen.rollouts[0].0 == "r-1-00000000", "{:?}", seen.rollouts);
}

#[tokio::test]
async fn no_more_are_in_flight_than_there_are_slots() {
    let fake = Fake::start(|_| Behaviour::Held, None).await;
    let options = Options {
        rollouts: 20,
        concurrency: 3,
        schedule: at_rate(10_000.0),
        system_ids: vec![SYSTEM],
        ..fake.options()
    };
    let running = tokio::spawn(outcome(options));
    fake.arrived.acquire_many(3).await.unwrap().forget();
    fake.release.add_permits(20);
    let outcome = running.await.unwrap();
    assert_eq!(outcome.accounting.ok, 20);
    assert_eq!(fake.seen.lock().unwrap().in_flight[&SYSTEM.to_string()].1, 3);
}

#[tokio::test]
async fn a_system_that_is_serial_stays_so() {
    let fake = Fake::start(|_| Behaviour::Good, None).await;
    let options = Options {
        systems: 3,
        rollouts: 30,
        concurrency: 50,
        serial_per_system: true,
        schedule: at_rate(2_000.0),
        ..fake.options()
    };
    assert_eq!(outcome(options).await.accounting.ok, 30);
    let seen = fake.seen.lock().unwrap();
    for system in 1..=3 {
        assert_eq!(seen.in_flight[&uuid::Uuid::from_u128(system).to_string()].1, 1, "system {system}");
    }
}

#[tokio::test]
async fn an_interrupt_leaves_the_rest_unsent() {
    let fake = Fake::start(|_| Behaviour::Hang, None).await;
    let options = Options {
        rollouts: 50,
        concurrency: 5,
        drain: Duration::from_millis(10),
        schedule: at_rate(1_000.0),
        system_ids: vec![SYSTEM],
        ..fake.options()
    };
    let cancel = CancellationToken::new();
    let running = tokio::spawn(run(options, silent(), cancel.clone()));
    fake.arrived.acquire_many(5).await.unwrap().forget();
    cancel.cancel();
    let outcome = running.await.unwrap().unwrap();
    assert!(outcome.interrupted);
    let wanted = Accounting { intended: 50, unsent: 45, in_flight_at_end: 5, ..Accounting::default() };
    assert_eq!(outcome.accounting, wanted);
    assert!((5..=50).contains(&outcome.response().count()), "what was not due yet did not wait");
}

#[tokio::test]
async fn a_run_that_never_began_intends_what_it_was_told() {
    let fake = Fake::start(|_| Behaviour::Good, None).await;
    let cancel = CancellationToken::new();
    cancel.cancel();
    let options = Options {
        rollouts: 9,
        schedule: at_rate(10.0),
        warmup: Warmup::Rollouts(3),
        system_ids: vec![SYSTEM],
        ..fake.options()
    };
    let outcome = run(options, silent(), cancel).await.unwrap();
    assert_eq!(outcome.accounting, Accounting { intended: 9, unsent: 9, ..Accounting::default() });
    assert!(outcome.response().is_empty() && fake.seen.lock().unwrap().rollouts.is_empty());
}

#[tokio::test]
async fn at_the_end_of_the_drain_what_is_not_done_has_waited() {
    let fake = Fake::start(|_| Behaviour::Hang, None).await;
    let options = Options {
        rollouts: 0,
        duration: Some(Duration::from_millis(200)),
        drain: Duration::from_millis(60),
        concurrency: 4,
        schedule: at_rate(100.0),
        system_ids: vec![SYSTEM],
        ..fake.options()
    };
    let outcome = outcome(options).await;
    let wanted = Accounting { intended: 20, unsent: 16, in_flight_at_end: 4, ..Accounting::default() };
    assert_eq!(outcome.accounting, wanted);
    assert_eq!(outcome.response().count(), 20);
    let least_ms = outcome.response().quantile_ns(0.0).unwrap() / 1_000_000;
    assert!(least_ms >= 69, "the last was due at 190 ms, the end is at 260 ms: {least_ms} ms");
}

#[tokio::test]
async fn a_deadline_counts_from_the_intended_start() {
    let fake = Fake::start(|_| Behaviour::Hang, None).await;
    let options = Options {
        rollouts: 10,
        concurrency: 2,
        deadline: Some(Duration::from_millis(150)),
        // All at once, so that every deadline has passed before the first slot is free again.
        schedule: at_rate(1_000_000.0),
        system_ids: vec![SYSTEM],
        ..fake.options()
    };
    let outcome = outcome(options).await;
    assert_eq!(outcome.accounting, Accounting { intended: 10, deadline: 10, ..Accounting::default() });
    assert_eq!(outcome.response().count(), 10);
    assert!(outcome.response().quantile_ns(0.0).unwrap() >= 150_000_000);
    let sent = outcome.service().count();
    assert!((2..10).contains(&sent), "those whose time was up before a slot was free were not sent: {sent}");
}

#[tokio::test]
async fn slices_on_one_system_begin_where_they_are_told() {
    let fake = Fake::start(|_| Behaviour::Good, None).await;
    let options = Options { rollouts: 3, warmup: Warmup::Rollouts(1), ..fake.options() };
    let runner = Runner::prepare(options).await.unwrap();
    for (prefix, first) in [("a", 0), ("b", 0), ("a", 3)] {
        let mut slice = runner.slice();
        prefix.clone_into(&mut slice.rollout_prefix);
        slice.first_index = first;
        if first > 0 {
            slice.warmup = Warmup::default();
        }
        let outcome = runner.run(slice, silent(), CancellationToken::new()).await.unwrap();
        assert_eq!(outcome.accounting.ok, 3);
    }
    assert_eq!(runner.systems(), [SYSTEM]);
    let mut slice = runner.slice();
    slice.rollouts = 0;
    let endless = runner.run(slice, silent(), CancellationToken::new()).await;
    assert!(matches!(endless, Err(Error::Options(_))));
    let seen = fake.seen.lock().unwrap();
    let ids: Vec<&str> = seen.rollouts.iter().map(|(id, _)| id.as_str()).collect();
    insta::assert_snapshot!(ids.join(" "), @"a-1-1099511627776 a-1-00000000 a-1-00000001 a-1-00000002 b-1-1099511627776 b-1-00000000 b-1-00000001 b-1-00000002 a-1-00000003 a-1-00000004 a-1-00000005");
    assert_eq!(seen.jobs.len(), 1);
    assert_eq!(seen.rollouts[1].1, seen.rollouts[5].1, "the same index, the same payload");
}

#[tokio::test]
async fn a_warm_up_lasts_as_long_as_told_and_is_left_out() {
    let fake = Fake::start(|_| Behaviour::Good, None).await;
    let options = Options {
        rollouts: 4,
        warmup: Warmup::Time(Duration::from_millis(100)),
        schedule: Schedule::Open(
            Arrivals::new(
                Shape::Constant,
                Rate::Ramp { from: 50.0, to: 400.0, over: Duration::from_secs(9) },
                1,
            )
            .unwrap(),
        ),
        concurrency: 4,
        system_ids: vec![SYSTEM],
        ..fake.options()
    };
    assert_eq!(outcome(options).await.accounting.intended, 4);
    let seen = fake.seen.lock().unwrap();
    assert_eq!(seen.rollouts.len(), 9, "five in a tenth of a second at fifty a second, then four");
    assert_eq!(seen.rollouts[5].0, "r-1-00000000");
}

fn behaviour(number: u8) -> Behaviour {
    match number {
        0 => Behaviour::Status(404),
        1 => Behaviour::Status(503),
        2 => Behaviour::NotJson,
        3 | 4 => Behaviour::Hang,
        _ => Behaviour::Good,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    /// The conservation law of the open model, however it ends, and that everything due is in the response times.
    #[test]
    fn what_is_intended_is_accounted_for(
        faults in prop::collection::vec(0..12u8, 1..24),
        concurrency in 1..6u32,
        rate in 50.0..3_000.0f64,
        poisson in any::<bool>(),
        serial in any::<bool>(),
        deadline_ms in prop::option::of(5..200u64),
        duration_ms in prop::option::of(1..100u64),
        cut_after in prop::option::of(1..12u32),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(async {
            let plan = faults.clone();
            let fake = Fake::start(move |index| behaviour(plan[index as usize]), None).await;
            let shape = if poisson { Shape::Poisson } else { Shape::Constant };
            let options = Options {
                rollouts: faults.len() as u64,
                concurrency,
                serial_per_system: serial,
                system_ids: vec![SYSTEM, uuid::Uuid::from_u128(2)],
                timeout: Duration::from_millis(150),
                deadline: deadline_ms.map(Duration::from_millis),
                duration: duration_ms.map(Duration::from_millis),
                drain: Duration::from_millis(20),
                schedule: Schedule::Open(Arrivals::new(shape, Rate::Constant(rate), 3).unwrap()),
                ..fake.options()
            };
            let cancel = CancellationToken::new();
            let running = tokio::spawn(run(options, silent(), cancel.clone()));
            let cut = async {
                match cut_after {
                    Some(count) => fake.arrived.acquire_many(count).await.unwrap().forget(),
                    None => std::future::pending().await,
                }
            };
            let mut running = running;
            tokio::select! {
                outcome = &mut running => return outcome.unwrap().unwrap(),
                () = cut => cancel.cancel(),
            }
            running.await.unwrap().unwrap()
        });
        let books = outcome.accounting;
        prop_assert!(books.holds(), "{:?}", books);
        let all = faults.len() as u64;
        prop_assert!(books.intended <= all && (duration_ms.is_some() || books.intended == all), "{:?}", books);
        let due = books.ok + books.timeout + books.deadline + books.in_flight_at_end + books.unsent;
        let recorded = outcome.response().count();
        prop_assert!(recorded <= due && (outcome.interrupted || recorded == due), "{} of {:?}", recorded, books);
        let sent = books.intended - books.unsent;
        prop_assert!(outcome.lag().count() <= sent && outcome.pacer_lag().count() == outcome.lag().count());
    }
}

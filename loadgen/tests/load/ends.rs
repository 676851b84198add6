//! How a run ends: by timeouts, by an interrupt, by its duration; and that nothing is lost from the books then.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::fake::{Behaviour, Fake};
use mipro_bench_reports::{Accounting, Rung};
use mipro_loadgen::{Options, Progress, Warmup, run, silent};
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

const SYSTEM: uuid::Uuid = uuid::Uuid::from_u128(1);

#[tokio::test]
async fn timeouts_are_recorded_with_the_time_waited() {
    let rule = |index: u64| if index.is_multiple_of(2) { Behaviour::Hang } else { Behaviour::Good };
    let fake = Fake::start(rule, None).await;
    let timeout = Duration::from_millis(300);
    let options =
        Options { rollouts: 8, concurrency: 8, timeout, system_ids: vec![SYSTEM], ..fake.options() };
    let outcome = run(options, silent(), CancellationToken::new()).await.unwrap();
    let wanted = Accounting { intended: 8, ok: 4, timeout: 4, ..Accounting::default() };
    assert_eq!(outcome.accounting, wanted);
    assert_eq!(outcome.service().count(), 8);
    assert!(outcome.service().quantile_ns(1.0).unwrap() >= 300_000_000);
}

/// Interrupts a run of 50 rollouts once 5 are in flight.
async fn interrupted(fake: &Arc<Fake>, drain: Duration, release: bool) -> Accounting {
    let cancel = CancellationToken::new();
    let options = Options { rollouts: 50, concurrency: 5, drain, system_ids: vec![SYSTEM], ..fake.options() };
    let running = tokio::spawn(run(options, silent(), cancel.clone()));
    fake.arrived.acquire_many(5).await.unwrap().forget();
    cancel.cancel();
    if release {
        fake.release.add_permits(50);
    }
    let outcome = running.await.unwrap().unwrap();
    assert!(outcome.interrupted && outcome.accounting.holds());
    let mut rung = Rung::default();
    outcome.fill(&mut rung);
    assert!(!rung.validity.ok);
    outcome.accounting
}

#[tokio::test]
async fn an_interrupt_gives_up_what_does_not_end_in_time() {
    let fake = Fake::start(|_| Behaviour::Hang, None).await;
    let books = interrupted(&fake, Duration::from_millis(10), false).await;
    let wanted = Accounting { intended: 50, unsent: 45, in_flight_at_end: 5, ..Accounting::default() };
    assert_eq!(books, wanted);
}

#[tokio::test]
async fn an_interrupt_waits_for_what_is_in_flight() {
    let fake = Fake::start(|_| Behaviour::Held, None).await;
    let books = interrupted(&fake, Duration::from_secs(20), true).await;
    // Between the interrupt and its notice a lane may start one more.
    assert!(books.ok >= 5 && books.ok <= 50 && books.in_flight_at_end == 0, "{books:?}");
    assert_eq!(books.unsent, 50 - books.ok);
}

#[tokio::test]
async fn a_run_that_never_began_is_all_unsent() {
    let fake = Fake::start(|_| Behaviour::Good, None).await;
    let cancel = CancellationToken::new();
    cancel.cancel();
    let options =
        Options { rollouts: 9, warmup: Warmup::Rollouts(3), system_ids: vec![SYSTEM], ..fake.options() };
    let outcome = run(options, silent(), cancel).await.unwrap();
    assert!(outcome.interrupted && fake.seen.lock().unwrap().rollouts.is_empty());
    assert_eq!(outcome.accounting, Accounting { intended: 9, unsent: 9, ..Accounting::default() });
}

#[tokio::test]
async fn a_duration_intends_what_it_sent() {
    let fake = Fake::start(|_| Behaviour::Good, None).await;
    let duration = Some(Duration::from_millis(200));
    for rollouts in [0, u64::MAX] {
        let options =
            Options { rollouts, duration, concurrency: 2, system_ids: vec![SYSTEM], ..fake.options() };
        let outcome = run(options, silent(), CancellationToken::new()).await.unwrap();
        let books = outcome.accounting;
        assert!(books.ok > 0 && books.intended == books.ok && !outcome.interrupted, "{books:?}");
        assert!(outcome.wall >= Duration::from_millis(200));
    }
    let few = Options {
        rollouts: 3,
        duration: Some(Duration::from_secs(600)),
        system_ids: vec![SYSTEM],
        ..fake.options()
    };
    let outcome = run(few, silent(), CancellationToken::new()).await.unwrap();
    assert_eq!(outcome.accounting.ok, 3, "what comes first ends it");
}

#[derive(Default)]
struct Listener {
    total: Mutex<Option<u64>>,
    last: AtomicU64,
    finished: AtomicBool,
}

impl Progress for Listener {
    fn started(&self, total: Option<u64>) {
        *self.total.lock().unwrap() = total;
    }

    fn tick(&self, done: u64, errors: u64, in_flight: u64) {
        assert!(errors <= done && in_flight <= 2, "{done} {errors} {in_flight}");
        self.last.store(done, Ordering::Relaxed);
    }

    fn finished(&self) {
        self.finished.store(true, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn progress_ends_where_the_run_does() {
    let fake = Fake::start(|_| Behaviour::Good, None).await;
    let listener = Arc::new(Listener::default());
    let options = Options {
        rollouts: 12,
        warmup: Warmup::Rollouts(4),
        concurrency: 2,
        system_ids: vec![SYSTEM],
        ..fake.options()
    };
    run(options, Arc::clone(&listener) as Arc<dyn Progress>, CancellationToken::new()).await.unwrap();
    assert_eq!((*listener.total.lock().unwrap(), listener.last.load(Ordering::Relaxed)), (Some(12), 12));
    assert!(listener.finished.load(Ordering::Relaxed));
}

fn behaviour(number: u8) -> Behaviour {
    match number {
        0 => Behaviour::Status(404),
        1 => Behaviour::Status(503),
        2 => Behaviour::NotJson,
        3 => Behaviour::LlmFault,
        4 => Behaviour::Hang,
        5 => Behaviour::StatusRefused,
        _ => Behaviour::Good,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// The conservation law, whatever happens to each rollout and whenever the run is interrupted.
    #[test]
    fn nothing_is_lost_from_the_books(
        faults in prop::collection::vec(0..12u8, 1..24),
        concurrency in 1..6u32,
        serial in any::<bool>(),
        systems in 1..4usize,
        cut_after in prop::option::of(1..24u32),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (books, wanted) = runtime.block_on(async {
            let rollouts = faults.len() as u64;
            let plan = faults.clone();
            let fake = Fake::start(move |index| behaviour(plan[index as usize]), None).await;
            let options = Options {
                rollouts,
                concurrency,
                serial_per_system: serial,
                system_ids: (0..systems).map(|n| uuid::Uuid::from_u128(n as u128)).collect(),
                timeout: Duration::from_millis(250),
                drain: Duration::from_millis(20),
                ..fake.options()
            };
            let cancel = CancellationToken::new();
            let running = tokio::spawn(run(options, silent(), cancel.clone()));
            if let Some(count) = cut_after.filter(|count| u64::from(*count) <= rollouts) {
                fake.arrived.acquire_many(count).await.unwrap().forget();
                cancel.cancel();
            }
            let outcome = running.await.unwrap().unwrap();
            let of = |numbers: &[u8]| faults.iter().filter(|f| numbers.contains(f)).count() as u64;
            let whole = Accounting {
                intended: rollouts,
                ok: rollouts - of(&[0, 1, 2, 3, 4, 5]),
                http_4xx: of(&[0, 5]),
                http_5xx: of(&[1]),
                invalid: of(&[2, 3]),
                timeout: of(&[4]),
                ..Accounting::default()
            };
            (outcome.accounting, (!outcome.interrupted).then_some(whole))
        });
        prop_assert!(books.holds(), "{:?}", books);
        prop_assert_eq!(books.intended, faults.len() as u64);
        if let Some(wanted) = wanted {
            prop_assert_eq!(books, wanted);
        }
    }
}

//! All on tokio's paused clock, which stands still while code runs: what is spent running is put on top by hand ([`Time::spin`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::sleep;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::SubscriberExt as _;

use super::book::{Book, Ended, POLLS_MAX, REQUEST};
use super::charge;
use super::*;
use crate::ledger::{INTERVALS_MAX, Ledger};

/// A clock that goes on while tasks sleep, and when it is told to.
#[derive(Clone, Default)]
struct Time {
    spun_ns: Arc<AtomicU64>,
}

impl Time {
    fn clock(&self) -> Clock {
        let spun_ns = Arc::clone(&self.spun_ns);
        Arc::new(move || {
            tokio::time::Instant::now().into_std() + Duration::from_nanos(spun_ns.load(Ordering::SeqCst))
        })
    }

    /// Code runs for so long.
    fn spin(&self, ms: u64) {
        self.spun_ns.fetch_add(ms * 1_000_000, Ordering::SeqCst);
    }
}

/// A layer that this thread's spans go to.
fn watched() -> (Wall, Time, DefaultGuard) {
    let time = Time::default();
    let wall = Wall::with_clock(time.clock());
    let subscriber = tracing_subscriber::registry().with(wall.layer());
    (wall, time, tracing::subscriber::set_default(subscriber))
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The stacks in whole milliseconds.
fn shown(wall: &Wall) -> String {
    let found = wall.found();
    let lines = found.stacks.iter().map(|(stack, ns)| format!("{stack} {}\n", (ns + 500_000) / 1_000_000));
    lines.collect()
}

#[tokio::test(start_paused = true)]
async fn a_known_wait_is_under_await_and_what_runs_is_under_poll() {
    let (wall, time, _guard) = watched();
    let ledger = Ledger::start(Operation::StartRollout);
    let work = async {
        ledger.track(Stage::DbQuery, sleep(ms(200))).await;
        ledger.time(Stage::PromptRender, || time.spin(30));
        ledger
            .track(Stage::S3Get, async {
                time.spin(7);
                sleep(ms(50)).await;
                time.spin(5);
            })
            .await;
    };
    ledger.watch(work).await;
    let _ = ledger.finish();
    let found = wall.found();
    let waited_ms = found.stacks.total_at(AWAIT) as f64 / 1e6;
    assert!((waited_ms - 250.0).abs() <= 5.0, "{waited_ms}");
    insta::assert_snapshot!(shown(&wall), @r"
    start_rollout;db.query;[await] 200
    start_rollout;prompt.render;[poll] 30
    start_rollout;s3.get;[await] 50
    start_rollout;s3.get;[poll] 12
    ");
}

#[tokio::test(start_paused = true)]
async fn a_guard_held_across_awaits_is_told_apart_from_the_running_in_it() {
    let (wall, time, _guard) = watched();
    let ledger = Ledger::start(Operation::StatusReward).in_phase(Phase::Save);
    let work = async {
        let put = ledger.enter(Stage::S3Put);
        time.spin(20);
        sleep(ms(80)).await;
        put.done();
        sleep(ms(10)).await;
        time.spin(3);
    };
    ledger.watch(work).await;
    let _ = ledger.finish();
    insta::assert_snapshot!(shown(&wall), @r"
    status_reward;[await] 10
    status_reward;[poll] 3
    status_reward;save;s3.put;[await] 80
    status_reward;save;s3.put;[poll] 20
    ");
}

#[tokio::test(start_paused = true)]
async fn nested_and_concurrent_stages_are_charged_once() {
    let (wall, _time, _guard) = watched();
    let ledger = Ledger::start(Operation::StartRollout);
    let work = async {
        let outer = ledger.track(Stage::DbQuery, async {
            sleep(ms(10)).await;
            ledger.track(Stage::DbAcquire, sleep(ms(30))).await;
            sleep(ms(5)).await;
        });
        outer.await;
        // 100 ms beside 60 ms, and a wait that yields to both.
        let gate = ledger.track(Stage::GateWait, sleep(ms(120)));
        let get = ledger.track(Stage::S3Get, sleep(ms(100)));
        let later = async {
            sleep(ms(20)).await;
            ledger.track(Stage::S3Put, sleep(ms(60))).await;
        };
        tokio::join!(gate, get, later);
    };
    ledger.watch(work).await;
    let _ = ledger.finish();
    insta::assert_snapshot!(shown(&wall), @r"
    start_rollout;db.query;[await] 15
    start_rollout;db.query;db.acquire;[await] 30
    start_rollout;gate.wait;[await] 20
    start_rollout;s3.get;[await] 40
    start_rollout;s3.put;[await] 60
    ");
    let whole = wall.found().stacks.total();
    assert!(whole.abs_diff(165_000_000) < 5_000_000, "widths add up to the wall clock: {whole}");
}

#[tokio::test(start_paused = true)]
async fn what_is_polled_is_charged_even_where_another_began_later() {
    let (wall, time, _guard) = watched();
    let ledger = Ledger::start(Operation::StartRollout);
    let first = ledger.track(Stage::S3Get, async {
        sleep(ms(10)).await;
        time.spin(40);
        sleep(ms(10)).await;
    });
    let second = ledger.track(Stage::S3Put, sleep(ms(100)));
    ledger.watch(async { tokio::join!(first, second) }).await;
    let _ = ledger.finish();
    // While s3.get runs, s3.put's wait is no excuse: the running is s3.get's.
    assert!(shown(&wall).contains("start_rollout;s3.get;[poll] 40\n"), "{}", shown(&wall));
}

#[tokio::test(start_paused = true)]
async fn what_was_cancelled_or_failed_does_not_pass_for_a_fast_success() {
    let (wall, _time, _guard) = watched();
    let ledger = Ledger::start(Operation::GetState);
    let work = async {
        let late = tokio::time::timeout(ms(70), ledger.track(Stage::DbQuery, sleep(ms(500)))).await;
        assert!(late.is_err());
        let failing = async {
            sleep(ms(9)).await;
            Err::<(), ()>(())
        };
        assert!(ledger.try_track(Stage::S3Get, failing).await.is_err());
        ledger.track(Stage::DbQuery, sleep(ms(40))).await;
    };
    ledger.watch(work).await;
    let _ = ledger.finish();
    insta::assert_snapshot!(shown(&wall), @r"
    get_state;db.query;[await] 40
    get_state;db.query;[cancelled];[await] 70
    get_state;s3.get;[failed];[await] 9
    ");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_nobody_waited_for_is_cancelled_with_what_it_was_doing() {
    let (wall, _time, _guard) = watched();
    let left = Ledger::start(Operation::StartRollout);
    let running = left.watch(left.track(Stage::LlmBody, sleep(ms(500))));
    assert!(tokio::time::timeout(ms(30), running).await.is_err());
    left.abandon();
    let _ = (left.finish(), left.finish());
    let dropped = Ledger::start(Operation::GetJob);
    sleep(ms(5)).await;
    drop(dropped);
    let behind = Ledger::start(Operation::Background);
    behind.track(Stage::SnapshotPut, sleep(ms(6))).await;
    drop(behind);
    insta::assert_snapshot!(shown(&wall), @r"
    background;snapshot.put;[await] 6
    get_job;[cancelled];[await] 5
    start_rollout;[cancelled];llm.body;[cancelled];[await] 30
    ");
    assert_eq!(wall.found().requests, 3);
}

#[tokio::test(start_paused = true)]
async fn work_on_another_thread_is_running_where_it_says_so() {
    let (wall, time, _guard) = watched();
    let ledger = Ledger::start(Operation::StatusDone);
    let dispatch = tracing::dispatcher::get_default(Clone::clone);
    let (elsewhere, spinner) = (ledger.clone(), time.clone());
    // The thread reads the paused clock, too.
    let runtime = tokio::runtime::Handle::current();
    let work = async {
        let query = ledger.enter(Stage::DbQuery);
        let there = move || {
            let _runtime = runtime.enter();
            tracing::dispatcher::with_default(&dispatch, || elsewhere.working(|| spinner.spin(25)));
        };
        std::thread::spawn(there).join().unwrap();
        query.done();
    };
    // Not polled inside the request: only the other thread's work is told.
    work.await;
    let _ = ledger.finish();
    insta::assert_snapshot!(shown(&wall), @"status_done;db.query;[poll] 25");
}

#[tokio::test(start_paused = true)]
async fn a_profile_begins_with_the_requests_after_it() {
    let (wall, _time, _guard) = watched();
    let before = Ledger::start(Operation::GetJob);
    sleep(ms(5)).await;
    wall.begin();
    let after = Ledger::start(Operation::GetState);
    sleep(ms(7)).await;
    let _ = (before.finish(), after.finish());
    insta::assert_snapshot!(shown(&wall), @"get_state;[await] 7");
}

#[tokio::test(start_paused = true)]
async fn the_slowest_rollouts_are_kept_whole_and_no_more() {
    let (wall, _time, _guard) = watched();
    for n in 0..10_u64 {
        let id = format!("rollout {n}");
        let start = Ledger::start(Operation::StartRollout);
        start.set_rollout(&id);
        start.watch(start.in_phase(Phase::Load).track(Stage::DbQuery, sleep(ms(n)))).await;
        let _ = start.finish();
        let done = Ledger::start(Operation::StatusRewardDone);
        done.set_rollout(&id);
        sleep(ms(1)).await;
        let _ = done.finish();
    }
    let never_closed = Ledger::start(Operation::StartRollout);
    never_closed.set_rollout("never closed");
    sleep(ms(900)).await;
    let _ = never_closed.finish();
    let slowest = wall.found().slowest;
    let lengths: Vec<u64> = slowest.iter().map(|r| (r.range_ns().1 - r.range_ns().0) / 1_000_000).collect();
    assert_eq!(lengths, [10, 9, 8, 7]);
    assert_eq!(slowest[0].calls.len(), 2);
    assert_eq!(
        (slowest[0].calls[0].stages[0].stage, slowest[0].calls[0].stages[0].phase),
        (Stage::DbQuery, Some(Phase::Load))
    );
}

#[tokio::test(start_paused = true)]
async fn the_trace_of_a_rollout() {
    let (wall, time, _guard) = watched();
    let start = Ledger::start(Operation::StartRollout);
    start.set_rollout("r");
    let work = async {
        start.in_phase(Phase::Load).track(Stage::DbQuery, sleep(ms(20))).await;
        start.time(Stage::PromptRender, || time.spin(2));
        let llm = start.track(Stage::LlmFirstByte, sleep(ms(100)));
        let gate = start.track(Stage::GateWait, sleep(ms(30)));
        tokio::join!(llm, gate);
    };
    start.watch(work).await;
    let _ = start.finish();
    sleep(ms(15)).await;
    let status = Ledger::start(Operation::StatusRewardDone);
    status.set_rollout("r");
    let failing = async {
        sleep(ms(4)).await;
        Err::<(), ()>(())
    };
    assert!(status.try_track(Stage::S3Put, failing).await.is_err());
    let _ = status.finish();
    let trace = chrome::trace(&wall.found().slowest[0], "mipro serve");
    let parsed: serde_json::Value = serde_json::from_str(&trace).unwrap();
    assert_eq!(parsed["displayTimeUnit"], "ms");
    insta::assert_snapshot!(trace);
}

/// Without any subscriber nothing is enabled, and nothing is kept.
#[test]
fn without_a_profile_spans_are_disabled() {
    let ledger = Ledger::start(Operation::GetJob);
    ledger.set_rollout("r");
    assert!(!tracing::enabled!(target: spans::TARGET, tracing::Level::TRACE));
    let _ = ledger.finish();
}

#[tokio::test(start_paused = true)]
async fn every_stage_has_a_span_of_its_name() {
    let (wall, _time, _guard) = watched();
    let ledger = Ledger::start(Operation::GetJob);
    for stage in Stage::ALL {
        let guard = ledger.enter(*stage);
        sleep(ms(1)).await;
        guard.done();
    }
    let _ = ledger.finish();
    for stage in Stage::ALL {
        let line = format!("get_job;{stage};[await] 1\n");
        assert!(shown(&wall).contains(&line), "no {line} in {}", shown(&wall));
    }
}

#[test]
fn a_book_is_bounded_and_says_what_it_left_out() {
    let start = clock::now();
    let mut book = Book::new(Operation::GetJob, start);
    for n in 0..INTERVALS_MAX as u64 + 10 {
        let at = start + Duration::from_nanos(n);
        if let Some(span) = book.open(Stage::DbQuery, None, REQUEST, at) {
            book.end(span, Ended::Done, at);
        }
    }
    for n in 0..POLLS_MAX as u64 + 7 {
        book.polled(REQUEST, start + Duration::from_nanos(2 * n), start + Duration::from_nanos(2 * n + 1));
    }
    let closed = book.close(Ended::Done, start + ms(1)).unwrap();
    assert_eq!((closed.spans.len(), closed.polls.len(), closed.cut), (INTERVALS_MAX + 1, POLLS_MAX, 17));
    assert_eq!(book.close(Ended::Done, start), None);
}

proptest! {
    /// Whatever overlaps whatever, and in whatever order it ends: the sum is the request's time.
    #[test]
    fn widths_add_up_to_the_wall_clock(
        stages in proptest::collection::vec((0..Stage::ALL.len(), 0_usize..4, 0_u64..100, 0_u64..100, 0..3_u8), 0..12),
        polls in proptest::collection::vec((0_usize..14, 0_u64..120, 0_u64..40), 0..12),
        total in 0_u64..150,
    ) {
        let start = clock::now();
        let at = |ns: u64| start + Duration::from_nanos(ns);
        let mut book = Book::new(Operation::StartRollout, start);
        let mut open = vec![REQUEST];
        for (stage, parent, from, length, end) in stages {
            let parent = open[parent % open.len()];
            if let Some(span) = book.open(Stage::ALL[stage], None, parent, at(from)) {
                open.push(span);
                let ended = [Some(Ended::Done), Some(Ended::Failed), None][usize::from(end)];
                if let Some(ended) = ended {
                    book.end(span, ended, at(from + length));
                }
            }
        }
        for (span, from, length) in polls {
            book.polled(open[span % open.len()], at(from), at(from + length));
        }
        let closed = book.close(Ended::Done, at(total)).unwrap();
        let mut stacks = Folded::default();
        charge::into_stacks(&closed, &mut stacks);
        prop_assert_eq!(stacks.total(), total);
        prop_assert_eq!(stacks.total_at(AWAIT) + stacks.total_at(POLL), total);
    }
}

use std::collections::BTreeMap;
use std::future::{Future, pending, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;

use super::sweep::{Interval, Tally, sweep};
use super::{Breakdown, INTERVALS_MAX, Ledger};
use crate::clock;
use crate::stage::{Group, Operation, Phase, Stage};

fn run(stage: Stage, start_ns: u64, end_ns: u64) -> Interval {
    Interval { stage, phase: None, start_ns, end_ns: Some(end_ns), cancelled: false }
}

fn swept(total_ns: u64, intervals: &[Interval]) -> Breakdown {
    sweep(Operation::StartRollout, total_ns, intervals, &[])
}

/// (exclusive, overlap) of a stage without phase.
fn times(breakdown: &Breakdown, stage: Stage) -> (u64, u64) {
    let entry = breakdown.entries.iter().find(|e| e.stage == stage && e.phase.is_none()).unwrap();
    (entry.exclusive_ns, entry.overlap_ns)
}

#[test]
fn a_nested_stage_is_charged_instead_of_the_one_around_it() {
    let books = swept(100, &[run(Stage::DbAcquire, 20, 30), run(Stage::DbQuery, 10, 90)]);
    assert_eq!(times(&books, Stage::DbAcquire), (10, 0));
    assert_eq!(times(&books, Stage::DbQuery), (70, 0), "waiting for a nested stage is no overlap");
    assert_eq!((books.other_ns, books.total_ns), (20, 100));
}

#[test]
fn a_stage_nested_at_the_same_instant_is_charged_in_either_order() {
    let inner = run(Stage::StateDecode, 10, 30);
    let outer = run(Stage::S3Get, 10, 50);
    for intervals in [[inner, outer], [outer, inner]] {
        let books = swept(50, &intervals);
        assert_eq!(times(&books, Stage::StateDecode), (20, 0));
        assert_eq!(times(&books, Stage::S3Get), (20, 0));
    }
}

#[test]
fn waiting_for_durability_is_free_while_the_llm_answers() {
    let gate = run(Stage::GateWait, 10, 60);
    for llm in [run(Stage::LlmFirstByte, 0, 50), run(Stage::LlmFirstByte, 20, 50)] {
        let books = swept(100, &[gate, llm]);
        let llm_ns = llm.end_ns.unwrap() - llm.start_ns;
        assert_eq!(times(&books, Stage::LlmFirstByte), (llm_ns, 0));
        let hidden = 50 - llm.start_ns.max(10);
        assert_eq!(times(&books, Stage::GateWait), (50 - hidden, hidden), "only what the LLM does not hide");
    }
}

#[test]
fn overlap_is_a_union_never_a_sum() {
    let gets = [run(Stage::S3Get, 0, 80), run(Stage::S3Get, 10, 90), run(Stage::S3Get, 15, 85)];
    let later = run(Stage::DbQuery, 20, 100);
    let books = swept(100, &[gets[0], gets[1], gets[2], later]);
    assert_eq!(times(&books, Stage::DbQuery), (80, 0));
    assert_eq!(times(&books, Stage::S3Get), (20, 70), "three gets at once hide the same 70 ns once");
    assert_eq!(books.other_ns, 0);
}

#[test]
fn counted_statements_replace_entries_and_bytes_alone_do_not() {
    let stages = [Stage::DbQuery, Stage::S3Get];
    let runs: Vec<Interval> = stages.iter().map(|s| run(*s, 0, 10)).collect();
    let tally = |stage, count| Tally { stage, phase: None, count, bytes: 7, round_trips: 2 };
    let tallies = [tally(Stage::DbQuery, 3), tally(Stage::S3Get, 0), tally(Stage::S3Put, 1)];
    let books = sweep(Operation::GetState, 10, &runs, &tallies);
    let counts: Vec<_> = books.entries.iter().map(|e| (e.stage, e.count, e.bytes, e.round_trips)).collect();
    assert_eq!(counts, [(Stage::DbQuery, 3, 7, 2), (Stage::S3Get, 1, 7, 2), (Stage::S3Put, 1, 7, 2)]);
}

#[test]
fn a_dropped_guard_is_cancelled_and_a_done_one_is_not() {
    let ledger = Ledger::start(Operation::Unknown);
    drop(ledger.enter(Stage::DbQuery));
    ledger.enter(Stage::S3Get).done();
    let running = ledger.enter(Stage::S3Put);
    let cancelled: Vec<_> = ledger.finish().entries.iter().map(|e| (e.stage, e.cancelled)).collect();
    assert_eq!(cancelled, [(Stage::DbQuery, 1), (Stage::S3Get, 0), (Stage::S3Put, 1)]);
    running.done();
    assert_eq!(
        ledger.finish().entries[2].cancelled,
        0,
        "finish may be called again, and sees what ended since"
    );
}

#[test]
fn a_future_dropped_before_it_is_ready_is_cancelled() {
    let ledger = Ledger::start(Operation::Unknown);
    let mut cx = Context::from_waker(Waker::noop());
    {
        let mut never = pin!(ledger.track(Stage::LlmFirstByte, pending::<()>()));
        assert!(never.as_mut().poll(&mut cx).is_pending());
    }
    drop(ledger.track(Stage::LlmBody, pending::<()>()));
    assert_eq!(pin!(ledger.track(Stage::DbQuery, ready(7))).poll(&mut cx), Poll::Ready(7));
    let cancelled: Vec<_> = ledger.finish().entries.iter().map(|e| (e.stage, e.cancelled)).collect();
    assert_eq!(cancelled, [(Stage::DbQuery, 0), (Stage::LlmFirstByte, 1)], "one never polled never began");
}

#[test]
fn a_failed_future_is_not_recorded_as_a_success() {
    let ledger = Ledger::start(Operation::Unknown);
    let mut cx = Context::from_waker(Waker::noop());
    let failed = pin!(ledger.try_track(Stage::DbQuery, ready(Err::<(), _>("gone")))).poll(&mut cx);
    let fine = pin!(ledger.try_track(Stage::S3Get, ready(Ok::<_, ()>(1)))).poll(&mut cx);
    assert_eq!((failed, fine), (Poll::Ready(Err("gone")), Poll::Ready(Ok(1))));
    let cancelled: Vec<_> = ledger.finish().entries.iter().map(|e| e.cancelled).collect();
    assert_eq!(cancelled, [1, 0]);
}

#[test]
fn phases_are_kept_apart_and_rolled_up_by_store() {
    let ledger = Ledger::start(Operation::StatusDone);
    let at = |ms| ledger.started() + Duration::from_millis(ms);
    ledger.in_phase(Phase::Load).interval(Stage::DbQuery, at(0), at(2));
    ledger.in_phase(Phase::Save).interval(Stage::DbQuery, at(2), at(5));
    ledger.in_phase(Phase::Save).interval(Stage::DbAcquire, at(5), at(6));
    ledger.interval(Stage::S3Put, at(6), at(9));
    ledger.set_operation(Operation::StatusReward);
    while clock::now() < at(9) {
        std::thread::yield_now();
    }
    let books = ledger.finish();
    let ms = |ns: u64| ns / 1_000_000;
    assert_eq!(books.operation, Operation::StatusReward);
    assert_eq!(ms(books.phase_group_ns(Phase::Load, Group::Db)), 2);
    assert_eq!(ms(books.phase_group_ns(Phase::Save, Group::Db)), 4);
    assert_eq!(ms(books.phase_group_ns(Phase::Save, Group::S3)), 0);
    assert_eq!((ms(books.group_ns(Group::Db)), ms(books.group_ns(Group::S3))), (6, 3));
    assert_eq!(books.group_ns(Group::Other), books.other_ns);
}

#[test]
fn a_full_book_leaves_later_stages_to_other() {
    let ledger = Ledger::start(Operation::Unknown);
    for _ in 0..INTERVALS_MAX {
        ledger.time(Stage::DbDecode, || ());
    }
    let late = ledger.enter(Stage::S3Get);
    ledger.interval(Stage::Other, ledger.started(), clock::now());
    late.done();
    let books = ledger.finish();
    assert_eq!(books.entries.len(), 1, "{books:?}");
    assert_eq!(books.entries[0].count, INTERVALS_MAX as u64);
    assert_eq!(books.entries[0].exclusive_ns + books.other_ns, books.total_ns);
}

const TOTAL_NS: u64 = 40;

fn interval() -> impl Strategy<Value = Interval> {
    let stages = prop::sample::select(vec![
        Stage::Queue,
        Stage::DbQuery,
        Stage::S3Get,
        Stage::GateWait,
        Stage::LlmFirstByte,
    ]);
    let phases = prop::sample::select(vec![None, Some(Phase::Load), Some(Phase::Save)]);
    // Up to beyond the request's end, some of them reversed, some unfinished.
    (stages, phases, 0..60u64, prop::option::weighted(0.9, 0..60u64), any::<bool>()).prop_map(
        |(stage, phase, start_ns, end_ns, cancelled)| Interval { stage, phase, start_ns, end_ns, cancelled },
    )
}

type Key = (Stage, Option<Phase>);

/// The same question answered nanosecond by nanosecond.
fn by_brute_force(intervals: &[Interval]) -> (BTreeMap<Key, (u64, u64)>, u64) {
    let mut times: BTreeMap<Key, (u64, u64)> =
        intervals.iter().map(|i| ((i.stage, i.phase), (0, 0))).collect();
    let mut other = 0;
    let end = |i: &Interval| i.end_ns.unwrap_or(TOTAL_NS).min(TOTAL_NS);
    for ns in 0..TOTAL_NS {
        let open: Vec<&Interval> = intervals.iter().filter(|i| i.start_ns <= ns && ns < end(i)).collect();
        let workers: Vec<&&Interval> = open.iter().filter(|i| i.stage != Stage::GateWait).collect();
        let candidates = if workers.is_empty() { open.iter().collect() } else { workers };
        let Some(latest) = candidates.iter().map(|i| i.start_ns).max() else {
            other += 1;
            continue;
        };
        let mut youngest = candidates.iter().filter(|i| i.start_ns == latest);
        let soonest = youngest.clone().map(|i| end(i)).min().unwrap();
        // Of equals the last recorded: they have the same extent, so only the label differs.
        let charged = **youngest.rfind(|i| end(i) == soonest).unwrap();
        let key = (charged.stage, charged.phase);
        times.get_mut(&key).unwrap().0 += 1;
        let around = |i: &Interval| {
            i.stage != Stage::GateWait && i.start_ns <= charged.start_ns && end(i) >= end(charged)
        };
        for (other_key, (_, overlap)) in &mut times {
            let hidden = open.iter().any(|i| (i.stage, i.phase) == *other_key && !around(i));
            *overlap += u64::from(hidden && *other_key != key);
        }
    }
    (times, other)
}

proptest! {
    #[test]
    fn every_instant_is_charged_once(intervals in prop::collection::vec(interval(), 0..12)) {
        let books = swept(TOTAL_NS, &intervals);
        let exclusive: u64 = books.entries.iter().map(|e| e.exclusive_ns).sum();
        prop_assert_eq!(exclusive + books.other_ns, TOTAL_NS);
        let (times, other) = by_brute_force(&intervals);
        let swept: BTreeMap<Key, (u64, u64)> =
            books.entries.iter().map(|e| ((e.stage, e.phase), (e.exclusive_ns, e.overlap_ns))).collect();
        prop_assert_eq!(swept, times);
        prop_assert_eq!(books.other_ns, other);
        let groups: u64 = Group::ALL.iter().map(|g| books.group_ns(*g)).sum();
        prop_assert_eq!(groups, TOTAL_NS);
    }
}

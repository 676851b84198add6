use mipro_telemetry::server_timing::{breakdown_from, parse};
use mipro_telemetry::{Breakdown, Group, Operation, Stage};

use super::{Growth, Released, Sheet, Times};
use crate::account::{Class, Failure};
use crate::session::{Call, Finished, Step};

const TIMES: Times = Times { lag_ns: 10, service_ns: 20_000_000, released: None };

fn books(header: &str) -> Breakdown {
    breakdown_from(&parse(header)).unwrap()
}

fn start(put_bytes: u64) -> Breakdown {
    books(&format!(
        "db.acquire;dur=0.5;n=1;rt=1;phase=load, db.query;dur=1;n=2;rt=2;phase=load, s3.get;dur=2;n=1;bytes=50;phase=load, \
         llm.first_byte;dur=4;n=1;ov=0.5, llm.body;dur=1;n=1, s3.put;dur=0.25;n=1;bytes={put_bytes};phase=save, \
         db.query;dur=0.25;n=1;rt=1;phase=save, other;dur=1, total;dur=10;op=start_rollout"
    ))
}

fn done() -> Breakdown {
    books("db.query;dur=1;n=1;rt=1;phase=save, other;dur=1, total;dur=2;op=status_done")
}

fn call(step: Step, books: Vec<Breakdown>) -> Call {
    Call { step, service_ns: 12_000_000, books, failure: None }
}

fn rollout(put_bytes: u64) -> Finished {
    let calls = vec![call(Step::Rollout, vec![start(put_bytes)]), call(Step::StatusDone, vec![done()])];
    Finished { calls, reward: Some(1.0), acknowledged: true, planned_us: None }
}

fn us(recorder: &mipro_bench_reports::Recorder) -> (u64, u128) {
    (recorder.count(), recorder.sum_ns() / 1_000)
}

#[test]
fn a_rollout_is_taken_apart_and_adds_up() {
    let mut sheet = Sheet::new(1);
    sheet.finished(TIMES, &rollout(100), (0, 0));
    assert_eq!((sheet.accounting.ok, sheet.joined, sheet.acknowledged), (1, 1, 1));
    assert_eq!(
        us(&sheet.overhead),
        (1, 6_500),
        "12 ms in all, less the LLM's 5 ms and the half it was hidden"
    );
    let of = |stage: Stage| &sheet.stages[stage as usize];
    assert_eq!((us(&of(Stage::DbQuery).dist), of(Stage::DbQuery).count), ((2, 2_250), 4));
    assert_eq!(us(&of(Stage::Other).dist), (2, 2_000));
    let stages: u128 = sheet.stages.iter().map(|s| s.dist.sum_ns()).sum();
    let groups: u128 = sheet.groups.iter().map(|s| s.dist.sum_ns()).sum();
    assert_eq!((stages, groups), (12_000_000, 12_000_000), "every microsecond once");
    assert_eq!(us(&sheet.groups[Group::Db as usize].dist), (2, 2_750));
    let operation = &sheet.operations[Operation::StartRollout as usize];
    let rows = [&operation.load_db, &operation.load_s3, &operation.save_s3, &operation.save_db];
    assert_eq!(rows.map(us), [(1, 1_500), (1, 2_000), (1, 250), (1, 250)]);
    assert_eq!(operation.stage_ns.iter().sum::<u64>(), 10_000_000);
    let status = &sheet.operations[Operation::StatusDone as usize];
    assert_eq!(
        (us(&status.load_db), us(&status.save_db)),
        ((0, 0), (1, 1_000)),
        "what did not run is no sample"
    );
    let counts = &sheet.counts;
    assert_eq!((counts.db_round_trips, counts.db_statements, counts.llm_calls), (5, 4, 1));
    assert_eq!((counts.s3_get, counts.s3_put, counts.s3_bytes), (1, 1, 150));
    assert_eq!(
        (sheet.identity.checked, sheet.identity.client_below_server, sheet.identity.sums_off),
        (2, 0, 0)
    );
}

#[test]
fn a_failure_leaves_its_class_and_no_stage() {
    let mut sheet = Sheet::new(1);
    let mut failed = rollout(100);
    failed.calls[1].failure = Some(Failure::new(Class::Http5xx, "answer 503"));
    sheet.finished(TIMES, &failed, (0, 0));
    assert_eq!((sheet.accounting.http_5xx, sheet.accounting.ok, sheet.service.count()), (1, 0, 0));
    assert_eq!(
        (sheet.steps[Step::Rollout as usize].count(), sheet.steps[Step::StatusDone as usize].count()),
        (1, 0)
    );
    assert!(sheet.stages.iter().all(|s| s.count == 0) && sheet.overhead.is_empty());
    assert_eq!((sheet.failures[0].step, sheet.failures[0].count), ("status_done", 1));

    failed.calls[1].failure = Some(Failure::new(Class::Timeout, "late"));
    sheet.finished(TIMES, &failed, (0, 1));
    sheet.cut_off(TIMES);
    assert_eq!((sheet.accounting.timeout, sheet.accounting.in_flight_at_end), (1, 1));
    assert_eq!(sheet.service.count(), 2, "what was waited for in vain took at least that long");
}

#[test]
fn a_server_that_claims_more_than_the_client_waited_is_caught() {
    let mut sheet = Sheet::new(1);
    let mut odd = rollout(100);
    odd.calls[0].service_ns = 9_999_999;
    odd.calls[1].books[0].other_ns += 5_000;
    sheet.finished(TIMES, &odd, (0, 0));
    assert_eq!(
        (sheet.identity.checked, sheet.identity.client_below_server, sheet.identity.sums_off),
        (2, 1, 1)
    );
}

#[test]
fn a_call_without_books_gives_no_overhead() {
    let mut sheet = Sheet::new(1);
    let mut silent = rollout(100);
    silent.calls[1].books.clear();
    sheet.finished(TIMES, &silent, (0, 0));
    assert_eq!((sheet.accounting.ok, sheet.joined, sheet.overhead.count()), (1, 0, 0));
    assert_eq!(
        sheet.operations[Operation::StartRollout as usize].total.count(),
        1,
        "but what was told counts"
    );
}

#[test]
fn sheets_merged_are_one_sheet() {
    let mut whole = Sheet::new(2);
    let mut halves = [Sheet::new(2), Sheet::new(2)];
    for index in 0..10u64 {
        let place = (index as usize % 2, index / 2);
        let rollout = rollout(1_000 + index / 2 * 70 + index % 2 * 5_000);
        whole.finished(TIMES, &rollout, place);
        halves[index as usize / 5].finished(TIMES, &rollout, place);
    }
    let [mut first, second] = halves;
    first.merge(&second);
    assert!((whole.growth.slope() - 70.0).abs() < 1e-9, "{}", whole.growth.slope());
    assert_eq!((whole.growth.bytes_min, whole.growth.bytes_max), (Some(1_000), 6_280));
    assert_eq!(format!("{:?}", first.growth), format!("{:?}", whole.growth));
    assert_eq!(first.accounting, whole.accounting);
    for (a, b) in first.stages.iter().zip(&whole.stages) {
        assert_eq!((us(&a.dist), a.count, a.overlap_ns), (us(&b.dist), b.count, b.overlap_ns));
    }
    assert_eq!(format!("{:?}", first.counts), format!("{:?}", whole.counts));
    assert_eq!(first.reward_sum, whole.reward_sum);
}

#[test]
fn one_point_has_no_slope() {
    let mut growth = Growth::new(1);
    assert_eq!(growth.slope(), 0.0);
    growth.point(0, 3.0, 100.0);
    growth.point(9, 3.0, 100.0);
    assert_eq!(growth.slope(), 0.0);
}

#[test]
fn a_rollout_straight_at_the_llm_has_its_call() {
    let mut sheet = Sheet::new(1);
    let mut direct = rollout(100);
    direct.calls.truncate(1);
    direct.calls[0].books.clear();
    sheet.finished(TIMES, &direct, (0, 0));
    assert_eq!(sheet.counts.llm_calls, 0, "nobody says that there was a call");
    direct.planned_us = Some(20_000);
    sheet.finished(TIMES, &direct, (0, 1));
    assert_eq!(sheet.counts.llm_calls, 1);
}

#[test]
fn a_rollout_has_one_sample_of_each_stage_it_ran() {
    let mut sheet = Sheet::new(1);
    sheet.finished(TIMES, &rollout(100), (0, 0));
    let of = |stage: Stage| us(&sheet.per_rollout.stages[stage as usize]);
    assert_eq!(of(Stage::DbQuery), (1, 2_250), "both calls' together");
    assert_eq!((of(Stage::Other), of(Stage::GateWait)), ((1, 2_000), (0, 0)));
    assert_eq!(us(&sheet.per_rollout.groups[Group::Db as usize]), (1, 2_750));
    let sum: u128 = sheet.per_rollout.groups.iter().map(|r| r.sum_ns()).sum();
    assert_eq!(sum, 12_000_000, "every microsecond once");

    let mut silent = rollout(100);
    silent.calls[1].books.clear();
    sheet.finished(TIMES, &silent, (0, 1));
    assert_eq!(us(&sheet.per_rollout.stages[Stage::DbQuery as usize]).0, 1, "half a rollout is none");
}

#[test]
fn what_was_due_and_not_done_took_at_least_as_long() {
    let mut sheet = Sheet::new(1);
    let released = Some(Released { pacer_lag_ns: 4, slot_free: true });
    sheet.past_deadline(Times { released, ..TIMES });
    sheet.expired(30_000_000);
    sheet.unsent(40_000_000);
    assert_eq!((sheet.accounting.deadline, sheet.response.count(), sheet.service.count()), (2, 3, 1));
    assert_eq!((sheet.lag.sum_ns(), sheet.pacer_lag.sum_ns(), sheet.slot_wait.sum_ns()), (10, 4, 6));
    assert_eq!(sheet.own_lag.sum_ns(), 10);
    let mut whole = Sheet::new(1);
    whole.merge(&sheet);
    assert_eq!((whole.pacer_lag.count(), whole.slot_wait.count(), whole.own_lag.count()), (1, 1, 1));
}

//! A server that freezes must show in the response times of everything that was due meanwhile, sent or not.
//!
//! The queue model: answers cost nothing but while the server is frozen, so an arrival due at `t` within a freeze that ends
//! at `e` takes `e − t`, and any other takes nothing. With `f` the freeze's length and `d` the run's, the share of arrivals
//! slower than `x` is `(f − x) / d`, and so the quantile `q` is `f − (1 − q) · d` where that is positive, else 0.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::stall_server::{Freeze, StallServer};
use mipro_bench_reports::Accounting;
use mipro_loadgen::{Arrivals, Options, Outcome, Rate, Runner, Schedule, Shape, plain, silent};
use tokio_util::sync::CancellationToken;

/// What a busy machine may add to any time here. A shorter time than the model's is never excused by business.
const BUSY: f64 = 1.0;

/// The server's clock begins with the first request, which on a busy machine is later than the run's.
const LATE_BEGIN: f64 = 0.1;

fn options(server: &StallServer, rate: f64, duration: f64, slots: u32) -> plain::Options {
    let arrivals = Arrivals::new(Shape::Constant, Rate::Constant(rate), 1).unwrap();
    let load = Options {
        rollouts: 0,
        duration: Some(Duration::from_secs_f64(duration)),
        concurrency: slots,
        drain: Duration::ZERO,
        timeout: Duration::from_secs(60),
        schedule: Schedule::Open(arrivals),
        ..Options::default()
    };
    plain::Options { url: server.url.clone(), body: "".into(), api_key: None, load }
}

async fn outcome(freeze: Freeze, rate: f64, duration: f64) -> Outcome {
    let server = StallServer::start(freeze).await;
    let options = options(&server, rate, duration, 10);
    let outcome = plain::run(options, silent(), CancellationToken::new()).await.unwrap();
    let books = outcome.accounting;
    assert!(books.holds(), "{books:?}");
    assert_eq!(books.intended, (rate * duration) as u64);
    let recorded = books.ok + books.timeout + books.unsent + books.in_flight_at_end;
    assert_eq!((outcome.response().count(), recorded), (books.intended, books.intended), "{books:?}");
    outcome
}

fn seconds(outcome: &Outcome, quantile: f64) -> f64 {
    outcome.response().quantile_ns(quantile).unwrap() as f64 / 1e9
}

/// Holds p50, p90 and p99 against the model.
fn model(outcome: &Outcome, freeze: f64, duration: f64) {
    for quantile in [0.5, 0.9, 0.99] {
        let wanted = (freeze - (1.0 - quantile) * duration).max(0.0);
        let seen = seconds(outcome, quantile);
        let least = wanted - LATE_BEGIN;
        assert!(seen >= least && seen <= wanted + BUSY, "p{}: {seen} s, model {wanted} s", quantile * 100.0);
    }
}

fn during(from_ms: u64, to_ms: u64) -> Freeze {
    Freeze { from: Duration::from_millis(from_ms), to: Some(Duration::from_millis(to_ms)), connection: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_at_the_start() {
    model(&outcome(during(0, 1_500), 200.0, 2.5).await, 1.5, 2.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_in_the_middle() {
    model(&outcome(during(500, 2_000), 200.0, 2.5).await, 1.5, 2.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_at_the_end() {
    let freeze = Freeze { from: Duration::from_secs(1), to: None, connection: None };
    let outcome = outcome(freeze, 200.0, 2.5).await;
    model(&outcome, 1.5, 2.5);
    let books = outcome.accounting;
    assert!(books.in_flight_at_end == 10 && books.unsent > 200, "{books:?}");
    assert!(!outcome.invalid().is_empty());
}

/// One connection of ten freezes: one rollout waits, the others go by on the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_on_one_connection() {
    let freeze = Freeze { connection: Some(0), ..during(0, 2_000) };
    let outcome = outcome(freeze, 200.0, 2.5).await;
    assert_eq!(outcome.accounting.ok, 500);
    let (p90, slowest) = (seconds(&outcome, 0.9), seconds(&outcome, 1.0));
    assert!(p90 <= BUSY && slowest >= 2.0 - LATE_BEGIN, "p90 {p90} s, slowest {slowest} s");
}

/// The truncation probe: what is still queued when the run ends must neither vanish nor flatter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_server_dies_before_the_end() {
    let freeze = Freeze { from: Duration::from_secs(7), to: None, connection: None };
    let outcome = outcome(freeze, 1_000.0, 10.0).await;
    let Accounting { intended, ok, unsent, in_flight_at_end, .. } = outcome.accounting;
    assert_eq!((intended, ok + unsent + in_flight_at_end), (10_000, 10_000));
    let p99 = seconds(&outcome, 0.99);
    assert!((2.7..=2.9 + BUSY).contains(&p99), "p99 {p99} s, model 2.9 s");
}

/// What waits for a slot is told apart from what the pacer is late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lag_has_two_parts() {
    let outcome = outcome(during(500, 2_000), 200.0, 2.5).await;
    let (pacer, slot, lag) = (outcome.pacer_lag(), outcome.slot_wait(), outcome.lag());
    assert_eq!((pacer.count(), slot.count(), lag.count()), (500, 500, 500));
    // Each part is at least 1 ns, so that a part of nothing adds as much to the sum.
    assert!(lag.sum_ns().abs_diff(pacer.sum_ns() + slot.sum_ns()) <= 1_000);
    assert!(slot.quantile_ns(0.99).unwrap() as f64 / 1e9 >= 1.4 - LATE_BEGIN);
    assert!(pacer.quantile_ns(0.5).unwrap() < slot.quantile_ns(0.9).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slices_share_their_connections() {
    let server = StallServer::start(during(0, 0)).await;
    let mut options = options(&server, 100.0, 0.1, 1);
    options.load.schedule = Schedule::Closed;
    let runner = Runner::plain(&options).unwrap();
    for _ in 0..3 {
        let mut slice = runner.slice();
        (slice.duration, slice.rollouts) = (None, 5);
        let outcome = runner.run(slice, silent(), CancellationToken::new()).await.unwrap();
        assert_eq!(outcome.accounting.ok, 5);
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
}

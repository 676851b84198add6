use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Calibration, Plan, Spread, calibrate};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_stage_has_its_samples() {
    let plan = Plan { concurrency: 2, rate: 100.0, each: Duration::from_millis(200) };
    let found = Box::pin(calibrate(plan, CancellationToken::new())).await.unwrap();
    assert!(found.floor.count > 0 && found.floor.p50_ns > 0, "{found:?}");
    assert!(
        found.ceiling_per_second > 0.0 && found.per_cpu_second.is_none_or(|rate| rate > 0.0),
        "{found:?}"
    );
    assert_eq!((found.pacer_lag.count, found.lag.count, found.response.count), (20, 20, 20));

    let cancelled = CancellationToken::new();
    cancelled.cancel();
    assert!(Box::pin(calibrate(plan, cancelled)).await.unwrap_err().to_string().contains("interrupted"));
}

#[test]
fn it_is_printed_for_people() {
    let spread = |p50_ns| Spread { count: 6_000, p50_ns, p99_ns: p50_ns * 10, p99_9_ns: p50_ns * 20 };
    let mut found = Calibration {
        floor: spread(61_000),
        concurrency: 10,
        ceiling_per_second: 21_034.4,
        per_cpu_second: Some(30_123.0),
        rate: 2_000.0,
        pacer_lag: spread(300),
        lag: spread(28_000),
        response: spread(93_500),
        doubts: Vec::new(),
    };
    insta::assert_snapshot!(found.to_string(), @r"
    This machine and this generator, against a server that does nothing:
    noise floor, one at a time   p50 61.0 µs, p99 610.0 µs, p99.9 1220.0 µs (6000 samples)
    ceiling, 10 in flight        21034 requests/s, 30123 per second of the generator's CPU
    paced at 2000/s:
      the pacer's lag            p50 0.3 µs, p99 3.0 µs, p99.9 6.0 µs (6000 samples)
      lag until sent             p50 28.0 µs, p99 280.0 µs, p99.9 560.0 µs (6000 samples)
      response                   p50 93.5 µs, p99 935.0 µs, p99.9 1870.0 µs (6000 samples)
      a measurement at this rate would be valid
    ");
    found.per_cpu_second = None;
    found.doubts = vec!["the generator fell behind".to_owned()];
    let told = found.to_string();
    assert!(told.ends_with("would not be valid: the generator fell behind\n"), "{told}");
}

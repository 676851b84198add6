use mipro_telemetry::server_timing::{breakdown_from, parse};

use super::*;
use crate::account::{Class, Failure};
use crate::record::Times;
use crate::session::{Call, Finished, Step};

fn call(header: &str, failure: Option<Failure>) -> Call {
    let books = breakdown_from(&parse(header)).into_iter().collect();
    Call { step: Step::Rollout, service_ns: 12_000_000, books, failure }
}

fn finished(failure: Option<Failure>) -> Finished {
    let header = "db.query;dur=3;n=1, s3.put;dur=1;n=1, other;dur=2, total;dur=6;op=start_rollout";
    Finished { calls: vec![call(header, failure)], reward: None, acknowledged: true, planned_us: None }
}

#[test]
fn sheets_are_added_up() {
    let sheets = [Mutex::new(Sheet::new(1)), Mutex::new(Sheet::new(1))];
    for (index, service_ns) in [20_000_000, 40_000_000, 30_000_000].into_iter().enumerate() {
        let times = Times { lag_ns: 5_000, service_ns, released: None };
        sheets[index % 2].lock().unwrap().finished(times, &finished(None), (0, 0));
    }
    let refused = Failure::new(Class::Http5xx, "503");
    sheets[1].lock().unwrap().finished(
        Times { lag_ns: 9_000, service_ns: 1, released: None },
        &finished(Some(refused)),
        (0, 0),
    );

    let figures = so_far(&sheets);
    assert_eq!((figures.accounting.ok, figures.accounting.http_5xx, figures.samples), (3, 1, 3));
    let [p50, p90, p99] = figures.response_us.unwrap();
    assert!((p50 / 30_005.0 - 1.0).abs() < 0.001 && (p90 / 40_005.0 - 1.0).abs() < 0.001, "{p50} {p90}");
    assert!(p99 >= p90);
    assert!((figures.lag_p99_us.unwrap() - 9.0).abs() < 0.01);
    let us = |group| figures.groups_us.iter().find(|(name, _)| *name == group).map(|(_, us)| us.round());
    let shown = [Group::Db, Group::S3, Group::Other, Group::Llm, Group::Background].map(us);
    assert_eq!(shown, [Some(3_000.0), Some(1_000.0), Some(2_000.0), Some(0.0), None]);
}

#[test]
fn before_the_first_rollout_nothing_is_said() {
    assert_eq!(so_far(&[Mutex::new(Sheet::new(1))]), Figures::default());
}

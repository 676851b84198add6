use super::*;
use crate::dist::Recorder;
use crate::schema::{OperationReport, StageReport, Times};

fn dist(ms: u64) -> Dist {
    [ms * 1_000_000; 20].into_iter().collect::<Recorder>().to_dist()
}

#[test]
fn the_caveat_is_computed_from_the_rows() {
    insta::assert_snapshot!(caveat(), @"The seed's rows do not add up to its total: they sum to 3,060–9,039 ms (average 4,840 ms), where it states 3,490–7,590 ms (average 5,500 ms). All come from 3 rollouts, so a minimum or maximum is one sample.");
}

#[test]
fn every_row_finds_its_own_figure() {
    let mut rung = Rung::default();
    for (operation, base) in [("start_rollout", 200), ("status_reward", 210), ("status_done", 220)] {
        let report = OperationReport {
            load_db: dist(base + 1),
            load_s3: dist(base - 100),
            save_s3: dist(base - 98),
            save_db: dist(base + 2),
            ..OperationReport::default()
        };
        rung.operations.insert(operation.to_owned(), report);
    }
    rung.stage_groups.insert("llm".to_owned(), StageReport { dist: dist(1999), ..StageReport::default() });
    rung.rollout = Times { service: dist(4000), ..Times::default() };

    let rows = compare(&rung);
    let shown: Vec<_> = rows.iter().map(|row| row.p50_ms.unwrap().round()).collect();
    let expected = [201, 100, 102, 202, 1999, 211, 110, 112, 212, 221, 120, 122, 222, 4000].map(f64::from);
    assert_eq!(shown, expected);
    assert!(rows.iter().all(|row| row.inside && row.samples == 20));
}

#[test]
fn outside_and_unmeasured_are_not_inside() {
    let mut rung = Rung { rollout: Times { service: dist(3000), ..Times::default() }, ..Rung::default() };
    let rows = compare(&rung);
    assert_eq!(rows.len(), 14);
    assert!(rows.iter().all(|row| !row.inside));
    assert_eq!(rows[0].p50_ms, None);
    rung.rollout.service = dist(7590);
    assert!(compare(&rung)[13].inside);
}

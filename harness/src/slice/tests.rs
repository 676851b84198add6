use super::*;

fn pace(rate: f64, requests: f64) -> Pace {
    Pace { rate, requests }
}

#[test]
fn a_slice_is_as_long_as_the_slower_side_needs() {
    // 100 rollouts of two requests a second: 2 s hold enough.
    let closed = |slice, paces| Size::of(slice, paces, Pacing::Closed).unwrap();
    let size = |rollouts, warm_in, rate| Size { rollouts, warm_in, rate };
    assert_eq!(closed(None, [pace(150.0, 2.0), pace(100.0, 2.0)]), size(200, 40, None));
    // 40 a second: 2.5 s make 200 requests.
    assert_eq!(closed(None, [pace(40.0, 2.0), pace(400.0, 2.0)]), size(100, 16, None));
    // So slow that it stays at 5 s, and at one rollout where that is longer.
    assert_eq!(closed(None, [pace(2.0, 3.0), pace(40.0, 2.0)]), size(10, 1, None));
    assert_eq!(closed(None, [pace(0.01, 3.0), pace(40.0, 2.0)]).rollouts, 1);
    // What somebody asks for is what they get.
    let half = Some(Duration::from_millis(500));
    assert_eq!(closed(half, [pace(40.0, 2.0), pace(40.0, 2.0)]).rollouts, 20);
    // In the open model it is as long as what arrives needs.
    let light = Size::of(None, [pace(500.0, 2.0), pace(400.0, 2.0)], Pacing::Light).unwrap();
    assert_eq!(light, size(240, 48, Some(120.0)));
    assert!(Size::of(None, [pace(500.0, 2.0), pace(40.0, 2.0)], Pacing::Rate(41.0)).is_err());
}

#[test]
fn a_stage_of_every_rollout_is_told_from_one_that_runs_often_in_few() {
    let of = |ran: u64| {
        let mut samples = Histogram::new(3).unwrap();
        samples.record_n(60_000, ran).unwrap();
        samples.record_n(1, 100 - ran).unwrap();
        samples
    };
    let all = [("stages.db.query", 100), ("stages.queue", 95), ("stages.s3.get", 34), ("groups.db", 100)];
    let all = all.map(|(name, ran)| (name.to_owned(), of(ran))).into_iter().collect();
    assert_eq!(steady(&all), ["db.query", "queue"].map(str::to_owned).into_iter().collect());
}

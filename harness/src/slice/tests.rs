use super::*;

fn pace(rate: f64, requests: f64) -> Pace {
    Pace { rate, requests }
}

#[test]
fn a_slice_is_as_long_as_the_slower_side_needs() {
    // 100 rollouts of two requests a second: 2 s hold enough.
    assert_eq!(Size::of(None, [pace(150.0, 2.0), pace(100.0, 2.0)]), Size { rollouts: 200, warm_in: 40 });
    // 40 a second: 2.5 s make 200 requests.
    assert_eq!(Size::of(None, [pace(40.0, 2.0), pace(400.0, 2.0)]), Size { rollouts: 100, warm_in: 16 });
    // So slow that it stays at 5 s, and at one rollout where that is longer.
    assert_eq!(Size::of(None, [pace(2.0, 3.0), pace(40.0, 2.0)]), Size { rollouts: 10, warm_in: 1 });
    assert_eq!(Size::of(None, [pace(0.01, 3.0), pace(40.0, 2.0)]).rollouts, 1);
    // What somebody asks for is what they get.
    let half = Some(Duration::from_millis(500));
    assert_eq!(Size::of(half, [pace(40.0, 2.0), pace(40.0, 2.0)]).rollouts, 20);
}

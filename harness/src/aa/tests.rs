use std::collections::BTreeMap;

use mipro_bench_reports::Side;

use super::*;

fn slices(pairs: u32) -> Vec<Slice> {
    let one = |side, pair| Slice::new(side, pair, &BTreeMap::new());
    (0..pairs).flat_map(|pair| [one(Side::A, pair), one(Side::B, pair)]).collect()
}

#[test]
fn comparisons_share_no_slice_and_are_whole() {
    let parts = parts(&slices(10), 4);
    assert_eq!(parts.len(), 2, "two pairs are left over");
    for part in &parts {
        let numbers: Vec<u32> = part.iter().map(|slice| slice.pair).collect();
        assert_eq!(numbers, [0, 0, 1, 1, 2, 2, 3, 3]);
    }
}

#[test]
fn a_comparison_that_was_cut_off_is_none() {
    let mut cut = slices(4);
    cut.pop();
    assert_eq!(parts(&cut, 4).len(), 0);
    assert_eq!(parts(&cut, 2).len(), 1);
    assert_eq!(parts(&[], 2).len(), 0);
}

#[test]
fn the_floor_of_an_endpoint_is_found_by_name_and_quantile() {
    let noise = |endpoint: &str, quantile, comparisons| Noise {
        endpoint: endpoint.to_owned(),
        quantile,
        comparisons,
        false_alarms: 0,
        rate: 0.0,
        rate_upper: 0.1,
        half_width: 0.03,
        noise: 0.02,
    };
    let floor = NoiseFloor {
        schema: NoiseFloor::SCHEMA.to_owned(),
        measured_at: String::new(),
        command: String::new(),
        machine: Machine { cpu: String::new(), cores: 2, kernel: String::new() },
        pairs: 12,
        rollouts: 20,
        fresh: vec![noise("overhead", 0.5, 9), noise("stages.queue", 0.5, 0)],
        redrawn: vec![noise("rollout.response", 0.5, 100)],
    };
    assert_eq!(floor.half_width("overhead", 0.5), Some(0.03));
    assert_eq!(floor.half_width("overhead", 0.9), None);
    assert_eq!(floor.half_width("stages.queue", 0.5), None, "no comparison gave an interval");
    assert_eq!(floor.half_width("rollout.response", 0.5), None, "only fresh ones count");
}

use mipro_bench_reports::Machine;

use super::*;

#[test]
fn the_floor_is_one_sentence_and_a_table() {
    let noise = |endpoint: &str, comparisons, false_alarms| Noise {
        endpoint: endpoint.to_owned(),
        quantile: 0.5,
        comparisons,
        false_alarms,
        rate: 0.0,
        rate_upper: 0.0752,
        half_width: 0.031,
        noise: 0.018,
    };
    let floor = NoiseFloor {
        schema: NoiseFloor::SCHEMA.to_owned(),
        measured_at: String::new(),
        command: String::new(),
        machine: Machine { cpu: String::new(), cores: 2, kernel: String::new() },
        pairs: 12,
        rollouts: 20,
        fresh: vec![
            noise("rollout.response", 120, 3),
            noise("overhead", 120, 4),
            noise("stages.s3.get", 0, 0),
        ],
        redrawn: vec![noise("overhead", 200, 9)],
    };
    insta::assert_snapshot!(text(&floor), @r#"
    held against itself, overhead p50 differs by ±3.1 % (half an interval); 4 of 120 comparisons raised a false alarm, with 95 % confidence at most 7.5 %
    12 pairs a comparison, 20 rollouts a slice

    fresh                        comparisons alarms   at most half width    noise
    rollout.response p50                 120      3     7.5 %      3.1 %    1.8 %
    overhead p50                         120      4     7.5 %      3.1 %    1.8 %

    redrawn                      comparisons alarms   at most half width    noise
    overhead p50                         200      9     7.5 %      3.1 %    1.8 %
    "#);
}

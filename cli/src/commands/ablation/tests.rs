use mipro_bench_reports::{AblationRow, DistancePoint, SeedOption};

use super::*;

#[test]
fn an_ablation_is_four_tables() {
    let saving = |before_us: f64, after_us: f64| {
        let saved_us = before_us - after_us;
        Some(Saving { before_us, after_us, saved_us, lower_us: saved_us - 1e3, upper_us: saved_us + 1e3 })
    };
    let mut bounded = Rung { name: "bounded".to_owned(), wall_seconds: 2.0, ..Rung::default() };
    bounded.accounting.ok = 100;
    bounded.overhead.p50_us = Some(812.0);
    let ablation = Ablation {
        rows: vec![AblationRow {
            optimization: "pooled".to_owned(),
            ladder: saving(3e6, 1.8e6),
            alone: saving(3e6, 1.8e6),
            last: saving(900.0, 905.0),
            order_matters: true,
        }],
        options: vec![SeedOption {
            option: "4. database connection pool".to_owned(),
            estimate: "no figure".to_owned(),
            measured: "1200.0 ms saved".to_owned(),
            saved_ms: Some(1200.0),
            as_expected: Some(false),
        }],
        distance: [0, 70_000]
            .map(|rtt_us| DistancePoint {
                rtt_us,
                rung: "blob".to_owned(),
                overhead_p50_us: (rtt_us > 0).then_some(2e6),
                samples: 24,
            })
            .to_vec(),
        variants: Vec::new(),
        without_llm: vec![bounded],
    };
    insta::assert_snapshot!(text(&ablation), @r#"

    Each optimization by itself: overhead saved, p50, ms a rollout (interval)
                                    in the ladder          added to blob alone        with all others there
      pooled             1200.0 (1199.0 … 1201.0)     1200.0 (1199.0 … 1201.0)      -0.005 (-1.005 … 0.995)  order matters

    The five options of the first document, each alone, beside its estimate
      4. database connection pool
        expected  no figure
        measured  1200.0 ms saved; not as expected

    Overhead p50 (ms) by distance to the stores
      round trip          0 ms     70 ms
      blob                   –  2000.000

    The ladder where the LLM answers at once
      bounded        overhead p50      0.812 ms,     50.0 rollouts/s
    "#);
}

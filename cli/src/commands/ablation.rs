//! The ablation as text, below the ladder that it belongs to.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use mipro_bench_reports::{Ablation, Rung, Saving};

/// Four tables: each optimization in three orders, the five options beside their estimates, the curve over distance, and the
/// ladder where the LLM takes no time.
pub(crate) fn text(ablation: &Ablation) -> String {
    let mut text =
        String::from("\nEach optimization by itself: overhead saved, p50, ms a rollout (interval)\n");
    let _ = writeln!(
        text,
        "  {:<14} {:>28} {:>28} {:>28}",
        "", "in the ladder", "added to blob alone", "with all others there"
    );
    for row in &ablation.rows {
        let cells = [row.ladder, row.alone, row.last].map(|of| of.map_or_else(|| "–".to_owned(), cell));
        let order = if row.order_matters { "  order matters" } else { "" };
        let [ladder, alone, last] = cells;
        let _ = writeln!(text, "  {:<14} {ladder:>28} {alone:>28} {last:>28}{order}", row.optimization);
    }
    text.push_str("\nThe five options of the first document, each alone, beside its estimate\n");
    for option in &ablation.options {
        let held = match option.as_expected {
            Some(true) => "; as expected",
            Some(false) => "; not as expected",
            None => "",
        };
        let _ = writeln!(
            text,
            "  {}\n    expected  {}\n    measured  {}{held}",
            option.option, option.estimate, option.measured
        );
    }
    distance(&mut text, ablation);
    text.push_str("\nThe ladder where the LLM answers at once\n");
    for rung in &ablation.without_llm {
        let _ = writeln!(
            text,
            "  {:<14} overhead p50 {:>10} ms, {:>8.1} rollouts/s",
            rung.name,
            ms(rung.overhead.p50_us),
            rate(rung)
        );
    }
    text
}

fn distance(text: &mut String, ablation: &Ablation) {
    let mut by_rung: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut rtts: Vec<u64> = ablation.distance.iter().map(|point| point.rtt_us).collect();
    rtts.sort_unstable();
    rtts.dedup();
    for point in &ablation.distance {
        by_rung.entry(&point.rung).or_default().push(ms(point.overhead_p50_us));
    }
    text.push_str("\nOverhead p50 (ms) by distance to the stores\n");
    let heads: String = rtts.iter().map(|us| format!("{:>10}", format!("{} ms", *us as f64 / 1e3))).collect();
    let _ = writeln!(text, "  {:<14}{heads}", "round trip");
    for (rung, cells) in by_rung {
        let cells: String = cells.iter().map(|cell| format!("{cell:>10}")).collect();
        let _ = writeln!(text, "  {rung:<14}{cells}");
    }
}

fn cell(saving: Saving) -> String {
    let Saving { saved_us, lower_us, upper_us, .. } = saving;
    format!("{} ({} … {})", number(saved_us), number(lower_us), number(upper_us))
}

/// Milliseconds, with more digits where there are few.
fn number(us: f64) -> String {
    let ms = us / 1e3;
    if ms.abs() < 10.0 { format!("{ms:.3}") } else { format!("{ms:.1}") }
}

fn ms(us: Option<f64>) -> String {
    us.map_or_else(|| "–".to_owned(), |us| format!("{:.3}", us / 1e3))
}

fn rate(rung: &Rung) -> f64 {
    if rung.wall_seconds > 0.0 { rung.accounting.ok as f64 / rung.wall_seconds } else { 0.0 }
}

#[cfg(test)]
mod tests;

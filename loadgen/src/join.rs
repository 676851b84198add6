//! Joining the client's view with the server's: what `Server-Timing` and the mock's plan say about one call.

use mipro_telemetry::server_timing::{self, Metric};
use mipro_telemetry::{Breakdown, Group};
use reqwest::header::HeaderMap;

#[cfg(test)]
mod tests;

/// The header in which the mock LLM tells what delay it planned; the task app passes it on.
pub(crate) const PLAN_HEADER: &str = "x-mock-plan";

/// All headers that are read here.
pub(crate) const READ: [&str; 2] = [server_timing::HEADER, PLAN_HEADER];

/// Sums may differ by this much where a server rounds its milliseconds.
const ROUNDING_NS: u64 = 1_000;

/// The server's books of every request that stands behind an answer: one as a rule, more when the task app had to call twice.
pub(crate) fn books(headers: &HeaderMap) -> Vec<Breakdown> {
    let mut all = Vec::new();
    let mut open: Vec<Metric> = Vec::new();
    for value in headers.get_all(server_timing::HEADER) {
        for metric in server_timing::parse(value.to_str().unwrap_or_default()) {
            // `total` ends the books of a request.
            let last = metric.name == "total";
            open.push(metric);
            if last {
                all.extend(server_timing::breakdown_from(&open));
                open.clear();
            }
        }
    }
    all
}

/// The delay that the mock planned for the calls behind an answer; none where it did not say.
pub(crate) fn planned_us(headers: &HeaderMap) -> Option<u64> {
    let plans = headers.get_all(PLAN_HEADER).iter().filter_map(|v| v.to_str().ok());
    let totals = plans.flat_map(|plan| plan.split([';', ','])).filter_map(|part| {
        let (name, value) = part.split_once('=')?;
        (name.trim() == "total_us").then(|| value.trim().parse::<u64>().ok())?
    });
    totals.fold(None, |sum, us| Some(sum.unwrap_or(0) + us))
}

/// How long the LLM was at work, also where other work hid it. Its stages follow one another, so their sum is their union.
pub(crate) fn llm_ns(books: &Breakdown) -> u64 {
    let mine = books.entries.iter().filter(|e| e.stage.group() == Group::Llm);
    mine.map(|e| e.exclusive_ns + e.overlap_ns).sum()
}

/// Whether the stages and `other` fail to add up to the total.
pub(crate) fn sum_is_off(books: &Breakdown) -> bool {
    let stages: u64 = books.entries.iter().map(|e| e.exclusive_ns).sum();
    let allowed_ns = ROUNDING_NS * (books.entries.len() as u64 + 2);
    (stages + books.other_ns).abs_diff(books.total_ns) > allowed_ns
}

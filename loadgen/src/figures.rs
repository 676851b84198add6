//! What a run that goes on can tell: read from the sheets that lanes write to, and dear enough to be asked for seldom.

use std::sync::{Mutex, PoisonError};

use mipro_bench_reports::Recorder;
use mipro_telemetry::Group;

use crate::account;
use crate::progress::Figures;
use crate::record::Sheet;

#[cfg(test)]
mod tests;

/// The roll-ups that a caller waits for.
fn waited() -> impl Iterator<Item = Group> {
    Group::ALL.iter().copied().filter(|group| *group != Group::Background)
}

/// All sheets together. Each is locked for as long as its two histograms take to copy (some ten microseconds); merging and
/// reading them happens outside of the lock.
pub(crate) fn so_far(sheets: &[Mutex<Sheet>]) -> Figures {
    let mut figures = Figures::default();
    let (mut response, mut lag) = (Recorder::new(), Recorder::new());
    let mut sums = [0_u128; Group::ALL.len()];
    let mut joined = 0;
    for sheet in sheets {
        // A panic while holding the lock leaves plain numbers behind: they stay usable.
        let sheet = sheet.lock().unwrap_or_else(PoisonError::into_inner);
        let copies = (sheet.response.clone(), sheet.lag.clone());
        account::add(&mut figures.accounting, &sheet.accounting);
        for group in waited() {
            sums[group as usize] += sheet.groups[group as usize].dist.sum_ns();
        }
        joined += sheet.joined;
        drop(sheet);
        response.merge(&copies.0);
        lag.merge(&copies.1);
    }
    let us = |recorder: &Recorder, quantile| recorder.quantile_ns(quantile).map(|ns| ns as f64 / 1e3);
    figures.samples = response.count();
    figures.response_us =
        us(&response, 0.5).zip(us(&response, 0.9)).zip(us(&response, 0.99)).map(|((a, b), c)| [a, b, c]);
    figures.lag_p99_us = us(&lag, 0.99);
    if joined > 0 {
        let mean = |group: Group| (group, sums[group as usize] as f64 / 1e3 / joined as f64);
        figures.groups_us = waited().map(mean).collect();
    }
    figures
}

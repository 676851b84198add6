//! The sentences under the ladder: which rungs lose acknowledged rewards when the process is killed, and which with the host.

use crate::format::thousands;
use crate::schema::{Loss, LossCount, Report};

#[cfg(test)]
mod tests;

/// What was lost, in one paragraph; `None` where no rung measured it.
pub(crate) fn losses(report: &Report) -> Option<String> {
    let killed = lost(report, |loss| loss.process_killed);
    let gone = lost(report, |loss| loss.host_gone);
    let mut said = Vec::new();
    if let Some(killed) = killed {
        said.push(format!("Killed under load: {killed}."));
    }
    if let Some(gone) = gone {
        said.push(format!(
            "Host gone with its disk, started elsewhere from database and object store: {gone}."
        ));
        if report.rungs.iter().any(|rung| rung.durability == "disk") {
            said.push(
                "A log on disk outlives the process and not the machine: what is neither in a snapshot nor archived by then goes with \
                 it. Only rungs that are `stored` keep everything there; a log shared between machines comes later."
                    .to_owned(),
            );
        }
    }
    (!said.is_empty()).then(|| said.join(" "))
}

/// `write-back loses 41 of 60 acknowledged rewards; blob, pooled lose none`; `None` where no rung measured it.
fn lost(report: &Report, of: fn(&Loss) -> Option<LossCount>) -> Option<String> {
    let counts = || {
        let count = |rung: &crate::Rung| rung.loss.as_ref().and_then(of);
        report.rungs.iter().filter_map(move |rung| Some((rung.name.as_str(), count(rung)?)))
    };
    let losers: Vec<String> = counts()
        .filter(|(_, count)| count.lost > 0)
        .map(|(name, count)| {
            let (lost, of) = (thousands(count.lost as f64), thousands(count.acknowledged as f64));
            format!("{name} lost {lost} of {of}")
        })
        .collect();
    let keepers: Vec<&str> = counts().filter(|(_, count)| count.lost == 0).map(|(name, _)| name).collect();
    match (losers.is_empty(), keepers.is_empty()) {
        (true, true) => None,
        (true, false) => Some(format!("nothing lost in {}", keepers.join(", "))),
        (false, true) => Some(format!("of acknowledged rewards, {}", losers.join(", "))),
        (false, false) => Some(format!(
            "of acknowledged rewards, {}; nothing lost in {}",
            losers.join(", "),
            keepers.join(", ")
        )),
    }
}

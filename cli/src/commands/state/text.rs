//! For people.

use std::fmt::Write as _;
use std::path::Path;

use mipro_service::inspect::repair::{Plan, Repaired, SystemPlan};
use mipro_service::inspect::{
    ArchiveReport, Exported, Imported, Listed, LogReport, Problem, Shown, SystemReport, rfc3339,
};
use mipro_service::system::{Recorded, view};
use serde_json::Value;

const DASH: &str = "–";

/// Digits of a hash that are enough to tell two apart by eye.
const HASH_DIGITS: usize = 16;

/// Writing to a string can't fail.
macro_rules! line {
    ($to:expr, $($text:tt)*) => {
        let _ = writeln!($to, $($text)*);
    };
}

fn short(hash: &str) -> &str {
    hash.get(..HASH_DIGITS).unwrap_or(hash)
}

fn bytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| DASH.to_owned(), |bytes| bytes.to_string())
}

pub(super) fn list_head() -> String {
    format!(
        "{:<36}  {:<8} {:>10} {:>6} {:>12} {:>10}  updated\n",
        "system", "status", "version", "epoch", "bytes", "in log"
    )
}

pub(super) fn listed(listed: &Listed) -> String {
    let row = &listed.row;
    format!(
        "{}  {:<8} {:>10} {:>6} {:>12} {:>10}  {}\n",
        row.system_id,
        row.status,
        row.version,
        row.epoch,
        bytes(row.state_bytes),
        listed.log_events,
        row.updated_at.as_deref().unwrap_or(DASH)
    )
}

pub(super) fn shown(shown: &Shown) -> String {
    let (row, state) = (&shown.row, &shown.state);
    let mut text = String::new();
    line!(text, "system      {}", row.system_id);
    line!(text, "status      {}, {}", row.status, row.mode);
    line!(text, "version     {}, of {}", state.version, rfc3339(state.updated_us));
    let from =
        if shown.from_previous { "the state before the newest, which can't be used," } else { "the state" };
    line!(
        text,
        "recovered   from {from} at event {}, and {} events of the log",
        shown.snapshot_seq,
        shown.tail_events
    );
    line!(text, "object      {}", row.state_ref.as_deref().unwrap_or(DASH));
    if let Some(previous) = &row.previous {
        line!(text, "before it   {}", previous.state_ref);
    }
    line!(text, "epoch       {}; a start writes under {}", row.epoch, shown.next_epoch);
    line!(text, "hash        {}", shown.state_hash);
    let totals = &state.totals;
    line!(
        text,
        "rollouts    {}: {} with a reward, {} done, {} failed, {} expired, {} in flight",
        totals.rollouts,
        totals.rewards,
        totals.done,
        totals.failed,
        totals.expired,
        state.pending()
    );
    let score = |score: Option<f64>| score.map_or_else(|| DASH.to_owned(), |score| format!("{score:.4}"));
    line!(text, "best        {}, {}", state.best.candidate_id, score(state.best.score));
    line!(text, "\n{:<24} {:>9} {:>9} {:>10}", "candidate", "rollouts", "rewards", "mean");
    for (candidate, arm) in state.candidates() {
        let mean = score((arm.n > 0).then_some(arm.mean));
        line!(text, "{:<24} {:>9} {:>9} {mean:>10}", candidate.candidate_id, arm.starts, arm.n);
    }
    text
}

pub(super) fn events(events: &[Recorded]) -> String {
    let mut text = String::new();
    for event in events {
        let mut fields = view::event_json(event);
        let mut rest = String::new();
        if let Value::Object(fields) = &mut fields {
            for (name, value) in
                fields.iter().filter(|(name, _)| !matches!(name.as_str(), "seq" | "type" | "at"))
            {
                let _ = write!(rest, " {name}={value}");
            }
        }
        line!(text, "{:>8}  {}  {}{rest}", event.seq, rfc3339(event.at_us), event.event.name());
    }
    text
}

pub(super) fn log(path: &Path, log: &LogReport, problems: &[Problem]) -> String {
    let mut text = String::new();
    let durable = log.durable_lsn.map_or_else(|| DASH.to_owned(), |lsn| lsn.to_string());
    line!(
        text,
        "log {}: {} segments, {} records of {} systems, last LSN {}, synced up to {durable}",
        path.display(),
        log.segments,
        log.records,
        log.systems,
        log.last_lsn
    );
    if log.torn_bytes > 0 {
        line!(
            text,
            "  {} bytes at its end are no whole record and were never acknowledged: a running service completes them, a start \
             cuts them",
            log.torn_bytes
        );
    }
    problems.iter().for_each(|problem| push_problem(&mut text, problem));
    text
}

fn push_problem(text: &mut String, problem: &Problem) {
    line!(text, "  DAMAGED {}: {}", problem.place, problem.problem);
    line!(text, "    means  {}", problem.means);
    line!(text, "    do     {}", problem.remedy);
}

pub(super) fn verified(report: &SystemReport) -> String {
    let mut text = String::new();
    let state = report.state_hash.as_deref().map_or_else(
        || "can't be recovered".to_owned(),
        |hash| {
            let refold = match (&report.refold_hash, report.history_begins_at) {
                (Some(refold), _) if refold == hash => "all events folded again give the same".to_owned(),
                (Some(refold), _) => format!("all events folded again give {}", short(refold)),
                (None, Some(first)) => format!("history from event {first} on"),
                (None, None) => "no history".to_owned(),
            };
            format!("state {}, {refold}", short(hash))
        },
    );
    line!(text, "{}  version {}, epoch {}, {state}", report.system, report.version, report.epoch);
    report.problems.iter().for_each(|problem| push_problem(&mut text, problem));
    text
}

pub(super) fn archive(archive: &ArchiveReport, problems: &[Problem]) -> String {
    let mut text = String::new();
    line!(text, "archive: {} whole segments, {} bytes", archive.segments, archive.bytes);
    problems.iter().for_each(|problem| push_problem(&mut text, problem));
    text
}

pub(super) fn verdict(systems: u64, damaged: bool) -> String {
    if damaged {
        format!("{systems} systems looked at: NOT all is whole\n")
    } else {
        format!("{systems} systems looked at: all is whole\n")
    }
}

pub(super) fn exported(exported: &Exported, out: &Path) -> String {
    let header = &exported.header;
    let events = match (header.first_event, exported.events) {
        (Some(first), count) => format!("{count} events, from {first} on"),
        (None, _) => "no events".to_owned(),
    };
    format!(
        "{}: the system at event {}, of {}; {events}; {} bytes; state {}\n",
        out.display(),
        header.seq,
        rfc3339(header.at_us),
        exported.bytes,
        short(&header.state_hash)
    )
}

pub(super) fn imported(imported: &Imported) -> String {
    let mut text = format!(
        "imported {} at event {}, under epoch {}, with {} events; state {}\n",
        imported.system,
        imported.seq,
        imported.epoch,
        imported.events,
        short(&imported.state_hash)
    );
    if let Some(version) = imported.replaced {
        line!(text, "it took the place of a state at event {version}");
    }
    if let Some(path) = &imported.set_aside {
        line!(
            text,
            "the log held later events of that system: it was built anew without them, and the old one set aside in {}",
            path.display()
        );
    }
    text
}

pub(super) fn plan(plan: &Plan, log: &Path) -> String {
    let mut text = String::new();
    if plan.is_empty() {
        return "nothing needs repair\n".to_owned();
    }
    if !plan.problems.is_empty() {
        line!(text, "log {}: damaged at {} places", log.display(), plan.problems.len());
    }
    for problem in &plan.problems {
        line!(text, "  {}: {}", problem.place, problem.problem);
    }
    for id in &plan.rescued {
        line!(text, "  segment {id}: the archive has a whole copy, which takes its place");
    }
    plan.systems.iter().for_each(|system| push_system(&mut text, system));
    if plan.lost_history > 0 {
        line!(
            text,
            "lost: {} records that stored states cover; no state is touched, their events can't be shown any more",
            plan.lost_history
        );
    }
    if plan.lost_unknown > 0 {
        line!(text, "lost: {} records of which nobody can say whose they were", plan.lost_unknown);
    }
    if plan.rebuilds_log {
        line!(
            text,
            "the log is built anew from every whole record that still has its place; the old one is set aside, whole"
        );
    }
    if !plan.loses() {
        line!(text, "no event is lost");
    }
    text
}

fn push_system(text: &mut String, plan: &SystemPlan) {
    line!(text, "system {}: {}", plan.system, plan.problem);
    match plan.keeps_to {
        Some(seq) if plan.new_snapshot => {
            line!(text, "  its state at event {seq} is made from what is left, and stored anew");
        }
        Some(seq) => {
            line!(text, "  keeps its events up to {seq}");
        }
        None => {
            line!(
                text,
                "  nothing can be made of what is left: it stays as it is, and can't be loaded; import an export of it"
            );
        }
    }
    if let Some(lost) = &plan.lost {
        line!(text, "  loses events {} to {}, as far as is known", lost.first_seq, lost.last_seq);
    }
}

pub(super) fn repaired(repaired: &Repaired) -> String {
    let mut text = String::new();
    if let Some(path) = &repaired.set_aside {
        line!(
            text,
            "repaired: the new log has {} records, {} were left out; the old log is in {}: keep it until all is well",
            repaired.records,
            repaired.left_out,
            path.display()
        );
    }
    if repaired.snapshots > 0 {
        line!(text, "repaired: {} states stored anew", repaired.snapshots);
    }
    text
}

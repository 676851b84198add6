//! For programs.

use mipro_service::inspect::repair::{Plan, Repaired};
use mipro_service::inspect::{ArchiveReport, Listed, LogReport, Problem, Shown, SystemReport};
use mipro_service::system::{Recorded, view};
use serde_json::{Value, json};

/// A document, and a newline behind it.
pub(super) fn lines(value: &Value) -> String {
    format!("{value:#}\n")
}

pub(super) fn listed(listed: &Listed) -> Value {
    let row = &listed.row;
    json!({
        "system": row.system_id,
        "status": row.status,
        "mode": row.mode,
        "version": row.version,
        "epoch": row.epoch,
        "snapshot_bytes": row.state_bytes,
        "log_events": listed.log_events,
        "updated_at": row.updated_at,
    })
}

pub(super) fn shown(shown: &Shown) -> Value {
    let row = &shown.row;
    json!({
        "system": row.system_id,
        "state": view::state_json(&shown.state),
        "state_hash": shown.state_hash,
        "next_epoch": shown.next_epoch,
        "recovered_from": { "snapshot_seq": shown.snapshot_seq, "tail_events": shown.tail_events, "previous": shown.from_previous },
        "row": {
            "version": row.version, "epoch": row.epoch, "state_ref": row.state_ref,
            "state_bytes": row.state_bytes, "updated_at": row.updated_at,
            "previous_ref": row.previous.as_ref().map(|previous| &previous.state_ref),
            "previous_version": row.previous.as_ref().map(|previous| previous.version),
        },
    })
}

pub(super) fn events(events: &[Recorded], since: u64) -> Value {
    view::events_json(events, since, events.len())
}

pub(super) fn verified(report: &SystemReport) -> Value {
    json!(report)
}

/// What follows the list of systems.
pub(super) fn verified_end(
    log: &LogReport,
    archive: Option<&ArchiveReport>,
    problems: &[Problem],
    whole: bool,
) -> String {
    let (log, archive, problems) = (json!(log), json!(archive), json!(problems));
    format!("],\"log\":{log},\"archive\":{archive},\"problems\":{problems},\"whole\":{whole}}}\n")
}

pub(super) fn repaired(plan: &Plan, repaired: Option<&Repaired>) -> Value {
    json!({ "plan": plan, "loses": plan.loses(), "repaired": repaired })
}

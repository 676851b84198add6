//! A rollout on a time axis, as Chrome trace events: Perfetto and `chrome://tracing` open it.
//!
//! Rows: the rollout; its calls; when their code ran; then the stages, each in the first row that is free, so that what runs side
//! by side stands side by side. Times are microseconds since the rollout's first call.

use serde::Serialize;
use serde_json::{Value, json};

use super::Rollout;

const ROW_ROLLOUT: u64 = 1;
const ROW_CALLS: u64 = 2;
const ROW_POLLS: u64 = 3;
const ROW_STAGES: u64 = 4;

#[derive(Serialize)]
struct Event {
    name: String,
    cat: &'static str,
    /// A complete event: start and length.
    ph: &'static str,
    ts: f64,
    dur: f64,
    pid: u64,
    tid: u64,
    #[serde(skip_serializing_if = "Value::is_null")]
    args: Value,
}

/// The trace of one rollout, as JSON. `service` names whose it is.
#[must_use]
pub fn trace(rollout: &Rollout, service: &str) -> String {
    let (epoch, end) = rollout.range_ns();
    let at = |ns: u64| ns.saturating_sub(epoch) as f64 / 1e3;
    let event = |name: &str, cat, (from, to): (u64, u64), tid, args| Event {
        name: name.to_owned(),
        cat,
        ph: "X",
        ts: at(from),
        dur: at(to) - at(from),
        pid: 1,
        tid,
        args,
    };
    let mut events = vec![event("rollout", "rollout", (epoch, end), ROW_ROLLOUT, Value::Null)];
    let mut rows = Vec::new();
    for call in &rollout.calls {
        let ended = if call.done { Value::Null } else { json!({"end": "cancelled"}) };
        events.push(event(call.operation.name(), "call", (call.from_ns, call.to_ns), ROW_CALLS, ended));
        events.extend(
            call.polls_ns.iter().map(|range| event("running", "poll", *range, ROW_POLLS, Value::Null)),
        );
        for part in &call.stages {
            let mut args = serde_json::Map::new();
            args.extend(part.phase.map(|phase| ("phase".to_owned(), phase.name().into())));
            args.extend((!part.done).then(|| ("end".to_owned(), "cancelled or failed".into())));
            let args = if args.is_empty() { Value::Null } else { Value::Object(args) };
            let row = ROW_STAGES + free_row(&mut rows, part.from_ns, part.to_ns);
            events.push(event(part.stage.name(), "stage", (part.from_ns, part.to_ns), row, args));
        }
    }
    let mut all: Vec<Value> = names(service, rows.len() as u64);
    all.extend(events.into_iter().filter_map(|event| serde_json::to_value(event).ok()));
    // An event a line: a person can read it, and differences stay small.
    let lines: Vec<String> = all.iter().map(Value::to_string).collect();
    format!("{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n{}\n]}}\n", lines.join(",\n"))
}

/// The first row that is free from then on. `ends` holds when each row becomes free.
fn free_row(ends: &mut Vec<u64>, from: u64, to: u64) -> u64 {
    let row = ends.iter().position(|end| *end <= from).unwrap_or_else(|| {
        ends.push(0);
        ends.len() - 1
    });
    ends[row] = to;
    row as u64
}

/// What the process and its rows are called, and in which order the rows stand.
fn names(service: &str, stage_rows: u64) -> Vec<Value> {
    let mut rows = vec![
        (ROW_ROLLOUT, "rollout".to_owned()),
        (ROW_CALLS, "calls to the service".to_owned()),
        (ROW_POLLS, "its code runs (else it waits)".to_owned()),
    ];
    rows.extend((0..stage_rows).map(|row| (ROW_STAGES + row, format!("stages {}", row + 1))));
    let process = json!({"name": "process_name", "ph": "M", "pid": 1, "args": {"name": service}});
    let row = |(tid, name)| {
        let name = json!({"name": "thread_name", "ph": "M", "pid": 1, "tid": tid, "args": {"name": name}});
        let order = json!({"name": "thread_sort_index", "ph": "M", "pid": 1, "tid": tid, "args": {"sort_index": tid}});
        [name, order]
    };
    std::iter::once(process).chain(rows.into_iter().flat_map(row)).collect()
}

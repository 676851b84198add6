//! Routes of one system: status calls, candidates, state, events.

use std::collections::{BTreeMap, HashMap};

use axum::extract::State;
use mipro_telemetry::Operation;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Shared;
use super::body::Whole;
use super::durability::{Asked, Durable};
use super::error::ApiError;
use super::extract::{Books, Caller, Query, SystemPath};
use super::json::{self as reading, Fields};
use crate::engine::Question;
use crate::system::{CandidateContent, Command, NewCandidate, Reply, Status, StatusReport};

/// `POST …/systems/{system_id}/status`
pub(super) async fn status(
    State(app): State<Shared>,
    Books(ledger): Books,
    caller: Caller,
    asked: Asked,
    SystemPath(system): SystemPath,
    Whole(body): Whole,
) -> Result<Durable, ApiError> {
    let report = read_report(&body)?;
    ledger.set_operation(operation(&report));
    ledger.set_rollout(&report.rollout_id);
    let executed = app.engine.execute(system, caller.access(), Command::Report(report), &ledger).await?;
    let promise = asked.release_command(&app, executed.gate, &ledger).await?;
    let Reply::Status { candidate_id, rollout_id, status, version, .. } = executed.reply else {
        return Err(ApiError::panicked());
    };
    Ok(promise.over(json!({
        "candidate_id": candidate_id,
        "rollout_id": rollout_id,
        "status": status,
        "version": version,
        "durability": promise.level.name(),
    })))
}

fn operation(report: &StatusReport) -> Operation {
    match (report.status, report.reward) {
        (Status::Reward, _) => Operation::StatusReward,
        (Status::Done, None) => Operation::StatusDone,
        (Status::Done | Status::RewardDone, _) => Operation::StatusRewardDone,
        (Status::Failed, _) => Operation::StatusFailed,
    }
}

/// Reads a status call. Fields are read one by one from their raw text, so that a number no `f64` can hold (`1e999`) is
/// blamed on its field, and an unknown field can't do harm.
fn read_report(body: &[u8]) -> Result<StatusReport, ApiError> {
    let fields: HashMap<String, &RawValue> = serde_json::from_slice(body).map_err(|e| {
        if e.is_data() {
            ApiError::bad_request("the body must be a JSON object").code("invalid_type")
        } else {
            reading::malformed(body, &e)
        }
    })?;
    let given = |name: &str| fields.get(name).map(|raw| raw.get()).filter(|text| *text != "null");
    let text = |name: &str| -> Result<Option<String>, ApiError> {
        let Some(raw) = given(name) else { return Ok(None) };
        serde_json::from_str(raw).map(Some).map_err(|_| not(name, "must be a string"))
    };
    let rollout_id = text("rollout_id")?.map_or_else(|| text("attempt_id"), |id| Ok(Some(id)))?;
    let rollout_id = rollout_id.ok_or_else(|| missing("rollout_id"))?;
    if rollout_id.is_empty() {
        return Err(not("rollout_id", "must not be empty"));
    }
    const STATUSES: &str = "must be one of reward, done, reward_done, failed";
    let status = match text("status")?.ok_or_else(|| missing("status"))?.as_str() {
        "reward" => Status::Reward,
        "done" => Status::Done,
        "reward_done" => Status::RewardDone,
        "failed" => Status::Failed,
        _ => return Err(not("status", STATUSES)),
    };
    let reward = given("reward").map(read_reward).transpose()?;
    if reward.is_none() && matches!(status, Status::Reward | Status::RewardDone) {
        return Err(missing("reward"));
    }
    Ok(StatusReport { rollout_id, status, reward, candidate_id: text("candidate_id")? })
}

fn read_reward(raw: &str) -> Result<f64, ApiError> {
    let number = serde_json::from_str::<f64>(raw).ok().filter(|number| number.is_finite());
    number.ok_or_else(|| not("reward", "must be a finite number"))
}

fn not(name: &str, problem: &str) -> ApiError {
    ApiError::bad_request(format!("`{name}` {problem}")).code("invalid_value").param(name)
}

fn missing(name: &str) -> ApiError {
    ApiError::bad_request(format!("`{name}` is missing")).code("missing_field").param(name)
}

/// `POST …/systems/{system_id}/candidates`
pub(super) async fn add_candidate(
    State(app): State<Shared>,
    Books(ledger): Books,
    caller: Caller,
    asked: Asked,
    SystemPath(system): SystemPath,
    Whole(body): Whole,
) -> Result<Durable, ApiError> {
    ledger.set_operation(Operation::AddCandidate);
    let candidate = read_candidate(&reading::parse(&body)?)?;
    let command = Command::AddCandidate(candidate);
    let executed = app.engine.execute(system, caller.access(), command, &ledger).await?;
    let promise = asked.release_command(&app, executed.gate, &ledger).await?;
    let Reply::Candidate { candidate_id, version } = executed.reply else { return Err(ApiError::panicked()) };
    Ok(promise.over(json!({"candidate_id": candidate_id, "version": version})))
}

fn read_candidate(body: &Value) -> Result<NewCandidate, ApiError> {
    let fields = Fields::of(body)?;
    let object = |name: &str| -> Result<Value, ApiError> {
        Ok(fields.map(name)?.map_or(Value::Null, |map| Value::Object(map.clone())))
    };
    if fields.value("deltas").is_none() && fields.value("stage_payloads").is_none() {
        return Err(fields.missing("deltas"));
    }
    let content = CandidateContent {
        deltas: object("deltas")?,
        stage_payloads: object("stage_payloads")?,
        metadata: object("metadata")?,
        parent_id: fields.text("parent_id")?.map(str::to_owned),
        baseline_messages: fields
            .list("baseline_messages")?
            .map_or(Value::Null, |list| Value::Array(list.to_vec())),
    };
    let mut params = BTreeMap::new();
    if let Some(given) = fields.object("params")? {
        for name in fields.map("params")?.into_iter().flat_map(serde_json::Map::keys) {
            if let Some(choice) = given.whole::<u32>(name)? {
                params.insert(name.clone(), choice);
            }
        }
    }
    let candidate_id = fields.text("candidate_id")?.map(str::to_owned);
    Ok(NewCandidate { candidate_id, content, params })
}

/// `GET …/systems/{system_id}/state`
pub(super) async fn state(
    State(app): State<Shared>,
    Books(ledger): Books,
    caller: Caller,
    asked: Asked,
    SystemPath(system): SystemPath,
) -> Result<Durable, ApiError> {
    ledger.set_operation(Operation::GetState);
    let answer = app.engine.inspect(system, caller.access(), Question::State, &ledger).await?;
    let promise = asked.release(&app, answer.gate, &ledger).await?;
    Ok(promise.over(answer.body))
}

/// `GET …/systems/{system_id}/events`
pub(super) async fn events(
    State(app): State<Shared>,
    Books(ledger): Books,
    caller: Caller,
    asked: Asked,
    SystemPath(system): SystemPath,
    query: Query,
) -> Result<Durable, ApiError> {
    ledger.set_operation(Operation::GetEvents);
    let limit_max = app.options.limits.events_limit_max;
    let limit = query.whole("limit", limit_max)?.min(limit_max);
    let question = Question::Events { since_seq: query.whole("since_seq", 0)?, limit };
    let answer = app.engine.inspect(system, caller.access(), question, &ledger).await?;
    let promise = asked.release(&app, answer.gate, &ledger).await?;
    Ok(promise.over(answer.body))
}

//! Jobs: making a system, and asking after it.
//!
//! A job's id is `pl_` and its system's id in hex, so it is as secret as the proxy URL.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use mipro_telemetry::{Ledger, Operation};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::body::Whole;
use super::config_body::{self, Job};
use super::durability::{Asked, Durable};
use super::error::ApiError;
use super::extract::{Books, Caller, Query};
use super::json as reading;
use super::{App, Shared};
use crate::engine::Question;
use crate::system::{NewSystem, SystemId};

/// `POST /api/prompt-learning/online/jobs`
pub(super) async fn create(
    State(app): State<Shared>,
    Books(ledger): Books,
    caller: Caller,
    asked: Asked,
    Whole(body): Whole,
) -> Result<Durable, ApiError> {
    ledger.set_operation(Operation::CreateJob);
    let job = config_body::read(&reading::parse(&body)?)?;
    let (system, promise) = match job {
        Job::Continue(system) => {
            let answer = app.engine.inspect(system, caller.access(), Question::Summary, &ledger).await?;
            (system, asked.release(&app, answer.gate, &ledger).await?)
        }
        Job::New { name, spec } => {
            let new = NewSystem { system_id: Uuid::new_v4(), org_id: caller.0, name, spec: *spec };
            let system = new.system_id;
            let executed = app.engine.create(new, &ledger).await;
            let executed = executed.map_err(|e| ApiError::from(e).within(config_body::place))?;
            (system, asked.release_command(&app, executed.gate, &ledger).await?)
        }
    };
    let body = json!({"job_id": job_id(system), "status": "succeeded", "metadata": metadata(&app, system)});
    Ok(promise.over(body))
}

/// `GET /api/prompt-learning/online/jobs/{job_id}`
pub(super) async fn show(
    State(app): State<Shared>,
    Books(ledger): Books,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    query: Query,
) -> Result<Json<Value>, ApiError> {
    ledger.set_operation(Operation::GetJob);
    let unknown = || ApiError::not_found("there is no such job").code("job_not_found");
    let system = path.ok().and_then(|Path(id)| system_of(&id)).ok_or_else(unknown)?;
    let (events, snapshot) =
        (query.switch("include_events", false)?, query.switch("include_snapshot", false)?);
    let with_metadata = query.switch("include_metadata", true)?;
    let summary = ask(&app, caller, system, Question::Summary, &ledger).await;
    let summary = summary.map_err(|e| if e.is_not_found() { unknown() } else { e })?;
    let mut body = Map::new();
    body.insert("job_id".into(), job_id(system).into());
    // An online job's status describes the provisioning of its system, which is done when the system is there.
    body.insert("status".into(), "succeeded".into());
    for name in ["best_score", "best_candidate_id", "version"] {
        body.insert(name.into(), summary.get(name).cloned().unwrap_or_default());
    }
    if with_metadata {
        body.insert("metadata".into(), metadata(&app, system));
    }
    if events {
        let all = Question::Events { since_seq: 0, limit: app.options.limits.events_limit_max };
        let mut answer = ask(&app, caller, system, all, &ledger).await?;
        let items = answer.get_mut("items").map(Value::take);
        body.insert("events".into(), items.unwrap_or(answer));
    }
    if snapshot {
        body.insert("snapshot".into(), ask(&app, caller, system, Question::State, &ledger).await?);
    }
    Ok(Json(Value::Object(body)))
}

async fn ask(
    app: &App,
    caller: Caller,
    system: SystemId,
    question: Question,
    ledger: &Ledger,
) -> Result<Value, ApiError> {
    let answer = app.engine.inspect(system, caller.access(), question, ledger).await?;
    Asked::NOTHING.release(app, answer.gate, ledger).await?;
    Ok(answer.body)
}

fn job_id(system: SystemId) -> String {
    format!("pl_{}", system.simple())
}

fn system_of(job_id: &str) -> Option<SystemId> {
    let hex = job_id.strip_prefix("pl_").filter(|hex| hex.len() == 32)?;
    Uuid::try_parse(hex).ok()
}

fn metadata(app: &App, system: SystemId) -> Value {
    json!({
        "mipro_system_id": system,
        "mipro_proxy_url": format!("{}/api/mipro/v1/{system}", app.public_url),
    })
}

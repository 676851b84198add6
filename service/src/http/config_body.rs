//! A job's `config_body`, read into a system's settings.
//!
//! Everything may be absent but the prompt; what is there must have the right type, also where this build makes no use of
//! it, since a client that sends a wrong type means something that it would not get.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::error::ApiError;
use super::extract::system_id;
use super::json::Fields;
use crate::system::{PatternMessage, Prompt, SystemId, SystemSpec, TpeSpec};

/// What a job asks for.
#[derive(Debug)]
pub(super) enum Job {
    /// A system that is there already.
    Continue(SystemId),
    /// A new one.
    New {
        /// Its name for people.
        name: Option<String>,
        /// Its settings.
        spec: Box<SystemSpec>,
    },
}

const ROOT: &str = "config_body.prompt_learning";

/// Reads the body of `POST /api/prompt-learning/online/jobs`.
pub(super) fn read(body: &Value) -> Result<Job, ApiError> {
    let body = Fields::of(body)?;
    check_algorithm(&body)?;
    let config = body.object("config_body")?.ok_or_else(|| body.missing("config_body"))?;
    let learning = config.object("prompt_learning")?.ok_or_else(|| config.missing("prompt_learning"))?;
    check_algorithm(&learning)?;
    for name in ["task_app_id", "task_app_url", "task_app_api_key"] {
        learning.text(name)?;
    }
    learning.map("env_config")?;
    let mut spec = SystemSpec::default();
    let mut continued = None;
    let mut name = None;
    if let Some(mipro) = learning.object("mipro")? {
        check_mode(&mipro)?;
        continued = mipro.text("system_id")?;
        name = mipro.text("system_name")?.map(str::to_owned);
        read_mipro(&mipro, &mut spec)?;
    }
    if let Some(policy) = learning.object("policy")? {
        read_policy(&policy, &mut spec)?;
    }
    if let Some(id) = continued {
        return system_id(id).map(Job::Continue).map_err(|e| e.param(format!("{ROOT}.mipro.system_id")));
    }
    let prompt = learning.object("initial_prompt")?.ok_or_else(|| learning.missing("initial_prompt"))?;
    spec.prompt = Arc::new(read_prompt(&prompt)?);
    spec.validate().map_err(|refusal| ApiError::from(refusal).within(place))?;
    Ok(Job::New { name, spec: Box::new(spec) })
}

/// Where a field that the system's core complains of stands in the body.
pub(super) fn place(field: &str) -> String {
    let in_mipro = field.starts_with("tpe.") || field.starts_with("online_");
    if in_mipro { format!("{ROOT}.mipro.{field}") } else { format!("{ROOT}.{field}") }
}

fn check_algorithm(fields: &Fields<'_>) -> Result<(), ApiError> {
    match fields.text("algorithm")? {
        None | Some("mipro") => Ok(()),
        Some(_) => Err(invalid(fields, "algorithm", "must be `mipro`, the only algorithm served here")),
    }
}

fn check_mode(mipro: &Fields<'_>) -> Result<(), ApiError> {
    match mipro.text("mode")? {
        None | Some("online") => Ok(()),
        Some("offline") => {
            let path = mipro.path("mode");
            let message = format!("`{path}` is `offline`, which this build does not serve yet; use `online`");
            Err(ApiError::not_implemented(message).param(path))
        }
        Some(_) => Err(invalid(mipro, "mode", "must be `online` or `offline`")),
    }
}

fn read_mipro(mipro: &Fields<'_>, spec: &mut SystemSpec) -> Result<(), ApiError> {
    for pool in ["bootstrap_train_seeds", "val_seeds", "reference_pool", "online_pool"] {
        mipro.wholes(pool)?;
    }
    mipro.text("online_proposer_mode")?;
    for name in
        ["online_proposer_min_rollouts", "online_proposer_max_candidates", "online_recent_event_window"]
    {
        mipro.whole::<u32>(name)?;
    }
    if let Some(models) = mipro.object("proxy_models")? {
        for name in ["hi_provider", "hi_model", "lo_provider", "lo_model"] {
            models.text(name)?;
        }
    }
    if let Some(proposer) = mipro.object("proposer")? {
        check_proposer(&proposer)?;
    }
    spec.rollouts_per_candidate = mipro.whole("online_rollouts_per_candidate")?;
    spec.snapshot_events_max = mipro.whole("online_snapshot_max_events")?;
    spec.snapshot_s_max = mipro.whole("online_snapshot_max_seconds")?;
    if let Some(tpe) = mipro.object("tpe")? {
        let given = TpeSpec::default();
        spec.tpe = TpeSpec {
            gamma: tpe.number("gamma")?.unwrap_or(given.gamma),
            n_candidates: tpe.whole("n_candidates")?.unwrap_or(given.n_candidates),
            n_startup_trials: tpe.whole("n_startup_trials")?.unwrap_or(given.n_startup_trials),
            epsilon: tpe.number("epsilon")?.unwrap_or(given.epsilon),
            alpha: tpe.number("alpha")?.unwrap_or(given.alpha),
        };
    }
    Ok(())
}

fn check_proposer(proposer: &Fields<'_>) -> Result<(), ApiError> {
    for name in ["mode", "model", "provider", "inference_url"] {
        proposer.text(name)?;
    }
    proposer.number("temperature")?;
    for name in ["max_tokens", "instructions_per_batch"] {
        proposer.whole::<u32>(name)?;
    }
    proposer.wholes("generate_at_iterations")
}

fn read_policy(policy: &Fields<'_>, spec: &mut SystemSpec) -> Result<(), ApiError> {
    let text = |name: &str| Ok::<_, ApiError>(policy.text(name)?.unwrap_or_default().to_owned());
    spec.model = text("model")?;
    spec.provider = text("provider")?;
    spec.inference_mode = text("inference_mode")?;
    spec.temperature = policy.number("temperature")?;
    spec.max_completion_tokens = policy.whole("max_completion_tokens")?;
    Ok(())
}

fn read_prompt(prompt: &Fields<'_>) -> Result<Prompt, ApiError> {
    let mut messages = Vec::new();
    let list = prompt.list("messages")?.ok_or_else(|| prompt.missing("messages"))?;
    for (place, message) in list.iter().enumerate() {
        let fields = Fields::element(message, format!("{}[{place}]", prompt.path("messages")))?;
        let pattern = match fields.text("pattern")? {
            Some(pattern) => pattern,
            None => fields.text("content")?.ok_or_else(|| fields.missing("pattern"))?,
        };
        messages.push(PatternMessage {
            role: fields.required_text("role")?.to_owned(),
            order: fields.whole("order")?.unwrap_or_else(|| i64::try_from(place).unwrap_or(i64::MAX)),
            pattern: pattern.to_owned(),
        });
    }
    let kind = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let wildcards = prompt.map("wildcards")?.into_iter().flatten();
    let wildcards: BTreeMap<_, _> = wildcards.map(|(name, value)| (name.clone(), kind(value))).collect();
    let text = |name: &str| Ok::<_, ApiError>(prompt.text(name)?.unwrap_or_default().to_owned());
    Ok(Prompt::new(text("id")?, text("name")?, messages, wildcards))
}

fn invalid(fields: &Fields<'_>, name: &str, problem: &str) -> ApiError {
    let path = fields.path(name);
    ApiError::bad_request(format!("`{path}` {problem}")).code("invalid_value").param(path)
}

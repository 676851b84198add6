//! What the task app tells about itself and its queries.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use serde_json::{Value, json};

use super::{TaskApp, candidates, prompt};
use crate::dataset::row_of;
use crate::openai::ApiError;

/// The most seeds that one `GET /task_info` answers.
const SEEDS_MAX: usize = 1_000;

pub(super) async fn info(State(app): State<Arc<TaskApp>>) -> axum::Json<Value> {
    axum::Json(json!({
        "service": {"name": "mipro task-app", "version": env!("CARGO_PKG_VERSION")},
        "task_app_id": "banking77",
        "task": {"id": "banking77", "name": "Banking77 intent classification"},
        "taskset": taskset(&app),
        "labels": app.dataset.labels(),
        "initial_prompt": prompt::initial_prompt(),
        "example_candidates": candidates::example_candidates(),
        "tools": [prompt::tool()],
        "tool_choice": prompt::tool_choice(),
    }))
}

/// `GET /task_info?seed=7&seed=8&split=train`: the taskset, and each seed's query and expected intent.
pub(super) async fn task_info(
    State(app): State<Arc<TaskApp>>,
    RawQuery(query): RawQuery,
) -> Result<axum::Json<Value>, ApiError> {
    let (mut seeds, mut split) = (Vec::new(), "train".to_owned());
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match name.as_ref() {
            "seed" | "seeds" => {
                for seed in value.split(',') {
                    let wrong = || ApiError::invalid("seed", format!("`{seed}` is not a whole number"));
                    seeds.push(seed.trim().parse::<i64>().map_err(|_| wrong())?);
                }
            }
            "split" => split = value.into_owned(),
            _ => {}
        }
    }
    if seeds.len() > SEEDS_MAX {
        return Err(ApiError::invalid("seed", format!("more than {SEEDS_MAX} seeds")));
    }
    let examples = split_of(&app, &split)?;
    let told = seeds.into_iter().map(|seed| {
        let row = row_of(seed.into(), examples);
        let example = &examples[row];
        let expected = app.dataset.label_of(example);
        json!({"seed": seed, "split": split, "row": row, "query": example.text, "expected_intent": expected})
    });
    Ok(axum::Json(json!({"taskset": taskset(&app), "seeds": told.collect::<Vec<_>>()})))
}

/// The split of this name, or a 400 that names those there are.
pub(super) fn split_of<'a>(app: &'a TaskApp, split: &str) -> Result<&'a [crate::dataset::Example], ApiError> {
    let unknown = || ApiError::invalid("split", format!("`{split}` is no split: there are train and test"));
    app.dataset.split(split).ok_or_else(unknown)
}

fn taskset(app: &TaskApp) -> Value {
    let (train, test) = (app.dataset.train().len(), app.dataset.test().len());
    json!({
        "id": "banking77",
        "description": "Customer queries to a bank, each with one of the intents in labels.",
        "source": app.dataset.name(),
        "splits": {"train": train, "test": test},
        "default_split": "train",
        "intents": app.dataset.labels().len(),
    })
}

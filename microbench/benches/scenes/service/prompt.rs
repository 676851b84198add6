//! A candidate rendered into a request's messages.

use std::hint::black_box;
use std::sync::Arc;

use mipro_microbench::{Scene, Supply, repeated};
use mipro_service::proxy::render::render;
use mipro_service::system::{RolloutReply, SystemSpec};
use serde_json::value::RawValue;

use super::system::{prompt, query, wording};

const REQUESTS: u32 = 50;
const BYTES_MAX: usize = 1 << 20;

pub(super) fn all() -> Vec<Scene> {
    vec![Scene::pure("service/prompt.render", REQUESTS, rendered)]
}

/// Two messages from the baseline, of which the candidate changes one, and a later turn.
fn rendered() -> Supply {
    let reply = RolloutReply {
        candidate_id: "c1".to_owned(),
        content: Arc::new(wording(1)),
        prompt: Arc::new(prompt()),
        spec: Arc::new(SystemSpec::default()),
        probability: Some(0.125),
        matched: true,
        sticky: false,
        version: 1,
    };
    let message = |role: &str, text: &str| {
        let json = serde_json::json!({"role": role, "content": text}).to_string();
        RawValue::from_string(json).expect("it is JSON")
    };
    let sent: Arc<[Box<RawValue>]> = Arc::new([
        message("system", "Answer with one label."),
        message("user", &format!("Query: {}", query())),
        message("assistant", "balance"),
    ]);
    repeated(move || {
        let raw: Vec<&RawValue> = sent.iter().map(|raw| &**raw).collect();
        for _ in 0..REQUESTS {
            let rendered = render(black_box(&reply), black_box(&raw), BYTES_MAX).expect("it fits");
            black_box(rendered.expect("the candidate changes something"));
        }
    })
}

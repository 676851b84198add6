//! `POST /v1/responses`.

use serde_json::{Value, json};

use super::answer::{self, Asked};
use super::chat::{flag, model_of, pieces, text_of, tokens};
use super::plan::{Call, Plan};
use super::{Mock, Reply, unix_s};
use crate::draw::hash64;
use crate::openai::{ApiError, Message};

pub(super) fn respond(mock: &Mock, body: &Value, call: Call, plan: &mut Plan) -> Result<Reply, ApiError> {
    let model = model_of(body)?;
    let messages = messages_of(body)?;
    let stream = flag(body, "stream")?;
    let answer = answer::answer(mock, &Asked { messages: &messages, tool: None, call });
    plan.correct = answer.correct;
    let id = hash64(format!("{}/{}/{body}", mock.seed, call.key).as_bytes());
    let input: usize = messages.iter().map(|message| tokens(&message.content) + 4).sum();
    let output = tokens(&answer.text);
    let response = json!({
        "id": format!("resp_{id:016x}"), "object": "response", "created_at": unix_s(), "status": "completed",
        "model": model, "error": null, "incomplete_details": null,
        "output": [{
            "id": format!("msg_{id:016x}"), "type": "message", "status": "completed", "role": "assistant",
            "content": [{"type": "output_text", "text": answer.text, "annotations": []}],
        }],
        "usage": {
            "input_tokens": input, "output_tokens": output, "total_tokens": input + output,
            "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0},
        },
    });
    Ok(if stream { Reply::Events(events(&response, &answer.text)) } else { Reply::Json(response) })
}

/// The typed events of a streamed response; unlike a chat's, it ends with its last event, not with `[DONE]`.
fn events(response: &Value, text: &str) -> Vec<String> {
    let item = response["output"][0]["id"].clone();
    let mut opening = response.clone();
    opening["status"] = json!("in_progress");
    opening["output"] = json!([]);
    opening["usage"] = Value::Null;
    let part = |piece: String| {
        json!({"type": "response.output_text.delta", "item_id": item, "output_index": 0, "content_index": 0,
               "delta": piece})
    };
    let mut all = vec![json!({"type": "response.created", "response": opening})];
    all.extend(pieces(text).map(part));
    all.push(
        json!({"type": "response.output_text.done", "item_id": item, "output_index": 0, "content_index": 0,
                    "text": text}),
    );
    all.push(json!({"type": "response.completed", "response": response}));
    let numbered = all.into_iter().enumerate().map(|(number, mut event)| {
        event["sequence_number"] = json!(number);
        format!("event: {}\ndata: {event}", event["type"].as_str().unwrap_or_default())
    });
    numbered.collect()
}

fn messages_of(body: &Value) -> Result<Vec<Message>, ApiError> {
    let mut messages = Vec::new();
    if let Some(instructions) = body.get("instructions").filter(|given| !given.is_null()) {
        let text = instructions.as_str();
        let text = text.ok_or_else(|| ApiError::invalid("instructions", "`instructions` is not text"))?;
        messages.push(Message::new("system", text));
    }
    match body.get("input") {
        Some(Value::String(text)) => messages.push(Message::new("user", text.clone())),
        Some(Value::Array(items)) if !items.is_empty() => {
            for (i, item) in items.iter().enumerate() {
                // Items that aren't messages (tool calls and their like) carry no prompt.
                let Some(content) = item.get("content") else { continue };
                let text =
                    text_of(content).map_err(|why| ApiError::invalid(format!("input[{i}].content"), why))?;
                let role = item.get("role").and_then(Value::as_str).unwrap_or("user");
                messages.push(Message::new(role, text));
            }
        }
        Some(_) => return Err(ApiError::invalid("input", "`input` is neither text nor a list of messages")),
        None => return Err(ApiError::invalid("input", "`input` is missing")),
    }
    Ok(messages)
}

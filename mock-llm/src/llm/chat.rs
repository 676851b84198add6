//! `POST /v1/chat/completions`.

use serde_json::{Value, json};

use super::answer::{self, Answer, Asked};
use super::plan::{Call, Plan};
use super::{Mock, Reply, unix_s};
use crate::draw::hash64;
use crate::openai::{ApiError, Message};

/// The roles a message may have.
const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];
/// Streamed arguments and texts leave in pieces of about so many characters.
const PIECE_CHARS: usize = 8;

/// A request, as far as the mock looks at it.
#[derive(Debug, PartialEq)]
struct Request {
    model: String,
    messages: Vec<Message>,
    /// The tool that must or may be called: its name and the argument to fill.
    tool: Option<(String, String)>,
    stream: bool,
    include_usage: bool,
}

pub(super) fn complete(mock: &Mock, body: &Value, call: Call, plan: &mut Plan) -> Result<Reply, ApiError> {
    let request = parse(body)?;
    let asked = Asked { messages: &request.messages, tool: request.tool.as_ref(), call };
    let answer = answer::answer(mock, &asked);
    plan.correct = answer.correct;
    let id = hash64(format!("{}/{}/{body}", mock.seed, call.key).as_bytes());
    let usage = usage(&request, body, &answer);
    Ok(if request.stream {
        Reply::Events(chunks(&request, &answer, id, &usage))
    } else {
        Reply::Json(whole(&request, &answer, id, &usage))
    })
}

fn whole(request: &Request, answer: &Answer, id: u64, usage: &Value) -> Value {
    let (message, finish_reason) = match &answer.tool_call {
        Some((name, arguments)) => {
            let call = json!({"id": format!("call_{id:016x}"), "type": "function",
                              "function": {"name": name, "arguments": arguments}});
            (
                json!({"role": "assistant", "content": null, "refusal": null, "tool_calls": [call]}),
                "tool_calls",
            )
        }
        None => (json!({"role": "assistant", "content": answer.text, "refusal": null}), "stop"),
    };
    let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason});
    json!({
        "id": format!("chatcmpl-{id:016x}"), "object": "chat.completion", "created": unix_s(), "model": request.model,
        "choices": [choice], "usage": usage, "system_fingerprint": "fp_mock",
    })
}

fn chunks(request: &Request, answer: &Answer, id: u64, usage: &Value) -> Vec<String> {
    let created = unix_s();
    let event = |choices: Value, usage: &Value| {
        let mut chunk = json!({
            "id": format!("chatcmpl-{id:016x}"), "object": "chat.completion.chunk", "created": created,
            "model": request.model, "choices": choices, "system_fingerprint": "fp_mock",
        });
        if request.include_usage {
            chunk["usage"] = usage.clone();
        }
        format!("data: {chunk}")
    };
    let delta = |delta: Value, finish: Value| {
        event(json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]), &Value::Null)
    };
    let mut events = Vec::new();
    let finish = if let Some((name, arguments)) = &answer.tool_call {
        let opening = json!({"index": 0, "id": format!("call_{id:016x}"), "type": "function",
                             "function": {"name": name, "arguments": ""}});
        events
            .push(delta(json!({"role": "assistant", "content": null, "tool_calls": [opening]}), Value::Null));
        events.extend(pieces(arguments).map(|piece| {
            delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}), Value::Null)
        }));
        "tool_calls"
    } else {
        events.push(delta(json!({"role": "assistant", "content": ""}), Value::Null));
        events.extend(pieces(&answer.text).map(|piece| delta(json!({"content": piece}), Value::Null)));
        "stop"
    };
    events.push(delta(json!({}), json!(finish)));
    if request.include_usage {
        events.push(event(json!([]), usage));
    }
    events.push("data: [DONE]".to_owned());
    events
}

/// The text in pieces, never cutting a character.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = String> {
    let chars: Vec<char> = text.chars().collect();
    let pieces: Vec<String> = chars.chunks(PIECE_CHARS).map(|piece| piece.iter().collect()).collect();
    pieces.into_iter()
}

fn usage(request: &Request, body: &Value, answer: &Answer) -> Value {
    let tools = body.get("tools").map_or(0, |tools| tokens(&tools.to_string()));
    let prompt: usize = request.messages.iter().map(|m| tokens(&m.content) + 4).sum::<usize>() + tools + 3;
    let completion =
        answer.tool_call.as_ref().map_or(0, |(name, arguments)| tokens(name) + tokens(arguments) + 4)
            + tokens(&answer.text);
    json!({
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0},
    })
}

/// About how many tokens a text has: four characters to one.
pub(super) fn tokens(text: &str) -> usize {
    text.chars().count().div_ceil(4)
}

fn parse(body: &Value) -> Result<Request, ApiError> {
    let model = model_of(body)?;
    let given = match body.get("messages") {
        Some(Value::Array(messages)) if !messages.is_empty() => messages,
        Some(Value::Array(_)) => return Err(ApiError::invalid("messages", "`messages` is empty")),
        Some(_) => return Err(ApiError::invalid("messages", "`messages` is not an array")),
        None => return Err(ApiError::invalid("messages", "`messages` is missing")),
    };
    let messages = given.iter().enumerate().map(|(i, m)| message(i, m)).collect::<Result<_, _>>()?;
    if let Some(n) = body.get("n").filter(|n| !n.is_null() && n.as_u64() != Some(1)) {
        return Err(ApiError::invalid("n", format!("`n` is {n}, but the mock answers with 1 choice")));
    }
    numbers(body)?;
    Ok(Request {
        model,
        messages,
        tool: tool_of(body)?,
        stream: flag(body, "stream")?,
        include_usage: match body.get("stream_options") {
            Some(options) => flag(options, "include_usage")?,
            None => false,
        },
    })
}

pub(super) fn model_of(body: &Value) -> Result<String, ApiError> {
    match body.get("model") {
        Some(Value::String(model)) if !model.is_empty() => Ok(model.clone()),
        Some(_) => Err(ApiError::invalid("model", "`model` is not a name")),
        None => Err(ApiError::invalid("model", "`model` is missing")),
    }
}

/// A switch that may be absent or null.
pub(super) fn flag(body: &Value, name: &str) -> Result<bool, ApiError> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(on)) => Ok(*on),
        Some(_) => Err(ApiError::invalid(name, format!("`{name}` is not true or false"))),
    }
}

fn numbers(body: &Value) -> Result<(), ApiError> {
    for name in ["temperature", "top_p"] {
        let wrong = body
            .get(name)
            .is_some_and(|v| !v.is_null() && !v.as_f64().is_some_and(|t| (0.0..=2.0).contains(&t)));
        if wrong {
            return Err(ApiError::invalid(name, format!("`{name}` is not a number from 0 to 2")));
        }
    }
    for name in ["max_tokens", "max_completion_tokens"] {
        if body.get(name).is_some_and(|v| !v.is_null() && v.as_u64().is_none_or(|n| n == 0)) {
            return Err(ApiError::invalid(name, format!("`{name}` is not a whole number above 0")));
        }
    }
    Ok(())
}

fn message(i: usize, given: &Value) -> Result<Message, ApiError> {
    let role = match given.get("role").and_then(Value::as_str) {
        Some(role) if ROLES.contains(&role) => role,
        Some(role) => {
            return Err(ApiError::invalid(format!("messages[{i}].role"), format!("`{role}` is no role")));
        }
        None => {
            return Err(ApiError::invalid(
                format!("messages[{i}].role"),
                format!("messages[{i}] has no role"),
            ));
        }
    };
    let content = match given.get("content") {
        Some(Value::Null) | None if role == "assistant" => String::new(),
        Some(content) => {
            text_of(content).map_err(|why| ApiError::invalid(format!("messages[{i}].content"), why))?
        }
        None => {
            let why = format!("messages[{i}] has no content");
            return Err(ApiError::invalid(format!("messages[{i}].content"), why));
        }
    };
    Ok(Message::new(role, content))
}

/// The text of a content: a string, or the text parts of a list.
pub(super) fn text_of(content: &Value) -> Result<String, &'static str> {
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            let texts = parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str));
            Ok(texts.collect::<Vec<_>>().join("\n"))
        }
        _ => Err("the content is neither text nor a list of parts"),
    }
}

/// The tool to call and its argument; `None` where none was offered, or none may be called.
fn tool_of(body: &Value) -> Result<Option<(String, String)>, ApiError> {
    let tools: &[Value] = match body.get("tools") {
        None | Some(Value::Null) => &[],
        Some(Value::Array(tools)) => tools,
        Some(_) => return Err(ApiError::invalid("tools", "`tools` is not an array")),
    };
    let mut named = Vec::new();
    for (i, tool) in tools.iter().enumerate() {
        let name = tool.pointer("/function/name").and_then(Value::as_str).ok_or_else(|| {
            ApiError::invalid(
                format!("tools[{i}].function.name"),
                format!("tools[{i}] is not a named function"),
            )
        })?;
        named.push((name.to_owned(), argument_of(tool)));
    }
    let wrong = |why: &str| ApiError::invalid("tool_choice", why);
    match body.get("tool_choice") {
        None | Some(Value::Null) => Ok(named.into_iter().next()),
        Some(Value::String(choice)) if choice == "none" => Ok(None),
        Some(_) if named.is_empty() => Err(wrong("`tool_choice` is only allowed together with `tools`")),
        Some(Value::String(choice)) if choice == "auto" || choice == "required" => {
            Ok(named.into_iter().next())
        }
        Some(choice) => {
            let name = choice.pointer("/function/name").and_then(Value::as_str);
            let name =
                name.ok_or_else(|| wrong("`tool_choice` is none of none, auto, required or a function"))?;
            let chosen = named.into_iter().find(|(known, _)| known == name);
            chosen.map(Some).ok_or_else(|| wrong("`tool_choice` names a function that is not among `tools`"))
        }
    }
}

/// The argument that carries the answer: the first required one, else the first at all, else `intent`.
fn argument_of(tool: &Value) -> String {
    let required = tool.pointer("/function/parameters/required/0").and_then(Value::as_str);
    let properties = tool.pointer("/function/parameters/properties").and_then(Value::as_object);
    let first = || properties.and_then(|all| all.keys().next()).map(String::as_str);
    required.or_else(first).unwrap_or("intent").to_owned()
}

#[cfg(test)]
mod tests;

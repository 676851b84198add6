//! A candidate rendered into a request's messages.
//!
//! The request was made from the baseline prompt: its first messages fit the prompt's patterns, later turns may follow.
//! The wildcards' texts are recovered from it, the candidate's patterns are filled with them, and the result takes the
//! place of the first messages. What the candidate doesn't change, later turns among it, goes on byte for byte; of a
//! message that it changes, only `role` and `content` do, so that a `name` or a field of some provider's own is kept.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::system::content::CandidateMessage;
use crate::system::prompt::{fill, filled_bytes};
use crate::system::{Message, Prompt, RolloutReply, match_prompt};

/// The candidate's prompt would not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the candidate's prompt, filled with this request's texts, comes to {bytes} bytes; {bytes_max} are allowed"
)]
pub struct TooLarge {
    bytes: usize,
    bytes_max: usize,
}

/// The messages to send instead of `raw_messages`, as a JSON list; `None` if they go through as they are: the candidate
/// changes nothing, or they don't come from the baseline prompt. What the candidate changes may come to `bytes_max` bytes.
///
/// # Errors
/// [`TooLarge`]: a candidate may repeat a text of the request as often as it likes.
pub fn render(
    reply: &RolloutReply,
    raw_messages: &[&RawValue],
    bytes_max: usize,
) -> Result<Option<String>, TooLarge> {
    if reply.content.is_empty() {
        return Ok(None);
    }
    let prompt = &*reply.prompt;
    let Some((baseline, turns)) = raw_messages.split_at_checked(prompt.messages.len()) else {
        return Ok(None);
    };
    let sent: Vec<Message> = baseline.iter().map(|raw| read(raw)).collect();
    let Some(bindings) = match_prompt(prompt, &sent) else { return Ok(None) };
    let candidate = reply.content.messages(prompt);
    if changes_nothing(&candidate, prompt) {
        return Ok(None);
    }
    let changed = candidate.iter().filter(|message| message.changed);
    let bytes = changed.map(|m| filled_bytes(prompt, &m.pattern, &bindings)).fold(0, usize::saturating_add);
    if bytes > bytes_max {
        return Err(TooLarge { bytes, bytes_max });
    }
    let message = |message: CandidateMessage| {
        let original = message.origin.map(|index| baseline[index].get());
        match original {
            Some(raw) if !message.changed => raw.to_owned(),
            original => written(original, message.role, fill(prompt, &message.pattern, &bindings)),
        }
    };
    let rendered = candidate.into_iter().map(message);
    let messages: Vec<String> = rendered.chain(turns.iter().map(|raw| raw.get().to_owned())).collect();
    Ok(Some(format!("[{}]", messages.join(","))))
}

/// Whether every message is the baseline's, in the baseline's order.
fn changes_nothing(candidate: &[CandidateMessage], prompt: &Prompt) -> bool {
    let same =
        |(index, message): (usize, &CandidateMessage)| message.origin == Some(index) && !message.changed;
    candidate.len() == prompt.messages.len() && candidate.iter().enumerate().all(same)
}

fn read(raw: &RawValue) -> Message {
    let value: Value = serde_json::from_str(raw.get()).unwrap_or_default();
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    Message { role: text("role").unwrap_or_default(), text: text("content") }
}

/// A message with this role and text; its other fields are the original's.
fn written(original: Option<&str>, role: String, text: String) -> String {
    let fields = original.and_then(|raw| serde_json::from_str::<Map<String, Value>>(raw).ok());
    let mut fields = fields.unwrap_or_default();
    fields.insert("role".to_owned(), Value::String(role));
    fields.insert("content".to_owned(), Value::String(text));
    Value::Object(fields).to_string()
}

#[cfg(test)]
mod tests;

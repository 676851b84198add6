//! A candidate rendered into a request's messages.
//!
//! The request was made from the baseline prompt: its first messages fit the prompt's patterns, later turns may follow.
//! The wildcards' texts are recovered from it, the candidate's patterns are filled with them, and the result takes the
//! place of the first messages. What the candidate doesn't change, later turns among it, goes on byte for byte; of a
//! message that it changes, only `role` and `content` do, so that a `name` or a field of some provider's own is kept.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::system::content::CandidateMessage;
use crate::system::prompt::fill;
use crate::system::{Message, Prompt, RolloutReply, match_prompt};

/// The messages to send instead of `raw_messages`, as a JSON list; `None` if they go through as they are: the candidate
/// changes nothing, or they don't come from the baseline prompt.
#[must_use]
pub fn render(reply: &RolloutReply, raw_messages: &[&RawValue]) -> Option<String> {
    if reply.content.is_empty() {
        return None;
    }
    let prompt = &*reply.prompt;
    let (baseline, turns) = raw_messages.split_at_checked(prompt.messages.len())?;
    let sent: Vec<Message> = baseline.iter().map(|raw| read(raw)).collect();
    let bindings = match_prompt(prompt, &sent)?;
    let candidate = reply.content.messages(prompt);
    if changes_nothing(&candidate, prompt) {
        return None;
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
    Some(format!("[{}]", messages.join(",")))
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

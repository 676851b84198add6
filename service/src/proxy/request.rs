//! A chat-completions request, read only as far as prompts care.
//!
//! Fields are kept as the raw text they came in and written back in their order, so that what this service does not know
//! reaches the LLM byte for byte.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::system::Message;

/// Why a body is no chat-completions request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no JSON.
    #[error("the body is not valid JSON: {0}")]
    Json(serde_json::Error),
    /// It is no JSON object.
    #[error("the body must be a JSON object")]
    NotAnObject,
    /// There are no messages.
    #[error("`messages` is missing")]
    NoMessages,
    /// The messages are no list.
    #[error("`messages` must be a list of messages with at least one in it")]
    BadMessages,
}

/// A request's fields, borrowed from its body.
#[derive(Debug)]
pub struct ChatRequest<'a> {
    body: &'a Bytes,
    fields: Vec<(String, &'a RawValue)>,
    raw_messages: Vec<&'a RawValue>,
}

impl<'a> ChatRequest<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is no JSON object with a list of messages.
    pub fn parse(body: &'a Bytes) -> Result<Self, Error> {
        let category = |e: serde_json::Error| if e.is_data() { Error::NotAnObject } else { Error::Json(e) };
        let Fields(fields) = serde_json::from_slice(body).map_err(category)?;
        let messages = fields.iter().rev().find(|(name, _)| name == "messages").ok_or(Error::NoMessages)?;
        let raw_messages: Vec<&RawValue> =
            serde_json::from_str(messages.1.get()).map_err(|_| Error::BadMessages)?;
        // What stands in a message is the LLM's to judge; what is no object at all is a slip of the client's.
        if raw_messages.is_empty() || raw_messages.iter().any(|raw| !raw.get().starts_with('{')) {
            return Err(Error::BadMessages);
        }
        Ok(Self { body, fields, raw_messages })
    }

    /// The messages, to be matched against a baseline prompt.
    #[must_use]
    pub fn messages(&self) -> Arc<[Message]> {
        self.raw_messages.iter().map(|raw| message(raw)).collect()
    }

    /// The messages as they came.
    #[must_use]
    pub fn raw_messages(&self) -> &[&'a RawValue] {
        &self.raw_messages
    }

    /// The request with other messages; `model` is put in where the client named none. With nothing to change it is the
    /// client's body itself.
    #[must_use]
    pub fn with_messages(&self, messages: Option<&str>, model: &str) -> Bytes {
        let needs_model = !model.is_empty() && !self.names_a_model();
        if messages.is_none() && !needs_model {
            return self.body.clone();
        }
        let mut out =
            String::with_capacity(self.body.len() + messages.map_or(0, str::len) + model.len() + 16);
        let mut put = |name: &str, value: &str| {
            out.push(if out.is_empty() { '{' } else { ',' });
            out.push_str(&Value::from(name).to_string());
            out.push(':');
            out.push_str(value);
        };
        let last = self.fields.iter().rposition(|(name, _)| name == "messages");
        for (place, (name, raw)) in self.fields.iter().enumerate() {
            match (name.as_str(), messages) {
                ("messages", Some(messages)) if Some(place) == last => put(name, messages),
                ("messages", Some(_)) => {}
                ("model", _) if needs_model => {}
                _ => put(name, raw.get()),
            }
        }
        if needs_model {
            put("model", &Value::from(model).to_string());
        }
        out.push('}');
        Bytes::from(out)
    }

    fn names_a_model(&self) -> bool {
        self.fields.iter().any(|(name, raw)| name == "model" && raw.get() != "null")
    }
}

/// Reads a message leniently: what is no plain text matches no pattern, and the LLM judges what is no message.
fn message(raw: &RawValue) -> Message {
    let value: Value = serde_json::from_str(raw.get()).unwrap_or_default();
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    Message { role: text("role").unwrap_or_default(), text: text("content") }
}

/// An object's fields in their order, values unread.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests;

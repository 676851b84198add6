//! The baseline prompt: patterns with wildcards, and how wildcards are recovered from what a task app sent.
//!
//! A wildcard is `{name}`, where `name` is declared by the prompt or is a plain identifier. Matching is anchored at both
//! ends and takes time linear in the text: literals are found left to right and nothing is tried twice. Where a text can
//! be read in several ways, these rules decide:
//!
//! - a wildcard takes as little as it can: up to the first place where the literal behind it occurs;
//! - the last wildcard of a message takes all up to the literal that ends the message;
//! - of two wildcards with nothing between them, the first is empty;
//! - a wildcard that stands twice (also in a later message) must have the same text at both places; its first place decides.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::refusal::{Refusal, require};

/// One chat message, as far as prompts care.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, …
    pub role: String,
    /// Its text; `None` where the content is not plain text (such a message never matches a baseline pattern).
    pub text: Option<String>,
}

/// A digest of messages: the first 128 bits of a BLAKE3 hash over roles and texts. As JSON 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PromptHash(pub [u8; 16]);

impl PromptHash {
    /// The digest of these messages.
    #[must_use]
    pub fn of(messages: &[Message]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for Message { role, text } in messages {
            // Lengths keep texts apart that run into each other; one more than fits stands for no text.
            let text = text.as_deref();
            hasher.update(&(role.len() as u64).to_le_bytes());
            hasher.update(&text.map_or(u64::MAX, |text| text.len() as u64).to_le_bytes());
            hasher.update(role.as_bytes()).update(text.unwrap_or_default().as_bytes());
        }
        let mut digest = [0; 16];
        digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(digest)
    }
}

impl From<PromptHash> for String {
    fn from(hash: PromptHash) -> Self {
        format!("{:032x}", u128::from_be_bytes(hash.0))
    }
}

impl TryFrom<String> for PromptHash {
    type Error = &'static str;

    fn try_from(hex: String) -> Result<Self, Self::Error> {
        let digest = u128::from_str_radix(&hex, 16).ok().filter(|_| hex.len() == 32);
        digest.map(|digest| Self(digest.to_be_bytes())).ok_or("a prompt hash must be 32 hexadecimal digits")
    }
}

/// Recovered wildcards: name → text.
pub type Bindings = BTreeMap<String, String>;

/// One message of the baseline prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatternMessage {
    /// `system`, `user`, …
    pub role: String,
    /// Its place; messages are sorted by it.
    pub order: i64,
    /// Text with wildcards.
    pub pattern: String,
}

/// A baseline prompt. Reading one from JSON sorts its messages and numbers those that have no `order`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "PromptForm")]
pub struct Prompt {
    /// The client's id for it.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// The messages, sorted by order.
    pub messages: Vec<PatternMessage>,
    /// Declared wildcards: name → `REQUIRED`, `OPTIONAL`, …
    pub wildcards: BTreeMap<String, String>,
}

impl Prompt {
    /// A prompt with its messages in order.
    #[must_use]
    pub fn new(
        id: String,
        name: String,
        messages: Vec<PatternMessage>,
        wildcards: BTreeMap<String, String>,
    ) -> Self {
        let mut messages = messages;
        messages.sort_by_key(|message| message.order);
        Self { id, name, messages, wildcards }
    }

    /// Checks that there is something to optimize.
    pub(crate) fn validate(&self) -> Result<(), Refusal> {
        let field = "initial_prompt.messages";
        require(!self.messages.is_empty(), field, "must hold at least one message")?;
        require(self.messages.iter().all(|m| !m.role.is_empty()), field, "must name a role in each message")
    }

    fn is_wildcard(&self, name: &str) -> bool {
        self.wildcards.contains_key(name) || is_identifier(name)
    }
}

/// A prompt as clients write it.
#[derive(Deserialize)]
struct PromptForm {
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    messages: Vec<MessageForm>,
    #[serde(default)]
    wildcards: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct MessageForm {
    role: String,
    #[serde(default)]
    order: Option<i64>,
    #[serde(alias = "content")]
    pattern: String,
}

impl From<PromptForm> for Prompt {
    fn from(form: PromptForm) -> Self {
        let message = |(place, m): (usize, MessageForm)| PatternMessage {
            role: m.role,
            order: m.order.unwrap_or_else(|| i64::try_from(place).unwrap_or(i64::MAX)),
            pattern: m.pattern,
        };
        let messages = form.messages.into_iter().enumerate().map(message).collect();
        let kind = |value: serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let wildcards = form.wildcards.into_iter().map(|(name, value)| (name, kind(value))).collect();
        Self::new(form.id, form.name, messages, wildcards)
    }
}

/// A piece of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Segment<'p> {
    Literal(&'p str),
    Wildcard(&'p str),
}

fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn segments<'p>(prompt: &Prompt, pattern: &'p str) -> Vec<Segment<'p>> {
    let mut out = Vec::new();
    let mut literal_from = 0;
    let mut open = None;
    for (at, byte) in pattern.bytes().enumerate() {
        match (byte, open) {
            (b'{', _) => open = Some(at),
            (b'}', Some(from)) => {
                open = None;
                let name = &pattern[from + 1..at];
                if prompt.is_wildcard(name) {
                    if literal_from < from {
                        out.push(Segment::Literal(&pattern[literal_from..from]));
                    }
                    out.push(Segment::Wildcard(name));
                    literal_from = at + 1;
                }
            }
            _ => {}
        }
    }
    if literal_from < pattern.len() {
        out.push(Segment::Literal(&pattern[literal_from..]));
    }
    out
}

/// Matches the beginning of `messages` with the whole prompt: same roles, and each text fits its pattern. Messages beyond
/// the prompt's (later turns) don't matter. Returns the wildcards' texts, or `None` if the messages don't come from this
/// prompt. The module's documentation has the rules for ambiguous texts.
#[must_use]
pub fn match_prompt(prompt: &Prompt, messages: &[Message]) -> Option<Bindings> {
    if prompt.messages.is_empty() || messages.len() < prompt.messages.len() {
        return None;
    }
    let mut bindings = Bindings::new();
    for (pattern, message) in prompt.messages.iter().zip(messages) {
        let text = message.text.as_deref().filter(|_| message.role == pattern.role)?;
        match_text(&segments(prompt, &pattern.pattern), text, &mut bindings)?;
    }
    Some(bindings)
}

fn match_text(segments: &[Segment<'_>], text: &str, bindings: &mut Bindings) -> Option<()> {
    let mut rest = text;
    let mut index = 0;
    while let Some(&segment) = segments.get(index) {
        index += 1;
        match segment {
            Segment::Literal(literal) => rest = rest.strip_prefix(literal)?,
            Segment::Wildcard(name) if bindings.contains_key(name) => {
                rest = rest.strip_prefix(&*bindings[name])?;
            }
            Segment::Wildcard(name) => {
                let (literal, consumed) = literal_behind(&segments[index..], bindings, rest.len())?;
                index += consumed;
                let last = index == segments.len();
                let end = if last { rest.strip_suffix(&*literal)?.len() } else { rest.find(&*literal)? };
                bindings.insert(name.to_owned(), rest[..end].to_owned());
                rest = &rest[end + literal.len()..];
            }
        }
    }
    rest.is_empty().then_some(())
}

/// The literal text up to the next unknown wildcard, and how many segments it spans; `None` if it is longer than
/// `bytes_max`, what is left to be matched. (A long text many times over would not fit into memory either.)
fn literal_behind(
    segments: &[Segment<'_>],
    bindings: &Bindings,
    bytes_max: usize,
) -> Option<(String, usize)> {
    let mut literal = String::new();
    for (consumed, segment) in segments.iter().enumerate() {
        let text = match segment {
            Segment::Literal(text) => text,
            Segment::Wildcard(name) => match bindings.get(*name) {
                Some(text) => text.as_str(),
                None => return Some((literal, consumed)),
            },
        };
        if literal.len() + text.len() > bytes_max {
            return None;
        }
        literal.push_str(text);
    }
    Some((literal, segments.len()))
}

/// How long [`fill`] makes a pattern, in bytes. A few bytes of pattern can come to any length: a wildcard may stand in it
/// many times, and its text is whatever a client sent.
#[must_use]
pub fn filled_bytes(prompt: &Prompt, pattern: &str, bindings: &Bindings) -> usize {
    let bytes = |segment: Segment<'_>| match segment {
        Segment::Literal(text) => text.len(),
        Segment::Wildcard(name) => bindings.get(name).map_or(name.len() + 2, String::len),
    };
    segments(prompt, pattern).into_iter().map(bytes).fold(0, usize::saturating_add)
}

/// Puts the wildcards' texts back. Names without a binding stay as they are; texts put in are not looked at again.
#[must_use]
pub fn fill(prompt: &Prompt, pattern: &str, bindings: &Bindings) -> String {
    let mut out = String::with_capacity(pattern.len());
    for segment in segments(prompt, pattern) {
        match segment {
            Segment::Literal(text) => out.push_str(text),
            Segment::Wildcard(name) => match bindings.get(name) {
                Some(text) => out.push_str(text),
                None => out.extend(["{", name, "}"]),
            },
        }
    }
    out
}

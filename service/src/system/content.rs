//! What a candidate changes: deltas and stage payloads, and the prompt they make of the baseline.
//!
//! They are applied in this order, all of them on patterns, before wildcards are filled in again:
//!
//! 1. `deltas.messages` replaces messages of the same `order`, and adds those of another.
//! 2. The instruction replaces the system message's pattern, or becomes the first message where there is none. Where it
//!    is given several times, the first of these counts: of the first stage in `stage_payloads` that has one,
//!    `instruction_text`, else `instruction_lines`; then `deltas.instruction_text`, `deltas.text`, `deltas.content`.
//! 3. `deltas.transformation.text_replacements` replaces every occurrence in the messages of that role and order.
//! 4. `deltas.demos` and `deltas.transformation.example_injections` go before the prompt's last user message; injections that
//!    name one (`apply_to_order`), before that one.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::prompt::Prompt;
use super::refusal::Refusal;

/// Text replacements in one candidate.
const REPLACEMENTS_MAX: usize = 256;

/// What replacements may add to a prompt, bytes. A list of them that feeds on itself doubles a text with each.
const REPLACED_GROWTH_MAX: usize = 1 << 20;

const REPLACEMENTS: &str = "deltas.transformation.text_replacements";

/// What a candidate is. `null` and an empty object mean the same: no change.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CandidateContent {
    /// Changes to the baseline prompt.
    pub deltas: Value,
    /// Changes by stage, as proposers word them.
    pub stage_payloads: Value,
    /// The client's own notes; kept and shown, never part of what a candidate is.
    pub metadata: Value,
    /// The candidate it was made from.
    pub parent_id: Option<String>,
    /// The client's own view of the messages; kept and shown.
    pub baseline_messages: Value,
}

/// A message of a candidate's prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidateMessage {
    /// Index of the baseline message it comes from; `None` for an added one.
    pub origin: Option<usize>,
    /// `system`, `user`, …
    pub role: String,
    /// Its place; added examples share that of the message they stand before.
    pub order: i64,
    /// Text with wildcards.
    pub pattern: String,
    /// Whether role or pattern differ from the baseline message's.
    pub changed: bool,
}

impl CandidateContent {
    /// A digest of what the candidate changes. Equal for equal deltas and stage payloads, whatever the order of keys.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for part in [&self.deltas, &self.stage_payloads] {
            match part {
                Value::Null => digest(&Value::Object(Map::new()), &mut hasher),
                other => digest(other, &mut hasher),
            }
        }
        *hasher.finalize().as_bytes()
    }

    /// The id a candidate of this content gets when the caller gives none.
    #[must_use]
    pub fn derived_id(&self) -> String {
        let hex = blake3::Hash::from_bytes(self.hash()).to_hex();
        format!("cand_{}", &hex[..20])
    }

    /// Whether the candidate leaves the prompt as it is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let empty = |value: &Value| value.is_null() || value.as_object().is_some_and(Map::is_empty);
        empty(&self.deltas) && empty(&self.stage_payloads)
    }

    /// Checks that every known field has a shape that can be applied, and that what comes out of it is bounded. Unknown
    /// fields pass.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] with the field's name.
    pub fn validate(&self, prompt: &Prompt) -> Result<(), Refusal> {
        Changes::read(self)?.apply(prompt).map(drop)
    }

    /// The candidate's prompt: the baseline's messages with the changes made.
    #[must_use]
    pub fn messages(&self, prompt: &Prompt) -> Vec<CandidateMessage> {
        // Content is validated when it is registered; what can't be applied changes nothing.
        let changed = Changes::read(self).and_then(|changes| changes.apply(prompt));
        changed.unwrap_or_else(|_| baseline(prompt))
    }
}

fn digest(value: &Value, hasher: &mut blake3::Hasher) {
    let mut tagged = |tag: u8, bytes: &[u8]| {
        hasher.update(&[tag]);
        hasher.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(bytes);
    };
    match value {
        Value::Null => tagged(0, b""),
        Value::Bool(truth) => tagged(1, &[u8::from(*truth)]),
        Value::Number(number) => tagged(2, number.to_string().as_bytes()),
        Value::String(text) => tagged(3, text.as_bytes()),
        Value::Array(items) => {
            tagged(4, &items.len().to_le_bytes());
            items.iter().for_each(|item| digest(item, hasher));
        }
        Value::Object(fields) => {
            tagged(5, &fields.len().to_le_bytes());
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            for (name, field) in fields {
                digest(&Value::String(name.clone()), hasher);
                digest(field, hasher);
            }
        }
    }
}

/// Content read into what it does.
#[derive(Default)]
struct Changes {
    replaced: Vec<Replaced>,
    instruction: Option<String>,
    replacements: Vec<Replacement>,
    demos: Vec<Demo>,
}

/// `deltas.messages[]`
struct Replaced {
    order: i64,
    role: Option<String>,
    pattern: String,
}

/// `deltas.transformation.text_replacements[]`
struct Replacement {
    old: String,
    new: String,
    role: Option<String>,
    order: Option<i64>,
}

/// One message of an example.
struct Demo {
    before_order: Option<i64>,
    role: String,
    text: String,
}

impl Changes {
    fn read(content: &CandidateContent) -> Result<Self, Refusal> {
        let deltas = object(Some(&content.deltas), "deltas")?;
        let stages = object(Some(&content.stage_payloads), "stage_payloads")?;
        let mut changes = Self { instruction: instruction(deltas, stages)?, ..Self::default() };
        let Some(deltas) = deltas else { return Ok(changes) };
        for message in list(deltas.get("messages"), "deltas.messages")? {
            changes.replaced.push(replaced(message)?);
        }
        for demo in list(deltas.get("demos"), "deltas.demos")? {
            read_demo(demo, None, "deltas.demos", &mut changes.demos)?;
        }
        let Some(transformation) = object(deltas.get("transformation"), "deltas.transformation")? else {
            return Ok(changes);
        };
        let replacements = list(transformation.get("text_replacements"), REPLACEMENTS)?;
        if replacements.len() > REPLACEMENTS_MAX {
            return Err(wrong(REPLACEMENTS, &format!("must hold {REPLACEMENTS_MAX} replacements at most")));
        }
        for item in replacements {
            changes.replacements.push(Replacement {
                old: text(item.get("old_text"), REPLACEMENTS)?
                    .ok_or_else(|| wrong(REPLACEMENTS, "must have old_text"))?,
                new: text(item.get("new_text"), REPLACEMENTS)?
                    .ok_or_else(|| wrong(REPLACEMENTS, "must have new_text"))?,
                role: text(item.get("apply_to_role"), REPLACEMENTS)?,
                order: integer(item.get("apply_to_order"), REPLACEMENTS)?,
            });
        }
        const INJECTIONS: &str = "deltas.transformation.example_injections";
        for item in list(transformation.get("example_injections"), INJECTIONS)? {
            let before = integer(item.get("apply_to_order"), INJECTIONS)?;
            match item.get("examples").or_else(|| item.get("demos")) {
                Some(examples) => {
                    for example in list(Some(examples), INJECTIONS)? {
                        read_demo(example, before, INJECTIONS, &mut changes.demos)?;
                    }
                }
                None => read_demo(item, before, INJECTIONS, &mut changes.demos)?,
            }
        }
        Ok(changes)
    }

    fn apply(self, prompt: &Prompt) -> Result<Vec<CandidateMessage>, Refusal> {
        let mut messages = baseline(prompt);
        self.replaced.iter().for_each(|change| replace_message(&mut messages, change));
        messages.sort_by_key(|message| message.order);
        if let Some(instruction) = self.instruction {
            set_instruction(&mut messages, instruction);
        }
        let mut growth_left = REPLACED_GROWTH_MAX;
        for change in &self.replacements {
            for message in messages.iter_mut().filter(|message| change.concerns(message)) {
                message.pattern = change.replaced(&message.pattern, &mut growth_left)?;
            }
        }
        for message in &mut messages {
            let original = message.origin.map(|index| &prompt.messages[index]);
            message.changed = original.is_none_or(|o| o.role != message.role || o.pattern != message.pattern);
        }
        insert_demos(&mut messages, self.demos);
        Ok(messages)
    }
}

fn baseline(prompt: &Prompt) -> Vec<CandidateMessage> {
    let message = |(index, message): (usize, &super::prompt::PatternMessage)| CandidateMessage {
        origin: Some(index),
        role: message.role.clone(),
        order: message.order,
        pattern: message.pattern.clone(),
        changed: false,
    };
    prompt.messages.iter().enumerate().map(message).collect()
}

impl Replacement {
    fn concerns(&self, message: &CandidateMessage) -> bool {
        !self.old.is_empty()
            && self.role.as_ref().is_none_or(|role| *role == message.role)
            && self.order.is_none_or(|order| order == message.order)
    }

    /// The text with every occurrence replaced. What it grows by is taken off `growth_left`, bytes.
    fn replaced(&self, text: &str, growth_left: &mut usize) -> Result<String, Refusal> {
        let longer_by = self.new.len().saturating_sub(self.old.len());
        if longer_by > 0 {
            let growth = text.matches(&self.old).count().saturating_mul(longer_by);
            *growth_left = growth_left.checked_sub(growth).ok_or_else(|| {
                wrong(
                    REPLACEMENTS,
                    &format!("must not add more than {REPLACED_GROWTH_MAX} bytes to the prompt"),
                )
            })?;
        }
        Ok(text.replace(&self.old, &self.new))
    }
}

fn replace_message(messages: &mut Vec<CandidateMessage>, change: &Replaced) {
    if let Some(message) = messages.iter_mut().find(|message| message.order == change.order) {
        message.pattern.clone_from(&change.pattern);
        if let Some(role) = &change.role {
            message.role.clone_from(role);
        }
    } else {
        let role = change.role.clone().unwrap_or_else(|| "user".to_owned());
        let (order, pattern) = (change.order, change.pattern.clone());
        messages.push(CandidateMessage { origin: None, role, order, pattern, changed: true });
    }
}

fn set_instruction(messages: &mut Vec<CandidateMessage>, instruction: String) {
    if let Some(message) = messages.iter_mut().find(|message| message.role == "system") {
        message.pattern = instruction;
    } else {
        let order = messages.first().map_or(0, |message| message.order.saturating_sub(1));
        let role = "system".to_owned();
        messages
            .insert(0, CandidateMessage { origin: None, role, order, pattern: instruction, changed: true });
    }
}

fn insert_demos(messages: &mut Vec<CandidateMessage>, demos: Vec<Demo>) {
    for demo in demos {
        let at_order = |order: i64| messages.iter().rposition(|m| m.order == order && m.origin.is_some());
        let last_user = || messages.iter().rposition(|m| m.role == "user" && m.origin.is_some());
        let place = demo.before_order.and_then(at_order).or_else(last_user).unwrap_or(messages.len());
        let order = messages.get(place).map_or(i64::MAX, |message| message.order);
        let added =
            CandidateMessage { origin: None, role: demo.role, order, pattern: demo.text, changed: true };
        messages.insert(place, added);
    }
}

fn instruction(
    deltas: Option<&Map<String, Value>>,
    stages: Option<&Map<String, Value>>,
) -> Result<Option<String>, Refusal> {
    let mut found = None;
    for stage in stages.into_iter().flat_map(Map::values) {
        let stage = object(Some(stage), "stage_payloads")?;
        let get = |name: &str| stage.and_then(|fields| fields.get(name));
        let whole = text(get("instruction_text"), "stage_payloads.*.instruction_text")?;
        let field = "stage_payloads.*.instruction_lines";
        let mut lines = Vec::new();
        for line in list(get("instruction_lines"), field)? {
            lines.push(line.as_str().ok_or_else(|| wrong(field, "must be strings"))?);
        }
        let stage =
            whole.filter(|text| !text.is_empty()).or_else(|| (!lines.is_empty()).then(|| lines.join("\n")));
        found = found.or(stage);
    }
    for (name, field) in [
        ("instruction_text", "deltas.instruction_text"),
        ("text", "deltas.text"),
        ("content", "deltas.content"),
    ] {
        let given = text(deltas.and_then(|fields| fields.get(name)), field)?;
        found = found.or(given);
    }
    Ok(found)
}

fn replaced(message: &Value) -> Result<Replaced, Refusal> {
    let field = "deltas.messages";
    let pattern = message.get("pattern").or_else(|| message.get("content"));
    Ok(Replaced {
        order: integer(message.get("order"), field)?
            .ok_or_else(|| wrong(field, "must have an order each"))?,
        role: text(message.get("role"), field)?,
        pattern: text(pattern, field)?.ok_or_else(|| wrong(field, "must have a pattern each"))?,
    })
}

/// Reads an example: `{user, assistant}` and its like, `{role, content}`, or `{messages: […]}`.
fn read_demo(
    demo: &Value,
    before_order: Option<i64>,
    field: &'static str,
    out: &mut Vec<Demo>,
) -> Result<(), Refusal> {
    const PAIRS: [(&str, &str); 4] =
        [("user", "assistant"), ("input", "output"), ("question", "answer"), ("query", "intent")];
    let worded = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut push = |role: &str, value: &Value| {
        out.push(Demo { before_order, role: role.to_owned(), text: worded(value) });
    };
    for (user, assistant) in PAIRS {
        if let (Some(user), Some(assistant)) = (demo.get(user), demo.get(assistant)) {
            push("user", user);
            push("assistant", assistant);
            return Ok(());
        }
    }
    if let (Some(role), Some(content)) = (demo.get("role").and_then(Value::as_str), demo.get("content")) {
        push(role, content);
        return Ok(());
    }
    if let Some(messages) = demo.get("messages").and_then(Value::as_array)
        && messages.iter().all(|message| message.get("messages").is_none())
    {
        return messages.iter().try_for_each(|message| read_demo(message, before_order, field, out));
    }
    Err(wrong(field, "must hold objects with user and assistant, input and output, or role and content"))
}

fn wrong(field: &'static str, problem: &str) -> Refusal {
    Refusal::Invalid { field, problem: problem.to_owned() }
}

fn object<'v>(
    value: Option<&'v Value>,
    field: &'static str,
) -> Result<Option<&'v Map<String, Value>>, Refusal> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_object().map(Some).ok_or_else(|| wrong(field, "must be an object")),
    }
}

fn list<'v>(value: Option<&'v Value>, field: &'static str) -> Result<&'v [Value], Refusal> {
    match value {
        None | Some(Value::Null) => Ok(&[]),
        Some(value) => value.as_array().map(Vec::as_slice).ok_or_else(|| wrong(field, "must be a list")),
    }
}

fn text(value: Option<&Value>, field: &'static str) -> Result<Option<String>, Refusal> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            value.as_str().map(|text| Some(text.to_owned())).ok_or_else(|| wrong(field, "must be text"))
        }
    }
}

fn integer(value: Option<&Value>, field: &'static str) -> Result<Option<i64>, Refusal> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            value.as_i64().map(Some).ok_or_else(|| wrong(field, "must hold whole numbers as orders"))
        }
    }
}

//! The baseline prompt and its tool. The job's `initial_prompt` and the calls are made from the same constants, so that
//! the proxy recognizes one in the other.

use serde_json::{Value, json};

use crate::dataset::Dataset;
use crate::openai::Message;

/// The baseline instruction: instruction 0.
pub(crate) const BASELINE: &str = "You sort messages from the customers of a bank. Read the message and answer with \
     exactly one label from the list, by calling the banking77_classify tool.";
/// What stands before the query in the user message.
pub(crate) const BEFORE_QUERY: &str = "Customer query:\n";
/// What stands between the query and the list of labels.
pub(crate) const AFTER_QUERY: &str = "\n\nLabels to choose from:\n";
/// The tool that the model must answer through.
pub(crate) const TOOL: &str = "banking77_classify";

/// The baseline prompt as a job wants it.
pub(crate) fn initial_prompt() -> Value {
    let user = format!("{BEFORE_QUERY}{{query}}{AFTER_QUERY}{{available_intents}}");
    json!({
        "id": "banking77_pattern",
        "name": "Banking77 Classification",
        "messages": [
            {"role": "system", "order": 0, "pattern": BASELINE},
            {"role": "user", "order": 1, "pattern": user},
        ],
        "wildcards": {"query": "REQUIRED", "available_intents": "OPTIONAL"},
    })
}

/// The user message of a query.
pub(crate) fn user_message(query: &str, available_intents: &str) -> String {
    format!("{BEFORE_QUERY}{query}{AFTER_QUERY}{available_intents}")
}

/// The baseline messages of a query.
pub(crate) fn messages(query: &str, available_intents: &str) -> [Message; 2] {
    [Message::new("system", BASELINE), Message::new("user", user_message(query, available_intents))]
}

/// Every label, numbered from 1, one a line.
pub(crate) fn available_intents(dataset: &Dataset) -> String {
    let lines: Vec<String> =
        dataset.labels().iter().enumerate().map(|(i, label)| format!("{}. {label}", i + 1)).collect();
    lines.join("\n")
}

/// The tool as the chat API wants it.
pub(crate) fn tool() -> Value {
    json!({"type": "function", "function": {
        "name": TOOL,
        "description": "Files the customer's message under one intent.",
        "parameters": {
            "type": "object",
            "properties": {"intent": {"type": "string", "description": "One label of the list."}},
            "required": ["intent"],
        },
    }})
}

/// Forces the tool.
pub(crate) fn tool_choice() -> Value {
    json!({"type": "function", "function": {"name": TOOL}})
}

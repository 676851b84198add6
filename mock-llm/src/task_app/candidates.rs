//! Example candidates for the baseline prompt: six instructions by two sets of demos, in this project's own words.
//!
//! From best to worst they are meant to rank, whatever the seed of the mock: instruction 3, then 1 and 2, the baseline
//! 0, then 4, and 5 last; each a little better with demos than without.

use serde_json::{Value, json};

use super::prompt::{BASELINE, user_message};
use crate::openai::Message;

/// What instruction 2 replaces in the baseline.
const REPLACED: &str = "Read the message";
/// What it puts there.
const REPLACEMENT: &str = "Go through the message step by step, note what the customer wants,";

/// A short name and the whole text of every instruction but 2, which is the baseline with a part replaced.
const INSTRUCTIONS: [(&str, &str); 6] = [
    ("baseline", BASELINE),
    (
        "closest meaning",
        "You sort messages from the customers of a bank. Compare the whole message with the list and answer with \
         exactly one label, the one with the closest meaning, by calling the banking77_classify tool.",
    ),
    ("step by step", ""),
    (
        "aim and contrast",
        "You sort messages from the customers of a bank. Find out what the customer wants and what has already \
         happened. Several labels look alike: distinguish a thing that is pending from one that failed, was declined \
         or was reverted, and a question about a fee from a question about a rate. Then answer with exactly one \
         label, the one with the closest meaning, by calling the banking77_classify tool.",
    ),
    (
        "keywords",
        "You sort messages from the customers of a bank. Count the keywords that the message shares with the labels, \
         and call the banking77_classify tool with the label that shares most.",
    ),
    (
        "hurried",
        "You sort messages from the customers of a bank. Answer quickly. If in doubt, take the first label that could \
         fit, and call the banking77_classify tool with it.",
    ),
];

/// The demos of set 1: what a customer wrote, and its label.
const DEMOS: [(&str, &str); 4] = [
    ("My money left on Sunday, yet the top-up still hangs there unfinished.", "pending_top_up"),
    ("Adding money broke off with an error and nothing arrived.", "top_up_failed"),
    ("The terminal in the bakery said no to my card.", "declined_card_payment"),
    ("What will a swap from pounds into dollars cost me?", "exchange_charge"),
];

/// A prompt of the example search space, the baseline included.
#[derive(Debug, Clone, PartialEq)]
pub struct ExamplePrompt {
    /// Which instruction; 0 is the baseline's.
    pub instruction: u32,
    /// Which set of demos; 0 is none.
    pub demos: u32,
    /// A name for people.
    pub label: String,
    /// The whole prompt for a query not filled in yet, as [`crate::accuracy::Accuracy`] wants it.
    pub messages: Vec<Message>,
}

/// All twelve prompts; the baseline comes first, then the order of `example_candidates` in `GET /info`.
#[must_use]
pub fn example_prompts() -> Vec<ExamplePrompt> {
    let places = (0..INSTRUCTIONS.len() as u32).flat_map(|instruction| [(instruction, 0), (instruction, 1)]);
    places.map(|(instruction, demos)| example_prompt(instruction, demos)).collect()
}

fn example_prompt(instruction: u32, demos: u32) -> ExamplePrompt {
    let mut messages = vec![Message::new("system", instruction_text(instruction))];
    if demos == 1 {
        for (user, assistant) in DEMOS {
            messages.push(Message::new("user", user));
            messages.push(Message::new("assistant", assistant));
        }
    }
    messages.push(Message::new("user", user_message("{query}", "{available_intents}")));
    let name = INSTRUCTIONS[instruction as usize].0;
    let label = if demos == 0 { name.to_owned() } else { format!("{name}, {} demos", DEMOS.len()) };
    ExamplePrompt { instruction, demos, label, messages }
}

fn instruction_text(instruction: u32) -> String {
    match INSTRUCTIONS[instruction as usize].1 {
        "" => BASELINE.replacen(REPLACED, REPLACEMENT, 1),
        text => text.to_owned(),
    }
}

/// The eleven candidates beside the baseline, as the candidates route of the service takes them.
pub(crate) fn example_candidates() -> Vec<Value> {
    example_prompts().iter().skip(1).map(candidate).collect()
}

fn candidate(prompt: &ExamplePrompt) -> Value {
    json!({
        "deltas": deltas(prompt),
        "params": {"instruction": prompt.instruction, "demos": prompt.demos},
        "metadata": {"label": prompt.label},
    })
}

fn deltas(prompt: &ExamplePrompt) -> Value {
    let replaced = INSTRUCTIONS[prompt.instruction as usize].1.is_empty();
    if replaced && prompt.demos == 0 {
        // One in the form that clients in the wild send.
        let replacement = json!({
            "old_text": REPLACED, "new_text": REPLACEMENT, "apply_to_role": "system", "apply_to_order": 0,
        });
        return json!({"transformation": {"text_replacements": [replacement], "example_injections": []}});
    }
    let mut deltas = serde_json::Map::new();
    if prompt.instruction != 0 {
        deltas.insert("instruction_text".to_owned(), json!(instruction_text(prompt.instruction)));
    }
    if prompt.demos == 1 {
        let pairs = DEMOS.map(|(user, assistant)| json!({"user": user, "assistant": assistant}));
        deltas.insert("demos".to_owned(), json!(pairs));
    }
    Value::Object(deltas)
}

#[cfg(test)]
mod tests;

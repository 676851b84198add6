//! What the mock says: the right label as often as its accuracy has it, else another one.

use rand::Rng;
use serde_json::{Value, json};

use super::Mock;
use super::plan::Call;
use crate::dataset::Found;
use crate::draw;
use crate::openai::Message;
use crate::task_app::prompt::{AFTER_QUERY, BEFORE_QUERY};

/// A question.
pub(super) struct Asked<'a> {
    pub(super) messages: &'a [Message],
    /// The tool to answer through: its name and the argument to fill.
    pub(super) tool: Option<&'a (String, String)>,
    pub(super) call: Call,
}

/// An answer: a tool call, or a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Name, and arguments as a JSON string.
    pub(super) tool_call: Option<(String, String)>,
    /// Empty beside a tool call.
    pub(super) text: String,
    /// Whether it is right; `None` where no known query was asked.
    pub(super) correct: Option<bool>,
}

pub(super) fn answer(mock: &Mock, asked: &Asked<'_>) -> Answer {
    let found = query_of(mock, asked.messages);
    let (label, correct) = match found {
        Some(found) => {
            let p = mock.accuracy.probability(asked.messages, found.text);
            let correct = mock.accuracy.luck(asked.call.key) < p;
            let label = if correct { found.label } else { wrong_label(mock, found.label, asked.call) };
            (label, Some(correct))
        }
        None => (any_label(mock, asked.call), None),
    };
    let label = &mock.dataset.labels()[label];
    match asked.tool {
        Some((name, argument)) => {
            let arguments = Value::Object([(argument.clone(), json!(label))].into_iter().collect());
            Answer { tool_call: Some((name.clone(), arguments.to_string())), text: String::new(), correct }
        }
        None if found.is_some() => Answer { tool_call: None, text: label.clone(), correct },
        None => Answer { tool_call: None, text: proposal(mock, asked.call), correct },
    }
}

/// The known query in the last user message: where the task app's frame says, as the whole message, or anywhere in it.
fn query_of<'a>(mock: &'a Mock, messages: &[Message]) -> Option<Found<'a>> {
    let text = &messages.iter().rfind(|message| message.role == "user")?.content;
    let framed = text.split_once(BEFORE_QUERY).and_then(|(_, rest)| rest.rsplit_once(AFTER_QUERY));
    framed
        .and_then(|(query, _)| mock.index.exact(query))
        .or_else(|| mock.index.exact(text))
        .or_else(|| mock.index.within(text))
}

fn wrong_label(mock: &Mock, right: usize, call: Call) -> usize {
    let others = mock.dataset.labels().len() - 1;
    if others == 0 {
        return right;
    }
    let drawn = draw::stream(mock.seed, "wrong", &call.key.to_le_bytes()).random_range(0..others);
    // Steps over the right one.
    drawn + usize::from(drawn >= right)
}

fn any_label(mock: &Mock, call: Call) -> usize {
    draw::stream(mock.seed, "any", &call.key.to_le_bytes()).random_range(0..mock.dataset.labels().len())
}

/// What the mock proposes when it is asked for an instruction: an opening and two pieces of advice, good or bad.
fn proposal(mock: &Mock, call: Call) -> String {
    const OPENING: &str = "Read the bank customer's message and answer with exactly one label from the list.";
    const ADVICE: [&str; 6] = [
        "Choose the label with the closest meaning to the whole message.",
        "Distinguish labels that look alike before you choose.",
        "Ask yourself what the customer wants to have done.",
        "Work step by step.",
        "Go by the keywords of the message.",
        "Answer quickly.",
    ];
    let mut rng = draw::stream(mock.seed, "proposal", &call.key.to_le_bytes());
    let first = rng.random_range(0..ADVICE.len());
    let second = (first + rng.random_range(1..ADVICE.len())) % ADVICE.len();
    format!("{OPENING} {} {}", ADVICE[first], ADVICE[second])
}

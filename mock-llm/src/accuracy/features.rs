//! What a prompt is judged by.

use std::collections::HashSet;

use crate::openai::Message;

/// More text than this tires the model.
const LONG_CHARS: usize = 1_500;
/// Less than this is no instruction.
const TERSE_CHARS: usize = 40;
/// More pairs than this crowd the query out.
const DEMOS_CROWDED: usize = 16;

/// A property of prompts and what it is worth, in units of the logit.
#[derive(Clone, Copy)]
pub(super) struct Feature {
    /// Seeds its weight; must be unique.
    pub(super) name: &'static str,
    /// The weight before the seed varies it.
    pub(super) weight: f64,
    /// From 0 (absent) to 1 (wholly there).
    pub(super) value: fn(&Features) -> f64,
}

const fn feature(name: &'static str, weight: f64, value: fn(&Features) -> f64) -> Feature {
    Feature { name, weight, value }
}

/// All that counts, what helps most first.
pub(super) const FEATURES: [Feature; 14] = [
    feature("closest meaning", 0.55, |f| f.says(&["closest meaning", "closest in meaning"])),
    feature("distinguish", 0.5, |f| f.says(&["distinguish", "tell apart"])),
    feature("demos", 0.5, Features::demos_taught),
    feature("customer's aim", 0.3, |f| f.says(&["what the customer wants", "customer's aim"])),
    feature("step by step", 0.2, |f| f.says(&["step by step"])),
    feature("exactly one", 0.15, |f| f.says(&["exactly one label"])),
    feature("verbatim", 0.1, |f| f.says(&["exactly as written", "word for word"])),
    feature("long", -0.25, |f| share(f.system.chars().count() > LONG_CHARS)),
    feature("terse", -0.3, |f| share(f.system.trim().chars().count() < TERSE_CHARS)),
    feature("crowded", -0.3, |f| share(f.demo_answers.len() > DEMOS_CROWDED)),
    feature("hurry", -0.35, |f| f.says(&["quickly", "don't think"])),
    feature("one-sided demos", -0.4, |f| share(f.is_one_sided())),
    feature("keywords", -0.6, |f| f.says(&["keyword"])),
    feature("careless", -0.65, |f| f.says(&["first label", "be creative", "make up a label", "any label"])),
];

/// A prompt, as far as it counts.
pub(super) struct Features {
    /// All system messages, in lower case.
    system: String,
    /// The answers of the few-shot pairs.
    demo_answers: Vec<String>,
}

impl Features {
    pub(super) fn of(messages: &[Message]) -> Self {
        let mut system = String::new();
        for message in messages.iter().filter(|m| matches!(m.role.as_str(), "system" | "developer")) {
            system.push_str(&message.content.to_lowercase());
            system.push('\n');
        }
        let before_last_user = messages.iter().rposition(|m| m.role == "user").unwrap_or(messages.len());
        let demo_answers = messages[..before_last_user]
            .windows(2)
            .filter(|pair| pair[0].role == "user" && pair[1].role == "assistant")
            .map(|pair| pair[1].content.trim().to_lowercase())
            .collect();
        Self { system, demo_answers }
    }

    fn says(&self, phrases: &[&str]) -> f64 {
        share(phrases.iter().any(|phrase| self.system.contains(phrase)))
    }

    fn is_one_sided(&self) -> bool {
        let distinct: HashSet<&String> = self.demo_answers.iter().collect();
        self.demo_answers.len() > 1 && distinct.len() == 1
    }

    /// Each further pair teaches less than the one before; a label that was shown already teaches nothing.
    fn demos_taught(&self) -> f64 {
        let distinct: HashSet<&String> = self.demo_answers.iter().collect();
        1.0 - (-0.5 * distinct.len() as f64).exp()
    }
}

fn share(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

//! How likely a prompt makes the mock answer right: a seeded logit of what the prompt says and what is asked.
//!
//! `logit P(correct) = intercept + Σ weight × feature(system message, demos) − difficulty(query)`
//!
//! The features are phrases that a reader would expect to help or to hurt, and the number and variety of few-shot
//! demos. Weights vary by a few percent with the seed; difficulties are standard normal. Because all of it is known,
//! so is each prompt's true mean ([`Accuracy::true_mean`]), which no real model would tell.

mod features;

use crate::dataset::Example;
use crate::draw;
pub use crate::openai::Message;
use features::{FEATURES, Features};

/// Puts the task app's baseline prompt at about 0.65 over the data set.
const INTERCEPT: f64 = 0.65;
/// Weights lie within this share of their nominal value.
const WEIGHT_SPREAD: f64 = 0.15;

/// The model's accuracy for one seed. Pure: the same seed, prompt and query give the same probability.
#[derive(Debug, Clone)]
pub struct Accuracy {
    seed: u64,
    weights: [f64; FEATURES.len()],
}

impl Accuracy {
    /// The accuracy that this seed stands for.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let weights = FEATURES.map(|feature| {
            let u = draw::uniform(seed, "weight", feature.name.as_bytes());
            feature.weight * (1.0 + WEIGHT_SPREAD * (2.0 * u - 1.0))
        });
        Self { seed, weights }
    }

    /// How likely these messages make the model answer this query right.
    ///
    /// What counts are the system messages and the few-shot pairs before the last user message; that last message may
    /// be a template or filled in.
    #[must_use]
    pub fn probability(&self, messages: &[Message], query: &str) -> f64 {
        self.at(self.merit(messages), query)
    }

    /// The mean of [`Accuracy::probability`] over these examples: what a reward converges to. `NaN` over none.
    #[must_use]
    pub fn true_mean(&self, messages: &[Message], examples: &[Example]) -> f64 {
        let merit = self.merit(messages);
        let sum: f64 = examples.iter().map(|example| self.at(merit, &example.text)).sum();
        sum / examples.len() as f64
    }

    /// The draw, uniform on [0, 1), that a call's probability is held against.
    ///
    /// It depends on the call's key, not on the prompt: of two prompts, the better one is right wherever the worse is.
    #[must_use]
    pub fn luck(&self, key: u64) -> f64 {
        draw::uniform(self.seed, "luck", &key.to_le_bytes())
    }

    /// What the prompt adds up to, before any query.
    fn merit(&self, messages: &[Message]) -> f64 {
        let features = Features::of(messages);
        let sum: f64 = self
            .weights
            .iter()
            .zip(FEATURES)
            .map(|(weight, feature)| weight * (feature.value)(&features))
            .sum();
        INTERCEPT + sum
    }

    fn at(&self, merit: f64, query: &str) -> f64 {
        let difficulty = draw::normal(&mut draw::stream(self.seed, "difficulty", query.trim().as_bytes()));
        1.0 / (1.0 + (difficulty - merit).exp())
    }
}

#[cfg(test)]
mod tests;

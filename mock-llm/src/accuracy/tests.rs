use proptest::prelude::*;

use super::*;
use crate::dataset::Dataset;

const BASE: &str = "Read the message of the bank's customer and name its intent from the list.";

fn prompt(system: &str, demos: &[(&str, &str)]) -> Vec<Message> {
    let mut messages = vec![Message::new("system", system)];
    for (user, assistant) in demos {
        messages.push(Message::new("user", *user));
        messages.push(Message::new("assistant", *assistant));
    }
    messages.push(Message::new("user", "Customer query:\n{query}"));
    messages
}

fn mean(system: &str, demos: &[(&str, &str)]) -> f64 {
    Accuracy::new(11).true_mean(&prompt(system, demos), Dataset::builtin().train())
}

#[test]
fn good_advice_helps_and_bad_advice_hurts() {
    let base = mean(BASE, &[]);
    for advice in [
        "Take the closest meaning.",
        "Distinguish what looks alike.",
        "Work step by step.",
        "EXACTLY ONE LABEL",
    ] {
        assert!(mean(&format!("{BASE} {advice}"), &[]) > base, "{advice}");
    }
    for advice in ["Go by keywords.", "Answer quickly.", "Take the first label.", "Be creative."] {
        assert!(mean(&format!("{BASE} {advice}"), &[]) < base, "{advice}");
    }
    assert!(mean("Label it.", &[]) < base, "too little to go by");
    assert!(mean(&format!("{BASE} {}", "More words. ".repeat(200)), &[]) < base, "too much to read");
}

#[test]
fn varied_demos_help_and_one_sided_ones_hurt() {
    let base = mean(BASE, &[]);
    let one = mean(BASE, &[("a", "x")]);
    let three = mean(BASE, &[("a", "x"), ("b", "y"), ("c", "z")]);
    let one_sided = mean(BASE, &[("a", "x"), ("b", "x"), ("c", "X ")]);
    assert!(base < one && one < three, "{base} {one} {three}");
    assert!(one_sided < base, "{one_sided} {base}");
}

#[test]
fn only_system_messages_and_demos_count() {
    let accuracy = Accuracy::new(11);
    let mut messages = prompt(BASE, &[]);
    let before = accuracy.probability(&messages, "q");
    messages[1].content = "Distinguish! The closest meaning, step by step, from this list:".to_owned();
    assert_eq!(accuracy.probability(&messages, "q"), before);
    messages.push(Message::new("assistant", "the answer after the last question is no demo"));
    assert_eq!(accuracy.probability(&messages, "q"), before);
    messages[0].role = "developer".to_owned();
    assert_eq!(accuracy.probability(&messages, "q"), before);
}

#[test]
fn the_true_mean_is_the_mean_of_the_probabilities() {
    let (accuracy, set) = (Accuracy::new(4), Dataset::builtin());
    let messages = prompt(BASE, &[("a", "x")]);
    let sum: f64 = set.test().iter().map(|example| accuracy.probability(&messages, &example.text)).sum();
    let mean = accuracy.true_mean(&messages, set.test());
    assert!((mean - sum / set.test().len() as f64).abs() < 1e-12);
}

#[test]
fn draws_against_the_probability_come_out_at_the_true_mean() {
    let (accuracy, set) = (Accuracy::new(4), Dataset::builtin());
    let messages = prompt(BASE, &[]);
    let calls = 20_000;
    let right = (0..calls)
        .filter(|key| {
            let example = &set.train()[*key as usize % set.train().len()];
            accuracy.luck(*key) < accuracy.probability(&messages, &example.text)
        })
        .count();
    let (seen, told) = (right as f64 / calls as f64, accuracy.true_mean(&messages, set.train()));
    // Four standard errors of a share of 20,000 draws.
    assert!((seen - told).abs() < 0.014, "seen {seen}, true {told}");
}

#[test]
fn seeds_disagree_on_difficulty_and_weights() {
    let messages = prompt(&format!("{BASE} Distinguish."), &[]);
    let of = |seed| Accuracy::new(seed).probability(&messages, "where is it?");
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
    assert_ne!(Accuracy::new(1).weights, Accuracy::new(2).weights);
}

proptest! {
    #[test]
    fn probabilities_are_probabilities(seed: u64, system in ".{0,80}", answer in ".{0,10}", query in ".{0,80}") {
        let p = Accuracy::new(seed).probability(&prompt(&system, &[("d", &answer)]), &query);
        prop_assert!(p > 0.0 && p < 1.0, "{p}");
    }

    #[test]
    fn luck_is_uniform_on_the_unit_interval(seed: u64, key: u64) {
        prop_assert!((0.0..1.0).contains(&Accuracy::new(seed).luck(key)));
    }
}

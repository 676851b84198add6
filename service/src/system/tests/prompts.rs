//! Recovering wildcards from texts.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::system::prompt::fill;
use crate::system::{Bindings, Message, Prompt, match_prompt};

fn prompt(patterns: &[&str]) -> Prompt {
    let messages: Vec<Value> = patterns.iter().map(|p| json!({"role": "user", "pattern": p})).collect();
    serde_json::from_value(json!({"messages": messages})).unwrap()
}

fn matched(patterns: &[&str], texts: &[&str]) -> Option<Vec<(String, String)>> {
    let message = |text: &&str| Message { role: "user".to_owned(), text: Some((*text).to_owned()) };
    let messages: Vec<Message> = texts.iter().map(message).collect();
    match_prompt(&prompt(patterns), &messages).map(|bindings| bindings.into_iter().collect())
}

fn one(pattern: &str, text: &str) -> Option<Vec<(String, String)>> {
    matched(&[pattern], &[text])
}

fn pairs(expected: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
    Some(expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect())
}

#[test]
fn literals_must_fit_and_both_ends_are_anchored() {
    assert_eq!(one("Hello", "Hello"), pairs(&[]));
    assert_eq!(one("Q: {q}", "Q: why?"), pairs(&[("q", "why?")]));
    assert_eq!(one("Q: {q}!", "Q: why!?!"), pairs(&[("q", "why!?")]));
    for (pattern, text) in
        [("Hello", "Hello "), ("Hello", " Hello"), ("Q: {q}", "q: x"), ("{q}.", "x"), ("a{q}a", "a")]
    {
        assert_eq!(one(pattern, text), None, "{pattern} {text}");
    }
}

#[test]
fn several_wildcards_take_as_little_as_they_can_and_the_last_takes_the_rest() {
    assert_eq!(one("{a}, {b}", "1, 2, 3"), pairs(&[("a", "1"), ("b", "2, 3")]));
    assert_eq!(one("<{a}>{b}</{c}>", "<x>y</z>"), pairs(&[("a", "x"), ("b", "y"), ("c", "z")]));
    assert_eq!(one("{a}{b}", "12"), pairs(&[("a", ""), ("b", "12")]));
    assert_eq!(one("{a}ab", "xaab"), pairs(&[("a", "xa")]), "a shorter match would leave text over");
}

#[test]
fn a_long_text_that_stands_many_times_is_not_written_out_to_be_looked_for() {
    let long = "x".repeat(1 << 20);
    // 64 GiB.
    let many = format!("{{b}}{}", "{a}".repeat(1 << 16));
    assert_eq!(matched(&["{a}", &many], &[&long, "y"]), None);
}

#[test]
fn a_wildcard_that_stands_twice_must_say_the_same() {
    assert_eq!(one("{a} is {a}", "it is it"), pairs(&[("a", "it")]));
    assert_eq!(one("{a} is {a}", "it is not"), None);
    assert_eq!(matched(&["{a}", "again {a}{b}"], &["x", "again xy"]), pairs(&[("a", "x"), ("b", "y")]));
}

#[test]
fn braces_that_are_no_wildcard_are_literals() {
    let json = r#"Answer {"intent": "{label}"} or {}"#;
    assert_eq!(one(json, r#"Answer {"intent": "lost"} or {}"#), pairs(&[("label", "lost")]));
    assert_eq!(one("{{q}}", "{why}"), pairs(&[("q", "why")]));
    let declared: Prompt = serde_json::from_value(json!({
        "messages": [{"role": "user", "pattern": "{two words}"}], "wildcards": {"two words": "REQUIRED"}}))
    .unwrap();
    let message = Message { role: "user".to_owned(), text: Some("x".to_owned()) };
    assert_eq!(match_prompt(&declared, &[message]).unwrap()["two words"], "x");
}

#[test]
fn roles_texts_and_numbers_of_messages_must_fit_but_later_turns_may_follow() {
    assert_eq!(matched(&["a", "b"], &["a"]), None);
    assert_eq!(matched(&["a", "b"], &["a", "b", "c"]), pairs(&[]));
    assert_eq!(matched(&[], &["a"]), None, "a prompt without messages matches nothing");
    let prompt = prompt(&["a"]);
    assert_eq!(
        match_prompt(&prompt, &[Message { role: "system".to_owned(), text: Some("a".to_owned()) }]),
        None
    );
    assert_eq!(match_prompt(&prompt, &[Message { role: "user".to_owned(), text: None }]), None);
}

#[test]
fn prompts_are_read_leniently_and_put_in_order() {
    let prompt: Prompt = serde_json::from_value(json!({
        "messages": [{"role": "user", "order": 5, "pattern": "second", "x": 1}, {"role": "system", "order": 2, "content": "first"}],
        "wildcards": {"a": "REQUIRED", "b": true}, "unknown": {}}))
    .unwrap();
    let order: Vec<_> = prompt.messages.iter().map(|m| (m.order, m.pattern.as_str())).collect();
    assert_eq!(order, [(2, "first"), (5, "second")]);
    assert_eq!(prompt.wildcards["b"], "true");
    let back: Prompt = serde_json::from_str(&serde_json::to_string(&prompt).unwrap()).unwrap();
    assert_eq!(back, prompt);
}

#[test]
fn matching_takes_linear_time() {
    // A backtracking matcher would need more steps than there is time: 40 wildcards, each behind a literal that the
    // text is full of, and an end that never fits.
    let pattern: String = (0..40).map(|index| format!("a{{w{index}}}")).collect::<String>() + "b";
    let text = "a".repeat(100_000);
    assert_eq!(one(&pattern, &text), None);
    assert!(one(&pattern, &(text + "b")).is_some());
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![Just("{a}".to_owned()), Just("{b}".to_owned()), Just("{c}".to_owned()), "[ab ,{}]{0,3}",]
}

proptest! {
    /// Whatever is recovered, filling it in again gives the text; so rendering never changes what it should not.
    #[test]
    fn recovered_wildcards_reproduce_the_text(
        pieces in prop::collection::vec(piece(), 0..6),
        text in "[ab ,{}]{0,24}",
    ) {
        let pattern = pieces.concat();
        let prompt = prompt(&[&pattern]);
        let message = Message { role: "user".to_owned(), text: Some(text.clone()) };
        if let Some(bindings) = match_prompt(&prompt, &[message]) {
            prop_assert_eq!(fill(&prompt, &pattern, &bindings), text);
        }
    }

    /// A text made from the pattern matches it, as long as no wildcard stands twice.
    #[test]
    fn a_text_made_from_the_pattern_matches(
        literals in prop::collection::vec("[ab ,]{0,3}", 4),
        values in prop::collection::vec("[ab ,{}]{0,6}", 3),
    ) {
        let pattern = format!("{}{{a}}{}{{b}}{}{{c}}{}", literals[0], literals[1], literals[2], literals[3]);
        let prompt = prompt(&[&pattern]);
        let bindings: Bindings =
            ["a", "b", "c"].into_iter().map(str::to_owned).zip(values).collect();
        let text = fill(&prompt, &pattern, &bindings);
        let message = Message { role: "user".to_owned(), text: Some(text.clone()) };
        let recovered = match_prompt(&prompt, &[message]);
        prop_assert!(recovered.is_some(), "{} does not match {}", text, pattern);
        prop_assert_eq!(fill(&prompt, &pattern, &recovered.unwrap()), text);
    }
}

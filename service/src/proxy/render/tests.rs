//! What candidates do to messages, and what they leave alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{TooLarge, render};
use crate::system::{CandidateContent, Prompt, RolloutReply, SystemSpec};

fn prompt() -> Prompt {
    serde_json::from_value(json!({
        "id": "p", "name": "P",
        "messages": [
            {"role": "system", "order": 0, "pattern": "Answer with one label."},
            {"role": "user", "order": 1, "pattern": "Query: {query}\nLabels:\n{labels}"},
        ],
        "wildcards": {"query": "REQUIRED", "labels": "OPTIONAL"},
    }))
    .unwrap()
}

fn reply(prompt: Prompt, deltas: Value, stage_payloads: Value) -> RolloutReply {
    let prompt = Arc::new(prompt);
    RolloutReply {
        candidate_id: "c".to_owned(),
        content: Arc::new(CandidateContent { deltas, stage_payloads, ..CandidateContent::default() }),
        prompt: Arc::clone(&prompt),
        spec: Arc::new(SystemSpec { prompt, ..SystemSpec::default() }),
        probability: Some(0.5),
        matched: true,
        sticky: false,
        version: 3,
    }
}

fn sent() -> Vec<Value> {
    vec![
        json!({"role": "system", "content": "Answer with one label."}),
        json!({"role": "user", "content": "Query: lost card\nLabels:\n1. lost\n2. found", "name": "ada"}),
    ]
}

fn rendered(reply: &RolloutReply, messages: &[Value]) -> Option<Value> {
    bounded(reply, messages, 1 << 20).unwrap()
}

fn bounded(reply: &RolloutReply, messages: &[Value], bytes_max: usize) -> Result<Option<Value>, TooLarge> {
    let raws: Vec<Box<RawValue>> =
        messages.iter().map(|m| serde_json::value::to_raw_value(m).unwrap()).collect();
    let borrowed: Vec<&RawValue> = raws.iter().map(|raw| &**raw).collect();
    let text = render(reply, &borrowed, bytes_max)?;
    Ok(text.map(|text| serde_json::from_str(&text).unwrap()))
}

fn with(deltas: Value) -> Value {
    rendered(&reply(prompt(), deltas, Value::Null), &sent()).unwrap()
}

#[test]
fn a_text_that_a_candidate_repeats_without_end_is_refused_before_it_takes_memory() {
    let mut messages = sent();
    let query = "x".repeat(1 << 20);
    messages[1]["content"] = format!("Query: {query}\nLabels:\n1. lost").into();
    // 64 GiB.
    let bomb = reply(prompt(), json!({"text": "{query}".repeat(1 << 16)}), Value::Null);
    let refusal = bounded(&bomb, &messages, 16 << 20).unwrap_err();
    assert_eq!(refusal, TooLarge { bytes: 64 << 30, bytes_max: 16 << 20 });
    let fits = reply(prompt(), json!({"text": "{query}{query}"}), Value::Null);
    assert!(bounded(&fits, &messages, 2 << 20).unwrap().is_some());
    assert!(bounded(&fits, &messages, (2 << 20) - 1).is_err());
}

#[test]
fn an_instruction_replaces_the_system_message_under_each_of_its_names() {
    for name in ["instruction_text", "text", "content"] {
        let out = with(json!({name: "Think, then answer."}));
        assert_eq!(out[0], json!({"role": "system", "content": "Think, then answer."}), "{name}");
        assert_eq!(out[1], sent()[1], "{name}: the user message is not touched");
    }
}

#[test]
fn stage_payloads_hold_instructions_as_text_or_lines_and_win_over_deltas() {
    let stage = |payload: Value| {
        let reply = reply(prompt(), json!({"text": "from deltas"}), json!({"main": payload}));
        rendered(&reply, &sent()).unwrap()[0]["content"].clone()
    };
    assert_eq!(stage(json!({"stage_id": "main", "instruction_text": "from text"})), "from text");
    assert_eq!(stage(json!({"instruction_text": "", "instruction_lines": ["a", "b"]})), "a\nb");
    assert_eq!(stage(json!({"instruction_lines": [], "demo_indices": []})), "from deltas");
}

#[test]
fn text_replacements_keep_to_their_role_and_order() {
    let replace = |item: Value| {
        with(json!({"transformation": {"text_replacements": [item], "example_injections": []}}))
    };
    let out = replace(
        json!({"old_text": "one label", "new_text": "the label", "apply_to_role": "system", "apply_to_order": 0}),
    );
    assert_eq!(out[0]["content"], "Answer with the label.");
    let out = replace(json!({"old_text": "Labels:", "new_text": "Choices:"}));
    assert_eq!(
        out[1],
        json!({"role": "user", "name": "ada", "content": "Query: lost card\nChoices:\n1. lost\n2. found"})
    );
    let elsewhere = json!({"transformation": {"text_replacements": [
        {"old_text": "Labels:", "new_text": "x", "apply_to_role": "system"},
        {"old_text": "Labels:", "new_text": "x", "apply_to_order": 7},
        {"old_text": "", "new_text": "x"}]}});
    assert_eq!(
        rendered(&reply(prompt(), elsewhere, Value::Null), &sent()),
        None,
        "nothing to replace: goes through"
    );
}

#[test]
fn replacements_work_on_patterns_never_on_what_wildcards_brought() {
    let out =
        with(json!({"transformation": {"text_replacements": [{"old_text": "lost", "new_text": "LOST"}],
        "example_injections": [{"input": "i", "output": "o"}]}}));
    assert_eq!(out[3]["content"], sent()[1]["content"]);
}

#[test]
fn messages_are_replaced_by_order_and_added_where_there_is_none() {
    let out = with(json!({"messages": [
        {"order": 1, "pattern": "{labels}\n\n{query}"},
        {"order": 2, "role": "assistant", "content": "The label is"}]}));
    assert_eq!(out[1], json!({"role": "user", "name": "ada", "content": "1. lost\n2. found\n\nlost card"}));
    assert_eq!(out[2], json!({"role": "assistant", "content": "The label is"}));
}

#[test]
fn demos_stand_before_the_last_user_message_of_the_prompt() {
    let mut messages = sent();
    messages.push(json!({"role": "assistant", "content": null, "tool_calls": [{"id": "t"}]}));
    messages.push(json!({"role": "tool", "tool_call_id": "t", "content": "no"}));
    messages.push(json!({"role": "user", "content": "again"}));
    let deltas =
        json!({"demos": [{"user": "u1", "assistant": "a1"}, {"input": "u2", "output": {"intent": "x"}}]});
    let out = rendered(&reply(prompt(), deltas, Value::Null), &messages).unwrap();
    let out = out.as_array().unwrap();
    let said: Vec<_> =
        out.iter().map(|m| (m["role"].as_str().unwrap(), m["content"].as_str().unwrap_or("–"))).collect();
    assert_eq!(
        &said[1..5],
        [("user", "u1"), ("assistant", "a1"), ("user", "u2"), ("assistant", r#"{"intent":"x"}"#)]
    );
    assert_eq!(out[5..], messages[1..], "the user message and the later turns stay as they are");
}

#[test]
fn a_prompt_without_a_system_message_gets_one_in_front() {
    let mut prompt = prompt();
    prompt.messages.remove(0);
    let out = rendered(&reply(prompt, json!({"text": "New."}), Value::Null), &sent()[1..]).unwrap();
    assert_eq!(out[0], json!({"role": "system", "content": "New."}));
    assert_eq!(out[1], sent()[1]);
}

#[test]
fn wildcards_are_refilled_and_unknown_names_stay() {
    let out = with(json!({"text": "Pick one of {labels}; say {\"x\": {other}}."}));
    assert_eq!(out[0]["content"], "Pick one of 1. lost\n2. found; say {\"x\": {other}}.");
}

#[test]
fn what_does_not_come_from_the_prompt_goes_through() {
    let reply = reply(prompt(), json!({"text": "New."}), Value::Null);
    let mut other = sent();
    other[0]["content"] = json!("Something else.");
    let parts = |text: &str| json!([{"type": "text", "text": text}]);
    let mut multimodal = sent();
    multimodal[1]["content"] = parts("Query: lost card\nLabels:\n1");
    for messages in [&other[..], &multimodal, &sent()[..1], &[]] {
        assert_eq!(rendered(&reply, messages), None);
    }
    assert_eq!(
        rendered(&self::reply(prompt(), Value::Null, json!({})), &sent()),
        None,
        "baseline changes nothing"
    );
}

/// Text that can't be mistaken for the literals around it.
fn free_text() -> impl Strategy<Value = String> {
    "[a-z0-9 äé\u{1F600}\"\\\\{}]{0,40}"
}

proptest! {
    #[test]
    fn rewriting_patterns_as_they_are_gives_the_same_text(query in free_text(), labels in free_text()) {
        let identity = json!({
            "messages": [{"order": 1, "pattern": "Query: {query}\nLabels:\n{labels}"}],
            "demos": [{"user": "u", "assistant": "a"}],
        });
        let text = format!("Query: {query}\nLabels:\n{labels}");
        let messages = [sent()[0].clone(), json!({"role": "user", "content": text})];
        let out = rendered(&reply(prompt(), identity, Value::Null), &messages).unwrap();
        prop_assert_eq!(&out[3], &messages[1]);
    }

    #[test]
    fn any_candidate_content_renders_without_panic(deltas in any_deltas()) {
        let content = CandidateContent { deltas, ..CandidateContent::default() };
        if content.validate(&prompt()).is_ok() {
            let reply = reply(prompt(), content.deltas, Value::Null);
            if let Some(out) = rendered(&reply, &sent()) {
                prop_assert!(out.as_array().is_some_and(|messages| !messages.is_empty()));
            }
        }
    }
}

fn any_deltas() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i8>().prop_map(Value::from),
        "[a-z{}]{0,8}".prop_map(Value::from),
        Just(json!({"user": "{query}", "assistant": "a"})),
        Just(json!({"order": 1, "pattern": "{query}{labels}"})),
        Just(json!({"old_text": "a", "new_text": ""})),
    ];
    let names = prop::sample::select(vec![
        "text",
        "messages",
        "demos",
        "transformation",
        "text_replacements",
        "example_injections",
        "examples",
        "other",
    ]);
    let tree = leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names.clone().prop_map(str::to_owned), inner, 0..4)
                .prop_map(|fields: BTreeMap<String, Value>| json!(fields)),
        ]
    });
    tree.prop_filter("an object", Value::is_object)
}

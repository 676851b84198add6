//! Wire contract: `POST …/candidates`, and what the LLM sees of them.

use serde_json::{Value, json};

use super::common::*;
use super::upstream::Keeper;

/// Registers one candidate in a world whose LLM keeps what it sees, and asks until it is chosen.
async fn seen_with(candidate: Value) -> Vec<Value> {
    let llm = Keeper::new().await;
    let world = World::with("actor", &["--upstream", &llm.url], "");
    let job = world.client.small_job().await;
    let (status, added) = world.client.add(&job, candidate).await;
    assert_eq!(status, 200, "{added}");
    for index in 0..64 {
        let answer = world.client.ask(&job, &format!("r{index}")).await;
        let chosen = answer.headers()["x-mipro-candidate-id"].to_str().unwrap().to_owned();
        if added["candidate_id"] == chosen.as_str() {
            return llm.last().json()["messages"].as_array().unwrap().clone();
        }
        let report = json!({"rollout_id": format!("r{index}"), "status": "reward_done", "reward": 0.0});
        world.client.status(&job, report).await;
    }
    panic!("the candidate was never chosen in 64 rollouts")
}

fn texts(messages: &[Value]) -> Vec<(String, String)> {
    let text = |m: &Value, f: &str| m[f].as_str().unwrap().to_owned();
    messages.iter().map(|m| (text(m, "role"), text(m, "content"))).collect()
}

fn pair(role: &str, text: &str) -> (String, String) {
    (role.to_owned(), text.to_owned())
}

const USER: &str = "Question: why? Choices: a, b";

#[tokio::test]
async fn instruction_text_and_its_aliases_replace_the_system_message() {
    for field in ["instruction_text", "text", "content"] {
        let messages = seen_with(json!({"deltas": {field: "Answer in one word."}})).await;
        assert_eq!(texts(&messages), [pair("system", "Answer in one word."), pair("user", USER)], "{field}");
    }
}

#[tokio::test]
async fn messages_are_replaced_by_order_with_wildcards_filled_again() {
    let deltas = json!({"deltas": {"messages": [{"role": "user", "order": 1, "pattern": "Pick from {choices}: {query}"}]}});
    let messages = seen_with(deltas).await;
    assert_eq!(
        texts(&messages),
        [pair("system", "Say what is asked."), pair("user", "Pick from a, b: why?")]
    );
}

#[tokio::test]
async fn demos_stand_before_the_last_user_message() {
    let deltas = json!({"deltas": {"demos": [{"user": "when?", "assistant": "now"}]}});
    let messages = seen_with(deltas).await;
    let expected = [
        pair("system", "Say what is asked."),
        pair("user", "when?"),
        pair("assistant", "now"),
        pair("user", USER),
    ];
    assert_eq!(texts(&messages), expected);
}

#[tokio::test]
async fn text_replacements_as_clients_in_the_wild_send_them() {
    let candidate = json!({"deltas": {"transformation": {"text_replacements": [
        {"old_text": "what is asked", "new_text": "the answer", "apply_to_role": "system", "apply_to_order": 0}],
        "example_injections": []}}, "metadata": {"label": "shorter"}});
    assert_eq!(texts(&seen_with(candidate).await)[0], pair("system", "Say the answer."));
}

#[tokio::test]
async fn stage_payloads_carry_instructions_too() {
    let candidate = json!({"stage_payloads": {"main": {"stage_id": "main", "module_id": "m", "instruction_text": "From a stage.",
        "instruction_indices": [1], "instruction_lines": ["From a stage."], "demo_indices": [], "baseline_messages": []}}});
    assert_eq!(texts(&seen_with(candidate).await)[0], pair("system", "From a stage."));
    let lines = json!({"stage_payloads": {"main": {"instruction_lines": ["One.", "Two."]}}});
    assert_eq!(texts(&seen_with(lines).await)[0], pair("system", "One.\nTwo."));
}

#[tokio::test]
async fn deltas_and_stage_payloads_may_come_together() {
    let candidate = json!({"deltas": {"demos": [{"user": "when?", "assistant": "now"}], "of_no_meaning": [1]},
        "stage_payloads": {"main": {"instruction_text": "From a stage."}}, "unknown": {"a": 1}, "metadata": null});
    let expected = [
        pair("system", "From a stage."),
        pair("user", "when?"),
        pair("assistant", "now"),
        pair("user", USER),
    ];
    assert_eq!(texts(&seen_with(candidate).await), expected);
}

#[tokio::test]
async fn a_text_is_replaced_only_in_messages_of_its_role_and_order() {
    let replacement = |role: &str, order: u32| json!({"old_text": "Choices", "new_text": "Answers", "apply_to_role": role, "apply_to_order": order});
    let candidate = |list: Value| json!({"deltas": {"transformation": {"text_replacements": list}}});
    let world = World::new();
    let job = world.client.small_job().await;
    for (list, expected) in [
        (json!([replacement("user", 1)]), "Question: {query} Answers: {choices}"),
        (json!([replacement("system", 1)]), "Question: {query} Choices: {choices}"),
        (json!([replacement("user", 0)]), "Question: {query} Choices: {choices}"),
    ] {
        let (status, added) = world.client.add(&job, candidate(list.clone())).await;
        assert_eq!(status, 200, "{added}");
        let state = world.client.state(&job).await;
        let shown = &state["candidates"][added["candidate_id"].as_str().unwrap()]["baseline_messages"][1];
        assert_eq!(shown["content"], expected, "{list}");
    }
}

#[tokio::test]
async fn wildcards_stand_in_new_instructions_too() {
    let candidate = json!({"deltas": {"instruction_text": "Answer {query} from {choices}, not {nothing}."}});
    let expected = pair("system", "Answer why? from a, b, not {nothing}.");
    assert_eq!(texts(&seen_with(candidate).await)[0], expected);
}

#[tokio::test]
async fn the_same_deltas_are_the_same_candidate() {
    let world = World::new();
    let job = world.client.small_job().await;
    let deltas = json!({"deltas": {"instruction_text": "Once."}});
    let (_, first) = world.client.add(&job, deltas.clone()).await;
    let (status, second) = world.client.add(&job, deltas).await;
    assert_eq!(status, 200);
    assert_eq!(first, second, "the id, and no new version");
    let noted = json!({"deltas": {"instruction_text": "Once."}, "candidate_id": "other", "metadata": {"label": "again"}});
    assert_eq!(
        world.client.add(&job, noted).await.1,
        first,
        "notes and another name make no other candidate"
    );
    let named = json!({"candidate_id": "mine", "deltas": {"instruction_text": "Two."}, "params": {"instruction": 3, "demos": 1}});
    let (_, added) = world.client.add(&job, named).await;
    assert_eq!(added["candidate_id"], "mine");
    assert!(added["version"].as_u64() > first["version"].as_u64());
    let state = world.client.state(&job).await;
    assert_eq!(state["candidates"]["mine"]["params"], json!({"instruction": 3, "demos": 1}));
    assert_eq!(state["candidates"]["mine"]["deltas"]["instruction_text"], "Two.");
    assert_eq!(state["candidates"].as_object().unwrap().len(), 3);
    let taken = json!({"candidate_id": "mine", "deltas": {"instruction_text": "Three."}});
    let (status, refused) = world.client.add(&job, taken).await;
    assert_eq!(status, 409, "a name means one candidate: {refused}");
    error_message(&refused);
}

#[tokio::test]
async fn candidates_of_unknown_systems_are_not_found() {
    let world = World::new();
    let job = world.client.small_job().await;
    for id in ["9e9e9e9e-9e9e-4e9e-8e9e-9e9e9e9e9e9e", "nonsense"] {
        let nobody = Job { system_id: id.to_owned(), ..job.clone() };
        let (status, body) = world.client.add(&nobody, json!({"deltas": {"text": "x"}})).await;
        assert_eq!(status, 404, "{body}");
        for route in ["state", "events"] {
            let (status, body) = world.client.get(&Client::system_path(&nobody, route)).await;
            assert_eq!(status, 404, "{route}: {body}");
            error_message(&body);
        }
    }
}

#[tokio::test]
async fn a_candidate_of_nothing_or_of_nonsense_is_refused() {
    let world = World::new();
    let job = world.client.small_job().await;
    for body in [
        json!({}),
        json!({"deltas": "text"}),
        json!({"deltas": {"instruction_text": 7}}),
        json!({"stage_payloads": [1]}),
        json!({"deltas": {"instruction_text": "x"}, "params": {"instruction": -1}}),
    ] {
        let (status, answer) = world.client.add(&job, body.clone()).await;
        assert_eq!(status, 400, "{body} → {answer}");
        error_message(&answer);
    }
    assert_eq!(world.client.state(&job).await["candidates"].as_object().unwrap().len(), 1);
}

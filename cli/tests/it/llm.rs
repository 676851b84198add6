//! Wire contract: the mock LLM.

use serde_json::{Value, json};

use super::common::*;

#[tokio::test]
async fn chat_responses_and_models_are_openai_shaped() {
    let mock = Role::start(&["mock-llm", "--listen", "127.0.0.1:0", "--latency", "none"], &[]);
    let client = Client::new(&mock.url, "any");
    let (status, chat) = client.post("/v1/chat/completions", &chat("Be brief.", "Hello")).await;
    assert_eq!(status, 200);
    for field in ["id", "object", "created", "model", "choices", "usage"] {
        assert!(!chat[field].is_null(), "no {field} in {chat}");
    }
    assert!(chat["choices"][0]["message"]["content"].is_string());
    let (status, response) = client
        .post("/v1/responses", &json!({"model": "gpt-4.1-mini", "input": "Write an instruction."}))
        .await;
    assert_eq!(status, 200, "{response}");
    assert!(response["id"].is_string() && response["output"].is_array());
    let (status, models) = client.get("/v1/models").await;
    assert_eq!((status.as_u16(), models["object"].as_str()), (200, Some("list")));
    let models = models["data"].as_array().unwrap();
    assert!(
        models.iter().any(|model| model["id"] == "gpt-4.1-nano" && model["object"] == "model"),
        "{models:?}"
    );
    let (status, refused) = client.post("/v1/chat/completions", &json!({"model": "m"})).await;
    assert_eq!(status, 400);
    error_message(&refused);
}

#[tokio::test]
async fn a_forced_tool_is_called() {
    let mock = Role::start(&["mock-llm", "--listen", "127.0.0.1:0", "--latency", "none"], &[]);
    let client = Client::new(&mock.url, "any");
    let mut body = chat("Classify.", "Where is my card?");
    body["tools"] = json!([{"type": "function", "function": {"name": "banking77_classify", "parameters":
        {"type": "object", "properties": {"intent": {"type": "string"}}, "required": ["intent"]}}}]);
    body["tool_choice"] = json!({"type": "function", "function": {"name": "banking77_classify"}});
    let (status, answer) = client.post("/v1/chat/completions", &body).await;
    assert_eq!(status, 200);
    let call = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call["name"], "banking77_classify");
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert!(arguments["intent"].is_string());
}

#[tokio::test]
async fn faults_are_seeded_and_told() {
    let start = || {
        Role::start(
            &[
                "mock-llm",
                "--listen",
                "127.0.0.1:0",
                "--latency",
                "none",
                "--seed",
                "7",
                "--faults",
                "rate-limit=30%,error=30%",
            ],
            &[],
        )
    };
    let mut runs = Vec::new();
    for _ in 0..2 {
        let mock = start();
        let client = Client::new(&mock.url, "any");
        let mut codes = Vec::new();
        for index in 0..60 {
            let request = client.request(reqwest::Method::POST, "/v1/chat/completions").json(&chat("a", "b"));
            let response =
                request.header("x-trace-correlation-id", format!("r-{index}")).send().await.unwrap();
            if response.status() == 429 {
                assert!(response.headers().contains_key("retry-after"));
            }
            codes.push(response.status().as_u16());
        }
        runs.push(codes);
    }
    assert_eq!(runs[0], runs[1], "the same seed, the same faults");
    for code in [200, 429, 500] {
        assert!(runs[0].contains(&code), "no {code} in {:?}", runs[0]);
    }
    let (status, _, stderr) = run(&["mock-llm", "--listen", "127.0.0.1:0", "--faults", "explode=1%"], &[]);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("explode"), "{stderr}");
}

#[tokio::test]
async fn a_stream_says_what_the_whole_answer_says_and_ends_in_done() {
    let mock = Role::start(&["mock-llm", "--listen", "127.0.0.1:0", "--latency", "none"], &[]);
    let client = Client::new(&mock.url, "any");
    let mut body = chat("Be brief.", "Hello");
    let rollout = |body: &Value| {
        let request = client.request(reqwest::Method::POST, "/v1/chat/completions").json(body);
        request.header("x-trace-correlation-id", "run-17").send()
    };
    let whole: Value = rollout(&body).await.unwrap().json().await.unwrap();
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let streamed = rollout(&body).await.unwrap();
    assert!(streamed.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    let text = streamed.text().await.unwrap();
    let mut events: Vec<&str> =
        text.split_terminator("\n\n").map(|e| e.strip_prefix("data: ").unwrap()).collect();
    assert_eq!(events.pop(), Some("[DONE]"));
    let mut said = String::new();
    for event in &events {
        let chunk: Value = serde_json::from_str(event).unwrap();
        for field in ["id", "object", "created", "model", "choices"] {
            assert!(!chunk[field].is_null(), "no {field} in {chunk}");
        }
        assert_eq!(chunk["object"], "chat.completion.chunk");
        said.push_str(chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
    }
    assert!(events.len() > 2, "{text}");
    assert_eq!(said, whole["choices"][0]["message"]["content"].as_str().unwrap());
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["usage"]["prompt_tokens"], whole["usage"]["prompt_tokens"]);
}

#[tokio::test]
async fn a_proposers_response_has_text_and_usage() {
    let mock = Role::start(&["mock-llm", "--listen", "127.0.0.1:0", "--latency", "none"], &[]);
    let client = Client::new(&mock.url, "any");
    let body = json!({"model": "gpt-4.1-mini", "instructions": "You write prompts.",
        "input": [{"role": "user", "content": "Write an instruction."}], "max_output_tokens": 512});
    let (status, response) = client.post("/v1/responses", &body).await;
    assert_eq!(status, 200, "{response}");
    assert_eq!((&response["object"], &response["model"]), (&json!("response"), &json!("gpt-4.1-mini")));
    let part = &response["output"][0]["content"][0];
    assert_eq!(part["type"], "output_text");
    assert!(part["text"].as_str().is_some_and(|text| !text.is_empty()), "{response}");
    assert!(response["usage"]["total_tokens"].as_u64() > Some(0));
    let (status, refused) = client.post("/v1/responses", &json!({"model": "m"})).await;
    assert_eq!(status, 400);
    assert!(error_message(&refused).contains("input"));
}

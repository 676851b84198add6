use super::*;

fn base() -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": "hello"}]})
}

/// The error for the base request with one field set.
fn error(field: &str, value: Value) -> String {
    let mut body = base();
    body[field] = value;
    let error = parse(&body).unwrap_err();
    format!("{}: {}", error.param.unwrap(), error.message)
}

#[test]
fn a_minimal_request_is_read() {
    let request = parse(&base()).unwrap();
    let messages = vec![Message::new("user", "hello")];
    let expected =
        Request { model: "m".to_owned(), messages, tool: None, stream: false, include_usage: false };
    assert_eq!(request, expected);
}

#[test]
fn nulls_count_as_absent() {
    let mut body = base();
    for field in ["stream", "tools", "tool_choice", "n", "temperature", "max_tokens"] {
        body[field] = Value::Null;
    }
    assert_eq!(parse(&body), parse(&base()));
}

#[test]
fn bad_fields_are_named() {
    insta::assert_snapshot!(error("model", json!(3)), @"model: `model` is not a name");
    insta::assert_snapshot!(error("messages", json!([])), @"messages: `messages` is empty");
    insta::assert_snapshot!(error("messages", json!("hi")), @"messages: `messages` is not an array");
    insta::assert_snapshot!(error("messages", json!([{"content": "x"}])), @"messages[0].role: messages[0] has no role");
    insta::assert_snapshot!(error("messages", json!([{"role": "king", "content": "x"}])), @"messages[0].role: `king` is no role");
    insta::assert_snapshot!(error("messages", json!([{"role": "user"}])), @"messages[0].content: messages[0] has no content");
    insta::assert_snapshot!(error("messages", json!([{"role": "user", "content": 1}])), @"messages[0].content: the content is neither text nor a list of parts");
    insta::assert_snapshot!(error("stream", json!("yes")), @"stream: `stream` is not true or false");
    insta::assert_snapshot!(error("n", json!(2)), @"n: `n` is 2, but the mock answers with 1 choice");
    insta::assert_snapshot!(error("temperature", json!(3)), @"temperature: `temperature` is not a number from 0 to 2");
    insta::assert_snapshot!(error("max_completion_tokens", json!(0)), @"max_completion_tokens: `max_completion_tokens` is not a whole number above 0");
    insta::assert_snapshot!(error("tools", json!([{"type": "function"}])), @"tools[0].function.name: tools[0] is not a named function");
    insta::assert_snapshot!(error("tool_choice", json!("required")), @"tool_choice: `tool_choice` is only allowed together with `tools`");
}

#[test]
fn the_tool_is_the_chosen_one() {
    let with = |choice: Value| {
        let mut body = base();
        body["tools"] = json!([
            {"type": "function", "function": {"name": "a"}},
            {"type": "function", "function": {"name": "b", "parameters": {"properties": {"p": {}, "q": {}}, "required": ["q"]}}},
            {"type": "function", "function": {"name": "c", "parameters": {"properties": {"r": {}}}}},
        ]);
        body["tool_choice"] = choice;
        parse(&body).map(|request| request.tool)
    };
    let tool = |name: &str, argument: &str| Ok(Some((name.to_owned(), argument.to_owned())));
    assert_eq!(with(Value::Null), tool("a", "intent"));
    assert_eq!(with(json!("auto")), tool("a", "intent"));
    assert_eq!(with(json!("none")), Ok(None));
    assert_eq!(with(json!({"type": "function", "function": {"name": "b"}})), tool("b", "q"));
    assert_eq!(with(json!({"type": "function", "function": {"name": "c"}})), tool("c", "r"));
    let error = |choice| with(choice).unwrap_err().message;
    insta::assert_snapshot!(error(json!({"type": "function", "function": {"name": "z"}})), @"`tool_choice` names a function that is not among `tools`");
    insta::assert_snapshot!(error(json!("sometimes")), @"`tool_choice` is none of none, auto, required or a function");
}

#[test]
fn content_in_parts_is_joined() {
    let parts = json!([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}, {"type": "text", "text": "b"}]);
    assert_eq!(text_of(&parts).unwrap(), "a\nb");
}

#[test]
fn pieces_never_cut_a_character() {
    let text = "Grüße, 你好, 👋🏽 und mehr";
    assert_eq!(pieces(text).collect::<String>(), text);
    assert!(pieces(text).count() > 1);
    assert_eq!(pieces("").count(), 0);
}

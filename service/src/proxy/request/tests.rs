use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::{ChatRequest, Error};

fn body(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

#[test]
fn nothing_to_change_is_the_same_bytes() {
    let body = body(
        "{ \"model\" : \"m\",\n \"messages\":[ {\"role\":\"user\",\"content\":\"é\\u00e9\"} ] , \"x\": 1e999 }",
    );
    let request = ChatRequest::parse(&body).unwrap();
    assert_eq!(request.with_messages(None, "other"), body);
}

#[test]
fn fields_keep_their_order_and_their_text() {
    let body = body(
        r#"{"z": 1.50, "messages":[{"role":"user","content":"a"}], "a\"b": [1,  2], "model":"m", "big":1e999}"#,
    );
    let request = ChatRequest::parse(&body).unwrap();
    let changed = request.with_messages(Some("[1]"), "other");
    assert_eq!(changed, r#"{"z":1.50,"messages":[1],"a\"b":[1,  2],"model":"m","big":1e999}"#);
}

#[test]
fn a_missing_model_is_the_jobs() {
    for text in [r#"{"messages":[{}]}"#, r#"{"model":null,"messages":[{}]}"#] {
        let body = body(text);
        let request = ChatRequest::parse(&body).unwrap();
        assert_eq!(request.with_messages(None, "gpt"), r#"{"messages":[{}],"model":"gpt"}"#);
        assert_eq!(request.with_messages(None, ""), body, "no model is known: the LLM judges");
    }
}

#[test]
fn of_two_fields_of_one_name_the_last_counts() {
    let body = body(r#"{"messages":[],"messages":[{"role":"user","content":"b"}],"model":"m"}"#);
    let request = ChatRequest::parse(&body).unwrap();
    assert_eq!(request.messages()[0].text.as_deref(), Some("b"));
    assert_eq!(request.with_messages(Some("[2]"), ""), r#"{"messages":[2],"model":"m"}"#);
}

#[test]
fn only_plain_text_is_text() {
    let body = body(
        r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"t"}]},{"role":"assistant","content":null},{}]}"#,
    );
    let messages = ChatRequest::parse(&body).unwrap().messages();
    let seen: Vec<_> = messages.iter().map(|m| (m.role.as_str(), m.text.as_deref())).collect();
    assert_eq!(seen, [("system", Some("s")), ("user", None), ("assistant", None), ("", None)]);
}

#[test]
fn what_is_no_request_is_named() {
    assert!(matches!(ChatRequest::parse(&body("{\"messages\":")), Err(Error::Json(_))));
    assert!(matches!(ChatRequest::parse(&body("")), Err(Error::Json(_))));
    assert!(matches!(ChatRequest::parse(&body("[]")), Err(Error::NotAnObject)));
    assert!(matches!(ChatRequest::parse(&body("{}")), Err(Error::NoMessages)));
    assert!(matches!(ChatRequest::parse(&body(r#"{"messages":"hi"}"#)), Err(Error::BadMessages)));
    assert!(matches!(ChatRequest::parse(&body(r#"{"messages":[]}"#)), Err(Error::BadMessages)));
    assert!(matches!(
        ChatRequest::parse(&body(r#"{"messages":[{"role":"user"}, 7]}"#)),
        Err(Error::BadMessages)
    ));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".*", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_else_is_in_a_request_survives(
        others in prop::collection::btree_map(".*", any_json(), 0..5),
        messages in prop::collection::vec(prop::collection::btree_map(".*", any_json(), 0..3), 1..4),
    ) {
        let mut request: Map<String, Value> = others.into_iter().collect();
        request.insert("model".into(), "m".into());
        let messages: Vec<Value> = messages.into_iter().map(|m| m.into_iter().collect()).collect();
        request.insert("messages".into(), messages.into());
        let body = Bytes::from(serde_json::to_vec(&request).unwrap());
        let changed = ChatRequest::parse(&body).unwrap().with_messages(Some("[\"new\"]"), "unused");
        request.insert("messages".into(), Value::from(vec!["new"]));
        prop_assert_eq!(serde_json::from_slice::<Value>(&changed).unwrap(), Value::Object(request));
    }

    #[test]
    fn no_body_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let body = Bytes::from(bytes);
        let _ = ChatRequest::parse(&body).map(|request| request.messages());
    }
}

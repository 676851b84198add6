use super::*;

#[test]
fn the_endpoint_is_completed_where_needed() {
    let of = |url: &str| endpoint(url).unwrap().to_string();
    assert_eq!(of("http://h:1/v1/sys/r1"), "http://h:1/v1/sys/r1/chat/completions");
    assert_eq!(of("http://h:1/v1/sys/r1/"), "http://h:1/v1/sys/r1/chat/completions");
    assert_eq!(of("http://h:1/v1"), "http://h:1/v1/chat/completions");
    assert_eq!(of("http://h:1/v1/chat/completions"), "http://h:1/v1/chat/completions");
    assert_eq!(of("https://h/v1/sys/r1?cid=r1"), "https://h/v1/sys/r1/chat/completions?cid=r1");
}

#[test]
fn what_cannot_be_called_is_refused() {
    for url in ["", "h:1/v1", "/v1/chat/completions", "ftp://h/v1", "http://", "file:///etc"] {
        assert!(endpoint(url).is_err(), "{url:?} was taken");
    }
}

#[test]
fn the_correlation_id_may_stand_in_the_query() {
    let of = |url: &str| correlation_of(&Url::parse(url).unwrap());
    assert_eq!(of("http://h/?cid=a%20b").as_deref(), Some("a b"));
    assert_eq!(of("http://h/?cid=a&trace_correlation_id=b").as_deref(), Some("b"));
    assert_eq!(of("http://h/?cid="), None);
}

#[test]
fn headers_carry_the_rollout_the_key_and_a_trace() {
    let sent = headers("r-1", Some("sk-1"), None).unwrap();
    assert_eq!(sent["x-trace-correlation-id"], "r-1");
    assert_eq!(sent["authorization"], "Bearer sk-1");
    assert!(!format!("{sent:?}").contains("sk-1"), "a key must not be printed");
    let trace = sent["traceparent"].to_str().unwrap();
    let parts: Vec<&str> = trace.split('-').collect();
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2]);
    assert_eq!(headers("r-1", None, None).unwrap()["traceparent"], trace);
    let given = HeaderValue::from_static("00-1-2-01");
    assert_eq!(headers("r-1", None, Some(&given)).unwrap()["traceparent"], given);
    assert_eq!(headers("a\nb", None, None).unwrap_err(), "trace_correlation_id");
    assert_eq!(headers("r", Some("a\nb"), None).unwrap_err(), "policy.config.api_key");
}

#[test]
fn answers_are_judged() {
    let detail =
        |status: u16, body: &[u8]| judge(StatusCode::from_u16(status).unwrap(), body).err().map(|f| f.detail);
    assert_eq!(detail(200, br#"{"choices": [{}]}"#), None);
    insta::assert_snapshot!(detail(429, br#"{"error": {"message": "slow down"}}"#).unwrap(), @"the LLM answered 429: slow down");
    insta::assert_snapshot!(detail(502, b"<html>").unwrap(), @"the LLM answered 502: <html>");
    insta::assert_snapshot!(detail(500, b"").unwrap(), @"the LLM answered 500: an empty body");
    insta::assert_snapshot!(detail(200, br#"{"error": {"message": "no"}}"#).unwrap(), @"the LLM answered with an error: no");
    insta::assert_snapshot!(detail(200, br#"{"choices": []}"#).unwrap(), @"the LLM's answer has no choices");
    insta::assert_snapshot!(detail(200, b"data: x").unwrap(), @"the LLM's answer is not JSON");
}

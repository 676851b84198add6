use super::*;

fn key(id: &str) -> u64 {
    let mut headers = HeaderMap::new();
    headers.insert(CORRELATION_HEADER, id.parse().unwrap());
    Call::of(&headers, b"body").key
}

#[test]
fn the_number_at_the_end_of_a_rollout_id_is_its_key() {
    assert_eq!(key("blob-3-17"), 17);
    assert_eq!(key("parallel-9-17"), 17);
    assert_eq!(key("r-007"), 7);
    assert_eq!(key("rollout"), hash64(b"rollout"));
    assert_eq!(key("17"), hash64(b"17"));
    assert_eq!(key("a-"), hash64(b"a-"));
    assert_eq!(key("a-99999999999999999999"), hash64(b"a-99999999999999999999"));
}

#[test]
fn without_an_id_the_body_is_the_key() {
    assert_eq!(Call::of(&HeaderMap::new(), b"body").key, hash64(b"body"));
}

#[test]
fn a_plan_says_what_will_happen() {
    let faults: Faults = "slow=100%:3s".parse().unwrap();
    let latency = Latency::Fixed(Duration::from_millis(20));
    let mut plan = Plan::new(latency, &faults, 1, Call { key: 1, attempt: 0 });
    insta::assert_snapshot!(plan, @"total_us=3020000;first_byte_us=3015000;fault=slow");
    plan.correct = Some(true);
    insta::assert_snapshot!(plan, @"total_us=3020000;first_byte_us=3015000;fault=slow;correct=1");
    let refused = Plan::new(latency, &"rate-limit=100%".parse().unwrap(), 1, Call { key: 1, attempt: 0 });
    assert_eq!(refused.delay, Delay { first_byte_us: 0, total_us: 0 });
    let broken = Plan::new(latency, &"error=100%".parse().unwrap(), 1, Call { key: 1, attempt: 0 });
    assert_eq!(broken.delay, Delay { first_byte_us: 15_000, total_us: 15_000 });
}

use mipro_telemetry::{Operation, Stage};
use reqwest::header::{HeaderMap, HeaderValue};

use super::{books, llm_ns, planned_us, sum_is_off};

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(n, v)| (n.parse().unwrap(), HeaderValue::from_static(v))).collect()
}

#[test]
fn each_total_ends_the_books_of_one_request() {
    let first = "llm.first_byte;dur=3;ov=1, other;dur=1, total;dur=4;op=start_rollout";
    let second = "db.query;dur=1, other;dur=1, total;dur=2.5;op=start_rollout, cdn;dur=9";
    for headers in [
        headers(&[("server-timing", first), ("server-timing", second)]),
        headers(&[("server-timing", concat_both())]),
    ] {
        let all = books(&headers);
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].operation, all[0].total_ns), (Operation::StartRollout, 4_000_000));
        assert_eq!((all[0].entries.len(), llm_ns(&all[0])), (1, 4_000_000), "hidden LLM time is LLM time");
        assert_eq!((all[1].entries[0].stage, llm_ns(&all[1])), (Stage::DbQuery, 0));
        assert_eq!((sum_is_off(&all[0]), sum_is_off(&all[1])), (false, true));
    }
    assert!(books(&headers(&[])).is_empty());
    assert!(books(&headers(&[("server-timing", "edge;dur=2")])).is_empty());
}

fn concat_both() -> &'static str {
    "llm.first_byte;dur=3;ov=1, other;dur=1, total;dur=4;op=start_rollout, db.query;dur=1, other;dur=1, \
     total;dur=2.5;op=start_rollout"
}

#[test]
fn sums_may_be_off_by_what_rounding_does() {
    let rounded = headers(&[("server-timing", "db.query;dur=1.0004, other;dur=0.0004, total;dur=1.001")]);
    assert!(!sum_is_off(&books(&rounded)[0]));
}

#[test]
fn the_plans_of_all_calls_are_added() {
    let plan = |value| planned_us(&headers(&[("x-mock-plan", value)]));
    assert_eq!(plan("total_us=1834000;first_byte_us=12"), Some(1_834_000));
    assert_eq!(plan("ttft_us=5; total_us = 7, total_us=8"), Some(15));
    assert_eq!(plan("total_us=soon"), None);
    assert_eq!(
        planned_us(&headers(&[("x-mock-plan", "total_us=1"), ("x-mock-plan", "total_us=2")])),
        Some(3)
    );
    assert_eq!(planned_us(&headers(&[])), None);
}

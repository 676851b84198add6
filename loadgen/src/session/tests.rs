use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{TaskAnswer, completions, dataset_seed, rollout_id};
use crate::account::{Class, Failure};

#[test]
fn ids_and_examples_follow_from_seed_and_index_alone() {
    assert_eq!(rollout_id("run", 7, 42), "run-7-00000042");
    let seeds: Vec<u32> = (0..1_000).map(|index| dataset_seed(7, index)).collect();
    assert_eq!(seeds[..3], [dataset_seed(7, 0), dataset_seed(7, 1), dataset_seed(7, 2)]);
    assert!(seeds.iter().all(|s| *s <= i32::MAX as u32));
    let different: BTreeSet<u32> = seeds.iter().copied().chain([dataset_seed(8, 0)]).collect();
    assert_eq!(different.len(), 1_001, "no example is favoured");
}

#[test]
fn an_llm_is_named_by_its_base_or_by_its_route() {
    for given in ["http://h/v1", "http://h/v1/", "http://h/v1/chat/completions"] {
        assert_eq!(completions(&given.parse().unwrap()).as_str(), "http://h/v1/chat/completions");
    }
}

fn reward(answer: Value, through_service: bool) -> Result<f64, Failure> {
    serde_json::from_value::<TaskAnswer>(answer).unwrap().reward(through_service)
}

#[test]
fn only_an_answer_as_the_contract_says_gives_a_reward() {
    let good = json!({
        "reward_info": {"outcome_reward": 1.0, "details": {}},
        "metadata": {"mipro_candidate_id": "baseline"},
        "success_status": "success",
        "trace": {},
    });
    assert_eq!(reward(good.clone(), true), Ok(1.0));
    let without = |field: &str| {
        let mut answer = good.clone();
        answer.as_object_mut().unwrap().remove(field);
        answer
    };
    assert_eq!(reward(without("success_status"), true), Ok(1.0));
    assert_eq!(reward(without("metadata"), false), Ok(1.0), "straight to the LLM there is no candidate");
    for bad in [without("metadata"), without("reward_info"), json!({"metadata": {}}), json!({})] {
        assert_eq!(reward(bad, true).unwrap_err().class, Class::Invalid);
    }
    let mut fault = good.clone();
    fault["success_status"] = "error".into();
    fault["status_detail"] = "llm: 500".into();
    assert_eq!(reward(fault, true), Err(Failure::invalid("the task app says error: llm: 500")));
}

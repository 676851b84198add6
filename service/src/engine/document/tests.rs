use std::collections::BTreeMap;
use std::sync::Arc;

use mipro_telemetry::Operation;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::system::{
    CandidateContent, Event, Message, NewCandidate, PatternMessage, Prompt, Status, StatusReport, SystemSpec,
};

const SYSTEM: SystemId = Uuid::from_u128(0x5e5);
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/document-v1.json");

fn context(seed: u64) -> Context {
    Context { now_us: 1_700_000_000_000_000 + seed, seed }
}

fn founded() -> Document {
    let messages = vec![PatternMessage { role: "system".into(), order: 0, pattern: "Say {what}.".into() }];
    let prompt =
        Prompt::new("p".into(), "P".into(), messages, BTreeMap::from([("what".into(), "REQUIRED".into())]));
    let spec = SystemSpec {
        prompt: Arc::new(prompt),
        model: "m".into(),
        provider: "mock".into(),
        ..SystemSpec::default()
    };
    let new =
        NewSystem { system_id: SYSTEM, org_id: Uuid::from_u128(0xa), name: Some("golden".into()), spec };
    Document::begin(&new, &context(0)).0
}

fn run(document: &mut Document, seed: u64, command: &Command) -> Done {
    let ledger = Ledger::start(Operation::Unknown);
    document.execute(command, &context(seed), &ledger, |_| Ok(())).unwrap()
}

fn start(rollout: &str) -> Command {
    let messages = vec![Message { role: "system".into(), text: Some("Say hello.".into()) }];
    Command::StartRollout { rollout_id: rollout.into(), messages: messages.into() }
}

fn report(rollout: &str, status: Status, reward: Option<f64>) -> Command {
    Command::Report(StatusReport { rollout_id: rollout.into(), status, reward, candidate_id: None })
}

/// A document with every kind of thing in it that version 1 stores.
fn sample() -> Document {
    let mut document = founded();
    let content =
        CandidateContent { deltas: json!({"instruction_text": "Be {what}."}), ..CandidateContent::default() };
    let candidate = NewCandidate {
        candidate_id: Some("c1".into()),
        content,
        params: BTreeMap::from([("tone".into(), 1)]),
    };
    run(&mut document, 1, &Command::AddCandidate(candidate));
    for (i, rollout) in ["done", "failed", "rewarded", "open"].into_iter().enumerate() {
        run(&mut document, 2 + i as u64, &start(rollout));
    }
    run(&mut document, 10, &report("done", Status::RewardDone, Some(1.0)));
    run(&mut document, 11, &report("failed", Status::Failed, None));
    run(&mut document, 12, &report("rewarded", Status::Reward, Some(0.1 + 0.2)));
    document
}

fn decode(bytes: &[u8]) -> Result<Document, EngineError> {
    Document::decode("systems/key", SYSTEM, bytes)
}

#[test]
fn what_is_encoded_is_read_back_bit_for_bit() {
    let document = sample();
    let bytes = document.encode().unwrap();
    assert_eq!(decode(&bytes).unwrap(), document);
    assert_eq!(decode(&bytes).unwrap().encode().unwrap(), bytes);
}

/// The file was written by the first build that stored documents; every later build must read it and mean the same.
#[test]
fn the_golden_document_of_schema_1_is_read_by_this_build() {
    let Ok(golden) = std::fs::read(GOLDEN) else {
        panic!(
            "{GOLDEN} is missing; it should hold:\n{}",
            String::from_utf8_lossy(&sample().encode().unwrap())
        );
    };
    let mut document = decode(&golden).unwrap();
    assert_eq!(document.state.version, document.history.len() as u64);
    assert_eq!(document.state.totals.rollouts, 4);
    assert_eq!(document.state.rollout("rewarded").unwrap().reward, Some(0.1 + 0.2));
    assert_eq!(document.state.candidate("c1").unwrap().0.params["tone"], 1);
    assert!(matches!(document.history.iter().next().unwrap().event, Event::SystemCreated { .. }));
    let history: Vec<Recorded> = document.history.iter().cloned().collect();
    assert_eq!(State::fold(&history).unwrap(), document.state, "it means what its history means");
    let again = decode(&document.encode().unwrap()).unwrap();
    assert_eq!(again, document, "and stays that in the newest schema");
    // It goes on from there: the repetition is known, the next command takes the next number.
    let again = run(&mut document, 20, &report("done", Status::RewardDone, Some(1.0)));
    assert_eq!(again.events, 0);
    let version = document.state.version;
    run(&mut document, 21, &start("next"));
    assert_eq!(document.history.after(version, 1)[0].seq, version + 1);
}

/// What schema 1 had in ids and microseconds, schema 2 has in keys and seconds; both mean what their history means.
#[test]
fn the_golden_document_of_schema_2_is_read_by_this_build() {
    let old = decode(&std::fs::read(GOLDEN).unwrap()).unwrap();
    let golden = crate::codec::tests::golden("document-v2.json", &old.encode().unwrap());
    assert!(golden.starts_with(br#"{"schema":2,"#));
    assert_eq!(decode(&golden).unwrap(), old);
}

#[test]
fn a_history_is_paged_across_its_chunks_and_shares_them_with_its_clones() {
    let event = |seq| Recorded {
        seq,
        at_us: seq,
        event: Event::RolloutDone { rollout_id: format!("r{seq}"), candidate_id: "baseline".into() },
    };
    let mut history = History::default();
    let mut seq = 0;
    while seq < 1_000 {
        history.extend((seq + 1..=seq + 7).map(event).collect());
        seq += 7;
    }
    let total = history.len();
    assert!(history.sealed.len() >= 3 && history.tail.len() < TAIL_MAX, "{} chunks", history.sealed.len());
    for since in [0, 1, 255, 256, 257, 600, total as u64 - 1, total as u64, u64::MAX] {
        for limit in [0, 1, 300, usize::MAX] {
            let seqs: Vec<u64> = history.after(since, limit).iter().map(|r| r.seq).collect();
            let expected: Vec<u64> = (1..=total as u64).filter(|s| *s > since).take(limit).collect();
            assert_eq!(seqs, expected, "after {since}, at most {limit}");
        }
    }
    let clone = history.clone();
    assert!(clone.sealed.iter().zip(&history.sealed).all(|(a, b)| Arc::ptr_eq(a, b)));
    assert_eq!(clone, history);
}

#[test]
fn damage_is_told_from_a_newer_schema_and_from_a_foreign_document() {
    let good: Value = serde_json::from_slice(&sample().encode().unwrap()).unwrap();
    let says = |change: &dyn Fn(&mut Value)| {
        let mut document = good.clone();
        change(&mut document);
        decode(document.to_string().as_bytes()).unwrap_err().to_string()
    };
    let newer = says(&|d| d["schema"] = json!(3));
    assert!(newer.contains("schema 3") && newer.contains("newer build"), "{newer}");
    // A newer schema may have any other shape.
    let shapeless = decode(br#"{"schema":3,"state":7}"#).unwrap_err().to_string();
    assert!(shapeless.contains("schema 3"), "{shapeless}");
    let foreign = says(&|d| d["state"]["system_id"] = json!(Uuid::from_u128(9)));
    assert!(foreign.contains("another system"), "{foreign}");
    let cut = says(&|d| drop(d["events"].as_array_mut().unwrap().pop()));
    assert!(cut.contains("disagree"), "{cut}");
    let secret = says(&|d| d["state"]["version"] = json!("hunter2"));
    assert!(secret.contains("no valid document") && !secret.contains("hunter2"), "{secret}");
}

#[test]
fn every_prefix_of_a_document_is_refused() {
    let bytes = sample().encode().unwrap();
    for end in 0..bytes.len() {
        assert!(matches!(decode(&bytes[..end]), Err(EngineError::Corrupt { .. })), "cut after {end} bytes");
    }
}

#[test]
fn events_that_cannot_be_kept_poison_the_document() {
    let mut document = founded();
    let ledger = Ledger::start(Operation::Unknown);
    let outcome = document.execute(&start("r"), &context(1), &ledger, |_| Err(()));
    assert!(matches!(outcome, Err(Undone::Poisoned)), "{outcome:?}");
}

#[test]
fn a_refusal_leaves_the_document_as_it_was() {
    let mut document = sample();
    let before = document.clone();
    let ledger = Ledger::start(Operation::Unknown);
    let outcome = document.execute(&report("nobody", Status::Done, None), &context(1), &ledger, |_| Ok(()));
    assert!(matches!(outcome, Err(Undone::Refused(_))), "{outcome:?}");
    assert_eq!(document, before);
}

//! Registering candidates.

use serde_json::{Value, json};

use super::support::{Rig, deltas};
use crate::system::{CandidateContent, NewCandidate, Refusal};

fn named(id: &str, text: &str) -> NewCandidate {
    NewCandidate { candidate_id: Some(id.to_owned()), ..deltas(text) }
}

fn of(deltas: Value) -> NewCandidate {
    NewCandidate {
        content: CandidateContent { deltas, ..CandidateContent::default() },
        ..NewCandidate::default()
    }
}

#[test]
fn the_same_deltas_are_the_same_candidate() {
    let mut rig = Rig::new(|_| {});
    let first = rig.add(deltas("A")).unwrap();
    let version = rig.state.version;
    let mut again = deltas("A");
    again.content.metadata = json!({"label": "another label"});
    again.params.insert("instruction".to_owned(), 4);
    assert_eq!(rig.add(again).unwrap(), first);
    assert_eq!(rig.add(named("mine", "A")).unwrap(), first, "also under an id of the client's");
    assert_eq!(rig.state.version, version, "nothing was added");
    assert_ne!(rig.add(deltas("B")).unwrap(), first);
    let key_order = (json!({"text": "x", "z": 1}), serde_json::from_str(r#"{"z":1,"text":"x"}"#).unwrap());
    assert_eq!(rig.add(of(key_order.0)).unwrap(), rig.add(of(key_order.1)).unwrap());
}

#[test]
fn stage_payloads_tell_candidates_apart_as_deltas_do() {
    let mut rig = Rig::new(|_| {});
    let stage = |text: &str| {
        let stage_payloads = json!({"main": {"stage_id": "main", "instruction_text": text}});
        let content = CandidateContent { stage_payloads, ..CandidateContent::default() };
        NewCandidate { content, ..NewCandidate::default() }
    };
    let first = rig.add(stage("A")).unwrap();
    assert_eq!(rig.add(stage("A")).unwrap(), first);
    assert_ne!(rig.add(stage("B")).unwrap(), first);
}

#[test]
fn no_change_is_the_baseline() {
    let mut rig = Rig::new(|_| {});
    assert_eq!(rig.add(of(json!({}))).unwrap(), "baseline");
    assert_eq!(rig.add(of(Value::Null)).unwrap(), "baseline");
}

#[test]
fn an_id_given_by_the_client_is_kept_and_can_not_change_its_content() {
    let mut rig = Rig::new(|_| {});
    assert_eq!(rig.add(named("mine", "A")).unwrap(), "mine");
    assert_eq!(rig.add(named("mine", "A")).unwrap(), "mine");
    assert_eq!(rig.add(named("mine", "B")).unwrap_err(), Refusal::CandidateIdTaken("mine".to_owned()));
    assert_eq!(
        rig.add(named("baseline", "B")).unwrap_err(),
        Refusal::CandidateIdTaken("baseline".to_owned())
    );
    let squatted = deltas("C").content.derived_id();
    rig.add(named(&squatted, "D")).unwrap();
    assert_eq!(rig.add(deltas("C")).unwrap_err(), Refusal::CandidateIdTaken(squatted));
}

#[test]
fn an_id_must_fit_into_a_header() {
    let mut rig = Rig::new(|_| {});
    for id in ["", "two words", "naïve", "a\r\nb", &"x".repeat(257)] {
        let refusal = rig.add(named(id, "A")).unwrap_err();
        assert!(matches!(refusal, Refusal::Invalid { field: "candidate_id", .. }), "{id:?}: {refusal}");
    }
}

#[test]
fn content_that_can_not_be_applied_is_refused_with_its_field() {
    let mut rig = Rig::new(|_| {});
    let bad = [
        (json!([]), "deltas"),
        (json!({"instruction_text": 3}), "deltas.instruction_text"),
        (json!({"messages": {}}), "deltas.messages"),
        (json!({"messages": [{"pattern": "no order"}]}), "deltas.messages"),
        (json!({"demos": ["text"]}), "deltas.demos"),
        (json!({"transformation": "x"}), "deltas.transformation"),
        (
            json!({"transformation": {"text_replacements": [{"old_text": "a"}]}}),
            "deltas.transformation.text_replacements",
        ),
        (json!({"transformation": {"example_injections": [1]}}), "deltas.transformation.example_injections"),
    ];
    for (deltas, expected) in bad {
        match rig.add(of(deltas.clone())).unwrap_err() {
            Refusal::Invalid { field, .. } => assert_eq!(field, expected, "{deltas}"),
            other => panic!("{deltas}: {other}"),
        }
    }
    rig.add(of(json!({"text": "fine", "some_new_field": {"deep": [1, 2]}}))).unwrap();
}

#[test]
fn replacements_that_feed_on_each_other_are_refused() {
    let mut rig = Rig::new(|_| {});
    let doubling = json!({"old_text": "e", "new_text": "ee"});
    let list = |times: usize| json!({"transformation": {"text_replacements": vec![doubling.clone(); times]}});
    rig.add(of(list(10))).unwrap();
    for times in [40, 250, 257] {
        let refusal = rig.add(of(list(times))).unwrap_err();
        let field = "deltas.transformation.text_replacements";
        assert!(matches!(&refusal, Refusal::Invalid { field: f, .. } if *f == field), "{times}: {refusal}");
    }
}

#[test]
fn candidates_and_their_sizes_are_bounded() {
    let mut rig = Rig::new(|spec| {
        spec.limits.candidates_max = 2;
        spec.limits.content_bytes_max = 200;
        spec.limits.params_max = 1;
    });
    let refusal = rig.add(deltas(&"x".repeat(300))).unwrap_err();
    assert!(matches!(refusal, Refusal::Invalid { field: "deltas", .. }));
    let mut wide = deltas("A");
    wide.params.extend([("a".to_owned(), 1), ("b".to_owned(), 1)]);
    assert!(matches!(rig.add(wide).unwrap_err(), Refusal::Invalid { field: "params", .. }));
    rig.add(deltas("A")).unwrap();
    assert_eq!(rig.add(deltas("B")).unwrap_err(), Refusal::Full { what: "candidates", max: 2 });
    rig.add(deltas("A")).unwrap();
}

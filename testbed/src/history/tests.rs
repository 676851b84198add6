//! A history that keeps its promises passes, and every kind of planted fault is caught.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

mod model;

use model::{Model, SYSTEM, steps, truth, verdict};

/// A rollout whose reward was acknowledged with a version: its reward event's place among the events, and its name.
fn acknowledged_reward(model: &Model) -> Option<(usize, String)> {
    model.observations.iter().find_map(|observation| {
        let Outcome::Acknowledged(_) = observation.outcome else { return None };
        observation.call.reward()?;
        let id = observation.call.rollout()?.to_owned();
        let of = |kind: &Kind| matches!(kind, Kind::Rewarded { rollout, .. } if *rollout == id);
        Some((model.events.iter().position(of)?, id.clone()))
    })
}

fn has(verdict: &Verdict, is: impl Fn(&Problem) -> bool) -> bool {
    verdict.violations.iter().any(|violation| is(&violation.problem))
}

fn observation(client: u32, call: Call, outcome: Outcome) -> Observation {
    Observation { client, system: SYSTEM.to_owned(), call, outcome }
}

fn acknowledged(version: u64) -> Outcome {
    Outcome::Acknowledged(Answer { version: Some(version), ..Answer::default() })
}

fn report(rollout: &str, status: Status, reward: Option<f64>) -> Call {
    Call::Report { rollout: rollout.to_owned(), status, reward }
}

/// Start, reward 0.5, done of one rollout, acknowledged one by one.
fn small() -> Model {
    let (rollout, candidate) = ("r".to_owned(), "baseline".to_owned());
    let events = vec![
        Kind::Created,
        Kind::CandidateAdded { candidate: candidate.clone() },
        Kind::Started { rollout: rollout.clone(), candidate: candidate.clone() },
        Kind::Rewarded { rollout: rollout.clone(), candidate: candidate.clone(), reward: 0.5 },
        Kind::Learned { candidate: candidate.clone(), rewards: 1, mean: 0.5 },
        Kind::Done { rollout: rollout.clone() },
    ];
    let started = Answer { candidate: Some(candidate), ..Answer::default() };
    let observations = vec![
        observation(0, Call::Start { rollout }, Outcome::Acknowledged(started)),
        observation(0, report("r", Status::Reward, Some(0.5)), acknowledged(5)),
        observation(0, report("r", Status::Done, None), acknowledged(6)),
    ];
    let mut model = Model::run(&[]);
    (model.events, model.observations) = (events, observations);
    model
}

proptest! {
    #[test]
    fn a_history_that_keeps_its_promises_passes(steps in steps()) {
        let verdict = Model::run(&steps).verdict();
        prop_assert!(verdict.holds(), "{verdict}");
    }

    #[test]
    fn a_lost_reward_is_caught(steps in steps()) {
        let mut model = Model::run(&steps);
        let Some((at, _)) = acknowledged_reward(&model) else { return Ok(()) };
        model.events.drain(at..at + 2);
        let verdict = model.verdict();
        prop_assert!(verdict.lost > 0, "{verdict}");
    }

    #[test]
    fn a_lost_tail_is_caught(steps in steps(), cut in 1..10_usize) {
        let mut model = Model::run(&steps);
        let version = |o: &Observation| match &o.outcome {
            Outcome::Acknowledged(answer) => answer.version,
            Outcome::Saw(reading) => Some(reading.version),
            _ => None,
        };
        let shown = model.observations.iter().filter_map(version).max().unwrap_or_default();
        model.events.truncate(model.events.len().saturating_sub(cut));
        let verdict = model.verdict();
        prop_assert_eq!(
            shown > model.events.len() as u64,
            has(&verdict, |p| matches!(p, Problem::ShownThenLost { .. })), "{}", verdict
        );
    }

    #[test]
    fn a_doubled_reward_is_caught(steps in steps()) {
        let mut model = Model::run(&steps);
        let Some((at, _)) = acknowledged_reward(&model) else { return Ok(()) };
        let again: Vec<Kind> = model.events[at..at + 2].to_vec();
        model.events.extend(again);
        let verdict = model.verdict();
        prop_assert!(verdict.doubled > 0, "{verdict}");
    }

    #[test]
    fn an_altered_reward_is_caught(steps in steps()) {
        let mut model = Model::run(&steps);
        let Some((at, _)) = acknowledged_reward(&model) else { return Ok(()) };
        if let Kind::Rewarded { reward, .. } = &mut model.events[at] {
            *reward += 8.0;
        }
        let verdict = model.verdict();
        prop_assert!(has(&verdict, |p| matches!(p, Problem::Altered { .. })), "{verdict}");
    }

    #[test]
    fn an_altered_candidate_is_caught(steps in steps()) {
        let mut model = Model::run(&steps);
        let Some((_, id)) = acknowledged_reward(&model) else { return Ok(()) };
        for kind in &mut model.events {
            if let Kind::Started { rollout, candidate } = kind && *rollout == id {
                *candidate = if candidate == "c1" { "baseline" } else { "c1" }.to_owned();
            }
        }
        let verdict = model.verdict();
        prop_assert!(has(&verdict, |p| matches!(p, Problem::Altered { .. })), "{verdict}");
    }

    #[test]
    fn events_out_of_order_are_caught(steps in steps()) {
        let mut model = Model::run(&steps);
        let Some((at, id)) = acknowledged_reward(&model) else { return Ok(()) };
        let started = |kind: &Kind| matches!(kind, Kind::Started { rollout, .. } if *rollout == id);
        let start = model.events.iter().position(started).unwrap();
        model.events.swap(start, at);
        let verdict = model.verdict();
        prop_assert!(has(&verdict, |p| matches!(p, Problem::OutOfOrder { .. })), "{verdict}");
    }

    #[test]
    fn invented_events_are_caught(steps in steps(), refused: bool) {
        let mut model = Model::run(&steps);
        let (rollout, candidate) = ("nobody's".to_owned(), "baseline".to_owned());
        if refused {
            let call = report(&rollout, Status::Reward, Some(1.0));
            model.observations.push(observation(0, call, Outcome::Refused(404)));
        }
        model.events.push(Kind::Started { rollout: rollout.clone(), candidate: candidate.clone() });
        model.events.push(Kind::Rewarded { rollout, candidate, reward: 1.0 });
        let verdict = model.verdict();
        let problems = if refused {
            has(&verdict, |p| matches!(p, Problem::RefusedButApplied { code: 404, .. }))
        } else {
            has(&verdict, |p| matches!(p, Problem::Invented { .. }))
        };
        prop_assert!(problems, "{verdict}");
    }

    #[test]
    fn figures_that_are_not_the_fold_are_caught(steps in steps(), which in 0..8_usize) {
        let model = Model::run(&steps);
        let mut truth = model.truth();
        let state = &mut truth.state;
        match which {
            0 => state.version += 1,
            1 => state.rollouts += 1,
            2 => state.rewards += 1,
            3 => state.done += 1,
            4 => state.failed += 1,
            5 => state.expired += 1,
            6 => state.candidates.get_mut("c1").unwrap().mean = Some(7.0),
            _ => drop(state.candidates.remove("c1")),
        }
        let verdict = verdict(&model.observations, truth);
        prop_assert!(has(&verdict, |p| matches!(p, Problem::NotTheFold { .. })), "{verdict}");
    }

    #[test]
    fn an_optimizer_that_learned_something_else_is_caught(steps in steps(), twice: bool) {
        let mut truth = Model::run(&steps).truth();
        let learned = |event: &&mut Event| matches!(event.kind, Kind::Learned { .. });
        let Some(event) = truth.events.iter_mut().find(learned) else { return Ok(()) };
        if let Kind::Learned { rewards, mean, .. } = &mut event.kind {
            if twice { *rewards += 1 } else { *mean += 0.001 }
        }
        let verdict = verdict(&Model::run(&steps).observations, truth);
        prop_assert!(has(&verdict, |p| matches!(p, Problem::NotTheFold { .. })), "{verdict}");
    }

    #[test]
    fn a_missing_place_is_caught(steps in steps(), at in 0..200_usize) {
        let model = Model::run(&steps);
        let mut truth = model.truth();
        let at = at % truth.events.len();
        if at + 1 == truth.events.len() {
            return Ok(());
        }
        truth.events.remove(at);
        truth.state = State::fold(&truth.events);
        let verdict = verdict(&model.observations, truth);
        prop_assert!(has(&verdict, |p| matches!(p, Problem::NotDense { .. })), "{verdict}");
    }

    #[test]
    fn a_read_of_what_is_then_lost_or_replaced_is_caught(steps in steps()) {
        let mut model = Model::run(&steps);
        let truth = model.truth();
        let last = truth.state.version;
        let saw = |version, rewards| {
            let rollouts = truth.state.rollouts;
            observation(9, Call::Read, Outcome::Saw(Reading { version, rollouts, rewards }))
        };
        model.observations.push(saw(last, truth.state.rewards + 1));
        model.observations.push(saw(last + 1, truth.state.rewards));
        let verdict = model.verdict();
        prop_assert!(has(&verdict, |p| matches!(p, Problem::ShownOtherwise { .. })), "{verdict}");
        prop_assert!(has(&verdict, |p| matches!(p, Problem::ShownThenLost { .. })), "{verdict}");
    }
}

#[test]
fn a_small_history_holds_and_a_version_that_goes_back_does_not() {
    let mut model = small();
    assert!(model.verdict().holds(), "{}", model.verdict());
    let again = report("r", Status::Done, None);
    model.observations.push(observation(1, again, acknowledged(6)));
    assert!(model.verdict().holds(), "another client, later");
    let start = Reading { version: 3, rollouts: 1, rewards: 0 };
    model.observations.push(observation(0, Call::Read, Outcome::Saw(start)));
    let verdict = model.verdict();
    assert!(
        has(&verdict, |p| matches!(p, Problem::WentBack { client: 0, before: 6, after: 3 })),
        "{verdict}"
    );
}

#[test]
fn a_version_that_does_not_reach_its_own_event_is_caught() {
    let mut model = small();
    model.observations[1].outcome = acknowledged(3);
    let verdict = model.verdict();
    let early = |p: &Problem| matches!(p, Problem::AcknowledgedBefore { version: 3, seq: 4, .. });
    assert!(has(&verdict, early), "{verdict}");
}

#[test]
fn unknown_outcomes_are_there_once_or_not_at_all() {
    let mut model = small();
    model.observations[1].outcome = Outcome::Unknown;
    assert!(model.verdict().holds());
    model.events.drain(3..5);
    model.observations[2].outcome = acknowledged(4);
    assert!(model.verdict().holds(), "{}", model.verdict());
    // Nothing but its start explains a rollout whose only other call was refused.
    model.observations[2].outcome = Outcome::Refused(409);
    let verdict = model.verdict();
    assert!(has(&verdict, |p| matches!(p, Problem::RefusedButApplied { code: 409, .. })), "{verdict}");
}

#[test]
fn lost_starts_and_ends_are_caught() {
    let mut model = small();
    model.events.pop();
    model.observations[2].outcome = acknowledged(5);
    let verdict = model.verdict();
    assert_eq!(verdict.lost, 1, "{verdict}");
    assert_eq!(
        verdict.violations[0].to_string(),
        "system s: the end of rollout r was acknowledged and is lost"
    );

    let mut model = small();
    model.events.truncate(2);
    model.observations.truncate(1);
    assert_eq!(model.verdict().lost, 1, "{}", model.verdict());
}

#[test]
fn a_reward_after_a_bare_done_counts_only_where_a_client_asked_in_that_order() {
    let mut model = small();
    model.events.swap(3, 5);
    model.events.swap(4, 5);
    let last = acknowledged(6);
    model.observations[1].outcome = last;
    let verdict = model.verdict();
    assert!(has(&verdict, |p| matches!(p, Problem::OutOfOrder { .. })), "{verdict}");
    model.observations.swap(1, 2);
    assert!(model.verdict().holds(), "{}", model.verdict());
    model.observations.swap(1, 2);
    model.observations[2].client = 1;
    assert!(model.verdict().holds(), "two clients at once: {}", model.verdict());
}

#[test]
fn two_answers_that_claim_to_be_the_first_are_caught() {
    let mut model = small();
    let first = |version| Answer { version: Some(version), duplicate: Some(false), ..Answer::default() };
    model.observations[1].outcome = Outcome::Acknowledged(first(5));
    let again = report("r", Status::Reward, Some(0.5));
    model.observations.push(observation(1, again, Outcome::Acknowledged(first(6))));
    let verdict = model.verdict();
    assert!(has(&verdict, |p| matches!(p, Problem::FirstTwice { count: 2, .. })), "{verdict}");
}

#[test]
fn a_system_without_a_truth_and_a_truth_without_observations() {
    let model = small();
    let verdict = check(&model.observations, &BTreeMap::new());
    assert!(has(&verdict, |p| *p == Problem::NoTruth), "{verdict}");
    let verdict = verdict_of_nobody(&model);
    assert!(has(&verdict, |p| matches!(p, Problem::Invented { .. })), "{verdict}");
}

fn verdict_of_nobody(model: &Model) -> Verdict {
    verdict(&[], truth(&model.events))
}

#[test]
fn status_codes_are_read_as_the_contract_says() {
    assert_eq!(Outcome::not_ok(409), Outcome::Refused(409));
    assert_eq!(Outcome::not_ok(429), Outcome::Refused(429));
    for code in [500, 502, 503, 504, 408, 499] {
        assert_eq!(Outcome::not_ok(code), Outcome::Unknown, "{code}");
    }
}

#[test]
fn events_and_state_are_read_as_the_wire_contract_has_them() {
    let started = json!({"seq": 3, "type": "mipro.rollout.started", "rollout_id": "r", "candidate_id": "baseline",
        "probability": 0.5, "at": "2026-01-01T00:00:00Z"});
    let kind = Kind::Started { rollout: "r".to_owned(), candidate: "baseline".to_owned() };
    assert_eq!(Event::read(&started).unwrap(), Event { seq: 3, kind });
    let unknown = json!({"seq": 4, "type": "mipro.proposal.made"});
    assert_eq!(Event::read(&unknown).unwrap().kind, Kind::Other);
    let wrong = json!({"seq": 5, "type": "mipro.reward.received", "rollout_id": "r", "candidate_id": "c"});
    insta::assert_snapshot!(Event::read(&wrong).unwrap_err(), @"`reward` is missing or of another type in an event");

    let body = json!({"version": 6, "rollout_count": 1, "reward_count": 1, "done_count": 1, "failed_count": 0,
        "expired_count": 0, "candidates": {"baseline": {"rollout_count": 1, "reward_count": 1, "avg_reward": 0.5}}});
    assert_eq!(State::read(&body).unwrap(), small().truth().state);
    insta::assert_snapshot!(
        State::read(&json!({"candidates": {}})).unwrap_err(),
        @"`version` is missing or of another type in the state"
    );
}

#[test]
fn a_verdict_reads_as_one_line_and_one_for_each_violation() {
    let mut model = small();
    model.events.truncate(4);
    model.events.push(model.events[3].clone());
    insta::assert_snapshot!(model.verdict(), @"
    1 systems: 3 acknowledged, 0 unknown, 0 refused, 1 lost, 1 doubled
      system s: the reward of rollout r is there 2 times, at 4, 5
      system s: the end of rollout r was acknowledged and is lost
      system s: client 0 was shown version 6, and the history ends at 5
    ");
}

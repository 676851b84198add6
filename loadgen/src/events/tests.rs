use serde_json::json;

use super::{Event, Story};
use crate::recording::Recorded;

fn story(events: &[(&str, &str, &str)]) -> Story {
    let mut story = Story::default();
    for (kind, at, id) in events {
        let event: Event =
            serde_json::from_value(json!({"type": kind, "at": at, "rollout_id": id, "seq": 1})).unwrap();
        story.hear(&event).unwrap();
    }
    story
}

#[test]
fn starts_and_pauses_are_heard_of() {
    let story = story(&[
        ("mipro.rollout.started", "2026-11-21T10:00:00Z", "a"),
        ("mipro.rollout.started", "2026-11-21T10:00:00.5+00:00", "b"),
        ("mipro.reward.received", "2026-11-21T10:00:01Z", "a"),
        ("mipro.rollout.done", "2026-11-21T10:00:03.000001Z", "a"),
        ("mipro.rollout.failed", "2026-11-21T10:00:04Z", "b"),
        ("mipro.rollout.done", "2026-11-21T10:00:09Z", "never began"),
    ]);
    let begin = story.rollouts[0].at_us;
    let wanted = |after_us, think_us| Recorded { at_us: begin + after_us, seed: None, think_us };
    assert_eq!(story.rollouts, [wanted(0, [0, 2_000_001]), wanted(500_000, [0, 0])]);
    assert!(story.open.is_empty());
}

#[test]
fn a_time_that_is_none_is_refused() {
    let event: Event =
        serde_json::from_value(json!({"type": "mipro.rollout.started", "at": "soon", "rollout_id": "a"}))
            .unwrap();
    let refused = Story::default().hear(&event).unwrap_err();
    assert_eq!(refused.to_string(), "an event's `at` is no time: soon (invalid)");
}

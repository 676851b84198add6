//! What the outside is shown: the JSON of the wire contract's state and events routes.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::event::{Event, Recorded};
use super::prompt::Prompt;
use super::state::{Candidate, State};
use crate::optimizer::Arm;

/// The body of `GET …/state`.
#[must_use]
pub fn state_json(state: &State) -> Value {
    let candidates: Map<String, Value> = state
        .candidates()
        .map(|(candidate, arm)| {
            (candidate.candidate_id.clone(), candidate_json(&state.spec.prompt, candidate, arm))
        })
        .collect();
    json!({
        "system_id": state.system_id,
        "system_name": state.name,
        "version": state.version,
        "mode": state.spec.mode,
        "status": state.status,
        "best_candidate_id": state.best.candidate_id,
        "best_score": state.best.score,
        "rollout_count": state.totals.rollouts,
        "reward_count": state.totals.rewards,
        "done_count": state.totals.done,
        "failed_count": state.totals.failed,
        "expired_count": state.totals.expired,
        "unmatched_count": state.totals.unmatched,
        "in_flight": state.pending(),
        "proposal_seq": state.candidates().count().saturating_sub(1),
        "created_at": rfc3339(state.created_us),
        "updated_at": rfc3339(state.updated_us),
        "candidates": candidates,
        "attempted_candidates": attempted(state),
        "optimized_candidates": optimized(state),
    })
}

/// What `GET job` needs of a system.
#[must_use]
pub fn summary_json(state: &State) -> Value {
    json!({
        "system_id": state.system_id,
        "status": state.status,
        "mode": state.spec.mode,
        "version": state.version,
        "best_candidate_id": state.best.candidate_id,
        "best_score": state.best.score,
    })
}

/// The body of `GET …/events`: of `history` (in order), the first `limit` events after `since_seq`. `next_seq` is what to
/// send as `since_seq` next time.
#[must_use]
pub fn events_json(history: &[Recorded], since_seq: u64, limit: usize) -> Value {
    let from = history.partition_point(|recorded| recorded.seq <= since_seq);
    let shown = &history[from..history.len().min(from.saturating_add(limit))];
    let next_seq = shown.last().map_or(since_seq, |recorded| recorded.seq);
    json!({ "items": shown.iter().map(event_json).collect::<Vec<_>>(), "next_seq": next_seq })
}

/// A page of events before which others are lost: of what was asked for, `truncated_before` is the first event that can still be
/// had, or could be if there is none yet; those before it are nowhere any more.
#[must_use]
pub fn truncated_json(history: &[Recorded], since_seq: u64, limit: usize, truncated_before: u64) -> Value {
    let mut page = events_json(history, since_seq.max(truncated_before.saturating_sub(1)), limit);
    page["truncated_before"] = truncated_before.into();
    page
}

/// One event as the events route shows it: `seq`, `type`, `at`, and the event's own fields beside them.
#[must_use]
pub fn event_json(recorded: &Recorded) -> Value {
    let mut fields = event_fields(&recorded.event);
    fields.insert("seq".to_owned(), recorded.seq.into());
    fields.insert("type".to_owned(), recorded.event.name().into());
    fields.insert("at".to_owned(), rfc3339(recorded.at_us).into());
    Value::Object(fields)
}

fn event_fields(event: &Event) -> Map<String, Value> {
    let fields = match event {
        Event::SystemCreated { system } => json!({ "system_id": system.system_id, "mode": system.spec.mode }),
        Event::CandidateAdded { candidate_id, content, params } => json!({
            "candidate_id": candidate_id, "parent_id": content.parent_id, "params": params,
        }),
        Event::RolloutStarted { rollout_id, candidate_id, probability, pick, .. } => json!({
            "rollout_id": rollout_id, "candidate_id": candidate_id, "probability": probability, "pick": pick,
        }),
        Event::RewardReceived { rollout_id, candidate_id, reward } => json!({
            "rollout_id": rollout_id, "candidate_id": candidate_id, "reward": reward,
        }),
        Event::TpeUpdated { candidate_id, reward_count, avg_reward, best_candidate_id, best_score } => {
            json!({
                "candidate_id": candidate_id, "reward_count": reward_count, "avg_reward": avg_reward,
                "best_candidate_id": best_candidate_id, "best_score": best_score,
            })
        }
        Event::RolloutAdopted { rollout_id, candidate_id }
        | Event::RolloutDone { rollout_id, candidate_id }
        | Event::RolloutFailed { rollout_id, candidate_id } => json!({
            "rollout_id": rollout_id, "candidate_id": candidate_id,
        }),
        Event::RolloutsExpired { started_seqs, rollout_ids } if rollout_ids.is_empty() => {
            json!({ "started_seqs": started_seqs })
        }
        Event::RolloutsExpired { rollout_ids, .. } => json!({ "rollout_ids": rollout_ids }),
    };
    match fields {
        Value::Object(fields) => fields,
        other => Map::from_iter([("detail".to_owned(), other)]),
    }
}

fn candidate_json(prompt: &Prompt, candidate: &Candidate, arm: &Arm) -> Value {
    let content = &candidate.content;
    json!({
        "candidate_id": candidate.candidate_id,
        "parent_id": content.parent_id,
        "avg_reward": score(arm),
        "rollout_count": arm.starts,
        "reward_count": arm.n,
        "in_flight": arm.pending,
        "created_at": rfc3339(candidate.added_us),
        "params": candidate.params,
        "deltas": object(&content.deltas),
        "stage_payloads": object(&content.stage_payloads),
        "metadata": object(&content.metadata),
        "baseline_messages": messages(prompt, candidate),
    })
}

/// The candidate's messages as patterns, so that a client can show its text whatever kind of change made it. The
/// client's own, where it registered some.
fn messages(prompt: &Prompt, candidate: &Candidate) -> Value {
    let own = &candidate.content.baseline_messages;
    if own.as_array().is_some_and(|messages| !messages.is_empty()) {
        return own.clone();
    }
    let message = |m: super::content::CandidateMessage| json!({ "role": m.role, "order": m.order, "content": m.pattern });
    candidate.content.messages(prompt).into_iter().map(message).collect()
}

fn object(value: &Value) -> Value {
    if value.is_null() { json!({}) } else { value.clone() }
}

fn score(arm: &Arm) -> Option<f64> {
    (arm.n > 0).then_some(arm.mean)
}

/// Every candidate that has rewards.
fn attempted(state: &State) -> Vec<Value> {
    state.candidates().filter_map(|(candidate, arm)| Some(scored(candidate, score(arm)?))).collect()
}

/// Candidates other than `baseline` that score above it, best first.
fn optimized(state: &State) -> Vec<Value> {
    let mut candidates = state.candidates();
    let baseline = candidates.next().and_then(|(_, arm)| score(arm));
    let mut better: Vec<_> = candidates
        .filter_map(|(candidate, arm)| Some((candidate, score(arm)?)))
        .filter(|(_, score)| baseline.is_none_or(|baseline| *score > baseline))
        .collect();
    better.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    better.into_iter().map(|(candidate, score)| scored(candidate, score)).collect()
}

fn scored(candidate: &Candidate, score: f64) -> Value {
    json!({ "candidate_id": candidate.candidate_id, "score": score })
}

/// A time as RFC 3339 in UTC, to the microsecond.
fn rfc3339(at_us: u64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_us) * 1_000);
    at.unwrap_or(OffsetDateTime::UNIX_EPOCH).format(&Rfc3339).unwrap_or_default()
}

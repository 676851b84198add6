//! The events of one command as bytes: what the log keeps and replay reads.
//!
//! Ids stand once in a table and are named by their place in it; the time stands once. A started rollout takes about 55 bytes and its
//! ids. Sequence numbers are not inside: the log's record has the first one.
//!
//! Reading: [`decode`] gives the events themselves (for histories); [`replay`] folds them into a state without making them.

use std::sync::Arc;

use prost::Message;

use super::{CodecError, admit, read};
use crate::system::apply::Fact;
use crate::system::{CandidateContent, Event, NoProbe, Phase, Pick, PromptHash, Recorded, RolloutKey, State};

/// The version of the messages here, and the oldest reader that understands what this build writes.
pub const SCHEMA: u32 = 1;
const MIN_READER: u32 = 1;

/// Bytes that the ids of one batch may come to when each stands with its event again; far more than any command's.
const IDS_BYTES_MAX: usize = 16 << 20;

const MALFORMED: &str = "no valid events";

/// One command's events.
#[derive(Clone, PartialEq, Message)]
struct Batch {
    /// The writer's version.
    #[prost(uint32, tag = "1")]
    schema: u32,
    /// The oldest reader that may read it.
    #[prost(uint32, tag = "2")]
    min_reader: u32,
    /// When the command was decided, microseconds since the Unix epoch.
    #[prost(uint64, tag = "3")]
    at_us: u64,
    /// Ids of rollouts and candidates, named below by their place here.
    #[prost(string, repeated, tag = "4")]
    ids: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    events: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    /// By how much its time differs from the batch's; 0 for the events of one command.
    #[prost(sint64, tag = "1")]
    later_us: i64,
    #[prost(oneof = "Kind", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(message, tag = "2")]
    Created(Created),
    #[prost(message, tag = "3")]
    Added(Added),
    #[prost(message, tag = "4")]
    Started(Started),
    #[prost(message, tag = "5")]
    Adopted(Ids),
    #[prost(message, tag = "6")]
    Rewarded(Rewarded),
    #[prost(message, tag = "7")]
    Learned(Learned),
    #[prost(message, tag = "8")]
    Done(Ids),
    #[prost(message, tag = "9")]
    Failed(Ids),
    #[prost(message, tag = "10")]
    Expired(Expired),
}

#[derive(Clone, PartialEq, Message)]
struct Created {
    /// The [`crate::system::NewSystem`] as JSON.
    #[prost(bytes = "vec", tag = "1")]
    system_json: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Added {
    #[prost(uint32, tag = "1")]
    candidate: u32,
    /// The [`CandidateContent`] as JSON.
    #[prost(bytes = "vec", tag = "2")]
    content_json: Vec<u8>,
    /// By rising name.
    #[prost(message, repeated, tag = "3")]
    params: Vec<super::state::Param>,
}

#[derive(Clone, PartialEq, Message)]
struct Started {
    #[prost(uint32, tag = "1")]
    rollout: u32,
    #[prost(uint32, tag = "2")]
    candidate: u32,
    #[prost(float, optional, tag = "3")]
    probability: Option<f32>,
    /// Instead of the former in events of older builds, whose probabilities have more digits.
    #[prost(double, optional, tag = "4")]
    probability_exact: Option<f64>,
    /// 0 policy, 1 batch, 2 held, 3 unmatched.
    #[prost(uint32, tag = "5")]
    pick: u32,
    #[prost(fixed64, optional, tag = "6")]
    seed: Option<u64>,
    /// The two halves of the prompt's hash, big-endian.
    #[prost(fixed64, optional, tag = "7")]
    prompt_hash_high: Option<u64>,
    #[prost(fixed64, optional, tag = "8")]
    prompt_hash_low: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct Ids {
    #[prost(uint32, tag = "1")]
    rollout: u32,
    #[prost(uint32, tag = "2")]
    candidate: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Rewarded {
    #[prost(uint32, tag = "1")]
    rollout: u32,
    #[prost(uint32, tag = "2")]
    candidate: u32,
    /// Always there; optional because a plain one would lose the sign of a zero.
    #[prost(double, optional, tag = "3")]
    reward: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Learned {
    #[prost(uint32, tag = "1")]
    candidate: u32,
    #[prost(uint64, tag = "2")]
    reward_count: u64,
    #[prost(double, optional, tag = "3")]
    avg_reward: Option<f64>,
    #[prost(uint32, tag = "4")]
    best_candidate: u32,
    #[prost(double, optional, tag = "5")]
    best_score: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Expired {
    /// Numbers of the events that began them, each as its distance from the one before.
    #[prost(sint64, repeated, tag = "1")]
    started_seqs: Vec<i64>,
    /// In events of schema-1 documents: the rollouts' ids.
    #[prost(uint32, repeated, tag = "2")]
    rollouts: Vec<u32>,
}

/// Appends the encoded events of one command to `out`. They must be numbered without gaps; their first number and their
/// count are for the caller to keep.
pub fn encode(events: &[Recorded], out: &mut Vec<u8>) {
    let at_us = events.first().map_or(0, |first| first.at_us);
    let mut ids = Vec::new();
    let mut entries = Vec::with_capacity(events.len());
    for recorded in events {
        let later_us = recorded.at_us.wrapping_sub(at_us).cast_signed();
        entries.push(Entry { later_us, kind: Some(kind(&recorded.event, &mut ids)) });
    }
    let ids = ids.into_iter().map(str::to_owned).collect();
    let batch = Batch { schema: SCHEMA, min_reader: MIN_READER, at_us, ids, events: entries };
    out.reserve(batch.encoded_len());
    batch.encode_raw(out);
}

/// An id's place in the table. One command has few ids, so they are looked through.
fn place<'e>(ids: &mut Vec<&'e str>, id: &'e str) -> u32 {
    let at = ids.iter().position(|known| *known == id).unwrap_or_else(|| {
        ids.push(id);
        ids.len() - 1
    });
    u32::try_from(at).expect("one command has few ids")
}

fn kind<'e>(event: &'e Event, ids: &mut Vec<&'e str>) -> Kind {
    let mut both = |rollout: &'e str, candidate: &'e str| Ids {
        rollout: place(ids, rollout),
        candidate: place(ids, candidate),
    };
    match event {
        Event::SystemCreated { system } => Kind::Created(Created { system_json: json(&**system) }),
        Event::CandidateAdded { candidate_id, content, params } => Kind::Added(Added {
            candidate: place(ids, candidate_id),
            content_json: json(&**content),
            params: super::state::params(params),
        }),
        Event::RolloutStarted { rollout_id, candidate_id, probability, pick, seed, prompt_hash } => {
            let Ids { rollout, candidate } = both(rollout_id, candidate_id);
            let short =
                Some(*probability as f32).filter(|p| f64::from(*p).to_bits() == probability.to_bits());
            let hash = prompt_hash.map(|PromptHash(hash)| u128::from_be_bytes(hash));
            Kind::Started(Started {
                rollout,
                candidate,
                probability: short,
                probability_exact: short.is_none().then_some(*probability),
                pick: *pick as u32,
                seed: *seed,
                prompt_hash_high: hash.map(|hash| (hash >> 64) as u64),
                prompt_hash_low: hash.map(|hash| hash as u64),
            })
        }
        Event::RolloutAdopted { rollout_id, candidate_id } => Kind::Adopted(both(rollout_id, candidate_id)),
        Event::RewardReceived { rollout_id, candidate_id, reward } => {
            let Ids { rollout, candidate } = both(rollout_id, candidate_id);
            Kind::Rewarded(Rewarded { rollout, candidate, reward: Some(*reward) })
        }
        Event::TpeUpdated { candidate_id, reward_count, avg_reward, best_candidate_id, best_score } => {
            Kind::Learned(Learned {
                candidate: place(ids, candidate_id),
                reward_count: *reward_count,
                avg_reward: Some(*avg_reward),
                best_candidate: place(ids, best_candidate_id),
                best_score: *best_score,
            })
        }
        Event::RolloutDone { rollout_id, candidate_id } => Kind::Done(both(rollout_id, candidate_id)),
        Event::RolloutFailed { rollout_id, candidate_id } => Kind::Failed(both(rollout_id, candidate_id)),
        Event::RolloutsExpired { started_seqs, rollout_ids } => Kind::Expired(Expired {
            started_seqs: super::state::distances(started_seqs.iter().copied()),
            rollouts: rollout_ids.iter().map(|id| place(ids, id)).collect(),
        }),
    }
}

pub(super) fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("settings and contents are plain data with a JSON form")
}

/// Reads a batch and checks that it holds `count` events.
fn batch(payload: &[u8], first_seq: u64, count: u32) -> Result<Batch, CodecError> {
    let batch: Batch = read(payload, SCHEMA, MALFORMED)?;
    admit(batch.min_reader, SCHEMA)?;
    let (found, expected) = (batch.events.len() as u64, u64::from(count));
    if found != expected || first_seq.checked_add(found).is_none() {
        let (found_seq, expected_seq) = (first_seq, first_seq);
        return Err(CodecError::Misplaced { found, found_seq, expected, expected_seq });
    }
    Ok(batch)
}

/// Reads the events of one command back; the first has the number `first_seq`.
///
/// # Errors
/// [`CodecError`]: they are no events, not `count` of them, or a newer build's.
pub fn decode(payload: &[u8], first_seq: u64, count: u32) -> Result<Vec<Recorded>, CodecError> {
    let batch = batch(payload, first_seq, count)?;
    let mut table = Table { ids: &batch.ids, left: IDS_BYTES_MAX };
    let recorded = |(entry, seq): (&Entry, u64)| {
        let at_us = batch.at_us.wrapping_add_signed(entry.later_us);
        Ok(Recorded { seq, at_us, event: table.event(entry)? })
    };
    batch.events.iter().zip(first_seq..).map(recorded).collect()
}

/// Folds the events of one command into `state`: the same as decoding and applying them, without making them.
///
/// # Errors
/// [`CodecError`]: they are no events, not `count` of them, a newer build's, or not the ones that come next. The state may
/// then be half changed and must be dropped.
pub fn replay(payload: &[u8], first_seq: u64, count: u32, state: &mut State) -> Result<(), CodecError> {
    let expected_seq = state.version.saturating_add(1);
    if first_seq != expected_seq {
        let found = u64::from(count);
        return Err(CodecError::Misplaced { found, found_seq: first_seq, expected: found, expected_seq });
    }
    let batch = batch(payload, first_seq, count)?;
    let mut table = Table { ids: &batch.ids, left: IDS_BYTES_MAX };
    let mut keys = Keys::default();
    for (entry, seq) in batch.events.iter().zip(first_seq..) {
        let at_us = batch.at_us.wrapping_add_signed(entry.later_us);
        match fact(entry, &batch.ids, &mut keys)? {
            Some(fact) => state.step(seq, at_us, &fact, &mut NoProbe),
            None => state.step(seq, at_us, &Fact::of(&table.event(entry)?), &mut NoProbe),
        }
    }
    Ok(())
}

/// A frequent event as a fact; `None` for the others, which are worth no way of their own.
fn fact<'b>(entry: &'b Entry, ids: &'b [String], keys: &mut Keys) -> Result<Option<Fact<'b>>, CodecError> {
    // Every id is looked up, also where the state has no use for it: what `decode` refuses is refused here, too.
    let mut both = |rollout: u32, candidate: u32| {
        let candidate_id = id(ids, candidate)?;
        Ok((keys.key(ids, rollout)?, candidate_id))
    };
    Ok(Some(match entry.kind.as_ref() {
        Some(Kind::Started(started)) => {
            let (key, candidate_id) = both(started.rollout, started.candidate)?;
            let (probability, pick) = (started.picked_with()?, started.pick()?);
            Fact::Started { key, candidate_id, probability, pick }
        }
        Some(Kind::Adopted(pair)) => {
            let (key, candidate_id) = both(pair.rollout, pair.candidate)?;
            Fact::Adopted { key, candidate_id }
        }
        Some(Kind::Rewarded(rewarded)) => {
            let (key, _) = both(rewarded.rollout, rewarded.candidate)?;
            Fact::Rewarded { key, reward: needed(rewarded.reward)? }
        }
        Some(Kind::Learned(learned)) => {
            id(ids, learned.candidate)?;
            needed(learned.avg_reward)?;
            Fact::Learned {
                best_candidate_id: id(ids, learned.best_candidate)?,
                best_score: learned.best_score,
            }
        }
        Some(Kind::Done(pair)) => {
            let (key, _) = both(pair.rollout, pair.candidate)?;
            Fact::Closed { key, phase: Phase::Done }
        }
        Some(Kind::Failed(pair)) => {
            let (key, _) = both(pair.rollout, pair.candidate)?;
            Fact::Closed { key, phase: Phase::Failed }
        }
        _ => return Ok(None),
    }))
}

fn id(ids: &[String], place: u32) -> Result<&str, CodecError> {
    ids.get(place as usize)
        .map(String::as_str)
        .ok_or(CodecError::Damaged("an event names an id that isn't there"))
}

fn needed(value: Option<f64>) -> Result<f64, CodecError> {
    value.ok_or(CodecError::Damaged("an event lacks a number"))
}

/// The key of the rollout that was asked for last: a command is about one.
#[derive(Default)]
struct Keys(Option<(u32, RolloutKey)>);

impl Keys {
    fn key(&mut self, ids: &[String], place: u32) -> Result<RolloutKey, CodecError> {
        if let Some((_, key)) = self.0.filter(|(known, _)| *known == place) {
            return Ok(key);
        }
        let key = RolloutKey::of(id(ids, place)?);
        self.0 = Some((place, key));
        Ok(key)
    }
}

impl Started {
    fn picked_with(&self) -> Result<f64, CodecError> {
        needed(self.probability_exact.or_else(|| self.probability.map(f64::from)))
    }

    fn pick(&self) -> Result<Pick, CodecError> {
        let picks = [Pick::Policy, Pick::Batch, Pick::Held, Pick::Unmatched];
        let pick = picks.into_iter().find(|pick| *pick as u32 == self.pick);
        pick.ok_or(CodecError::Damaged("a rollout was picked in an unknown way"))
    }

    fn prompt_hash(&self) -> Option<PromptHash> {
        let hash = u128::from(self.prompt_hash_high?) << 64 | u128::from(self.prompt_hash_low?);
        Some(PromptHash(hash.to_be_bytes()))
    }
}

/// The ids of a batch, given out as often as events name them.
struct Table<'b> {
    ids: &'b [String],
    left: usize,
}

impl Table<'_> {
    fn id(&mut self, place: u32) -> Result<String, CodecError> {
        let id = id(self.ids, place)?;
        // Some bytes of damage could ask for a long id many times over.
        let left = self.left.checked_sub(id.len());
        self.left = left.ok_or(CodecError::Damaged("its ids are longer than any command's"))?;
        Ok(id.to_owned())
    }

    fn both(&mut self, rollout: u32, candidate: u32) -> Result<(String, String), CodecError> {
        Ok((self.id(rollout)?, self.id(candidate)?))
    }

    fn event(&mut self, entry: &Entry) -> Result<Event, CodecError> {
        let kind = entry.kind.as_ref().ok_or(CodecError::Damaged("an event of an unknown kind"))?;
        Ok(match kind {
            Kind::Created(created) => {
                let system = serde_json::from_slice(&created.system_json);
                let system =
                    system.map_err(|_| CodecError::Damaged("a system's settings are no valid JSON"))?;
                Event::SystemCreated { system: Arc::new(system) }
            }
            Kind::Added(added) => Event::CandidateAdded {
                candidate_id: self.id(added.candidate)?,
                content: content(&added.content_json)?,
                params: super::state::read_params(&added.params),
            },
            Kind::Started(started) => {
                let (rollout_id, candidate_id) = self.both(started.rollout, started.candidate)?;
                let (probability, pick) = (started.picked_with()?, started.pick()?);
                let (seed, prompt_hash) = (started.seed, started.prompt_hash());
                Event::RolloutStarted { rollout_id, candidate_id, probability, pick, seed, prompt_hash }
            }
            Kind::Adopted(ids) => {
                let (rollout_id, candidate_id) = self.both(ids.rollout, ids.candidate)?;
                Event::RolloutAdopted { rollout_id, candidate_id }
            }
            Kind::Rewarded(rewarded) => {
                let (rollout_id, candidate_id) = self.both(rewarded.rollout, rewarded.candidate)?;
                Event::RewardReceived { rollout_id, candidate_id, reward: needed(rewarded.reward)? }
            }
            Kind::Learned(learned) => Event::TpeUpdated {
                candidate_id: self.id(learned.candidate)?,
                reward_count: learned.reward_count,
                avg_reward: needed(learned.avg_reward)?,
                best_candidate_id: self.id(learned.best_candidate)?,
                best_score: learned.best_score,
            },
            Kind::Done(ids) => {
                let (rollout_id, candidate_id) = self.both(ids.rollout, ids.candidate)?;
                Event::RolloutDone { rollout_id, candidate_id }
            }
            Kind::Failed(ids) => {
                let (rollout_id, candidate_id) = self.both(ids.rollout, ids.candidate)?;
                Event::RolloutFailed { rollout_id, candidate_id }
            }
            Kind::Expired(expired) => Event::RolloutsExpired {
                started_seqs: super::state::sums(&expired.started_seqs).collect(),
                rollout_ids: expired
                    .rollouts
                    .iter()
                    .map(|&place| self.id(place))
                    .collect::<Result<_, _>>()?,
            },
        })
    }
}

pub(super) fn content(json: &[u8]) -> Result<Arc<CandidateContent>, CodecError> {
    let content = serde_json::from_slice(json).map(Arc::new);
    content.map_err(|_| CodecError::Damaged("a candidate's content is no valid JSON"))
}

//! What is stored of a system: `{"schema":2,"state":{…},"events":[…]}`, one JSON document, all history inside.
//!
//! Key: `systems/<system id>/state-<version, 20 digits>.json`, where the version is the newest event's number. Written once,
//! never changed (but by the engine `blob`, which is faithful to the original and may overwrite).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use mipro_telemetry::{Ledger, Stage};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::{EngineError, Question};
use crate::system::{
    Command, Context, NewSystem, Probe, Recorded, Refusal, Reply, State, SystemId, apply, begin, decide,
    record, view,
};

/// The newest schema this build reads and the one it writes. Schema 1 held rollouts under their ids, with more detail; it is
/// still read.
pub const SCHEMA: u32 = 2;

/// Events of a history that are copied when it is cloned; older ones are shared.
const TAIL_MAX: usize = 256;

/// A system as it lies in memory: its state and its history. Cloning it shares all but the history's newest events.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The fold of the history.
    pub state: State,
    /// Every event so far.
    pub history: History,
    /// The fencing epoch under which it is saved; 0 in documents of builds that did not say it there.
    pub epoch: u64,
}

/// Every event so far, in order. Grows for ever: the fault that a later rung mends.
#[derive(Debug, Clone, Default)]
pub struct History {
    sealed: Vec<Arc<[Recorded]>>,
    tail: Vec<Recorded>,
}

impl History {
    /// Adds the next events.
    pub fn extend(&mut self, events: Vec<Recorded>) {
        self.tail.extend(events);
        if self.tail.len() >= TAIL_MAX {
            self.sealed.push(std::mem::take(&mut self.tail).into());
        }
    }

    /// How many events there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sealed.iter().map(|chunk| chunk.len()).sum::<usize>() + self.tail.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.tail.is_empty()
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Recorded> {
        self.sealed.iter().flat_map(|chunk| chunk.iter()).chain(&self.tail)
    }

    /// The first `limit` events after `since_seq`, oldest first. Skips whole chunks.
    #[must_use]
    pub fn after(&self, since_seq: u64, limit: usize) -> Vec<Recorded> {
        let from =
            self.sealed.partition_point(|chunk| chunk.last().is_some_and(|last| last.seq <= since_seq));
        let rest = self.sealed[from..].iter().flat_map(|chunk| chunk.iter()).chain(&self.tail);
        rest.filter(|recorded| recorded.seq > since_seq).take(limit).cloned().collect()
    }

    fn last_seq(&self) -> u64 {
        let last = self.tail.last().or_else(|| self.sealed.last().and_then(|chunk| chunk.last()));
        last.map_or(0, |recorded| recorded.seq)
    }
}

impl PartialEq for History {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl From<Vec<Recorded>> for History {
    fn from(events: Vec<Recorded>) -> Self {
        Self { sealed: if events.is_empty() { Vec::new() } else { vec![events.into()] }, tail: Vec::new() }
    }
}

impl Serialize for History {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// What running a command came to. Its events are part of the document's history already.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) reply: Reply,
    /// How many events it made; 0 for a duplicate.
    pub(crate) events: u64,
}

/// Why running a command came to nothing.
#[derive(Debug)]
pub(crate) enum Undone {
    /// The document is as it was.
    Refused(Refusal),
    /// The heart panicked: the document may be half changed and must be dropped.
    Poisoned,
}

impl Document {
    /// A new system's document and the answer to its creation.
    #[must_use]
    pub fn begin(new: &NewSystem, context: &Context) -> (Self, Reply) {
        let (state, events, reply) = begin(new, context);
        (Self { state, history: events.into(), epoch: 0 }, reply)
    }

    /// Runs a command; the policy's work is clocked in `ledger`. `keep` sees the events before they are applied. Its error
    /// leaves the document as it was and is told as [`Undone::Poisoned`]: whoever can't keep events starts over.
    pub(crate) fn execute(
        &mut self,
        command: &Command,
        context: &Context,
        ledger: &Ledger,
        keep: impl FnOnce(&[Recorded]) -> Result<(), ()>,
    ) -> Result<Done, Undone> {
        let mut probe = LedgerProbe(ledger);
        // Whoever gets `Poisoned` drops the document, so that nobody sees what a panic left behind.
        let decided = catch_unwind(AssertUnwindSafe(|| decide(&self.state, command, context, &mut probe)));
        let decision = decided.map_err(|_| Undone::Poisoned)?.map_err(Undone::Refused)?;
        let events = record(&self.state, decision.events, context);
        let count = events.len() as u64;
        if count > 0 {
            keep(&events).map_err(|()| Undone::Poisoned)?;
            let fold = || events.iter().for_each(|event| apply(&mut self.state, event, &mut probe));
            catch_unwind(AssertUnwindSafe(fold)).map_err(|_| Undone::Poisoned)?;
            self.history.extend(events);
        }
        Ok(Done { reply: decision.reply, events: count })
    }

    /// Answers a question.
    #[must_use]
    pub(crate) fn answer(&self, question: &Question) -> Value {
        match *question {
            Question::State => view::state_json(&self.state),
            Question::Summary => view::summary_json(&self.state),
            Question::Events { since_seq, limit } => {
                view::events_json(&self.history.after(since_seq, limit), since_seq, limit)
            }
        }
    }

    /// The document's bytes.
    ///
    /// # Errors
    /// [`EngineError::Internal`]: something in it has no JSON form.
    pub fn encode(&self) -> Result<Bytes, EngineError> {
        let bytes = serde_json::to_vec(self).map_err(|error| {
            tracing::error!(%error, "a state has no JSON form");
            EngineError::Internal { what: "the state can't be encoded" }
        })?;
        Ok(bytes.into())
    }

    /// Reads a document back. `key` is named, hashed, in the error.
    ///
    /// # Errors
    /// [`EngineError::Corrupt`]: it is no document, a newer schema's, another system's, or its parts disagree.
    pub fn decode(key: &str, system: SystemId, bytes: &[u8]) -> Result<Self, EngineError> {
        let stored = serde_json::from_slice::<Stored>(bytes);
        let schema = match &stored {
            Ok(stored) => Some(stored.schema),
            Err(_) => serde_json::from_slice::<Head>(bytes).ok().map(|head| head.schema),
        };
        if let Some(schema) = schema.filter(|schema| !(1..=SCHEMA).contains(schema)) {
            let problem = format!(
                "it has schema {schema}, this build reads schemas 1 to {SCHEMA}: start a newer build"
            );
            return Err(corrupt(key, problem));
        }
        // The parser's own text may quote what it read.
        let stored = stored.map_err(|e| {
            corrupt(key, format!("no valid document at line {}, column {}", e.line(), e.column()))
        })?;
        let document = Self { state: stored.state, history: stored.events.into(), epoch: stored.epoch };
        if document.state.system_id != system {
            return Err(corrupt(key, "it is another system's state".to_owned()));
        }
        if document.history.last_seq() != document.state.version {
            return Err(corrupt(key, "its state and its events disagree on the version".to_owned()));
        }
        Ok(document)
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut document = serializer.serialize_struct("Document", 4)?;
        document.serialize_field("schema", &SCHEMA)?;
        document.serialize_field("state", &self.state)?;
        document.serialize_field("events", &self.history)?;
        if self.epoch > 0 {
            document.serialize_field("epoch", &self.epoch)?;
        }
        document.end()
    }
}

#[derive(Deserialize)]
struct Stored {
    schema: u32,
    state: State,
    events: Vec<Recorded>,
    #[serde(default)]
    epoch: u64,
}

#[derive(Deserialize)]
struct Head {
    schema: u32,
}

/// An object that can't be read. Its key goes nowhere; a short hash of it lets whoever holds the store find it.
pub(crate) fn corrupt(key: &str, problem: String) -> EngineError {
    let object = blake3::hash(key.as_bytes()).to_hex()[..12].to_owned();
    tracing::error!(object, problem, "a stored state can't be read");
    EngineError::Corrupt { object, problem }
}

/// Clocks the policy in a request's ledger.
pub(crate) struct LedgerProbe<'a>(pub(crate) &'a Ledger);

impl Probe for LedgerProbe<'_> {
    fn suggest<R>(&mut self, work: impl FnOnce() -> R) -> R {
        self.0.time(Stage::PolicySuggest, work)
    }

    fn observe<R>(&mut self, work: impl FnOnce() -> R) -> R {
        self.0.time(Stage::PolicyObserve, work)
    }
}

#[cfg(test)]
mod tests;

//! The heart of the service: what a system is and how it changes. Pure and synchronous: no I/O, no clock, no dice.
//!
//! A **command** may be refused; [`decide()`] turns an accepted one into **events**; [`apply()`] folds an event into the
//! [`State`] and cannot fail. Time and randomness come in with the command's [`Context`], and everything random that was
//! decided (which candidate, with which probability) is written into the event, so that folding the events again gives
//! the same state, byte for byte. Between the two stands [`record()`], which numbers the events and changes nothing: a log
//! takes them there, and one that refuses them leaves the state as it was.
//!
//! **The four steps of a call** are not here but in the engine: `engine/shard/active.rs` decides, appends to the log and then
//! applies; `engine/gate.rs` holds the answer back until the log is durable up to the newest event that it could have seen;
//! `engine/shard/claims.rs` makes the row say whose the system is before the first append; `engine/shard/saves.rs` hands a
//! state to [`crate::snapshot`] once the log has what it is made of.
//!
//! Suggested reading order: [`command`], [`refusal`], [`event`], [`state`], [`rollouts`], [`mod@decide`], [`mod@apply`]; then [`prompt`] and [`content`]
//! for what candidates do to prompts, and [`view`] for what the outside is shown.

pub mod apply;
pub mod command;
pub mod content;
pub mod decide;
pub mod event;
pub mod probe;
pub mod prompt;
pub mod refusal;
pub mod rollouts;
pub mod spec;
pub mod state;
mod stored;
mod unrecorded;
pub mod view;

pub use apply::{apply, execute, found, record};
pub use command::{
    Command, Context, NewCandidate, NewSystem, OrgId, Reply, RolloutReply, Status, StatusReport, SystemId,
};
pub use content::CandidateContent;
pub use decide::{Decision, create, decide};
pub use event::{Event, Pick, Recorded, propensity};
pub use probe::{NoProbe, Probe};
pub use prompt::{Bindings, Message, PatternMessage, Prompt, PromptHash, match_prompt};
pub use refusal::Refusal;
pub use rollouts::{Phase, Rollout, RolloutKey};
pub use spec::{Limits, Mode, PolicyKind, SystemSpec, TpeSpec};
pub use state::{BASELINE, Best, Candidate, State, SystemStatus};

#[cfg(test)]
mod tests;

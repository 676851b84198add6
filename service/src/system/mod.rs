//! The heart of the service: what a system is and how it changes. Pure and synchronous: no I/O, no clock, no dice.
//!
//! A **command** may be refused; [`decide()`] turns an accepted one into **events**; [`apply()`] folds an event into the
//! [`State`] and cannot fail. Time and randomness come in with the command's [`Context`], and everything random that was
//! decided (which candidate, with which probability) is written into the event, so that folding the events again gives
//! the same state, byte for byte. Between the two stands [`record()`], which numbers the events and changes nothing: a log
//! takes them there, and one that refuses them leaves the state as it was.
//!
//! **The subject.** A job makes a **system**: a prompt that is being improved. The prompt as given is its first **candidate**,
//! `baseline`; others change it. A **rollout** is one trial: a task app, which holds the task's examples, asks the LLM through our
//! **proxy**, which picks a candidate for the rollout, and rewrites the prompt; the answer is scored, and the score comes back as the
//! rollout's **reward**. The policy learns from rewards which candidates to pick. An **arm** is a candidate as the policy sees it: how often
//! it was picked, how many rewards it has, their mean and their spread.
//!
//! **Words.** A system's **row** in the database names its newest stored state, from whose log it is written, and under which
//! fencing **epoch**: a number that rises with every stay in memory, so that a writer who was overtaken can be told. That
//! state is a **snapshot**, the folded state alone; or a **document**, a JSON text with the whole history inside. An **engine** is
//! who drives the steps below: `actor`, with a log; or `blob` and `cache`, which keep no log and store documents. An **LSN** is an
//! append's place in the log. The log's files are **segments**; a full or old one is **sealed**, nothing follows in it, and carried to
//! the **archive**, in the object store.
//!
//! **A call, from request to answer.** The engine `actor` (`engine/shard`) drives the steps, a single task for each shard of systems,
//! so that a system has one writer. Their whole order, and what each one is for:
//!
//! 1. **Load**, if the system is not in memory: [`crate::recovery`] folds snapshot and log, and proposes an epoch.
//! 2. **Claim**, once a stay in memory: before its first append or save the row is made to say, by compare-and-set, that the
//!    system is written under that epoch and from this host's log. Who loses has written nothing: the call is refused as
//!    overtaken, the state is dropped, and the next call reads it anew.
//! 3. **Decide** ([`decide()`]): refused, and nothing has changed; or events, numbered by [`record()`].
//! 4. **Append** ([`crate::log::EventLog::append`]): the log takes the events into its memory and gives them an LSN. It
//!    never waits; if it can't take them, the call is refused and nothing has changed. (The start of
//!    a rollout may, where the operator chose so and the caller named no level, be answered *unrecorded* instead.)
//! 5. **Apply** ([`apply()`]): now the state shows what no disk has yet, and the next command may be decided on it at once.
//! 6. **Gate**: the answer waits until the log is durable, at the level in force, up to the newest event it could have seen.
//!    In force is the level that the service was started with, or the stronger one that the caller asks for (one that this log
//!    can't give is refused before anything is decided); nobody gets a weaker one. A read, a duplicate and a refusal wait like everyone
//!    else, for they tell what the state is. The proxy's gate runs beside the LLM call. If the log dies, no gate opens: nothing is
//!    acknowledged, every held answer becomes a 503, and the process ends (unless it shall serve unrecorded); the next start folds what
//!    the disk has. A wait has a limit (a setting): beyond it the caller hears 503 and doesn't know, as with the log's death; the
//!    event is in the log, and counts if it gets to the disk.
//! 7. **Save**, behind the answers: after 10,000 events, when they come to twice the last snapshot's bytes (and to 256 KiB), or when the
//!    oldest is 30 s old (settings: `[snapshot]`; at `memory` `[cache]`), and when the system leaves memory. It waits until
//!    the log is *on the disk* up to the state's last event, puts the snapshot ([`crate::snapshot::writer`]), then moves the
//!    row. Only what a snapshot covers, and the archive has, is trimmed from the log (a system whose row somebody removed needs no
//!    snapshot: nobody can ask for it).
//!
//! So, with a log of files, and but for a new system's first state: acknowledged ⊆ what the log has at the level in force, stored ⊆ what it has, or had, on its disk, and the
//! row names only what is there. An event that was appended and never acknowledged counts as soon as a start finds it.
//!
//! A **new system** is stored first (snapshot, then a row under epoch 1, which is its claim), and then its first events are
//! appended: an id that is taken must not get a second beginning into its history. A crash between the two leaves a system that
//! nobody was told of, with its baseline and without its first two events.
//!
//! | level in force ([`crate::durability`]) | its gate waits for | an acknowledged reward survives |
//! |---|---|---|
//! | `memory` | nothing (nor does its save) | a clean stop; else what was saved |
//! | `os` | the log's `write` | the process |
//! | `disk` (default) | one `fdatasync` for a group of appends | the machine, not its disk |
//! | `stored` | `blob`, and `cache` that writes through: load, decide, apply, save, answer; a failed save drops the state | the machine and its disk; in `blob`, not another caller's later save of what it had loaded before |
//!
//! `postgres` and `object` have names, and no log gives them yet.
//!
//! **Dead stores.** With S3 or the database gone, systems that are in memory and claimed go on as before; saves and archiving are
//! tried again and again, and a log of files keeps everything meanwhile, up to a bound at which writes are refused as if the disk
//! were full. Loads and first claims fail until the stores are back.
//!
//! Where these steps stand: 2 in `shard/claims.rs`, 3 to 5 in `shard/active.rs`, 6 in `engine/gate.rs`, 7 in `shard/saves.rs`. The
//! events route asks the state for the number of its newest event, waits at the gate, and reads up to that number: the log here, the
//! archive where the log has a hole, an old document, and the log again (`history.rs`).
//!
//! Suggested reading order: [`command`], [`spec`], [`refusal`], [`event`], [`state`], [`rollouts`], [`mod@decide`], [`mod@apply`]; then [`prompt`] and [`content`]
//! for what candidates do to prompts, `unrecorded` for the start that no log takes, [`probe`] for who may time the steps, and
//! [`view`] and `stored` for what the outside and the old documents are shown.

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

pub use apply::{apply, begin, execute, record};
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

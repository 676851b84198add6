//! How an engine is set up.

use std::time::Duration;

use crate::clock::Contexts;
use crate::offload::Offload;

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// See [`super::blob`].
    Blob,
    /// See [`super::cache`].
    Cache,
    /// See [`super::actor`].
    Actor,
}

/// When a changed state is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Save {
    /// Behind the answers: after so many events or so long.
    Back,
    /// Before the answer.
    Through,
}

/// Everything an engine is told.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Which engine. Default: actor.
    pub kind: EngineKind,
    /// For the engine `cache`.
    pub cache: CacheOptions,
    /// For the engine `actor`.
    pub actor: ActorOptions,
    /// Time and randomness for the commands.
    pub contexts: Contexts,
    /// How long [`super::Engine::shutdown`] may save. Default: 10 s.
    pub shutdown_deadline: Duration,
    /// Where states are packed and unpacked, and files are read. Default: tokio's blocking pool.
    pub offload: Offload,
}

impl EngineOptions {
    /// The defaults of an engine.
    #[must_use]
    pub fn new(kind: EngineKind, contexts: Contexts) -> Self {
        Self {
            kind,
            cache: CacheOptions::default(),
            actor: ActorOptions::default(),
            contexts,
            shutdown_deadline: Duration::from_secs(10),
            offload: Offload::default(),
        }
    }
}

/// The engine `cache`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheOptions {
    /// Systems in memory; for a moment up to twice as many, while evicted ones are being saved. Higher loads less often and
    /// takes more memory. Default: 1,024.
    pub systems_max: usize,
    /// When a changed state is saved. Default: back.
    pub save: Save,
    /// With [`Save::Back`]: save a system after this many unsaved events; a job may ask for fewer. Lower loses less in a
    /// crash and writes more. Default: 500.
    pub save_events_max: u64,
    /// With [`Save::Back`]: save a system when its oldest unsaved event is this old; a job may ask for sooner. Default: 30 s.
    pub save_delay_max: Duration,
    /// With [`Save::Back`]: unsaved events of all systems together, beyond which commands are refused until the stores have
    /// caught up. Bounds memory and loss while a store is down. Default: 100,000.
    pub unsaved_events_max: u64,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            systems_max: 1_024,
            save: Save::Back,
            save_events_max: 500,
            save_delay_max: Duration::from_secs(30),
            unsaved_events_max: 100_000,
        }
    }
}

/// How the engine `actor` stores a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The folded state alone; its history stays in the log.
    Binary,
    /// The whole document, history inside. Always so where the log keeps nothing (the level `memory`).
    Document,
}

/// The engine `actor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActorOptions {
    /// How a state is stored with a log that keeps its events. Default: binary.
    pub format: Format,
    /// Shards. Default: 8 for each core.
    pub shards: usize,
    /// Requests waiting for one shard, beyond which they are refused. Default: 4,096.
    pub mailbox_max: usize,
    /// Systems in memory, over all shards; for a moment up to twice as many, while evicted ones are being saved.
    /// Default: 1,024.
    pub systems_max: usize,
    /// Save a system after this many unsaved events; a job may ask for fewer. Lower loses less in a crash (level `memory`) or
    /// replays less after it, and writes more. Default: 500, as `cache.save_events_max`; with a log that keeps its events the
    /// service sets what `snapshot.events_max` says, 10,000 by default.
    pub save_events_max: u64,
    /// With a log that keeps its events: save a system when those since its last save come to this many times the size of
    /// that save, and to 256 KiB at least. Default: 2.
    pub tail_ratio: u64,
    /// Save a changed system when its oldest unsaved event is this old, so that a crash loses no more than that; zero:
    /// however old, as long as the events are few. Default: 30 s.
    pub save_delay_max: Duration,
    /// Unsaved events of all systems together, beyond which commands are refused until the stores have caught up; from half
    /// of it on every changed system is saved. Bounds memory and loss while a store is down. Not with a log that keeps its events:
    /// nothing is lost there, and the log is bounded itself. Default: 100,000.
    pub unsaved_events_max: u64,
    /// How often sealed segments of the log are looked for, to be archived and trimmed. Default: 10 s.
    pub archive_every: Duration,
    /// A system nobody has used for this long leaves memory. Default: 10 min.
    pub idle_max: Duration,
    /// How long an answer may wait for the log. Default: 10 s.
    pub gate_wait_max: Duration,
}

impl Default for ActorOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            shards: 8 * cores,
            format: Format::Binary,
            mailbox_max: 4_096,
            systems_max: 1_024,
            save_events_max: 500,
            tail_ratio: 2,
            save_delay_max: Duration::from_secs(30),
            unsaved_events_max: 100_000,
            archive_every: Duration::from_secs(10),
            idle_max: Duration::from_secs(600),
            gate_wait_max: Duration::from_secs(10),
        }
    }
}

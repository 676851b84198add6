//! The only names there are for the parts of a request's time.
//!
//! A **stage** is what is being done, an **operation** is for whom, a **phase** says whether the work belongs to loading
//! or saving a system's state (the seed tables' "load_state (db)" is phase × store). Stages are exclusive: at every
//! instant of a request at most one of them is charged. Phases enclose stages and are never added to sums.

use serde::{Deserialize, Serialize};

macro_rules! vocabulary {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident => $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$vmeta])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// Every value, in the order in which reports show them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name used in reports, headers and metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The value of that name, if there is one.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

vocabulary! {
    /// A part of the time of a request, or of background work.
    Stage {
        /// Waiting for the shard (or the system's lock) to take the command.
        Queue => "queue",
        /// Getting a database connection: connecting, or waiting for the pool.
        DbAcquire => "db.acquire",
        /// Preparing and running statements, the wire included.
        DbQuery => "db.query",
        /// Turning rows into values.
        DbDecode => "db.decode",
        /// Reading an object: connect, first byte and body.
        S3Get => "s3.get",
        /// Writing an object.
        S3Put => "s3.put",
        /// Serializing state.
        StateEncode => "state.encode",
        /// Deserializing state.
        StateDecode => "state.decode",
        /// The policy choosing a candidate.
        PolicySuggest => "policy.suggest",
        /// The policy learning from a reward.
        PolicyObserve => "policy.observe",
        /// Handing an event to the log.
        LogAppend => "log.append",
        /// What the request waits for durability, beyond what other stages hide.
        GateWait => "gate.wait",
        /// Turning the candidate's deltas into messages.
        PromptRender => "prompt.render",
        /// Opening the connection to the LLM.
        LlmConnect => "llm.connect",
        /// Request sent until the first byte of the LLM's answer.
        LlmFirstByte => "llm.first_byte",
        /// The rest of the LLM's answer.
        LlmBody => "llm.body",
        /// Everything that no stage claims; always shown.
        Other => "other",
        /// Background: one sync of the log.
        LogSync => "log.sync",
        /// Background: encoding a snapshot.
        SnapshotEncode => "snapshot.encode",
        /// Background: writing a snapshot.
        SnapshotPut => "snapshot.put",
        /// Background: moving the pointer row.
        PointerUpdate => "pointer.update",
    }
}

vocabulary! {
    /// A roll-up of stages.
    Group {
        /// `db.*`
        Db => "db",
        /// `s3.*`
        S3 => "s3",
        /// `policy.*`
        Tpe => "tpe",
        /// `llm.*`
        Llm => "llm",
        /// `log.append` and `gate.wait`
        Log => "log",
        /// `state.*` and `prompt.render`
        Cpu => "cpu",
        /// `queue`
        Queue => "queue",
        /// `other`
        Other => "other",
        /// Work that no caller waits for.
        Background => "background",
    }
}

vocabulary! {
    /// Whether work belongs to loading or to saving a system's state.
    Phase {
        /// Reading the pointer row and the state.
        Load => "load",
        /// Writing the state and the pointer row.
        Save => "save",
    }
}

vocabulary! {
    /// What a request is for.
    Operation {
        /// `POST …/online/jobs`
        CreateJob => "create_job",
        /// `GET …/online/jobs/{id}`
        GetJob => "get_job",
        /// `POST …/candidates`
        AddCandidate => "add_candidate",
        /// A proxied chat completion.
        StartRollout => "start_rollout",
        /// A status call with `reward`.
        StatusReward => "status_reward",
        /// A status call with `done` and no reward.
        StatusDone => "status_done",
        /// A status call with `reward_done` (or `done` with a reward).
        StatusRewardDone => "status_reward_done",
        /// A status call with `failed`.
        StatusFailed => "status_failed",
        /// `GET …/state`
        GetState => "get_state",
        /// `GET …/events`
        GetEvents => "get_events",
        /// Work that no caller waits for.
        Background => "background",
        /// Anything else, refused requests among it.
        Unknown => "unknown",
    }
}

impl Stage {
    /// The roll-up this stage belongs to.
    #[must_use]
    pub const fn group(self) -> Group {
        match self {
            Self::Queue => Group::Queue,
            Self::DbAcquire | Self::DbQuery | Self::DbDecode => Group::Db,
            Self::S3Get | Self::S3Put => Group::S3,
            Self::StateEncode | Self::StateDecode | Self::PromptRender => Group::Cpu,
            Self::PolicySuggest | Self::PolicyObserve => Group::Tpe,
            Self::LogAppend | Self::GateWait => Group::Log,
            Self::LlmConnect | Self::LlmFirstByte | Self::LlmBody => Group::Llm,
            Self::Other => Group::Other,
            Self::LogSync | Self::SnapshotEncode | Self::SnapshotPut | Self::PointerUpdate => {
                Group::Background
            }
        }
    }

    /// Whether this stage gives way to any other that runs beside it: the wait for durability is free while the LLM answers.
    #[must_use]
    pub const fn yields(self) -> bool {
        matches!(self, Self::GateWait)
    }
}

//! What an engine can answer instead of an answer.

use std::time::Duration;

use crate::log::AppendError;
use crate::store::StoreError;
use crate::system::Refusal;

/// When a caller may try again, at the soonest, after a store or a queue let it down. What is sent is jittered.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why an engine has no answer. No message carries a system id, a key or a URL.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// There is no such system, or it is another org's: nobody learns which. 404
    #[error("no such system")]
    NotFound,
    /// A system of that id exists already. 409
    #[error("a system of that id exists already")]
    AlreadyExists,
    /// The system refused the command; nothing changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A store or the log is down. Whether the command was applied is not known; repeating it is safe. 503
    #[error("{what} is unavailable; try again")]
    Unavailable {
        /// What is down.
        what: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
    /// A store or the log did not answer in time. Whether the command was applied is not known; repeating it is safe. 503
    #[error("{what} did not answer in time; try again")]
    Timeout {
        /// What was slow.
        what: &'static str,
    },
    /// A bounded queue is full; nothing changed. 503
    #[error("{what}; try again")]
    Overloaded {
        /// What is full.
        what: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
    /// The event log can't take or can't keep what the answer would show. 503
    #[error("{0}; try again")]
    Log(LogTrouble),
    /// One system takes more than its share of a bounded queue; nothing changed. 429
    #[error("{what}; try again")]
    TooMuch {
        /// Of what.
        what: &'static str,
    },
    /// The events of one command are larger than the log takes; nothing changed. 413
    #[error("what this command would record is larger than the event log takes")]
    TooLarge,
    /// The service is stopping; nothing changed. 503
    #[error("the service is stopping; try again")]
    Draining,
    /// The stored state can't be read. Somebody must look; trying again does not help. 500
    #[error("the stored state (object {object}) can't be read: {problem}")]
    Corrupt {
        /// A short hash of the object's key: the key itself holds the system's id, which is a secret.
        object: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Another host has been at this system since it was read here; nothing changed, and what is here was dropped. The next
    /// call reads the system anew: it goes on from what that host has stored, or is refused ([`EngineError::Corrupt`]) where
    /// the log here goes on otherwise. 503
    #[error("another host has written this system; try again")]
    Overtaken,
    /// The stored state is a snapshot, whole as far as anybody knows, and this engine reads documents. 500
    #[error(
        "this system is stored as a snapshot, beside an event log that this service was started without: start it with engine \"actor\" and durability \"disk\" or \"os\""
    )]
    OtherEngine,
    /// A fault of this program. The state in memory was dropped and is read anew. 500
    #[error("internal error: {what}")]
    Internal {
        /// What failed.
        what: &'static str,
    },
}

/// What is wrong with the event log, as far as a caller is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogTrouble {
    /// It has stopped: its disk failed. Whether a command whose answer was held was kept is not known; repeating it is safe.
    #[error("the event log has stopped")]
    Stopped,
    /// It takes longer than `gate_wait_ms_max`. Whether the command will be kept is not known; repeating it is safe.
    #[error("the event log did not answer in time")]
    Slow,
    /// Too much waits to be written; nothing changed.
    #[error("too much waits to be written to the event log")]
    Behind,
    /// There is no room on its disk, or in what it may keep; nothing changed.
    #[error("the event log has no room left")]
    Full,
    /// Its next segment can't be made, and not for want of room; nothing changed.
    #[error("the event log's next segment can't be made ({0})")]
    Blocked(std::io::ErrorKind),
}

impl EngineError {
    /// A store or the log is down.
    #[must_use]
    pub const fn unavailable(what: &'static str) -> Self {
        Self::Unavailable { what, retry_after: RETRY_AFTER }
    }

    /// A bounded queue is full.
    #[must_use]
    pub const fn overloaded(what: &'static str) -> Self {
        Self::Overloaded { what, retry_after: RETRY_AFTER }
    }

    /// Whether the same call may succeed later without anybody's doing.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. }
                | Self::Timeout { .. }
                | Self::Overloaded { .. }
                | Self::Log(_)
                | Self::TooMuch { .. }
                | Self::Overtaken
                | Self::Draining
        )
    }

    /// When to try again, where that may help.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } | Self::Overloaded { retry_after, .. } => {
                Some(*retry_after)
            }
            Self::Timeout { .. } | Self::Log(_) | Self::TooMuch { .. } | Self::Overtaken | Self::Draining => {
                Some(RETRY_AFTER)
            }
            _ => None,
        }
    }
}

impl From<AppendError> for EngineError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Busy => Self::Log(LogTrouble::Behind),
            AppendError::Full => Self::Log(LogTrouble::Full),
            AppendError::Unavailable(why) => Self::Log(LogTrouble::Blocked(why)),
            AppendError::TooLarge => Self::TooLarge,
            AppendError::Closed => Self::Log(LogTrouble::Stopped),
        }
    }
}

impl From<StoreError> for EngineError {
    /// The reason goes to the log, for whoever runs the service; the caller learns that a store is down.
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "a store failed");
        match error {
            StoreError::Unavailable { what, .. } => Self::unavailable(what),
            StoreError::Timeout { what, .. } => Self::Timeout { what },
            StoreError::Corrupt { what, .. } => Self::Internal { what },
            StoreError::NotFound | StoreError::AlreadyExists => Self::unavailable("the object store"),
            StoreError::SchemaNewer { .. } | StoreError::Config(_) => Self::unavailable("the database"),
        }
    }
}

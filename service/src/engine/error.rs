//! What an engine can answer instead of an answer.

use std::time::Duration;

use crate::store::StoreError;
use crate::system::Refusal;

/// When a caller may try again after a store or a queue let it down.
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
    /// A fault of this program. The state in memory was dropped and is read anew. 500
    #[error("internal error: {what}")]
    Internal {
        /// What failed.
        what: &'static str,
    },
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
            Self::Unavailable { .. } | Self::Timeout { .. } | Self::Overloaded { .. } | Self::Draining
        )
    }

    /// When to try again, where that may help.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } | Self::Overloaded { retry_after, .. } => {
                Some(*retry_after)
            }
            Self::Timeout { .. } | Self::Draining => Some(RETRY_AFTER),
            _ => None,
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

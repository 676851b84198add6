//! Why a run could not be made. What goes wrong with single rollouts is accounted for instead.

use crate::account::Failure;

/// Why a run could not be made, or could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The options contradict each other.
    #[error("{0}")]
    Options(String),
    /// The HTTP client could not be made.
    #[error("cannot make the http client: {0}")]
    Client(#[source] reqwest::Error),
    /// A step of the preparation failed.
    #[error("cannot {action}: {failure}")]
    Setup {
        /// What was being done.
        action: &'static str,
        /// How it failed.
        failure: Failure,
    },
    /// The machine or the plan rules out a valid measurement; nothing was sent.
    #[error("the measurement would not be valid: {0}")]
    Preflight(String),
    /// The system gave no thread to pace arrivals on.
    #[error("cannot start the pacer's thread: {0}")]
    Pacer(#[source] std::io::Error),
    /// The server that a calibration asks could not be started.
    #[error("cannot start the null server: {0}")]
    NullServer(#[source] std::io::Error),
    /// The service did not tell a system's proxy URL in time.
    #[error("the job was not ready within {waited_seconds} s; its status is {status}")]
    JobNotReady {
        /// How long it was asked.
        waited_seconds: u64,
        /// The last status seen.
        status: String,
    },
}

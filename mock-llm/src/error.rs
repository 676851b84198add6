//! Why a mock server could not run.

use std::net::SocketAddr;

use crate::dataset;

/// Why a server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address can't be listened on; most often because its port is taken.
    #[error(
        "can't listen on {address} ({}); stop what uses the port, or choose another with --listen \
         (port 0 takes any free one)", .source.kind()
    )]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The data set can't be used.
    #[error(transparent)]
    Dataset(#[from] dataset::Error),
    /// The HTTP client of the task app can't be made.
    #[error("can't set up the HTTP client that calls the LLM")]
    Client(#[source] reqwest::Error),
}

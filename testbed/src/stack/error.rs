//! What can go wrong with a stack.

use super::StackKind;
use crate::link::AdminError;
use crate::{containers, postgres, process};

/// Why there is no stack, or it does not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No engine, no image, or a server in a container that can't be used.
    #[error(transparent)]
    Containers(#[from] containers::Error),
    /// An external stack without its servers.
    #[error(
        "--stack external needs the URLs of your servers: --database postgres://… and --blobs s3://bucket/prefix?endpoint=…"
    )]
    NoUrls,
    /// URLs for a stack that starts servers of its own.
    #[error("--stack {kind} starts servers of its own; --database and --blobs go with --stack external")]
    UrlsWithout {
        /// Which stack.
        kind: StackKind,
    },
    /// A URL of an external server.
    #[error("cannot use the {what} URL: {reason}")]
    Url {
        /// Whose.
        what: &'static str,
        /// What is wrong with it; without the URL, which may hold a password.
        reason: String,
    },
    /// Postgres could not be found, started or asked.
    #[error(transparent)]
    Postgres(#[from] postgres::Error),
    /// A part could not be started.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// A part said something else than where it listens.
    #[error("the {what} did not say where it listens; it is of another build than this program")]
    NoAddress {
        /// Which part.
        what: String,
    },
    /// A running part does not answer.
    #[error("the {what} does not answer")]
    Admin {
        /// Which part.
        what: &'static str,
        /// Why.
        source: AdminError,
    },
    /// The directory for the parts' data.
    #[error("cannot make the directory {}", path.display())]
    Dir {
        /// The directory.
        path: std::path::PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

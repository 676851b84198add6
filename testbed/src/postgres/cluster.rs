//! One cluster: its directory, its server process, and the way from one to the other.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::process::{Child, Spec};

use super::account::Account;
use super::client::{self, Connection};
use super::error::postgres_text;
use super::find::Binaries;
use super::litter::Home;
use super::{DATABASE, Error, Options, Ready};

/// How many ports may turn out to be taken before we give up.
const PORT_ATTEMPTS: u32 = 8;
/// `initdb` takes a second or two on an idle machine.
const INIT_DEADLINE: Duration = Duration::from_secs(180);
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// Between two tries to connect to a server that is starting.
const CONNECT_PAUSE: Duration = Duration::from_millis(20);

/// A running server. Dropping it stops the server and removes the directory, and blocks for that.
#[derive(Debug)]
pub(super) struct Cluster {
    // Dropped in this order: the directory goes after its server.
    server: Child,
    home: Home,
    ready: Ready,
}

impl Cluster {
    /// Makes a cluster and starts its server on a port from `pick_port`, picking again when the port was taken in
    /// between. Dropping the future leaves nothing behind.
    pub(super) async fn start(
        binaries: &Binaries,
        options: &Options,
        mut pick_port: impl FnMut() -> io::Result<u16> + Send,
    ) -> Result<Self, Error> {
        let account = Account::detect()?;
        let home = Home::create(&account)?;
        init(binaries, &account, &home).await?;
        let library = statements_library(binaries).await;
        for _ in 0..PORT_ATTEMPTS {
            let port = pick_port().map_err(|source| home.error("find a free port for", source))?;
            let Some(server) = start_server(binaries, &account, &home, options, port, library).await? else {
                tracing::info!(port, "the port was taken in the meantime; trying another");
                continue;
            };
            let (version, has_statements) = prepare(home.dir(), port, library).await?;
            let ready = Ready {
                url: format!("postgres://postgres@{}:{port}/{DATABASE}", Ipv4Addr::LOCALHOST),
                version,
                pg_bin: binaries.dir.clone(),
                has_statements,
                dir: home.dir().to_owned(),
            };
            // Readiness was seen on the Unix socket; what we promise is TCP.
            drop(Connection::open(&ready.url).await?);
            return Ok(Self { server, home, ready });
        }
        Err(Error::Ports { attempts: PORT_ATTEMPTS })
    }

    pub(super) fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Completes when the server ends without having been asked to.
    pub(super) async fn death(&self) -> Error {
        let exit = self.server.wait().await;
        Error::Died { status: exit.status.to_string(), tail: self.server.output_tail() }
    }

    /// Fast stop, then immediate, then kill; then the directory goes.
    pub(super) async fn stop(self, deadline: Duration) {
        let stopped = self.server.terminate(deadline).await;
        if stopped.forced {
            tracing::warn!("the Postgres server had to be killed");
        }
        // In the blocking pool: there may be much to remove. A runtime that ends does not cut it short.
        let home = self.home;
        if let Err(error) = tokio::task::spawn_blocking(move || drop(home)).await {
            tracing::warn!(%error, "could not wait for the removal of the cluster");
        }
    }
}

/// A port that is free now. Someone may take it before the server does.
pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

async fn init(binaries: &Binaries, account: &Account, home: &Home) -> Result<(), Error> {
    let spec = account
        .spec("initdb", &binaries.program("initdb"), home.dir())
        .arg("-D")
        .arg(home.data())
        .args(["-U", "postgres", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8"]);
    let initdb = Child::start(spec, home.dir()).await?;
    match tokio::time::timeout(INIT_DEADLINE, initdb.wait()).await {
        Ok(exit) if exit.status.success() => Ok(()),
        Ok(exit) => Err(Error::Init { status: exit.status.to_string(), tail: initdb.output_tail() }),
        Err(_) => Err(Error::Init {
            status: format!("not finished after {} s", INIT_DEADLINE.as_secs()),
            tail: initdb.output_tail(),
        }),
    }
}

/// A server that answers, or `None` if its port had been taken.
async fn start_server(
    binaries: &Binaries,
    account: &Account,
    home: &Home,
    options: &Options,
    port: u16,
    library: bool,
) -> Result<Option<Child>, Error> {
    let spec =
        server_spec(account.spec("postgres", &binaries.program("postgres"), home.dir()), home, options, port);
    let spec = if library { spec.args(["-c", "shared_preload_libraries=pg_stat_statements"]) } else { spec };
    let server = Child::start(spec, home.dir()).await?;
    tokio::select! {
        biased;
        exit = server.wait() => {
            let tail = server.output_tail();
            if is_port_taken(&tail) {
                return Ok(None);
            }
            Err(Error::Died { status: exit.status.to_string(), tail })
        }
        answered = until_it_answers(home.dir(), port) => match answered {
            Ok(()) => Ok(Some(server)),
            Err(reason) => Err(Error::NotReady {
                deadline_ms: READY_DEADLINE.as_millis(),
                reason,
                tail: server.output_tail(),
            }),
        },
    }
}

fn server_spec(spec: Spec, home: &Home, options: &Options, port: u16) -> Spec {
    let mut sockets = OsString::from("unix_socket_directories=");
    sockets.push(home.dir());
    spec.arg("-D")
        .arg(home.data())
        .arg("-p")
        .arg(port.to_string())
        .args(["-c", "listen_addresses=127.0.0.1", "-c"])
        .arg(sockets)
        .args(["-c", "shared_buffers=64MB", "-c", "fsync=on", "-c"])
        .arg(format!("max_connections={}", options.connections_max))
        // The server's own signals: INT is a fast stop, QUIT an immediate one. TERM would wait for its clients.
        .stop_signals(vec![Signal::INT, Signal::QUIT], Signal::QUIT)
}

fn is_port_taken(tail: &str) -> bool {
    tail.contains("Address already in use") || tail.contains("could not create any TCP/IP sockets")
}

/// Asks on the socket in our own directory: on the port, another server might answer.
async fn until_it_answers(socket_dir: &Path, port: u16) -> Result<(), String> {
    let mut last = "no try was made".to_owned();
    let tries = async {
        loop {
            match Connection::open_socket(socket_dir, port, "postgres").await {
                Ok(_) => return,
                Err(Error::Query { source, .. }) => last = postgres_text(&source),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(CONNECT_PAUSE).await;
        }
    };
    let answered = tokio::time::timeout(READY_DEADLINE, tries).await;
    answered.map_err(|_| last)
}

/// Makes our database and what we want in it; tells the version, and whether there are statement statistics.
async fn prepare(socket_dir: &Path, port: u16, library: bool) -> Result<(String, bool), Error> {
    let server = Connection::open_socket(socket_dir, port, "postgres").await?;
    server.execute("create the database", &format!("CREATE DATABASE {DATABASE}")).await?;
    let version = server.version().await?;
    if !library {
        return Ok((version, false));
    }
    let database = Connection::open_socket(socket_dir, port, DATABASE).await?;
    let created = database.execute("create the extension", client::CREATE_STATEMENTS).await;
    if let Err(Error::Query { source, .. }) = &created {
        tracing::warn!(reason = postgres_text(source), "no statement statistics from the server");
    }
    Ok((version, created.is_ok()))
}

/// Whether this installation can count statements (`pg_stat_statements`, often in a package of its own).
async fn statements_library(binaries: &Binaries) -> bool {
    let mut config = tokio::process::Command::new(binaries.program("pg_config"));
    config.arg("--pkglibdir").kill_on_drop(true);
    let said = config.output().await.ok().filter(|output| output.status.success());
    let said =
        said.and_then(|output| String::from_utf8(output.stdout).ok()).map(|dir| PathBuf::from(dir.trim()));
    let guesses = ["../lib", "../lib/postgresql", "../lib64/pgsql"].map(|dir| binaries.dir.join(dir));
    said.into_iter().chain(guesses).any(|dir| {
        ["so", "dylib"]
            .iter()
            .any(|ending| fs::exists(dir.join(format!("pg_stat_statements.{ending}"))).unwrap_or(false))
    })
}

//! Which servers a run needs, started as children of the harness, and where the service finds them.
//!
//! ```text
//! service ── link (db) ── Postgres        the service gets the links' addresses,
//!         └─ link (s3) ── S3 server       the harness the servers' own as well
//! ```
//!
//! Every part is a process of its own: a role of our binary (`mipro testbed postgres|s3|link|warden`), started through a
//! [`Fleet`], which watches and ends it. Containers are the engine's; their warden is such a role.

mod error;
mod external;
mod kind;
mod parts;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::containers::Containers;
use crate::link::{LinkAdmin, LinkSpec};
use crate::postgres::{self, StatementKind, StatementStats};
use crate::process::{Child, Fleet};
use crate::s3::S3Admin;
use crate::secret::Secret;

pub use error::Error;
pub use kind::{Plan, Request, StackKind, UnknownStack, resolve};
pub use wire::WireCounts;

use parts::{Launcher, Link};

/// The bucket that is there from the start.
pub const BUCKET: &str = "mipro";
/// The environment variable in which the S3 role takes its secret key: everyone can read command lines.
pub const S3_SECRET_ENV: &str = "MIPRO_TESTBED_S3_SECRET";
/// What all keys of a run begin with.
const PREFIX: &str = "bench";

/// Running servers, with links before them. The [`Fleet`] they were started in owns their processes and ends them.
#[derive(Debug)]
pub struct Stack {
    kind: StackKind,
    database: Database,
    blobs: Blobs,
    containers: Option<Containers>,
    spec: Mutex<LinkSpec>,
    /// What the database had counted at the last reset.
    statements_before: Mutex<Vec<StatementStats>>,
}

struct Database {
    url: String,
    direct_url: String,
    version: String,
    link: Option<Link>,
    has_statements: bool,
    keeper: Option<Child>,
}

/// Without the URLs, which may hold a password.
impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("version", &self.version)
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Blobs {
    url: String,
    version: String,
    link: Option<Link>,
    /// What the service signs with; an external server's are in its environment already.
    keys: Option<(String, Secret)>,
    server: Option<S3Server>,
}

#[derive(Debug)]
struct S3Server {
    child: Child,
    admin: S3Admin,
}

impl Stack {
    /// Starts what `plan` asks for: `mipro_exe` is the binary whose roles are run, `dir` takes the servers' data (it
    /// must exist, and is the caller's to remove; an ephemeral Postgres keeps a directory of its own), `seed` is that
    /// of the links' jitter.
    ///
    /// Dropping the future leaves what had been started to the fleet.
    ///
    /// # Errors
    /// When a part could not be started, with the last lines it wrote.
    pub async fn start(
        plan: Plan,
        mipro_exe: &Path,
        dir: &Path,
        link: &LinkSpec,
        seed: u64,
        fleet: &Fleet,
    ) -> Result<Self, Error> {
        let launcher = Launcher { fleet, exe: mipro_exe, dir, link, seed };
        let kind = plan.kind();
        let mut containers = None;
        let (database, blobs) = match plan {
            Plan::Native { fetch_postgres } => {
                tokio::try_join!(launcher.native_database(fetch_postgres), launcher.own_blobs())?
            }
            Plan::Embedded => (launcher.embedded_database(), launcher.own_blobs().await?),
            Plan::External { database_url, blobs_url } => tokio::try_join!(
                external::database(&launcher, &database_url),
                external::blobs(&launcher, &blobs_url)
            )?,
            Plan::Containers(settings) => {
                let started = launcher.containers(&settings).await?;
                let parts = tokio::try_join!(
                    launcher.contained_database(&started),
                    launcher.contained_blobs(&started)
                )?;
                containers = Some(started);
                parts
            }
        };
        Ok(Self {
            kind,
            database,
            blobs,
            containers,
            spec: Mutex::new(link.clone()),
            statements_before: Mutex::default(),
        })
    }

    /// Which one it is; never [`StackKind::Auto`].
    #[must_use]
    pub fn kind(&self) -> StackKind {
        self.kind
    }

    /// The database as the service shall see it: through the link, if there is a wire.
    #[must_use]
    pub fn database_url(&self) -> &str {
        &self.database.url
    }

    /// The database without a link, for questions that are no traffic.
    #[must_use]
    pub fn database_direct_url(&self) -> &str {
        &self.database.direct_url
    }

    /// The object store as the service shall see it: `s3://bucket/prefix?endpoint=http://…`, through the link.
    #[must_use]
    pub fn blobs_url(&self) -> &str {
        &self.blobs.url
    }

    /// What the service needs in its environment: the keys of the S3 server we started. Empty for an external one, whose
    /// keys are in the environment already.
    #[must_use]
    pub fn service_env(&self) -> Vec<(String, String)> {
        self.blobs.keys.as_ref().map_or_else(Vec::new, |(access_key, secret_key)| {
            vec![
                ("AWS_ACCESS_KEY_ID".to_owned(), access_key.clone()),
                ("AWS_SECRET_ACCESS_KEY".to_owned(), secret_key.0.clone()),
            ]
        })
    }

    /// What the database is, with its version, for the report.
    #[must_use]
    pub fn database_version(&self) -> &str {
        &self.database.version
    }

    /// What the object store is, with its version, for the report.
    #[must_use]
    pub fn object_store_version(&self) -> &str {
        &self.blobs.version
    }

    /// The controls of the link to the database; `None` where there is no wire to emulate.
    #[must_use]
    pub fn database_link(&self) -> Option<LinkAdmin> {
        self.database.link.as_ref().map(|link| link.admin)
    }

    /// The controls of the link to the object store; `None` where there is no wire to emulate.
    #[must_use]
    pub fn blobs_link(&self) -> Option<LinkAdmin> {
        self.blobs.link.as_ref().map(|link| link.admin)
    }

    /// The controls of our S3 server (faults and counts); `None` for an external one.
    #[must_use]
    pub fn s3_admin(&self) -> Option<&S3Admin> {
        self.blobs.server.as_ref().map(|server| &server.admin)
    }

    /// The containers, to do things to them; `None` for every other stack.
    #[must_use]
    pub fn containers(&self) -> Option<&Containers> {
        self.containers.as_ref()
    }

    /// The children of this stack by role: `postgres` (a keeper: its usage is that of its tree), `s3`, `link-db`,
    /// `link-s3`. What runs in containers is no child.
    #[must_use]
    pub fn children(&self) -> Vec<(&'static str, &Child)> {
        let database = self.database.keeper.as_ref().map(|child| ("postgres", child));
        let s3 = self.blobs.server.as_ref().map(|server| ("s3", &server.child));
        let link_db = self.database.link.as_ref().map(|link| ("link-db", &link.child));
        let link_s3 = self.blobs.link.as_ref().map(|link| ("link-s3", &link.child));
        [database, s3, link_db, link_s3].into_iter().flatten().collect()
    }

    /// The links as they are set now.
    #[must_use]
    pub fn link(&self) -> LinkSpec {
        lock(&self.spec).clone()
    }

    /// Sets both links, for open connections too. Where there is no link (an embedded database, an external server
    /// over TLS) nothing changes, and the versions say so.
    ///
    /// # Errors
    /// When a link does not answer; the other one may have been set.
    pub async fn set_link(&self, spec: &LinkSpec) -> Result<(), Error> {
        for (what, link, profile) in [
            ("database link", &self.database.link, &spec.db),
            ("object store link", &self.blobs.link, &spec.s3),
        ] {
            if let Some(link) = link {
                link.admin.set_profile(profile).await.map_err(|source| Error::Admin { what, source })?;
            }
        }
        *lock(&self.spec) = spec.clone();
        Ok(())
    }

    /// What the wires have carried since the stack's start. Counts of a part without a link are 0.
    ///
    /// # Errors
    /// When a link or the S3 server does not answer.
    pub async fn wire_counts(&self) -> Result<WireCounts, Error> {
        let mut counts = WireCounts::default();
        if let Some(link) = &self.database.link {
            let read = link.admin.counts().await;
            counts.add_database(&read.map_err(|source| Error::Admin { what: "database link", source })?);
        }
        if let Some(link) = &self.blobs.link {
            let read = link.admin.counts().await;
            counts.add_blobs(&read.map_err(|source| Error::Admin { what: "object store link", source })?);
        }
        if let Some(server) = &self.blobs.server {
            let read = server.admin.counts().await;
            let read = read.map_err(|source| Error::Admin { what: "S3 server", source })?;
            counts.s3_bytes = read.bytes_in + read.bytes_out;
        }
        Ok(counts)
    }

    /// Lets [`Stack::server_execution_us`] start from zero. Touches nothing on the server, whose statistics may be
    /// others' as well.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn reset_statements(&self) -> Result<(), Error> {
        let now = self.statements().await?;
        *lock(&self.statements_before) = now;
        Ok(())
    }

    /// The mean execution time of a statement since the last reset, in microseconds, by statement kind (`select`,
    /// `upsert`, …), by the server's own clock; empty where the database does not tell.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn server_execution_us(&self) -> Result<BTreeMap<String, f64>, Error> {
        let now = self.statements().await?;
        let before = lock(&self.statements_before);
        Ok(now
            .iter()
            .map(|stats| stats.since(before.iter().find(|earlier| earlier.kind == stats.kind)))
            .filter(|stats| stats.calls > 0 && stats.kind != StatementKind::Other)
            .map(|stats| (stats.kind.name().to_owned(), stats.exec_ms_mean() * 1_000.0))
            .collect())
    }

    async fn statements(&self) -> Result<Vec<StatementStats>, Error> {
        if !self.database.has_statements {
            return Ok(Vec::new());
        }
        Ok(postgres::server_statements(&self.database.direct_url).await?)
    }
}

/// No code panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

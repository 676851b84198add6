//! The contract: what a 200 promises, level by level. docs/durability.md says the same for people who run the service.
//!
//! Definitions. A system's events are numbered 1, 2, 3, … without gaps. *applied* is the newest number folded into the
//! state in memory; *durable at L* is the largest n such that 1..n are all stored at level L. The **output gate**: an
//! answer, be it to a write or to a read, carries the applied number as of the moment it was made, and leaves only when
//! that number is durable at the level in force. A duplicate of a call whose first answer is still held waits at the same
//! gate.
//!
//! | level | a 200 means | lost, although acknowledged |
//! |---|---|---|
//! | `memory` | in this process's memory | all since the last snapshot, when the process ends without a clean stop |
//! | `os` | given to the kernel (`write` returned) | nothing when the process dies; the page cache when the machine does |
//! | `disk` | on this machine's disk (one `fdatasync` for a group of appends) | only if the disk is lost |
//! | `postgres` | committed in a shared Postgres | Postgres's disk, or a failover to an asynchronous standby |
//! | `object` | in the object store | the store's region |
//! | `stored` | the whole state saved in object store and database before the answer | nothing by a crash; what concurrent callers overwrite, in the engine that lets the later save win |
//!
//! A caller may ask for a stronger level than the one in force, never for a weaker one.
//! Source: the output gate is Cloudflare's (workerd, `io-gate`); the levels are those of the field.

use std::fmt;
use std::str::FromStr;

/// What an acknowledgement promises. Ordered from weak to strong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// In this process's memory.
    Memory,
    /// Given to the operating system: survives the process, not the machine.
    Os,
    /// On this machine's disk: survives the machine, not the disk.
    Disk,
    /// Committed in a shared Postgres. Named; not given by this build.
    Postgres,
    /// In the object store. Named; not given by this build.
    Object,
    /// The whole state stored synchronously in both stores; the engines without a log.
    Stored,
}

impl Level {
    /// The name, as in configuration, `/health` and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Os => "os",
            Self::Disk => "disk",
            Self::Postgres => "postgres",
            Self::Object => "object",
            Self::Stored => "stored",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that names no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no durability level of that name; levels are memory, os, disk, postgres, object (D0 to D4), stored"
)]
pub struct UnknownLevel;

impl FromStr for Level {
    type Err = UnknownLevel;

    /// Reads a name or its alias `D0` … `D4`, in any case.
    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        match text.to_ascii_lowercase().as_str() {
            "memory" | "d0" => Ok(Self::Memory),
            "os" | "d1" => Ok(Self::Os),
            "disk" | "d2" => Ok(Self::Disk),
            "postgres" | "d3" => Ok(Self::Postgres),
            "object" | "d4" => Ok(Self::Object),
            "stored" => Ok(Self::Stored),
            _ => Err(UnknownLevel),
        }
    }
}

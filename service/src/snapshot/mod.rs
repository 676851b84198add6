//! Snapshots: a system's bounded state, packed, in an object that never changes, and the row that points at it.
//!
//! - [`format`](mod@format) is what stands in the object.
//! - [`writer`] packs, puts, and moves the pointer: always in this order, so that the row never names what isn't there.
//! - [`mod@pointer`] moves the row, and finds out what became of a move whose answer was lost.
//! - [`archive`] carries the log's sealed segments to the object store, and trims here what the newest snapshot of every
//!   system in them covers.
//!
//! When a save begins, and what it waits for first: step 7 of "A call" in [`crate::system`].
//!
//! What follows from an object that is there and that no row names: nothing. It is an orphan of a save that was cut off
//! after its put. In the same stay the next save of that version finds it and takes it for its own if its bytes are the same; after a
//! restart the epoch is another one, and so is the key.

pub mod archive;
pub mod format;
pub mod pointer;
pub mod writer;

use uuid::Uuid;

pub use writer::{Attempt, SnapshotWriter, Written};

use crate::engine::EngineError;
use crate::system::SystemId;

/// Why a save came to nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum SaveError {
    /// A store failed. The save may have happened or not; repeating it is safe.
    Failed(EngineError),
    /// The row is at our version or beyond, or under a higher epoch, and not by our hand: what is in memory is not what is
    /// stored, and must be dropped.
    Conflict,
}

impl From<SaveError> for EngineError {
    fn from(error: SaveError) -> Self {
        match error {
            SaveError::Failed(error) => error,
            SaveError::Conflict => Self::unavailable("the state was changed by another process and"),
        }
    }
}

/// The key of a snapshot's object. The suffix sets it apart from an object of the same epoch and number that holds something
/// else.
#[must_use]
pub fn key(system: SystemId, epoch: u64, seq: u64, suffix: Option<Uuid>) -> String {
    match suffix {
        None => format!("systems/{system}/snap/{epoch:016x}-{seq:016x}.snap"),
        Some(suffix) => {
            format!("systems/{system}/snap/{epoch:016x}-{seq:016x}-{:08x}.snap", suffix.as_fields().0)
        }
    }
}

/// Whether a key is a snapshot's and not an old document's.
#[must_use]
pub fn is_snapshot(key: &str) -> bool {
    key.ends_with(".snap")
}

/// How a key is named where people read: a short hash of it, since the key itself holds the system's id.
#[must_use]
pub fn hashed(key: &str) -> String {
    blake3::hash(key.as_bytes()).to_hex()[..12].to_owned()
}

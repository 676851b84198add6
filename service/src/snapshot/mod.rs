//! Snapshots: a system's state in the object store.

pub mod format;

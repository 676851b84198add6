//! Which systems the log holds events of, and where.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::segments::Found;

/// Whose events stand in which segments: what is remembered of a scan so that one system can be read without reading all.
/// Grows with systems and segments, not with events.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    pub(crate) systems: BTreeMap<Uuid, Held>,
}

/// What the local log holds of a system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Segments with events of it, oldest first.
    pub(crate) segments: Vec<u64>,
    /// Number of its oldest event.
    pub(crate) first_seq: u64,
    /// Number of its newest event.
    pub(crate) last_seq: u64,
    /// The highest epoch of its records.
    pub(crate) epoch: u64,
}

impl Catalog {
    pub(crate) fn note(&mut self, found: Found<'_>) {
        let first_seq = found.batch.first_seq;
        let held =
            self.systems.entry(found.batch.system).or_insert_with(|| Held { first_seq, ..Held::default() });
        held.first_seq = held.first_seq.min(first_seq);
        if held.segments.last() != Some(&found.segment) {
            held.segments.push(found.segment);
        }
        held.last_seq = held.last_seq.max(found.batch.last_seq());
        held.epoch = held.epoch.max(found.batch.epoch);
    }

    pub(crate) fn get(&self, system: Uuid) -> Option<&Held> {
        self.systems.get(&system)
    }
}

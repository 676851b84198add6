//! Which segments there are. Changed by the writer (appends, seals), the helper (indexes) and trimming; read by readers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::disk::File;
use super::super::{Lsn, Sealed};
use super::file::SegmentHeader;
use super::index::{Of, SegmentIndex};

/// A sealed segment.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) sealed: Sealed,
    pub(super) header: SegmentHeader,
    /// In memory until its file is written, or could not be: then each read that needs it makes it anew.
    pub(super) index: Option<Arc<SegmentIndex>>,
    /// Its file has been cut to its content and its index was written, or that was tried.
    pub(super) tended: bool,
}

impl Kept {
    pub(super) fn of(&self) -> Of {
        let SegmentHeader { log, id, salt, .. } = self.header;
        Of { log, id, content_bytes: self.sealed.bytes, salt }
    }
}

/// The segment that takes appends.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) header: SegmentHeader,
    pub(super) file: Arc<dyn File>,
    pub(super) index: SegmentIndex,
    /// Where the next record will stand.
    pub(super) end: u64,
    /// The newest record written, or the one before the first.
    pub(super) last_lsn: Lsn,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Catalog {
    pub(super) sealed: BTreeMap<u64, Kept>,
    pub(super) open: Open,
}

impl Catalog {
    /// Bytes of content.
    pub(super) fn content_bytes(&self) -> u64 {
        self.sealed_bytes() + self.open.end
    }

    /// Bytes that the files take, or will once the helper has cut them.
    pub(super) fn file_bytes(&self) -> u64 {
        self.sealed_bytes() + self.open.header.capacity
    }

    fn sealed_bytes(&self) -> u64 {
        self.sealed.values().map(|kept| kept.sealed.bytes).sum()
    }

    /// Makes `next` the open segment; the one before is sealed and ends at `end`.
    pub(super) fn roll(&mut self, next: Open) {
        let before = std::mem::replace(&mut self.open, next);
        let sealed = Sealed {
            id: before.header.id,
            first_lsn: before.header.first_lsn,
            last_lsn: before.last_lsn,
            bytes: before.end,
        };
        let index = Some(Arc::new(before.index));
        let kept = Kept { sealed, header: before.header, index, tended: false };
        self.sealed.insert(before.header.id, kept);
    }
}

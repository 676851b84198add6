//! The one that does what the writer should not wait for: makes the next segment ahead, and sees to sealed ones. Driven as
//! the writer is, by a thread or by hand.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;

use super::super::disk::{Dir, is_full};
use super::catalog::Kept;
use super::file;
use super::index::{self, Of, SegmentIndex};
use super::queue::Spare;
use super::shared::Shared;

/// How long to wait before asking again for room on a full disk.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Longest sleep; nothing depends on it.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// The helper.
#[derive(Debug)]
pub(super) struct Helper {
    shared: Arc<Shared>,
    dice: ChaCha8Rng,
    next_id: u64,
    retry_at: Option<Instant>,
}

impl Helper {
    pub(super) fn new(shared: Arc<Shared>, dice: ChaCha8Rng) -> Self {
        let next_id = shared.catalog().open.header.id + 1;
        Self { shared, dice, next_id, retry_at: None }
    }

    /// Does one thing; false when there is nothing to do now. **Blocks** on the disk.
    pub(super) fn step(&mut self, now: Instant) -> bool {
        if self.shared.bell.heard() {
            // A segment may have been trimmed: there may be room.
            self.retry_at = None;
        }
        if self.retry_at.is_none_or(|at| now >= at) && self.shared.queue.wants_spare() {
            return self.prepare(now);
        }
        self.tend()
    }

    /// How long there is nothing to do unless the bell rings.
    pub(super) fn sleep(&self, now: Instant) -> Duration {
        self.retry_at.map_or(SLEEP_MAX, |at| at.saturating_duration_since(now))
    }

    /// Makes the next segment. Without room it is tried again later; appends are refused when the open segment is full.
    fn prepare(&mut self, now: Instant) -> bool {
        let options = &self.shared.options;
        let capacity = options.segment_bytes;
        let catalog = self.shared.catalog();
        // Segments that were made, are used by appends, and have not come to the writer yet.
        let made = self.next_id.saturating_sub(catalog.open.header.id + 1);
        let kept = catalog.file_bytes() + made * capacity;
        drop(catalog);
        let made = if kept + capacity > options.kept_bytes_max {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        } else {
            spare(&*self.shared.dir, self.next_id, capacity, &mut self.dice)
        };
        match made {
            Ok(spare) => {
                self.retry_at = None;
                self.next_id += 1;
                if self.shared.queue.give(spare) {
                    self.shared.bell.ring();
                }
                true
            }
            Err(error) => {
                self.retry_at = Some(now + RETRY_AFTER);
                if self.shared.queue.no_spare(error.kind()) {
                    let full = is_full(error.kind());
                    tracing::warn!(%error, full, kept, "the log's next segment can't be made; appends go on in this one");
                }
                false
            }
        }
    }

    /// Cuts a sealed segment's file to its content and writes its index.
    fn tend(&self) -> bool {
        let untended = self.shared.catalog().sealed.values().find(|kept| !kept.tended).cloned();
        let Some(kept) = untended else { return false };
        let _files = self.shared.files();
        if !self.shared.catalog().sealed.contains_key(&kept.sealed.id) {
            return true;
        }
        if let Err(error) = tend(&*self.shared.dir, &kept) {
            // Both are conveniences: the index can be made again, and the room is found again when the segment is trimmed.
            tracing::warn!(%error, segment = kept.sealed.id, "a sealed segment's index can't be written now");
        }
        if let Some(kept) = self.shared.catalog_mut().sealed.get_mut(&kept.sealed.id) {
            kept.tended = true;
            kept.index = None;
        }
        true
    }
}

pub(super) fn tend(dir: &dyn Dir, kept: &Kept) -> io::Result<()> {
    dir.open(&file::name(kept.sealed.id))?.set_len(kept.sealed.bytes)?;
    match &kept.index {
        Some(index) => write_index(dir, &kept.of(), index),
        None => Ok(()),
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.shared.panicked("the log's helper");
    }
}

/// Writes an index beside its segment, in place of what may be there.
pub(super) fn write_index(dir: &dyn Dir, of: &Of, index: &SegmentIndex) -> io::Result<()> {
    let name = file::index_name(of.id);
    let temporary = format!("{name}.tmp");
    remove(dir, &temporary)?;
    let content = index::encode(of, index);
    let file = dir.create(&temporary, 0)?;
    file.write_at(0, &content)?;
    file.sync_data()?;
    dir.rename(&temporary, &name)
}

/// Removes a file that may not be there.
pub(super) fn remove(dir: &dyn Dir, name: &str) -> io::Result<()> {
    match dir.remove(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes a segment's file without a name that counts.
pub(super) fn spare(dir: &dyn Dir, id: u64, capacity: u64, dice: &mut ChaCha8Rng) -> io::Result<Spare> {
    let name = Spare::name(id);
    remove(dir, &name)?;
    let file = dir.create(&name, capacity).inspect_err(|_| {
        // What was made of it takes room that others need.
        let _ = remove(dir, &name);
    })?;
    Ok(Spare { file, id, salt: dice.next_u32(), capacity })
}

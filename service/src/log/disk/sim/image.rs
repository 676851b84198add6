//! A file's two images and what stands between them.

use super::{Fate, SECTOR};

#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    /// As processes see it.
    pub(super) seen: Vec<u8>,
    /// As it is on the platter.
    durable: Vec<u8>,
    /// What leads from the durable image to the one seen, in order.
    changes: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

impl Change {
    /// The parts that come through on their own.
    fn parts(&self) -> usize {
        match self {
            Self::Write { offset, bytes } => sectors(*offset, bytes.len()).count(),
            Self::SetLen(_) => 1,
        }
    }
}

/// A write's pieces, one for each sector it touches: from and to, within the write.
fn sectors(offset: usize, length: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let room = SECTOR - (offset + from) % SECTOR;
        let piece = (from, (from + room).min(length));
        from = piece.1;
        (piece.0 < length).then_some(piece)
    })
}

fn overwrite(image: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[offset..end].copy_from_slice(bytes);
}

impl Inode {
    pub(super) fn durable(content: &[u8]) -> Self {
        Self { seen: content.to_vec(), durable: content.to_vec(), changes: Vec::new() }
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let from = usize::try_from(offset).map_or(self.seen.len(), |offset| offset.min(self.seen.len()));
        let read = buffer.len().min(self.seen.len() - from);
        buffer[..read].copy_from_slice(&self.seen[from..from + read]);
        read
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        overwrite(&mut self.seen, offset, bytes);
        self.changes.push(Change::Write { offset, bytes: bytes.to_vec() });
    }

    pub(super) fn set_len(&mut self, bytes: usize) {
        self.seen.resize(bytes, 0);
        self.changes.push(Change::SetLen(bytes));
    }

    pub(super) fn sync(&mut self) {
        self.settle(&mut || true);
    }

    /// A sync failed: the kernel calls the pages clean, and will not write them again. What was written can be read until
    /// the machine dies.
    pub(super) fn forget(&mut self) {
        self.changes.clear();
    }

    pub(super) fn crash(&mut self, fate: &mut dyn Fate) {
        self.settle(fate);
        self.seen.clone_from(&self.durable);
    }

    pub(super) fn unsynced(&self) -> usize {
        self.changes.iter().map(Change::parts).sum()
    }

    fn settle(&mut self, fate: &mut dyn Fate) {
        for change in self.changes.drain(..) {
            match change {
                Change::Write { offset, bytes } => {
                    for (from, to) in sectors(offset, bytes.len()) {
                        if fate.keeps() {
                            overwrite(&mut self.durable, offset + from, &bytes[from..to]);
                        }
                    }
                }
                Change::SetLen(length) => {
                    if fate.keeps() {
                        self.durable.resize(length, 0);
                    }
                }
            }
        }
    }
}

//! The control file: what must not be lost together with a segment. How far the log is durable, which segment is the
//! oldest one kept, and the log's id. Two slots, at bytes 0 and 4096, of 64 bytes each, little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 0–7 | `MIPROCTL` |
//! | 8–11 | version of the format: 1 |
//! | 12–15 | CRC-32C of the other 60 bytes |
//! | 16–31 | the log's id, made when it was |
//! | 32–39 | generation: the slot with the higher one counts |
//! | 40–47 | durable watermark: the log was synced at least up to this LSN |
//! | 48–55 | number of the oldest segment kept |
//! | 56–63 | zero |
//!
//! It is written after each sync of the log and never says more than that sync made durable, at any level. Writes go to one
//! slot; when the file has been synced, which happens only now and then, the next ones go to the other: so one whole slot is
//! there whenever the power goes. An older watermark only proves less: of what lies above it, damage at the log's very end can't be told
//! from a torn tail.

use std::io;
use std::sync::Arc;

use uuid::Uuid;

use super::super::Lsn;
use super::super::disk::{Dir, File, read_all};
use super::file::{BadHeader, HEADER_BYTES, VERSION, open_block, seal_block};

/// Its name.
pub(crate) const NAME: &str = "control";
const TEMPORARY: &str = "control.tmp";
const MAGIC: &[u8; 8] = b"MIPROCTL";
/// The slots are in different sectors on any disk there is.
const SLOT_BYTES: usize = 4096;

/// What it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) log: Uuid,
    pub(crate) generation: u64,
    pub(crate) durable: Lsn,
    pub(crate) first_segment: u64,
}

impl Said {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(self.log.as_bytes());
        bytes[32..40].copy_from_slice(&self.generation.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.durable.0.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.first_segment.to_le_bytes());
        seal_block(&mut bytes);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let block = open_block(bytes, MAGIC)?;
        Ok(Self {
            log: block.uuid(16),
            generation: block.u64(32),
            durable: Lsn(block.u64(40)),
            first_segment: block.u64(48),
        })
    }
}

/// The newer whole slot of a control file, and which one it is.
pub(crate) fn decode(content: &[u8]) -> Result<(Said, usize), BadHeader> {
    let slot = |i: usize| Said::decode(content.get(i * SLOT_BYTES..).unwrap_or(&[]));
    match (slot(0), slot(1)) {
        (Err(BadHeader::Newer(version)), _) | (_, Err(BadHeader::Newer(version))) => {
            Err(BadHeader::Newer(version))
        }
        (Ok(first), Ok(second)) if second.generation > first.generation => Ok((second, 1)),
        (Ok(first), _) => Ok((first, 0)),
        (Err(_), Ok(second)) => Ok((second, 1)),
        (Err(bad), Err(_)) => Err(bad),
    }
}

/// The file, open.
#[derive(Debug)]
pub(crate) struct Control {
    file: Arc<dyn File>,
    said: Said,
    /// The slot that is written to; the other one is durable.
    slot: usize,
    dirty: bool,
}

impl Control {
    /// Makes the file of a new log, durably.
    pub(crate) fn create(dir: &dyn Dir, log: Uuid) -> io::Result<Self> {
        match dir.remove(TEMPORARY) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let said = Said { log, generation: 1, durable: Lsn(0), first_segment: 1 };
        let file = dir.create(TEMPORARY, 2 * SLOT_BYTES as u64)?;
        file.write_at(0, &said.encode())?;
        file.sync_data()?;
        dir.rename(TEMPORARY, NAME)?;
        dir.sync()?;
        Ok(Self { file, said, slot: 1, dirty: false })
    }

    /// Opens it: `None` where there is none.
    pub(crate) fn open(dir: &dyn Dir) -> io::Result<Option<Result<Self, BadHeader>>> {
        let file = match dir.open(NAME) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let content = read_all(&*file)?;
        // The slot that was read may be known to the kernel only: [`Control::renew`] comes before anything else is written.
        Ok(Some(decode(&content).map(|(said, slot)| Self { file, said, slot, dirty: true })))
    }

    /// Makes what [`Control::open`] read durable. It is written again, as it stands: of what an earlier process could not sync the kernel may
    /// believe that it is on the disk. A tear leaves the same bytes.
    pub(crate) fn renew(&mut self) -> io::Result<()> {
        if self.dirty {
            self.file.write_at((self.slot * SLOT_BYTES) as u64, &self.said.encode())?;
        }
        self.sync()
    }

    pub(crate) fn said(&self) -> Said {
        self.said
    }

    /// Says that the log is durable up to there; the file is not synced.
    pub(crate) fn raise(&mut self, durable: Lsn) -> io::Result<()> {
        if durable <= self.said.durable {
            return Ok(());
        }
        self.said.durable = durable;
        self.write()
    }

    /// Says, durably, that the segments before `first` are not needed.
    pub(crate) fn forget_before(&mut self, first: u64) -> io::Result<()> {
        if first <= self.said.first_segment {
            return Ok(());
        }
        self.said.first_segment = first;
        self.write()?;
        self.sync()
    }

    fn write(&mut self) -> io::Result<()> {
        self.said.generation += 1;
        self.dirty = true;
        self.file.write_at((self.slot * SLOT_BYTES) as u64, &self.said.encode())
    }

    /// Makes it durable, if it isn't.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.dirty {
            self.file.sync_data()?;
            self.dirty = false;
            self.slot = 1 - self.slot;
        }
        Ok(())
    }
}

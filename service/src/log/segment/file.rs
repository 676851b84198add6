//! A segment's file: its name, and the 64 bytes it begins with. Little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 0–7 | `MIPROLOG` |
//! | 8–11 | version of the format: 1 |
//! | 12–15 | CRC-32C of the other 60 bytes |
//! | 16–31 | the log's id |
//! | 32–39 | the segment's number: 1, 2, 3, … |
//! | 40–47 | LSN of its first record |
//! | 48–55 | bytes of the file as it was made |
//! | 56–59 | salt of its records' checksums |
//! | 60–63 | zero |
//!
//! Records follow at byte 64 without gaps, then, in a segment that is complete, a seal, then zeros to the file's end.

use uuid::Uuid;

use super::super::Lsn;

/// Bytes of a segment's header; the first record stands here.
pub(crate) const HEADER_BYTES: usize = 64;
/// The version that this build writes.
pub(crate) const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"MIPROLOG";

/// How the name of a segment's file ends that is being made.
pub(crate) const SPARE: &str = ".seg.tmp";

/// The name of a segment's file.
pub(crate) fn name(id: u64) -> String {
    format!("{id:016x}.seg")
}

/// The name of a sealed segment's index.
pub(crate) fn index_name(id: u64) -> String {
    format!("{id:016x}.idx")
}

/// The number in a name with this ending.
pub(crate) fn number(name: &str, ending: &str) -> Option<u64> {
    let digits = name.strip_suffix(ending)?;
    let plain = digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    plain.then(|| u64::from_str_radix(digits, 16).ok())?
}

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) log: Uuid,
    pub(crate) id: u64,
    pub(crate) first_lsn: Lsn,
    pub(crate) capacity: u64,
    pub(crate) salt: u32,
}

/// Why 64 bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHeader {
    /// Neither magic nor checksum, or one of them.
    #[error("its header is not what was written")]
    Damaged,
    /// A later build wrote it.
    #[error("its format has version {0}, and this build reads up to 1")]
    Newer(u32),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(self.log.as_bytes());
        bytes[32..40].copy_from_slice(&self.id.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first_lsn.0.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.capacity.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.salt.to_le_bytes());
        seal_block(&mut bytes);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let block = open_block(bytes, MAGIC)?;
        Ok(Self {
            log: block.uuid(16),
            id: block.u64(32),
            first_lsn: Lsn(block.u64(40)),
            capacity: block.u64(48),
            salt: block.u32(56),
        })
    }
}

/// Puts the checksum into a block of 64 bytes that has it at bytes 12–15: the headers of segments and indexes, and the
/// slots of the control file.
pub(crate) fn seal_block(bytes: &mut [u8; HEADER_BYTES]) {
    let crc = block_crc(bytes);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
}

fn block_crc(bytes: &[u8; HEADER_BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..])
}

/// A block whose magic, version and checksum are right.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block([u8; HEADER_BYTES]);

impl Block {
    pub(crate) fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|i| self.0[at + i]))
    }

    pub(crate) fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|i| self.0[at + i]))
    }

    pub(crate) fn uuid(&self, at: usize) -> Uuid {
        Uuid::from_bytes(std::array::from_fn(|i| self.0[at + i]))
    }
}

/// Checks a block of 64 bytes. The version is believed only where the checksum is right.
pub(crate) fn open_block(bytes: &[u8], magic: &[u8; 8]) -> Result<Block, BadHeader> {
    let bytes: &[u8; HEADER_BYTES] =
        bytes.get(..HEADER_BYTES).and_then(|head| head.try_into().ok()).ok_or(BadHeader::Damaged)?;
    let block = Block(*bytes);
    if &bytes[0..8] != magic || block_crc(bytes) != block.u32(12) {
        return Err(BadHeader::Damaged);
    }
    match block.u32(8) {
        VERSION => Ok(block),
        newer => Err(BadHeader::Newer(newer)),
    }
}

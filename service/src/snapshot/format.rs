//! A snapshot's bytes: a header of 64 bytes, the encoded state in one zstd frame, and a hash of what was encoded.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `MIPROSNP` |
//! | 8 | 2 | format of this layout, 1 |
//! | 10 | 2 | schema of the state within |
//! | 12 | 2 | the oldest reader that may read that state |
//! | 14 | 2 | codec: 1 is protobuf in a zstd frame |
//! | 16 | 8 | fencing epoch under which it was written |
//! | 24 | 8 | the state's version: the newest event it covers |
//! | 32 | 8 | bytes of the state before compression |
//! | 40 | 8 | bytes of the zstd frame |
//! | 48 | 4 | CRC32C of the zstd frame |
//! | 52 | 8 | zero |
//! | 60 | 4 | CRC32C of the 60 bytes before |
//! | 64 | … | the zstd frame |
//! | … | 32 | BLAKE3 of the state before compression |
//!
//! Numbers are little-endian. The pointer row has the object's length and the BLAKE3 hash of all of it: so an object that is
//! whole in itself but is another one, or an older one, is caught, too.

use bytes::Bytes;

use crate::codec::{CodecError, state};
use crate::system::{State, SystemId};

/// Bytes of the header.
pub const HEADER_BYTES: usize = 64;
const HASH_BYTES: usize = 32;
const MAGIC: [u8; 8] = *b"MIPROSNP";
const FORMAT: u16 = 1;
const CODEC: u16 = 1;
const ZSTD_LEVEL: i32 = 1;

/// The largest state that is packed or unpacked, bytes before compression. 1,024 candidates of 256 KiB and 200,000 rollouts fit.
pub const RAW_BYTES_MAX: u64 = 512 << 20;

/// A snapshot, ready to be stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Packed {
    /// The object.
    pub bytes: Bytes,
    /// BLAKE3 of all of it, for the pointer row.
    pub checksum: [u8; 32],
    /// The newest event it covers.
    pub seq: u64,
    /// The fencing epoch it is written under.
    pub epoch: u64,
    /// Bytes of the state before compression.
    pub raw_bytes: u64,
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut f = f.debug_struct("Packed");
        f.field("bytes", &self.bytes.len()).field("seq", &self.seq).field("epoch", &self.epoch);
        f.finish_non_exhaustive()
    }
}

/// What is known of a snapshot before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// BLAKE3 of the whole object, where the pointer row has it.
    pub checksum: Option<[u8; 32]>,
    /// The object's length, where the pointer row has it.
    pub bytes: Option<u64>,
    /// Whose it is.
    pub system: SystemId,
}

/// A snapshot, read back.
#[derive(Debug, Clone, PartialEq)]
pub struct Unpacked {
    /// The state.
    pub state: State,
    /// The fencing epoch it was written under.
    pub epoch: u64,
    /// The newest event it covers: the state's version.
    pub seq: u64,
}

/// Why an object is no usable snapshot. Names neither the object nor the system.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A newer build wrote it, in a way that this one can't or must not read.
    #[error("the snapshot has {what} {found}, this build reads up to {reads}: start a newer build")]
    Newer {
        /// What is newer: `format`, `codec`, `min_reader`.
        what: &'static str,
        /// What it has.
        found: u32,
        /// What this build reads.
        reads: u32,
    },
    /// It is not what was written.
    #[error("the snapshot is damaged: {0}")]
    Damaged(&'static str),
    /// It is whole, and not the one that was meant.
    #[error("it is another snapshot than the one that was meant: {0}")]
    Another(&'static str),
    /// The state is larger than any that is kept.
    #[error("the state has {raw_bytes} bytes, more than the {max} that a snapshot holds")]
    TooLarge {
        /// Bytes before compression.
        raw_bytes: u64,
        /// The limit.
        max: u64,
    },
}

impl From<CodecError> for FormatError {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::Newer { min_reader: found, reader: reads } => {
                Self::Newer { what: "min_reader", found, reads }
            }
            CodecError::Damaged(what) => Self::Damaged(what),
            CodecError::Misplaced { .. } => Self::Damaged("it holds events"),
        }
    }
}

/// The header's fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    format: u16,
    schema: u16,
    min_reader: u16,
    codec: u16,
    epoch: u64,
    seq: u64,
    raw_bytes: u64,
    stored_bytes: u64,
    stored_crc: u32,
}

impl Header {
    fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        for (at, number) in [(8, self.format), (10, self.schema), (12, self.min_reader), (14, self.codec)] {
            bytes[at..at + 2].copy_from_slice(&number.to_le_bytes());
        }
        for (at, number) in [(16, self.epoch), (24, self.seq), (32, self.raw_bytes), (40, self.stored_bytes)]
        {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        bytes[48..52].copy_from_slice(&self.stored_crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8; HEADER_BYTES]) -> Result<Self, FormatError> {
        if bytes[..8] != MAGIC {
            return Err(FormatError::Damaged("it doesn't begin like one"));
        }
        let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        if crc32c::crc32c(&bytes[..60]) != word(60) {
            return Err(FormatError::Damaged("its header's checksum is wrong"));
        }
        let header = Self {
            format: short(8),
            schema: short(10),
            min_reader: short(12),
            codec: short(14),
            epoch: long(16),
            seq: long(24),
            raw_bytes: long(32),
            stored_bytes: long(40),
            stored_crc: word(48),
        };
        header.admit()
    }

    fn admit(self) -> Result<Self, FormatError> {
        let newer = |what, found: u16, reads: u32| {
            let found = u32::from(found);
            if found > reads { Err(FormatError::Newer { what, found, reads }) } else { Ok(()) }
        };
        newer("format", self.format, u32::from(FORMAT))?;
        newer("codec", self.codec, u32::from(CODEC))?;
        newer("min_reader", self.min_reader, state::SCHEMA)?;
        if self.raw_bytes > RAW_BYTES_MAX {
            return Err(FormatError::TooLarge { raw_bytes: self.raw_bytes, max: RAW_BYTES_MAX });
        }
        Ok(self)
    }
}

/// Packs a state. The same state and epoch give the same bytes. Takes milliseconds for large states: call it off the async
/// threads.
///
/// # Errors
/// [`FormatError::TooLarge`]; or [`FormatError::Damaged`] when zstd finds no memory.
pub fn pack(state: &State, epoch: u64) -> Result<Packed, FormatError> {
    let raw = state::encode(state);
    let raw_bytes = raw.len() as u64;
    if raw_bytes > RAW_BYTES_MAX {
        return Err(FormatError::TooLarge { raw_bytes, max: RAW_BYTES_MAX });
    }
    let frame = zstd::bulk::compress(&raw, ZSTD_LEVEL);
    let frame = frame.map_err(|_| FormatError::Damaged("it can't be compressed"))?;
    let header = Header {
        format: FORMAT,
        schema: version(state::SCHEMA),
        min_reader: version(state::MIN_READER),
        codec: CODEC,
        epoch,
        seq: state.version,
        raw_bytes,
        stored_bytes: frame.len() as u64,
        stored_crc: crc32c::crc32c(&frame),
    };
    let mut bytes = Vec::with_capacity(HEADER_BYTES + frame.len() + HASH_BYTES);
    bytes.extend(header.to_bytes());
    bytes.extend(frame);
    bytes.extend(blake3::hash(&raw).as_bytes());
    let checksum = *blake3::hash(&bytes).as_bytes();
    Ok(Packed { bytes: bytes.into(), checksum, seq: state.version, epoch, raw_bytes })
}

fn version(version: u32) -> u16 {
    u16::try_from(version).expect("schemas are counted by hand")
}

/// Unpacks a snapshot and checks it, from the outside in. Takes milliseconds for large states: call it off the async threads.
///
/// # Errors
/// [`FormatError`]; no part of the state is given then. Nothing is allocated for the state before the header is known to be
/// whole and the frame to be the one it speaks of.
pub fn unpack(bytes: &[u8], expected: &Expected) -> Result<Unpacked, FormatError> {
    let other_length = expected.bytes.is_some_and(|expected| expected != bytes.len() as u64);
    let other_content = |checksum: [u8; 32]| blake3::hash(bytes) != checksum;
    let foreign = other_length || expected.checksum.is_some_and(other_content);
    let (header, frame, hash) = split(bytes)?;
    if foreign {
        return Err(FormatError::Another("its length or its checksum is not the pointer's"));
    }
    let raw = decompress(frame, header.raw_bytes)?;
    if blake3::hash(&raw) != *hash {
        return Err(FormatError::Damaged("its content's checksum is wrong"));
    }
    let state = state::decode(&raw)?;
    if state.version != header.seq {
        return Err(FormatError::Damaged("its header and its content disagree"));
    }
    if state.system_id != expected.system {
        return Err(FormatError::Another("it is another system's"));
    }
    Ok(Unpacked { state, epoch: header.epoch, seq: header.seq })
}

/// The frame's content, of exactly that length. Memory is taken once header and frame agree on it.
fn decompress(frame: &[u8], raw_bytes: u64) -> Result<Vec<u8>, FormatError> {
    const WRONG: FormatError = FormatError::Damaged("its content can't be decompressed");
    if zstd::zstd_safe::get_frame_content_size(frame).ok().flatten() != Some(raw_bytes) {
        return Err(WRONG);
    }
    let raw = zstd::bulk::decompress(frame, usize::try_from(raw_bytes).map_err(|_| WRONG)?);
    raw.ok().filter(|raw| raw.len() as u64 == raw_bytes).ok_or(WRONG)
}

/// Header, frame and hash of an object whose header and frame are whole.
fn split(bytes: &[u8]) -> Result<(Header, &[u8], &[u8; HASH_BYTES]), FormatError> {
    const CUT: FormatError = FormatError::Damaged("it is cut short");
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(CUT)?;
    let header = Header::read(header)?;
    let (frame, hash) = rest.split_last_chunk::<HASH_BYTES>().ok_or(CUT)?;
    if frame.len() as u64 != header.stored_bytes {
        return Err(FormatError::Damaged("its length is not what its header says"));
    }
    if crc32c::crc32c(frame) != header.stored_crc {
        return Err(FormatError::Damaged("its frame's checksum is wrong"));
    }
    Ok((header, frame, hash))
}

#[cfg(test)]
mod tests;

//! The export file: one system in one file, checked from end to end. Its layout stands in docs/formats.md.
//!
//! `MIPROEXP`, the format's version and the oldest reader's, then frames, each with its length and a CRC: the header (JSON),
//! the state (a snapshot, as it is stored), the events in chunks if they were asked for, and the end with a BLAKE3 of all
//! before it. A file without its end is not whole and is refused. Written and read front to back, a frame at a time.

use std::io::{self, Read, Write};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The version written, and the newest that is read.
pub const FORMAT: u16 = 1;
/// The oldest version whose readers can read what is written.
const MIN_READER: u16 = 1;
const MAGIC: [u8; 8] = *b"MIPROEXP";
/// Longest frame that is read: states and chunks of events are far below it, and a damaged length must not fill the memory.
const FRAME_BYTES_MAX: u32 = 512 << 20;
const ZSTD_LEVEL: i32 = 1;

const HEADER: u8 = 1;
const STATE: u8 = 2;
const EVENTS: u8 = 3;
const END: u8 = 255;

/// What the file says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Whose state it is.
    pub system_id: Uuid,
    /// Who owned it.
    pub org_id: Uuid,
    /// Number of the newest event in the state.
    pub seq: u64,
    /// Time of that event, microseconds since the Unix epoch.
    pub at_us: u64,
    /// The fencing epoch above which an import must go on.
    pub epoch: u64,
    /// BLAKE3 of the state's encoding, hexadecimal.
    pub state_hash: String,
    /// When the file was written, microseconds since the Unix epoch.
    pub exported_us: u64,
    /// The build that wrote it.
    pub written_by: String,
    /// The first event in the file; `None` when it holds none. The last one is `seq`.
    pub first_event: Option<u64>,
}

/// Why a file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It can't be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It begins with something else.
    #[error("this is no export of `mipro state`")]
    Foreign,
    /// A newer build wrote it.
    #[error(
        "a newer version wrote it: it needs a reader of format {needed}, this build reads up to {FORMAT}; use a build at least as new as the one that wrote it"
    )]
    Newer {
        /// The oldest format version that may read it.
        needed: u16,
    },
    /// It is not as it was written.
    #[error("it is damaged at byte {offset}: {problem}")]
    Damaged {
        /// Where the damaged part begins.
        offset: u64,
        /// What is wrong.
        problem: &'static str,
    },
}

/// Some events in a row, encoded as in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The first one's number.
    pub first_seq: u64,
    /// How many there are.
    pub count: u32,
    /// The events; [`crate::codec::event`] reads them.
    pub payload: Vec<u8>,
}

/// A part of the file after its header, in the order in which parts come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The snapshot; always the first.
    State(Bytes),
    /// Events.
    Events(Chunk),
    /// The end: all that was read before is what was written.
    End,
}

/// Writes a file front to back. Without [`ExportWriter::finish`] it is not whole.
#[derive(Debug)]
pub struct ExportWriter<W: Write> {
    out: W,
    hasher: blake3::Hasher,
}

impl<W: Write> ExportWriter<W> {
    /// Writes the header and the state. **Blocks.**
    ///
    /// # Errors
    /// The disk refuses.
    pub fn begin(out: W, header: &Header, snapshot: &[u8]) -> Result<Self, ExportError> {
        let mut writer = Self { out, hasher: blake3::Hasher::new() };
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&FORMAT.to_le_bytes());
        head.extend_from_slice(&MIN_READER.to_le_bytes());
        writer.put(&head)?;
        let header = serde_json::to_vec(header).map_err(io::Error::other)?;
        writer.frame(HEADER, &header)?;
        writer.frame(STATE, snapshot)?;
        Ok(writer)
    }

    /// Writes the next events. **Blocks.**
    ///
    /// # Errors
    /// The disk refuses.
    pub fn events(&mut self, chunk: &Chunk) -> Result<(), ExportError> {
        let mut content = chunk.first_seq.to_le_bytes().to_vec();
        content.extend_from_slice(&chunk.count.to_le_bytes());
        content.extend_from_slice(&zstd::encode_all(chunk.payload.as_slice(), ZSTD_LEVEL)?);
        self.frame(EVENTS, &content)
    }

    /// Writes the end and gives back what it was written to.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn finish(mut self) -> Result<W, ExportError> {
        let hash = *self.hasher.finalize().as_bytes();
        self.frame(END, &hash)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn frame(&mut self, kind: u8, content: &[u8]) -> Result<(), ExportError> {
        let len = u32::try_from(content.len()).ok().filter(|len| *len <= FRAME_BYTES_MAX);
        let len = len.ok_or_else(|| io::Error::other("a part of the system is larger than 512 MiB"))?;
        let mut head = [0; FRAME_HEAD];
        head[0] = kind;
        head[1..5].copy_from_slice(&len.to_le_bytes());
        let sum = crc32c::crc32c_append(crc32c::crc32c(&head[..5]), content);
        head[5..].copy_from_slice(&sum.to_le_bytes());
        self.put(&head)?;
        self.put(content)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.hasher.update(bytes);
        Ok(self.out.write_all(bytes)?)
    }
}

/// Kind, length, CRC-32C of both and the content.
const FRAME_HEAD: usize = 1 + 4 + 4;

/// Reads a file front to back.
#[derive(Debug)]
pub struct ExportReader<R: Read> {
    from: R,
    hasher: blake3::Hasher,
    offset: u64,
    header: Header,
    ended: bool,
}

impl<R: Read> ExportReader<R> {
    /// Reads the header. **Blocks.**
    ///
    /// # Errors
    /// It is no export, a newer one, or damaged.
    pub fn open(mut from: R) -> Result<Self, ExportError> {
        let mut head = [0; 12];
        let mut filled = 0;
        while filled < head.len() {
            match from.read(&mut head[filled..])? {
                0 => break,
                more => filled += more,
            }
        }
        if filled < MAGIC.len() || head[..8] != MAGIC {
            return Err(ExportError::Foreign);
        }
        if filled < head.len() {
            return Err(ExportError::Damaged { offset: filled as u64, problem: "it ends early" });
        }
        let needed = u16::from_le_bytes([head[10], head[11]]);
        if needed > FORMAT {
            return Err(ExportError::Newer { needed });
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&head);
        let blank = Header {
            system_id: Uuid::nil(),
            org_id: Uuid::nil(),
            seq: 0,
            at_us: 0,
            epoch: 0,
            state_hash: String::new(),
            exported_us: 0,
            written_by: String::new(),
            first_event: None,
        };
        let mut reader = Self { from, hasher, offset: head.len() as u64, header: blank, ended: false };
        let (kind, content, offset) = reader.frame()?;
        let header = (kind == HEADER).then(|| serde_json::from_slice(&content).ok()).flatten();
        reader.header = header.ok_or(ExportError::Damaged { offset, problem: "its header can't be read" })?;
        Ok(reader)
    }

    /// What the file says of itself.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next part; after [`Part::End`] there is none. **Blocks.**
    ///
    /// # Errors
    /// The file is damaged, ends early, or goes on after its end.
    pub fn next_part(&mut self) -> Result<Option<Part>, ExportError> {
        if self.ended {
            return Ok(None);
        }
        let before = *self.hasher.finalize().as_bytes();
        let (kind, content, offset) = self.frame()?;
        let damaged = |problem| ExportError::Damaged { offset, problem };
        match kind {
            STATE => Ok(Some(Part::State(content.into()))),
            EVENTS => chunk(&content)
                .map(|chunk| Some(Part::Events(chunk)))
                .ok_or_else(|| damaged("its events can't be unpacked")),
            END if content != before => Err(damaged("its checksum is not that of its content")),
            END => {
                self.ended = true;
                let mut more = [0];
                match self.from.read(&mut more)? {
                    0 => Ok(Some(Part::End)),
                    _ => {
                        Err(ExportError::Damaged { offset: self.offset, problem: "it goes on after its end" })
                    }
                }
            }
            _ => Err(damaged("a part of an unknown kind")),
        }
    }

    fn frame(&mut self) -> Result<(u8, Vec<u8>, u64), ExportError> {
        let at = self.offset;
        let damaged = |problem| ExportError::Damaged { offset: at, problem };
        let mut head = [0; FRAME_HEAD];
        self.from.read_exact(&mut head).map_err(|e| early(e, at))?;
        let [kind, len @ .., c0, c1, c2, c3] = head;
        let (len, sum) = (u32::from_le_bytes(len), u32::from_le_bytes([c0, c1, c2, c3]));
        if len > FRAME_BYTES_MAX {
            return Err(damaged("a part's length is beyond all that is written"));
        }
        let mut content = Vec::new();
        // Grows with what is there, not with what a damaged length says.
        (&mut self.from).take(u64::from(len)).read_to_end(&mut content)?;
        if content.len() as u64 != u64::from(len) {
            return Err(damaged("it ends early"));
        }
        if crc32c::crc32c_append(crc32c::crc32c(&head[..5]), &content) != sum {
            return Err(damaged("a part's checksum is wrong"));
        }
        self.hasher.update(&head);
        self.hasher.update(&content);
        self.offset += (FRAME_HEAD + content.len()) as u64;
        Ok((kind, content, at))
    }
}

fn early(error: io::Error, offset: u64) -> ExportError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ExportError::Damaged { offset, problem: "it ends early" },
        _ => ExportError::Io(error),
    }
}

fn chunk(content: &[u8]) -> Option<Chunk> {
    let (first_seq, rest) = content.split_first_chunk::<8>()?;
    let (count, packed) = rest.split_first_chunk::<4>()?;
    let mut payload = Vec::new();
    let unpacked = zstd::Decoder::new(packed).ok()?;
    unpacked.take(u64::from(FRAME_BYTES_MAX)).read_to_end(&mut payload).ok()?;
    Some(Chunk { first_seq: u64::from_le_bytes(*first_seq), count: u32::from_le_bytes(*count), payload })
}

#[cfg(test)]
mod tests;

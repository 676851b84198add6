//! Counts HTTP/1.1 requests by verb, by following request heads and the framing of bodies.
//!
//! Only the client's bytes are read. `Expect: 100-continue` needs no care: whether the client waits before the body or
//! not, the bytes that it sends are the same.

use super::tap::Seen;
use crate::httpd::Verb;

/// A head larger than this is taken for something that is not HTTP.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Follows the client's direction of one connection, cut into chunks anywhere.
#[derive(Default)]
pub(super) struct HttpTap {
    state: State,
    /// Bytes of the present line, without its end.
    line: Vec<u8>,
    head: Head,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before or in a request's first line.
    #[default]
    RequestLine,
    /// In the header lines.
    Headers,
    /// In a body of known length.
    Body { left: u64 },
    /// In the line that gives a chunk's size.
    ChunkSize,
    /// In a chunk's bytes and the line end after them.
    Chunk { left: u64 },
    /// In the lines after the last chunk.
    Trailers,
    /// Something else than HTTP/1.1 requests: no longer read.
    Opaque,
}

/// What the header lines said so far.
#[derive(Default)]
struct Head {
    bytes: usize,
    verb: Option<Verb>,
    length: u64,
    chunked: bool,
    upgrade: bool,
}

impl HttpTap {
    /// Bytes from the client.
    pub(super) fn client(&mut self, mut bytes: &[u8], seen: &mut dyn FnMut(Seen)) {
        while !bytes.is_empty() {
            match self.state {
                State::Opaque => return,
                State::Body { left } => {
                    let left = skip(&mut bytes, left);
                    self.state = if left == 0 { State::RequestLine } else { State::Body { left } };
                }
                State::Chunk { left } => {
                    let left = skip(&mut bytes, left);
                    self.state = if left == 0 { State::ChunkSize } else { State::Chunk { left } };
                }
                State::RequestLine | State::Headers | State::ChunkSize | State::Trailers => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let (part, rest) = bytes.split_at(end.map_or(bytes.len(), |at| at + 1));
                    bytes = rest;
                    self.line.extend_from_slice(part);
                    if self.line.len() + self.head.bytes > HEAD_BYTES_MAX {
                        return self.give_up(seen);
                    }
                    if end.is_some() {
                        let line = std::mem::take(&mut self.line);
                        self.line_ended(line.trim_ascii_end(), line.len(), seen);
                    }
                }
            }
        }
    }

    fn line_ended(&mut self, line: &[u8], line_bytes: usize, seen: &mut dyn FnMut(Seen)) {
        self.head.bytes += line_bytes;
        match self.state {
            // An empty line before a request is allowed, and means nothing.
            State::RequestLine if line.is_empty() => self.head.bytes = 0,
            State::RequestLine => match request_line(line) {
                Some(verb) => {
                    self.head.verb = Some(verb);
                    self.state = State::Headers;
                }
                None => self.give_up(seen),
            },
            State::Headers if line.is_empty() => self.head_ended(seen),
            State::Headers => self.header(line, seen),
            State::ChunkSize => match chunk_size(line) {
                Some(0) => {
                    self.head.bytes = 0;
                    self.state = State::Trailers;
                }
                // The line end after the chunk's bytes belongs to it.
                Some(size) => {
                    self.head.bytes = 0;
                    self.state = State::Chunk { left: size.saturating_add(2) };
                }
                None => self.give_up(seen),
            },
            State::Trailers if line.is_empty() => {
                self.head = Head::default();
                self.state = State::RequestLine;
            }
            State::Trailers | State::Body { .. } | State::Chunk { .. } | State::Opaque => {}
        }
    }

    fn header(&mut self, line: &[u8], seen: &mut dyn FnMut(Seen)) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return self.give_up(seen) };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            match std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()) {
                Some(length) => self.head.length = length,
                None => self.give_up(seen),
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.head.chunked = value.to_ascii_lowercase().ends_with(b"chunked");
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.head.upgrade = true;
        }
    }

    fn head_ended(&mut self, seen: &mut dyn FnMut(Seen)) {
        let head = std::mem::take(&mut self.head);
        if let Some(verb) = head.verb {
            seen(Seen::Request(verb));
        }
        self.state = match head {
            // What follows an upgrade may be another protocol.
            Head { upgrade: true, .. } => State::Opaque,
            Head { chunked: true, .. } => State::ChunkSize,
            Head { length: 0, .. } => State::RequestLine,
            Head { length, .. } => State::Body { left: length },
        };
    }

    fn give_up(&mut self, seen: &mut dyn FnMut(Seen)) {
        self.state = State::Opaque;
        self.line = Vec::new();
        seen(Seen::Unreadable);
    }
}

/// Drops up to `left` bytes; returns how many are still to come.
fn skip(bytes: &mut &[u8], left: u64) -> u64 {
    let take = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
    *bytes = &bytes[take..];
    left - take as u64
}

/// The verb of `METHOD target HTTP/1.x`.
fn request_line(line: &[u8]) -> Option<Verb> {
    let mut words = line.split(|byte| *byte == b' ');
    let method = std::str::from_utf8(words.next()?).ok()?;
    let _target = words.next()?;
    let version = words.next()?;
    let is_method =
        !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-');
    // CONNECT turns the connection into a tunnel, and HTTP/2 starts with the method PRI.
    let readable = version.starts_with(b"HTTP/1.") && is_method && method != "CONNECT";
    (readable && words.next().is_none()).then(|| Verb::of(method))
}

/// A chunk's size in hexadecimal digits, before any extension.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

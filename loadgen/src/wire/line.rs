//! One connection: a request written whole, an answer read to its end (RFC 9112).

use bytes::{Buf as _, Bytes, BytesMut};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Broken, failure};
use crate::account::{Class, Failure};
use crate::client::{ANSWER_BYTES_MAX, Answer};
use crate::join;

/// Room made before each read. Most answers come with one, and a read that leaves room needs none after it to know that
/// there is no more.
const READ_BYTES: usize = 16 * 1024;

/// The largest head of an answer, and the most headers.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;

/// The longest line that tells a chunk's size, or trailer.
const CHUNK_LINE_BYTES_MAX: usize = 4 * 1024;

/// A connection, and what was read of it and not yet used.
pub(super) struct Line {
    stream: TcpStream,
    held: BytesMut,
}

/// An answer's head.
#[derive(Debug)]
struct Head {
    status: u16,
    headers: HeaderMap,
    length: Length,
    /// Whether the server keeps the connection open.
    stays: bool,
}

/// Where an answer's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Bytes(u64),
    Chunked,
    /// Where the connection does.
    Connection,
}

/// A body as it comes: counted, and kept where somebody will read it.
struct Body {
    kept: Option<BytesMut>,
    bytes: usize,
}

impl Body {
    fn take(&mut self, held: &mut BytesMut, bytes: usize) -> Result<(), Failure> {
        self.bytes += bytes;
        if self.bytes > ANSWER_BYTES_MAX {
            return Err(Failure::invalid(format!("the answer has more than {ANSWER_BYTES_MAX} bytes")));
        }
        match &mut self.kept {
            Some(kept) => kept.extend_from_slice(&held.split_to(bytes)),
            None => held.advance(bytes),
        }
        Ok(())
    }
}

impl Line {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, held: BytesMut::new() }
    }

    /// One request and its answer; says whether the connection takes another.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<(Answer, bool), Broken> {
        // No system call unless the reactor was told of something: an end, or bytes that nobody asked for.
        if !matches!(self.stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
        {
            return Err(Broken::Unused);
        }
        self.stream.write_all(request).await.map_err(|error| failure(&error))?;
        let head = loop {
            let head = self.head().await?;
            // Interim answers only say that the real one is coming.
            if !(100..200).contains(&head.status) {
                break head;
            }
        };
        let kept = if (200..300).contains(&head.status) { None } else { Some(BytesMut::new()) };
        let mut body = Body { kept, bytes: 0 };
        match head.length {
            Length::Bytes(bytes) => self.counted(bytes, &mut body).await?,
            Length::Chunked => self.chunks(&mut body).await?,
            Length::Connection => self.rest(&mut body).await?,
        }
        let reusable = head.stays && head.length != Length::Connection && self.held.is_empty();
        let body = body.kept.map_or_else(Bytes::new, BytesMut::freeze);
        Ok((Answer { status: head.status, headers: head.headers, body }, reusable))
    }

    /// Reads more; false at the connection's end.
    async fn more(&mut self) -> Result<bool, Failure> {
        self.held.reserve(READ_BYTES);
        let read = self.stream.read_buf(&mut self.held).await.map_err(|error| failure(&error))?;
        Ok(read > 0)
    }

    /// Reads more where the answer is not done.
    async fn needed(&mut self) -> Result<(), Failure> {
        match self.more().await? {
            true => Ok(()),
            false => Err(Failure::new(Class::Read, "the connection closed before the answer was whole")),
        }
    }

    async fn head(&mut self) -> Result<Head, Failure> {
        loop {
            if let Some((head, bytes)) = parse(&self.held)? {
                self.held.advance(bytes);
                return Ok(head);
            }
            if self.held.len() > HEAD_BYTES_MAX {
                return Err(Failure::invalid(format!(
                    "the answer's head has more than {HEAD_BYTES_MAX} bytes"
                )));
            }
            self.needed().await?;
        }
    }

    async fn counted(&mut self, mut left: u64, body: &mut Body) -> Result<(), Failure> {
        loop {
            let here = self.held.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            body.take(&mut self.held, here)?;
            left -= here as u64;
            if left == 0 {
                return Ok(());
            }
            self.needed().await?;
        }
    }

    async fn rest(&mut self, body: &mut Body) -> Result<(), Failure> {
        loop {
            let here = self.held.len();
            body.take(&mut self.held, here)?;
            if !self.more().await? {
                return Ok(());
            }
        }
    }

    async fn chunks(&mut self, body: &mut Body) -> Result<(), Failure> {
        loop {
            let line = self.line().await?;
            let bytes = size(&line).ok_or_else(|| Failure::invalid("a chunk's size is not a number"))?;
            if bytes == 0 {
                break;
            }
            self.counted(bytes, body).await?;
            if !self.line().await?.is_empty() {
                return Err(Failure::invalid("a chunk is longer than it says"));
            }
        }
        // Trailers, to the empty line.
        while !self.line().await?.is_empty() {}
        Ok(())
    }

    /// One line, without its end.
    async fn line(&mut self) -> Result<BytesMut, Failure> {
        loop {
            if let Some(end) = self.held.windows(2).position(|two| two == b"\r\n") {
                let line = self.held.split_to(end);
                self.held.advance(2);
                return Ok(line);
            }
            if self.held.len() > CHUNK_LINE_BYTES_MAX {
                return Err(Failure::invalid("a chunk's size is not a number"));
            }
            self.needed().await?;
        }
    }
}

/// The size that a chunk's line tells, extensions aside.
fn size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
    let digits = std::str::from_utf8(digits).ok()?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if plain { u64::from_str_radix(digits, 16).ok() } else { None }
}

/// The head that the bytes begin with, and its length; none while it is not whole.
fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Failure> {
    let mut room = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut room);
    let parsed =
        answer.parse(bytes).map_err(|error| Failure::invalid(format!("not an HTTP answer: {error}")))?;
    let httparse::Status::Complete(end) = parsed else { return Ok(None) };
    let status = answer.code.unwrap_or(0);
    let mut head = Head {
        status,
        headers: HeaderMap::new(),
        length: Length::Connection,
        stays: answer.version == Some(1),
    };
    let (mut chunked, mut told) = (false, None);
    for header in answer.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let length = number(header.value).filter(|length| told.is_none_or(|told| told == *length));
            told = Some(
                length.ok_or_else(|| Failure::invalid("the answer's content-length is not one number"))?,
            );
        } else if is("transfer-encoding") {
            chunked = words(header.value).last().is_some_and(|word| word.eq_ignore_ascii_case(b"chunked"));
        } else if is("connection") {
            for word in words(header.value) {
                if word.eq_ignore_ascii_case(b"close") {
                    head.stays = false;
                } else if word.eq_ignore_ascii_case(b"keep-alive") {
                    head.stays = true;
                }
            }
        } else if join::READ.iter().any(|name| is(name))
            && let (Ok(name), Ok(value)) =
                (HeaderName::try_from(header.name), HeaderValue::from_bytes(header.value))
        {
            head.headers.append(name, value);
        }
    }
    head.length = match (status, chunked, told) {
        (100..200 | 204 | 304, _, _) => Length::Bytes(0),
        (_, true, _) => Length::Chunked,
        (_, false, Some(bytes)) => Length::Bytes(bytes),
        (_, false, None) => Length::Connection,
    };
    Ok(Some((head, end)))
}

fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

fn number(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value.trim_ascii()).ok()?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

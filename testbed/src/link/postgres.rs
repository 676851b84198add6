//! Counts round trips and statements in a Postgres connection by following message frames; bodies are skipped unread.

use super::tap::Seen;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
/// A frame's length field counts itself.
const LENGTH_BYTES: u32 = 4;
/// The server's own limits: what claims to be longer is another protocol.
const MESSAGE_BYTES_MAX: u32 = 1 << 30;
const START_BYTES_MAX: u32 = 10_000;

/// Follows both directions of one connection; each may be cut into chunks anywhere.
#[derive(Default)]
pub(super) struct PostgresTap {
    client: Client,
    server: Server,
    /// Requests for encryption that the server has yet to answer with a single byte.
    answers_due: u32,
    opaque: bool,
}

/// A position inside frames: head bytes gathered so far, then body bytes to skip.
#[derive(Default)]
struct Frames {
    head: [u8; 8],
    have: usize,
    skip: u64,
}

impl Frames {
    /// Takes bytes until a head of `wanted` bytes is whole; the head is given once, and the rest is left.
    fn head<'a>(&mut self, bytes: &mut &'a [u8], wanted: usize) -> Option<[u8; 8]> {
        let body = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
        self.skip -= body as u64;
        let rest: &'a [u8] = &bytes[body..];
        let take = rest.len().min(wanted - self.have);
        self.head[self.have..self.have + take].copy_from_slice(&rest[..take]);
        self.have += take;
        *bytes = &rest[take..];
        if self.have < wanted {
            return None;
        }
        self.have = 0;
        Some(self.head)
    }
}

#[derive(Default)]
struct Client {
    frames: Frames,
    /// Before the startup message frames have no type byte.
    started: bool,
}

#[derive(Default)]
struct Server {
    frames: Frames,
}

impl PostgresTap {
    /// Bytes from the client.
    pub(super) fn client(&mut self, mut bytes: &[u8], seen: &mut dyn FnMut(Seen)) {
        while !self.opaque && !bytes.is_empty() {
            if self.client.started {
                let Some(head) = self.client.frames.head(&mut bytes, 5) else { return };
                match head[0] {
                    b'Q' | b'E' => seen(Seen::Statement),
                    _ => {}
                }
                self.client.frames.skip = match body_bytes(&head[1..5], LENGTH_BYTES, MESSAGE_BYTES_MAX) {
                    Some(bytes) => bytes,
                    None => return self.give_up(seen),
                };
                continue;
            }
            let Some(head) = self.client.frames.head(&mut bytes, 8) else { return };
            let code = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
            self.client.frames.skip = match body_bytes(&head[..4], 2 * LENGTH_BYTES, START_BYTES_MAX) {
                Some(bytes) => bytes,
                None => return self.give_up(seen),
            };
            match code {
                SSL_REQUEST | GSS_REQUEST => self.answers_due += 1,
                CANCEL_REQUEST => {}
                _ => self.client.started = true,
            }
        }
    }

    /// Bytes from the server.
    pub(super) fn server(&mut self, mut bytes: &[u8], seen: &mut dyn FnMut(Seen)) {
        while !self.opaque && !bytes.is_empty() {
            if self.answers_due > 0 {
                let (answer, rest) = (bytes[0], &bytes[1..]);
                self.answers_due -= 1;
                bytes = rest;
                // Anything but a plain no means that what follows is encrypted, or an error of another format.
                if answer != b'N' {
                    return self.give_up(seen);
                }
                continue;
            }
            let Some(head) = self.server.frames.head(&mut bytes, 5) else { return };
            if head[0] == b'Z' {
                seen(Seen::RoundTrip);
            }
            self.server.frames.skip = match body_bytes(&head[1..5], LENGTH_BYTES, MESSAGE_BYTES_MAX) {
                Some(bytes) => bytes,
                None => return self.give_up(seen),
            };
        }
    }

    fn give_up(&mut self, seen: &mut dyn FnMut(Seen)) {
        self.opaque = true;
        seen(Seen::Unreadable);
    }
}

/// The body bytes that follow a head whose length field counts `counted` bytes of the head; `None` for a length that
/// can't be one.
fn body_bytes(length: &[u8], counted: u32, bytes_max: u32) -> Option<u64> {
    let length = u32::from_be_bytes(length.try_into().expect("a length field is 4 bytes long"));
    if length > bytes_max { None } else { length.checked_sub(counted).map(u64::from) }
}

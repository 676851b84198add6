//! What is counted on a connection, by its protocol.

use serde::{Deserialize, Serialize};

use super::http::HttpTap;
use super::postgres::PostgresTap;
use crate::httpd::Verb;

/// What the link reads in the bytes that pass, to count it. Bytes are never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Nothing: only connections and bytes are counted.
    Raw,
    /// The Postgres wire protocol: round trips and statements.
    Postgres,
    /// HTTP/1.1: requests by verb.
    Http,
}

/// Something worth counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The server said that it is ready for the next query.
    RoundTrip,
    /// The client sent a statement to run.
    Statement,
    /// The client sent a request's head.
    Request(Verb),
    /// The bytes are not what was expected; the connection's later ones are not counted.
    Unreadable,
}

/// Follows one connection.
pub(super) enum Tap {
    Raw,
    Postgres(Box<PostgresTap>),
    Http(Box<HttpTap>),
}

impl Tap {
    pub(super) fn new(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Raw => Self::Raw,
            Protocol::Postgres => Self::Postgres(Box::default()),
            Protocol::Http => Self::Http(Box::default()),
        }
    }

    /// Bytes from the client.
    pub(super) fn client(&mut self, bytes: &[u8], seen: &mut dyn FnMut(Seen)) {
        match self {
            Self::Raw => {}
            Self::Postgres(tap) => tap.client(bytes, seen),
            Self::Http(tap) => tap.client(bytes, seen),
        }
    }

    /// Bytes from the server.
    pub(super) fn server(&mut self, bytes: &[u8], seen: &mut dyn FnMut(Seen)) {
        match self {
            Self::Raw | Self::Http(_) => {}
            Self::Postgres(tap) => tap.server(bytes, seen),
        }
    }
}

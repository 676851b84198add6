//! The link's counts.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::line::Direction;
use super::tap::Seen;
use crate::httpd::{AtomicVerbCounts, VerbCounts};

/// What has passed since the link started. Everything is counted when it is read, so an answer that has arrived is
/// counted, and so is the request before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Connections accepted.
    pub connections: u64,
    /// Connections open now.
    pub connections_open: u64,
    /// Connections turned away while the link was cut.
    pub connections_refused: u64,
    /// Connections dropped because the server behind could not be reached.
    pub upstream_failures: u64,
    /// Bytes from clients.
    pub bytes_up: u64,
    /// Bytes from the server.
    pub bytes_down: u64,
    /// Postgres ReadyForQuery messages: one a round trip, the one that ends a connection's start included. (A start
    /// costs another round trip or more that this does not count: the handshake and authentication.)
    pub postgres_round_trips: u64,
    /// Postgres Query and Execute messages.
    pub postgres_statements: u64,
    /// HTTP requests by verb.
    pub http_requests: VerbCounts,
    /// Connections whose bytes were not of the protocol (or became encrypted), and so are not fully counted.
    pub connections_unreadable: u64,
}

impl Counts {
    /// What was counted after `earlier`; `connections_open` stays what it is now.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let more = |now: u64, then: u64| now.saturating_sub(then);
        Self {
            connections: more(self.connections, earlier.connections),
            connections_open: self.connections_open,
            connections_refused: more(self.connections_refused, earlier.connections_refused),
            upstream_failures: more(self.upstream_failures, earlier.upstream_failures),
            bytes_up: more(self.bytes_up, earlier.bytes_up),
            bytes_down: more(self.bytes_down, earlier.bytes_down),
            postgres_round_trips: more(self.postgres_round_trips, earlier.postgres_round_trips),
            postgres_statements: more(self.postgres_statements, earlier.postgres_statements),
            http_requests: self.http_requests.since(&earlier.http_requests),
            connections_unreadable: more(self.connections_unreadable, earlier.connections_unreadable),
        }
    }
}

/// [`Counts`] that all connections add to.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connections: AtomicU64,
    pub(super) connections_open: AtomicU64,
    pub(super) connections_refused: AtomicU64,
    pub(super) upstream_failures: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
    postgres_round_trips: AtomicU64,
    postgres_statements: AtomicU64,
    http_requests: AtomicVerbCounts,
    connections_unreadable: AtomicU64,
}

impl Counters {
    pub(super) fn add_bytes(&self, direction: Direction, bytes: usize) {
        let counter = match direction {
            Direction::Up => &self.bytes_up,
            Direction::Down => &self.bytes_down,
        };
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn add(&self, seen: Seen) {
        let counter = match seen {
            Seen::Request(verb) => {
                self.http_requests.add(verb);
                return;
            }
            Seen::RoundTrip => &self.postgres_round_trips,
            Seen::Statement => &self.postgres_statements,
            Seen::Unreadable => &self.connections_unreadable,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            connections: read(&self.connections),
            connections_open: read(&self.connections_open),
            connections_refused: read(&self.connections_refused),
            upstream_failures: read(&self.upstream_failures),
            bytes_up: read(&self.bytes_up),
            bytes_down: read(&self.bytes_down),
            postgres_round_trips: read(&self.postgres_round_trips),
            postgres_statements: read(&self.postgres_statements),
            http_requests: self.http_requests.read(),
            connections_unreadable: read(&self.connections_unreadable),
        }
    }
}

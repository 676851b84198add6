//! What went over the wires.

use crate::link;

/// Sums over both links of a stack since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WireCounts {
    /// Round trips of queries, as the link saw them (Postgres' ReadyForQuery).
    pub db_round_trips: u64,
    /// Statements executed.
    pub db_statements: u64,
    /// Connections made to the database.
    pub db_connections: u64,
    /// Bytes to and from the database.
    pub db_bytes: u64,
    /// GET and HEAD requests.
    pub s3_get: u64,
    /// PUT and POST requests.
    pub s3_put: u64,
    /// DELETE requests, and any others.
    pub s3_other: u64,
    /// Object bytes both ways, without heads; for an external server all bytes of the wire.
    pub s3_bytes: u64,
    /// Connections made to the object store.
    pub s3_connections: u64,
}

impl WireCounts {
    /// What was counted after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            db_round_trips: self.db_round_trips.saturating_sub(earlier.db_round_trips),
            db_statements: self.db_statements.saturating_sub(earlier.db_statements),
            db_connections: self.db_connections.saturating_sub(earlier.db_connections),
            db_bytes: self.db_bytes.saturating_sub(earlier.db_bytes),
            s3_get: self.s3_get.saturating_sub(earlier.s3_get),
            s3_put: self.s3_put.saturating_sub(earlier.s3_put),
            s3_other: self.s3_other.saturating_sub(earlier.s3_other),
            s3_bytes: self.s3_bytes.saturating_sub(earlier.s3_bytes),
            s3_connections: self.s3_connections.saturating_sub(earlier.s3_connections),
        }
    }

    pub(super) fn add_database(&mut self, counts: &link::Counts) {
        self.db_round_trips += counts.postgres_round_trips;
        self.db_statements += counts.postgres_statements;
        self.db_connections += counts.connections;
        self.db_bytes += counts.bytes_up + counts.bytes_down;
    }

    pub(super) fn add_blobs(&mut self, counts: &link::Counts) {
        let requests = &counts.http_requests;
        self.s3_get += requests.get + requests.head;
        self.s3_put += requests.put + requests.post;
        self.s3_other += requests.delete + requests.other;
        self.s3_bytes += counts.bytes_up + counts.bytes_down;
        self.s3_connections += counts.connections;
    }
}

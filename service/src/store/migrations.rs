//! The tables' shape, version by version. A released migration never changes; a new shape is a new entry.

/// One step from a version to the next.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// The version it leads to; they run in this order.
    pub version: i64,
    /// What it does, in a word.
    pub name: &'static str,
    /// For Postgres; may hold several statements.
    pub postgres: &'static str,
    /// For SQLite; may hold several statements.
    pub sqlite: &'static str,
}

/// Every migration, oldest first.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "systems",
        postgres: "CREATE TABLE systems (
        system_id uuid PRIMARY KEY,
        org_id uuid NOT NULL,
        status text NOT NULL,
        mode text NOT NULL,
        version bigint NOT NULL,
        state_ref text,
        updated_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE INDEX systems_org ON systems (org_id);",
        sqlite: "CREATE TABLE systems (
        system_id TEXT PRIMARY KEY NOT NULL,
        org_id TEXT NOT NULL,
        status TEXT NOT NULL,
        mode TEXT NOT NULL,
        version INTEGER NOT NULL,
        state_ref TEXT,
        updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
    ) WITHOUT ROWID;
    CREATE INDEX systems_org ON systems (org_id);",
    },
    Migration {
        version: 2,
        name: "snapshots",
        postgres: "ALTER TABLE systems
            ADD COLUMN epoch bigint NOT NULL DEFAULT 0,
            ADD COLUMN state_bytes bigint,
            ADD COLUMN state_checksum text,
            ADD COLUMN prev_ref text,
            ADD COLUMN prev_version bigint,
            ADD COLUMN prev_bytes bigint,
            ADD COLUMN prev_checksum text;",
        sqlite: "ALTER TABLE systems ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE systems ADD COLUMN state_bytes INTEGER;
        ALTER TABLE systems ADD COLUMN state_checksum TEXT;
        ALTER TABLE systems ADD COLUMN prev_ref TEXT;
        ALTER TABLE systems ADD COLUMN prev_version INTEGER;
        ALTER TABLE systems ADD COLUMN prev_bytes INTEGER;
        ALTER TABLE systems ADD COLUMN prev_checksum TEXT;",
    },
    Migration {
        version: 3,
        name: "claims",
        postgres: "ALTER TABLE systems ADD COLUMN claimed_by uuid;",
        sqlite: "ALTER TABLE systems ADD COLUMN claimed_by TEXT;",
    },
];

/// The newest version this build knows.
#[must_use]
pub fn newest() -> i64 {
    MIGRATIONS.last().map_or(0, |m| m.version)
}

/// Keeps the record of what ran; the same statement for both databases.
pub(crate) const CREATE_LEDGER: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
    version bigint PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP
)";

/// The version a database has; 0 when nothing ran yet.
pub(crate) const READ_VERSION: &str = "SELECT COALESCE(MAX(version), 0) FROM schema_migrations";

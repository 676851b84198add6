//! What the service counts about itself, and the page a scraper reads.
//!
//! Names live in one place, [`mipro_telemetry::prometheus::names`], plus the few below that only this crate has.
//! Labels are operations, stages, phases and status codes: no caller can make series.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mipro_telemetry::prometheus::{Exposition, Name, names};
use mipro_telemetry::{Breakdown, Operation, Recorders, clock};

use crate::engine::Figures;

/// Gauge: open connections.
pub const CONNECTIONS: Name = Name { name: "mipro_connections_open", help: "Open client connections." };
/// Counter: panics that were caught and answered 500.
pub const PANICS: Name =
    Name { name: "mipro_panics_total", help: "Panics in handlers, answered with status 500." };
/// Gauge: 1 while a clean stop is under way.
pub const DRAINING: Name =
    Name { name: "mipro_draining", help: "1 while a clean stop is under way, else 0." };
/// Gauge: what a crash would lose.
pub const EVENTS_UNSAVED: Name =
    Name { name: "mipro_events_unsaved", help: "Events applied in memory and not yet saved." };
/// Counter: saves that found another process's write.
pub const SAVE_CONFLICTS: Name = Name {
    name: "mipro_save_conflicts_total",
    help: "States dropped because another process had moved the row.",
};
/// Counter: systems that left memory.
pub const EVICTIONS: Name =
    Name { name: "mipro_evictions_total", help: "Systems sent out of memory for want of room or use." };
/// Counter: states dropped because this program or the log failed.
pub const POISONED: Name = Name {
    name: "mipro_states_poisoned_total",
    help: "States dropped because the program or the log failed.",
};

/// Gauge: how far the log lags behind memory, with [`LOG_DURABLE`].
pub const LOG_APPENDED: Name =
    Name { name: "mipro_log_appended_lsn", help: "The newest append to the event log." };
/// Gauge.
pub const LOG_DURABLE: Name =
    Name { name: "mipro_log_durable_lsn", help: "The newest append that is durable at the level in force." };
/// Gauge.
pub const LOG_QUEUED: Name =
    Name { name: "mipro_log_queued_bytes", help: "Bytes appended to the event log and not yet durable." };
/// Gauge.
pub const LOG_KEPT: Name =
    Name { name: "mipro_log_kept_bytes", help: "Bytes of the event log on this machine's disk." };
/// Gauge.
pub const LOG_SEGMENTS: Name =
    Name { name: "mipro_log_segments", help: "Segments of the event log on this machine's disk." };
/// Counter.
pub const LOG_ARCHIVED: Name = Name {
    name: "mipro_log_segments_archived_total",
    help: "Segments of the event log copied to the object store.",
};
/// Counter.
pub const LOG_TRIMMED: Name = Name {
    name: "mipro_log_segments_trimmed_total",
    help: "Archived segments of the event log removed from this machine's disk.",
};
/// Counter.
pub const ARCHIVE_FAILURES: Name = Name {
    name: "mipro_log_archive_failures_total",
    help: "Turns of the log's archiver that failed and were tried again.",
};
/// Gauge.
pub const LOG_PINNED: Name = Name {
    name: "mipro_log_segments_pinned",
    help: "Archived segments of the event log that some system's stored state does not cover, so that they are kept.",
};
/// Gauge: rises without end where a system can't be saved.
pub const LOG_PINNED_AGE: Name = Name {
    name: "mipro_log_pinned_age_seconds",
    help: "For how long the oldest pinned segment could have been trimmed; 0 when none is pinned.",
};
/// Gauge.
pub const LOG_LAGGARDS: Name = Name {
    name: "mipro_log_laggards",
    help: "Systems whose stored state does not cover the oldest pinned segment; at most about a thousand are looked for.",
};
/// Counter.
pub const STATES_MISSING: Name = Name {
    name: "mipro_states_missing_total",
    help: "Times a stored state that a row names was found not to be there as it says.",
};
/// Gauge: 1 after the log's disk has failed.
pub const LOG_STOPPED: Name =
    Name { name: "mipro_log_stopped", help: "1 when the event log has stopped, else 0." };
/// Gauge: 1 while the log has no place for more.
pub const LOG_FULL: Name =
    Name { name: "mipro_log_full", help: "1 while the event log has no place for more events, else 0." };
/// Counter: shards that panicked.
pub const SHARD_RESTARTS: Name = Name {
    name: "mipro_shard_restarts_total",
    help: "Shards that panicked and began anew, their systems' states dropped.",
};
/// Counter.
pub const GATE_TIMEOUTS: Name =
    Name { name: "mipro_gate_timeouts_total", help: "Answers given up because the event log took too long." };
/// Counter.
pub const PRESSED: Name = Name {
    name: "mipro_refused_by_pressure_total",
    help: "Commands refused because too much waited for the event log.",
};
/// Counter.
pub const UNRECORDED: Name = Name {
    name: "mipro_unrecorded_answers_total",
    help: "Answers of the proxy that were given without a record of their rollout.",
};
/// Gauge.
pub const DIRTY_AGE: Name =
    Name { name: "mipro_snapshot_age_seconds", help: "Age of the oldest event that no stored state covers." };
/// Gauge.
pub const SNAPSHOT_LAG: Name = Name {
    name: "mipro_snapshot_lag_events",
    help: "Most events of one system that its stored state does not cover.",
};

/// The status code that stands for "the client left before its answer"; never sent.
pub const CLIENT_CLOSED_REQUEST: u16 = 499;

/// The service's counters. Cheap to share; recording never waits for a scraper for longer than a map look-up.
#[derive(Debug)]
pub struct Metrics {
    /// Stage times of every finished request; engines record their background work here, too.
    pub recorders: Recorders,
    started_us: u64,
    in_flight: AtomicU64,
    connections: AtomicU64,
    panics: AtomicU64,
    unrecorded: AtomicU64,
    answered: Mutex<BTreeMap<(Operation, u16), u64>>,
}

impl Metrics {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(recorders: Recorders) -> Self {
        Self {
            recorders,
            started_us: clock::unix_us(),
            in_flight: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            unrecorded: AtomicU64::new(0),
            answered: Mutex::default(),
        }
    }

    /// Counts a request as in flight until the guard is dropped.
    #[must_use]
    pub fn request(self: &Arc<Self>) -> Counted {
        Counted::new(self, |metrics| &metrics.in_flight)
    }

    /// Counts a connection as open until the guard is dropped.
    #[must_use]
    pub fn connection(self: &Arc<Self>) -> Counted {
        Counted::new(self, |metrics| &metrics.connections)
    }

    /// Requests in flight now.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a caught panic.
    pub fn panicked(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an answer of the proxy that was not recorded.
    pub fn served_unrecorded(&self) {
        self.unrecorded.fetch_add(1, Ordering::Relaxed);
    }

    /// Records a finished request with the status it was answered.
    pub fn record(&self, breakdown: &Breakdown, status: u16) {
        self.recorders.record(breakdown);
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        *answered.entry((breakdown.operation, status)).or_default() += 1;
    }

    /// The page a scraper reads. `draining` says whether a clean stop is under way, `figures` what the
    /// engine counts.
    #[must_use]
    pub fn page(&self, draining: bool, engine: &'static str, figures: &Figures) -> Exposition {
        let mut page = Exposition::new();
        page.gauge(names::BUILD_INFO, &[("version", env!("CARGO_PKG_VERSION")), ("engine", engine)], 1.0);
        page.gauge(names::START_TIME_SECONDS, &[], self.started_us as f64 / 1e6);
        page.gauge(names::REQUESTS_IN_FLIGHT, &[], self.in_flight() as f64);
        page.gauge(CONNECTIONS, &[], self.connections.load(Ordering::Relaxed) as f64);
        page.gauge(DRAINING, &[], f64::from(u8::from(draining)));
        page.counter(PANICS, &[], self.panics.load(Ordering::Relaxed) as f64);
        page.gauge(names::SYSTEMS_RESIDENT, &[], figures.resident as f64);
        page.gauge(EVENTS_UNSAVED, &[], figures.unsaved_events as f64);
        page.counter(names::SAVES, &[], figures.saves as f64);
        page.counter(names::SAVE_FAILURES, &[], figures.save_failures as f64);
        page.counter(SAVE_CONFLICTS, &[], figures.conflicts as f64);
        page.counter(EVICTIONS, &[], figures.evictions as f64);
        page.counter(POISONED, &[], figures.poisoned as f64);
        page.counter(UNRECORDED, &[], self.unrecorded.load(Ordering::Relaxed) as f64);
        durability(&mut page, figures);
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for ((operation, status), count) in answered {
            let labels = [("operation", operation.name()), ("status", &*status.to_string())];
            page.counter(names::REQUESTS, &labels, count as f64);
        }
        page.recorders(&self.recorders.snapshot());
        allocations(&mut page);
        page
    }
}

/// Last, so that most of what this page itself takes is in its own total and not in the next one's.
fn allocations(page: &mut Exposition) {
    if let Some(totals) = mipro_allocations::totals() {
        page.counter(names::ALLOCATIONS, &[], totals.allocations as f64);
        page.counter(names::ALLOCATED_BYTES, &[], totals.bytes as f64);
    }
}

fn durability(page: &mut Exposition, figures: &Figures) {
    let log = &figures.log;
    page.gauge(names::SYSTEMS_DIRTY, &[], figures.dirty as f64);
    page.gauge(DIRTY_AGE, &[], figures.dirty_age_ms as f64 / 1e3);
    page.gauge(SNAPSHOT_LAG, &[], figures.lag_events as f64);
    page.counter(GATE_TIMEOUTS, &[], figures.gate_timeouts as f64);
    page.counter(PRESSED, &[], figures.pressed as f64);
    page.gauge(LOG_APPENDED, &[], log.appended_lsn as f64);
    page.gauge(LOG_DURABLE, &[], log.durable_lsn as f64);
    page.gauge(LOG_QUEUED, &[], log.queued_bytes as f64);
    page.gauge(LOG_KEPT, &[], log.kept_bytes as f64);
    page.gauge(LOG_SEGMENTS, &[], log.segments as f64);
    page.counter(LOG_ARCHIVED, &[], log.archived as f64);
    page.counter(LOG_TRIMMED, &[], log.trimmed as f64);
    page.counter(ARCHIVE_FAILURES, &[], log.archive_failures as f64);
    page.gauge(LOG_PINNED, &[], log.pinned as f64);
    page.gauge(LOG_PINNED_AGE, &[], log.pinned_oldest_ms as f64 / 1e3);
    page.gauge(LOG_LAGGARDS, &[], log.laggards as f64);
    page.counter(STATES_MISSING, &[], log.missing as f64);
    page.gauge(LOG_STOPPED, &[], f64::from(u8::from(log.closed)));
    page.gauge(LOG_FULL, &[], f64::from(u8::from(log.full)));
    page.counter(SHARD_RESTARTS, &[], figures.shard_restarts as f64);
}

/// One more of something, until dropped.
#[derive(Debug)]
pub struct Counted {
    metrics: Arc<Metrics>,
    gauge: fn(&Metrics) -> &AtomicU64,
}

impl Counted {
    fn new(metrics: &Arc<Metrics>, gauge: fn(&Metrics) -> &AtomicU64) -> Self {
        gauge(metrics).fetch_add(1, Ordering::Relaxed);
        Self { metrics: Arc::clone(metrics), gauge }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.gauge)(&self.metrics).fetch_sub(1, Ordering::Relaxed);
    }
}

//! The event log that the configuration asks for.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mipro_telemetry::Recorders;

use super::Error;
use crate::config::{DurabilityLevel, EngineKind, Options};
use crate::log::disk::{self, RealDisk};
use crate::log::{EventLog, MemoryLog, SegmentLog, SegmentOptions};

/// How the files of a log's segments end.
const SEGMENT_ENDING: &str = ".seg";

/// The log of a running service.
pub(super) enum Events {
    /// Keeps nothing beyond the process.
    InMemory,
    /// On this machine's disk.
    InFiles(Arc<SegmentLog>),
}

impl Events {
    /// Opens the log, and says what was found. Reads all that is kept: that takes a while after a long time without snapshots.
    pub(super) async fn open(options: &Options, recorders: &Recorders) -> Result<Self, Error> {
        let level = options.durability.unwrap_or(DurabilityLevel::Disk);
        let dir = options.log_dir();
        let blind = match options.engine {
            EngineKind::Actor if level == DurabilityLevel::Memory => Some("durability \"memory\"".to_owned()),
            EngineKind::Actor => None,
            other => Some(format!("engine \"{}\"", other.name())),
        };
        if let Some(asked) = blind {
            return if holds_segments(&dir) {
                Err(Error::LogLeft { dir, asked })
            } else {
                Ok(Self::InMemory)
            };
        }
        let segments = SegmentOptions {
            level: level.level(),
            segment_bytes: options.log.segment_bytes,
            segment_age_max: Duration::from_millis(options.log.segment_age_ms_max),
            queue_bytes_max: options.log.queue_bytes_max,
            kept_bytes_max: options.log.kept_bytes_max,
            recorders: Some(recorders.clone()),
            ..SegmentOptions::at(&dir)
        };
        let opening = tokio::task::spawn_blocking(move || SegmentLog::open(segments, Arc::new(RealDisk)));
        let (log, opened) = opening.await.map_err(|_| Error::LogPanicked)??;
        tracing::info!(
            dir = %dir.display(),
            segments = opened.segments,
            records = opened.records,
            newest_lsn = opened.durable.0,
            "the event log is open"
        );
        if level == DurabilityLevel::Disk && disk::is_temporary(&dir).unwrap_or(false) {
            tracing::warn!(
                dir = %dir.display(),
                "the log is on a file system in memory: `disk` promises no more there than `os`; set log.dir"
            );
        }
        Ok(Self::InFiles(log))
    }

    /// The log, for the engine.
    pub(super) fn log(&self) -> Arc<dyn EventLog> {
        match self {
            Self::InMemory => Arc::new(MemoryLog::default()),
            Self::InFiles(log) => Arc::<SegmentLog>::clone(log),
        }
    }

    /// Writes what was taken, and ends the log's threads. Gives why the log has stopped by itself, if it has, be it now.
    pub(super) async fn close(self) -> Option<String> {
        let Self::InFiles(log) = self else { return None };
        let fault = log.fault();
        if tokio::task::spawn_blocking(move || log.close()).await.is_err() {
            tracing::error!("closing the event log panicked");
        }
        fault.borrow().as_ref().map(ToString::to_string)
    }
}

fn holds_segments(dir: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().ends_with(SEGMENT_ENDING))
}

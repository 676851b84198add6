//! The one that writes. A state machine without a thread of its own: [`Writer::step`] does the next thing that is to be
//! done and returns. A thread drives it in the service ([`super::threads`]), a test or a simulation by hand.
//!
//! At level `disk` two kinds of steps alternate: take all that waits, frame it and write it with one call; sync. While a
//! sync runs appends gather, and the next write takes them all: groups grow with load, without a timer. At level `os` an
//! append is done with the write, and a sync follows about every second, or when somebody hurries it.
//!
//! An error of a write or a sync is never repeated: the kernel may have dropped the pages and say yes the second time. The
//! log is closed, the watermarks' senders are dropped, and what was not acknowledged stays so.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mipro_telemetry::{Ledger, Operation, Stage};
use tokio::sync::watch;

use super::super::disk::File;
use super::super::{Level, Lsn};
use super::catalog::Open;
use super::file::{self, SegmentHeader};
use super::index::SegmentIndex;
use super::queue::{Roll, Taken};
use super::record::{self, Header};
use super::recover;
use super::shared::{Fault, Shared};
use crate::crash;

/// At level `os`: how long a written append may stay unsynced. At every level: how long the control file may.
const SYNC_AFTER: Duration = Duration::from_secs(1);
/// Longest sleep; nothing depends on it.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Something was done, and there may be more.
    Worked,
    /// There is nothing to do now.
    Idle,
    /// The log is closed; there will be nothing any more.
    Ended,
}

/// The senders of both watermarks. Dropped when the log ends.
#[derive(Debug)]
pub(super) struct Watermarks {
    pub(super) os: watch::Sender<Lsn>,
    pub(super) disk: watch::Sender<Lsn>,
}

/// The segment that is written to.
#[derive(Debug)]
struct Current {
    header: SegmentHeader,
    file: Arc<dyn File>,
    end: u64,
    records: u64,
    /// Since when it holds anything.
    since: Option<Instant>,
}

/// The writer.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    current: Current,
    taken: Taken,
    framed: Vec<(Header, u32)>,
    written: Lsn,
    synced: Lsn,
    /// Bytes written and not yet at the log's level.
    unreached: u64,
    unsynced_since: Option<Instant>,
    control_since: Option<Instant>,
    hurry: bool,
    watermarks: Option<Watermarks>,
}

impl Writer {
    /// A writer behind what recovery found: all of it is synced.
    pub(super) fn new(shared: Arc<Shared>, watermarks: Watermarks, now: Instant) -> Self {
        let catalog = shared.catalog();
        let open = &catalog.open;
        let (records, file) = (open.index.records(), Arc::clone(&open.file));
        let since = (records > 0).then_some(now);
        let current = Current { header: open.header, file, end: open.end, records, since };
        let synced = open.last_lsn;
        drop(catalog);
        Self {
            shared,
            current,
            taken: Taken::default(),
            framed: Vec::new(),
            written: synced,
            synced,
            unreached: 0,
            unsynced_since: None,
            control_since: None,
            hurry: false,
            watermarks: Some(watermarks),
        }
    }

    /// Does the next thing. **Blocks** on the disk.
    pub(super) fn step(&mut self, now: Instant) -> Progress {
        if self.watermarks.is_none() {
            return Progress::Ended;
        }
        let result = if self.shared.has_failed() { Ok(Progress::Ended) } else { self.advance(now) };
        let progress = result.unwrap_or_else(|fault| {
            self.shared.fail(fault);
            Progress::Ended
        });
        if progress == Progress::Ended {
            self.watermarks = None;
        }
        progress
    }

    fn advance(&mut self, now: Instant) -> Result<Progress, Fault> {
        if self.sync_is_due(now) {
            self.sync(now)?;
            self.hurry = false;
            return Ok(Progress::Worked);
        }
        if self.tend(now)? {
            return Ok(Progress::Worked);
        }
        let asked = self.shared.queue.drain(&mut self.taken);
        self.hurry |= asked.hurry;
        if !self.taken.is_empty() {
            self.write(now)?;
            return Ok(Progress::Worked);
        }
        // Who hurries may mean what has long been synced.
        self.hurry &= self.unsynced_since.is_some();
        if self.hurry {
            return Ok(Progress::Worked);
        }
        if asked.closed { self.end(now) } else { Ok(Progress::Idle) }
    }

    fn sync_is_due(&self, now: Instant) -> bool {
        let Some(since) = self.unsynced_since else { return false };
        self.shared.options.level == Level::Disk || self.hurry || now.duration_since(since) >= SYNC_AFTER
    }

    /// Sees to what is done now and then, however much waits; whether anything was.
    fn tend(&mut self, now: Instant) -> Result<bool, Fault> {
        let options = &self.shared.options;
        if self.current.since.is_some_and(|since| now.duration_since(since) >= options.segment_age_max) {
            // Without a spare this waits for one, and asks no more.
            self.current.since = None;
            if self.shared.queue.seal() {
                self.shared.bell.ring();
                return Ok(true);
            }
        }
        let due = self.control_since.is_some_and(|since| now.duration_since(since) >= SYNC_AFTER);
        if due {
            self.sync_control()?;
        }
        Ok(due)
    }

    /// How long there is nothing to do unless something is asked for.
    pub(super) fn sleep(&self, now: Instant) -> Duration {
        let left = |since: Option<Instant>, after: Duration| {
            since.map_or(SLEEP_MAX, |since| after.saturating_sub(now.duration_since(since)))
        };
        left(self.unsynced_since, SYNC_AFTER)
            .min(left(self.control_since, SYNC_AFTER))
            .min(left(self.current.since, self.shared.options.segment_age_max))
            .min(SLEEP_MAX)
    }

    fn end(&mut self, now: Instant) -> Result<Progress, Fault> {
        if self.unsynced_since.is_some() {
            self.sync(now)?;
        }
        self.sync_control()?;
        Ok(Progress::Ended)
    }

    /// Writes what was taken: one write for each segment, and a sync where one ends.
    fn write(&mut self, now: Instant) -> Result<(), Fault> {
        let mut taken = std::mem::take(&mut self.taken);
        let mut from = 0;
        for roll in taken.rolls.drain(..) {
            self.write_records(&mut taken.bytes, from..roll.at, now)?;
            from = roll.at;
            self.seal(now)?;
            self.begin(roll)?;
        }
        let end = taken.bytes.len();
        self.write_records(&mut taken.bytes, from..end, now)?;
        self.taken = taken;
        Ok(())
    }

    fn write_records(&mut self, bytes: &mut [u8], part: Range<usize>, now: Instant) -> Result<(), Fault> {
        if part.is_empty() {
            return Ok(());
        }
        let records = &mut bytes[part];
        let last = self.frame(records)?;
        let Current { header, file, end, .. } = &mut self.current;
        file.write_at(*end, records).map_err(|error| fault("write", &file::name(header.id), &error))?;
        crash::point("log.written");
        let written = records.len() as u64;
        *end += written;
        self.current.records += self.framed.len() as u64;
        self.current.since = self.current.since.or(Some(now));
        self.written = last;
        self.unreached += written;
        self.unsynced_since = self.unsynced_since.or(Some(now));
        let mut catalog = self.shared.catalog_mut();
        for (header, offset) in &self.framed {
            catalog.open.index.add(header, *offset);
        }
        catalog.open.end = self.current.end;
        catalog.open.last_lsn = last;
        self.shared.kept.count(&catalog);
        drop(catalog);
        if self.shared.options.level == Level::Os {
            self.shared.queue.reached(std::mem::take(&mut self.unreached));
        }
        if let Some(watermarks) = &self.watermarks {
            raise(&watermarks.os, last);
        }
        Ok(())
    }

    /// Completes the records' headers; returns the last LSN. Bytes that are no whole records come from a bug: nothing of them is
    /// written, and the log closes, before something is acknowledged that no start would find.
    fn frame(&mut self, records: &mut [u8]) -> Result<Lsn, Fault> {
        self.framed.clear();
        let (mut at, mut last) = (0, self.written);
        while let Some(header) = record::finish(&mut records[at..], self.synced, self.current.header.salt) {
            let offset = u32::try_from(self.current.end + at as u64).unwrap_or(u32::MAX);
            self.framed.push((header, offset));
            last = header.lsn;
            at += header.record_bytes();
        }
        if at == records.len() {
            return Ok(last);
        }
        let reason = format!("of {} bytes taken, {at} are whole records", records.len());
        Err(Fault { step: "drive", file: file::name(self.current.header.id), reason })
    }

    fn sync(&mut self, now: Instant) -> Result<(), Fault> {
        let Current { header, file, .. } = &self.current;
        let (id, file) = (header.id, Arc::clone(file));
        // Once; a second time only where a test has planted it, never in a release build.
        for _ in 0..=usize::from(crate::plant::takes_log_sync()) {
            self.timed_sync(&*file).map_err(|error| fault("sync", &file::name(id), &error))?;
        }
        self.synced = self.written;
        self.unsynced_since = None;
        self.shared.control().raise(self.synced).map_err(|error| control_fault("write", &error))?;
        self.control_since = self.control_since.or(Some(now));
        crash::point("log.synced");
        self.shared.queue.reached(std::mem::take(&mut self.unreached));
        if let Some(watermarks) = &self.watermarks {
            raise(&watermarks.disk, self.synced);
        }
        Ok(())
    }

    fn timed_sync(&self, file: &dyn File) -> io::Result<()> {
        let Some(recorders) = &self.shared.options.recorders else { return file.sync_data() };
        let ledger = Ledger::start(Operation::Background);
        ledger.time(Stage::LogSync, || file.sync_data())?;
        recorders.record(&ledger.finish());
        Ok(())
    }

    fn sync_control(&mut self) -> Result<(), Fault> {
        self.control_since = None;
        self.shared.control().sync().map_err(|error| control_fault("sync", &error))
    }

    /// Ends the current segment: its seal, and all of it synced before anything is written behind it.
    fn seal(&mut self, now: Instant) -> Result<(), Fault> {
        let mut seal = Vec::with_capacity(record::SEAL_BYTES);
        record::push_seal(&mut seal, Lsn(self.written.0 + 1), self.current.records);
        record::finish(&mut seal, self.synced, self.current.header.salt);
        let Current { header, file, end, .. } = &mut self.current;
        file.write_at(*end, &seal).map_err(|error| fault("write", &file::name(header.id), &error))?;
        *end += seal.len() as u64;
        self.sync(now)?;
        self.shared.catalog_mut().open.end = self.current.end;
        self.sync_control()
    }

    /// Goes on in the next segment: its header, its name, and both durable before its first record.
    fn begin(&mut self, roll: Roll) -> Result<(), Fault> {
        let Roll { first_lsn, spare, .. } = roll;
        let log = self.shared.log_id;
        let header =
            SegmentHeader { log, id: spare.id, first_lsn, capacity: spare.capacity, salt: spare.salt };
        recover::install(&*self.shared.dir, &header, &*spare.file)
            .map_err(|error| fault("create", &file::name(spare.id), &error))?;
        let file = spare.file;
        let end = file::HEADER_BYTES as u64;
        self.current = Current { header, file: Arc::clone(&file), end, records: 0, since: None };
        let index = SegmentIndex::default();
        let mut catalog = self.shared.catalog_mut();
        catalog.roll(Open { header, file, index, end, last_lsn: self.written });
        self.shared.kept.count(&catalog);
        drop(catalog);
        crash::point("log.sealed");
        self.shared.bell.ring();
        Ok(())
    }
}

/// Wakes those who wait only where there is news.
fn raise(watermark: &watch::Sender<Lsn>, lsn: Lsn) {
    watermark.send_if_modified(|now| {
        let news = lsn > *now;
        *now = lsn.max(*now);
        news
    });
}

fn fault(step: &'static str, file: &str, error: &io::Error) -> Fault {
    Fault { step, file: file.to_owned(), reason: error.to_string() }
}

pub(super) fn control_fault(step: &'static str, error: &io::Error) -> Fault {
    fault(step, super::control::NAME, error)
}

impl Drop for Writer {
    /// Without a writer nothing that is appended would ever be written.
    fn drop(&mut self) {
        self.shared.panicked("the log's writer");
        self.shared.queue.close();
    }
}

#[cfg(test)]
mod tests;

//! The log's directory as it lies there: every record that is whole, and every place that is not. Takes no lock and changes
//! nothing, so that it may be done while a service writes; reads one segment at a time.
//!
//! It reads on behind damage, which recovery must never do: what is whole there can still be saved.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use super::problem::{Place, Problem, remedy};
use crate::log::disk::File;
use crate::log::segment::control::{self, Said};
use crate::log::segment::file::{self, BadHeader, SegmentHeader};
use crate::log::segment::former;
use crate::log::segment::index::{Of, Sidecar};
use crate::log::segment::record::{self, Header, Stop, Walk};
use crate::log::{Batch, Lsn};

/// Zeros that are kept behind a segment's content: a payload may end with some.
const ROOM_KEPT: usize = 16 << 20;

/// A log's directory.
#[derive(Debug, Clone)]
pub struct LogDir {
    path: PathBuf,
    /// Segments' bytes that are read in the place of their files.
    overlays: BTreeMap<u64, Arc<[u8]>>,
    /// The segment that was read last, for those who read many systems.
    recent: Arc<Mutex<Recent>>,
}

/// A segment's number and its content, without the room behind it.
type Recent = Option<(u64, Arc<[u8]>)>;

/// What tells that a service has written since.
pub(super) type Marks = (Vec<u64>, Option<(u64, std::time::SystemTime)>);

/// A lost record of which an index still knows whose it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LostRecords {
    pub(super) system: Uuid,
    pub(super) last_seq: u64,
}

/// A whole record and where it stands.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// Its segment's number.
    pub segment: u64,
    /// Where in that segment.
    pub offset: u64,
    /// Its place in the log.
    pub lsn: Lsn,
    /// What it holds.
    pub batch: Batch<'a>,
}

/// What a reading of the directory came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scan {
    /// Segments read.
    pub segments: u64,
    /// Whole records in them.
    pub records: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// The log's id, as far as it can be told.
    pub log: Option<Uuid>,
    /// The newest whole record.
    pub last_lsn: Lsn,
    /// How far the log was synced for certain, by its control file.
    pub durable: Option<Lsn>,
    /// Bytes at the end that were never acknowledged: a start cuts them, or a running service is about to complete them.
    pub torn_bytes: u64,
    /// Records that are lost for certain.
    pub lost: u64,
    /// Segments that are damaged.
    pub(super) damaged: BTreeSet<u64>,
    /// What is not as it was written.
    pub problems: Vec<Problem>,
}

impl Scan {
    /// Numbers of the segments that hold damage.
    pub(super) fn damaged_segments(&self) -> impl Iterator<Item = u64> {
        self.damaged.iter().copied()
    }
}

/// The reading so far.
struct Reading<'a> {
    scan: Scan,
    /// LSN that the next record should have; `None` before the first segment with a readable header.
    expected: Option<Lsn>,
    /// The segment before could not be read.
    unreadable: bool,
    visit: &'a mut dyn FnMut(Found<'_>),
}

impl LogDir {
    /// The log in this directory.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), overlays: BTreeMap::new(), recent: Arc::default() }
    }

    /// Takes these bytes for a segment's from now on, whatever its file holds.
    pub(super) fn overlay(&mut self, id: u64, bytes: Vec<u8>) {
        self.overlays.insert(id, bytes.into());
        self.recent = Arc::default();
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is any file of a log.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn is_there(&self) -> io::Result<bool> {
        Ok(!self.ids()?.is_empty() || self.path.join(control::NAME).exists())
    }

    /// Numbers of the segments, oldest first; none where there is no directory. **Blocks.**
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn ids(&self) -> io::Result<Vec<u64>> {
        let entries = match std::fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            ids.extend(entry?.file_name().to_str().and_then(|name| file::number(name, ".seg")));
        }
        ids.extend(self.overlays.keys());
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// Bytes of the largest segment. **Blocks.**
    pub(super) fn largest(&self) -> io::Result<u64> {
        let mut largest = self.overlays.values().map(|bytes| bytes.len() as u64).max().unwrap_or(0);
        for id in self.ids()? {
            match std::fs::metadata(self.path.join(file::name(id))) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => largest = largest.max(other?.len()),
            }
        }
        Ok(largest)
    }

    /// What a damaged segment's index knows of records that are not there any more. None where there is no whole index, as of
    /// the last segment. **Blocks.**
    pub(super) fn lost_records(&self, id: u64) -> io::Result<Vec<LostRecords>> {
        let index = match std::fs::read(self.path.join(file::index_name(id))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let Some(bytes) = self.segment(id)? else { return Ok(Vec::new()) };
        let (Some(of), Ok(head)) = (Of::read(&index), SegmentHeader::decode(&bytes)) else {
            return Ok(Vec::new());
        };
        let Ok(sidecar) = Sidecar::open(Arc::new(InMemory(index)), &of) else { return Ok(Vec::new()) };
        let Ok(spans) = sidecar.spans() else { return Ok(Vec::new()) };
        let mut lost = Vec::new();
        for span in spans {
            let Ok(places) = sidecar.places(span.system) else { continue };
            let gone = places.iter().filter(|place| {
                let rest = usize::try_from(place.offset).ok().and_then(|at| bytes.get(at..));
                rest.and_then(|rest| record::parse(rest, head.salt)).is_none()
            });
            lost.extend(gone.map(|place| LostRecords { system: span.system, last_seq: place.last_seq() }));
        }
        Ok(lost)
    }

    /// A segment's bytes; `None` where it is gone, as a running service's trim leaves it.
    fn segment(&self, id: u64) -> io::Result<Option<Vec<u8>>> {
        if let Some(bytes) = self.overlays.get(&id) {
            return Ok(Some(bytes.to_vec()));
        }
        match std::fs::read(self.path.join(file::name(id))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// As [`LogDir::segment`], without the room behind the content; kept until the next one is read.
    fn recent(&self, id: u64) -> io::Result<Option<Arc<[u8]>>> {
        let kept = || self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = kept().as_ref().filter(|(kept, _)| *kept == id) {
            return Ok(Some(Arc::clone(bytes)));
        }
        let Some(mut bytes) = self.segment(id)? else { return Ok(None) };
        bytes.truncate((content_end(&bytes) + ROOM_KEPT).min(bytes.len()));
        let bytes: Arc<[u8]> = bytes.into();
        *kept() = Some((id, Arc::clone(&bytes)));
        Ok(Some(bytes))
    }

    /// Forgets the segment that was read last: a service may have written to it.
    pub(super) fn forget(&self) {
        *self.recent.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What changes when a service writes. **Blocks.**
    pub(super) fn marks(&self) -> io::Result<Marks> {
        let ids = self.ids()?;
        let newest = ids.last().map(|id| self.path.join(file::name(*id)));
        let newest = newest.and_then(|path| std::fs::metadata(path).ok());
        Ok((ids, newest.and_then(|meta| Some((meta.len(), meta.modified().ok()?)))))
    }

    /// The ids of the logs that it was built from.
    pub(super) fn former_ids(&self) -> io::Result<Vec<Uuid>> {
        match std::fs::read(self.path.join(former::NAME)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => former::decode(&other?).ok_or_else(|| io::ErrorKind::InvalidData.into()),
        }
    }

    /// What the control file says; `None` where there is none.
    fn control(&self) -> io::Result<Option<Result<Said, BadHeader>>> {
        match std::fs::read(self.path.join(control::NAME)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(|bytes| Some(control::decode(&bytes).map(|(said, _)| said))),
        }
    }

    /// Visits every whole record, in order, also those behind damage, and says what is wrong. **Blocks** for as long as the
    /// reading of the files takes.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn scan(&self, visit: &mut dyn FnMut(Found<'_>)) -> io::Result<Scan> {
        let mut reading = Reading { scan: Scan::default(), expected: None, unreadable: false, visit };
        // Before the segments: what it says is synced then is in what is read after it.
        let said = self.control()?;
        let ids = self.ids()?;
        reading.control(said.as_ref(), !ids.is_empty());
        let said = said.and_then(Result::ok);
        let mut newest = None;
        for &id in &ids {
            let Some(bytes) = self.segment(id)? else { continue };
            let first = newest.is_none();
            reading.neighbours(newest, id, said.as_ref());
            newest = Some(id);
            // Sealed since the listing, it ends with a seal; growing, it ends as a last one may.
            let last = Some(&id) == ids.last();
            reading.segment(id, &bytes, first, last);
        }
        reading.end(newest);
        Ok(reading.scan)
    }

    /// Visits the whole records of one system after `after_seq`, as far as the log is whole; `within` are the segments to
    /// look into (all where `None`). **Blocks.**
    ///
    /// # Errors
    /// A file can't be read.
    pub(crate) fn read_system(
        &self,
        system: Uuid,
        after_seq: u64,
        within: Option<&[u64]>,
        visit: &mut dyn FnMut(Found<'_>) -> std::ops::ControlFlow<()>,
    ) -> io::Result<()> {
        let all;
        let ids = match within {
            Some(ids) => ids,
            None => {
                all = self.ids()?;
                &all
            }
        };
        for &id in ids {
            let Some(bytes) = self.recent(id)? else { continue };
            let Ok(head) = SegmentHeader::decode(&bytes) else { continue };
            let mut walk = Walk::new(&bytes, head.salt, file::HEADER_BYTES);
            loop {
                match walk.next() {
                    Ok((at, header, payload)) => {
                        let wanted = header.system == system && header.last_seq() > after_seq;
                        let found = found(id, at, &header, payload);
                        if wanted && visit(found).is_break() {
                            return Ok(());
                        }
                    }
                    Err(Stop::Invalid) => match resume(&bytes, head.salt, walk.at + 1) {
                        Some((at, _)) => walk = Walk::new(&bytes, head.salt, at),
                        None => break,
                    },
                    Err(Stop::Sealed(_) | Stop::End) => break,
                }
            }
        }
        Ok(())
    }
}

fn found<'a>(segment: u64, at: usize, header: &Header, payload: &'a [u8]) -> Found<'a> {
    Found { segment, offset: at as u64, lsn: header.lsn, batch: header.batch(payload) }
}

/// The next whole record from `from` on.
fn resume(bytes: &[u8], salt: u32, from: usize) -> Option<(usize, Header)> {
    // Behind the last byte that is not zero nothing begins, and a segment is mostly made of room.
    let last = content_end(bytes).min(bytes.len().checked_sub(record::HEADER_BYTES)?);
    // Most places are told from a record's head without a checksum.
    (from..=last).find_map(|at| record::parse(&bytes[at..], salt).map(|(header, _)| (at, header)))
}

/// How far a whole record from `from` on says that the log had been synced.
fn proven(bytes: &[u8], salt: u32, from: usize) -> Lsn {
    let (mut at, mut synced) = (from, Lsn(0));
    while let Some((found, header)) = resume(bytes, salt, at) {
        synced = synced.max(header.synced);
        at = found + header.record_bytes();
    }
    synced
}

/// Where the last byte that is not zero ends.
fn content_end(bytes: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut end = bytes.len();
    for chunk in bytes.rchunks(ZEROS.len()) {
        if *chunk != ZEROS[..chunk.len()] {
            return end - chunk.iter().rev().take_while(|byte| **byte == 0).count();
        }
        end -= chunk.len();
    }
    0
}

fn is_blank(bytes: &[u8]) -> bool {
    content_end(bytes) == 0
}

impl Reading<'_> {
    fn report(&mut self, place: Place, problem: String, means: impl Into<String>) {
        let (system, means) = (None, means.into());
        self.scan.problems.push(Problem { place, system, problem, means, remedy: remedy::REPAIR });
    }

    fn control(&mut self, said: Option<&Result<Said, BadHeader>>, any: bool) {
        let place = Place::file(control::NAME, 0);
        let means = "the service will not start: without it nobody can tell whether the log's end is missing";
        match said {
            Some(Ok(said)) => {
                self.scan.log = Some(said.log);
                self.scan.durable = Some(said.durable);
            }
            Some(Err(bad @ BadHeader::Newer(_))) => {
                let (system, problem) = (None, bad.to_string());
                let means = "the service will not start".to_owned();
                let newer = Problem { place, system, problem, means, remedy: remedy::UPGRADE };
                self.scan.problems.push(newer);
            }
            Some(Err(BadHeader::Damaged)) => {
                self.report(place, "neither of its two copies is what was written".to_owned(), means);
            }
            None if any => self.report(place, "it is missing, and there are segments".to_owned(), means),
            None => {}
        }
    }

    /// Whether a segment follows the one before it.
    fn neighbours(&mut self, before: Option<u64>, id: u64, said: Option<&Said>) {
        // The oldest one needed may not be there yet in a log that has just been made.
        let oldest = before.map_or_else(|| said.map_or(id, |said| said.first_segment), |before| before + 1);
        if oldest < id {
            let names = match id - oldest {
                1 => file::name(oldest),
                more => format!("{} and {} more", file::name(oldest), more - 1),
            };
            self.report(
                Place::file(&file::name(oldest), 0),
                format!("{names}: a whole segment is missing before {}", file::name(id)),
                "the service will not start; the events in it are gone unless the archive has them",
            );
        }
    }

    fn segment(&mut self, id: u64, bytes: &[u8], first: bool, last: bool) {
        let name = file::name(id);
        self.scan.segments += 1;
        self.scan.bytes += bytes.len() as u64;
        let head = match SegmentHeader::decode(bytes) {
            Ok(head) => head,
            Err(BadHeader::Newer(version)) => {
                let problem = BadHeader::Newer(version).to_string();
                self.report(Place::file(&name, 0), problem, "the service will not start");
                return;
            }
            // A start makes it anew: no record was ever in it.
            Err(BadHeader::Damaged) if last && is_blank(bytes) => return,
            Err(BadHeader::Damaged) => {
                let means = "the service will not start; none of its records can be read";
                self.report(Place::file(&name, 0), BadHeader::Damaged.to_string(), means);
                self.scan.damaged.insert(id);
                self.unreadable = true;
                return;
            }
        };
        self.identity(&name, &head, id);
        if first || self.expected.is_none() {
            self.expected = Some(head.first_lsn);
        }
        if std::mem::take(&mut self.unreadable) {
            // What is missing here has been told: the segment before could not be read.
            let expected = self.expected.unwrap_or_default();
            self.scan.lost += head.first_lsn.0.saturating_sub(expected.0);
            self.expected = Some(head.first_lsn);
        }
        if let Some(expected) = self.expected.filter(|expected| *expected != head.first_lsn) {
            let problem =
                format!("it begins with LSN {}, and {} should come next", head.first_lsn.0, expected.0);
            self.report(
                Place::file(&name, 40),
                problem,
                "the service will not start; records between are missing",
            );
            self.scan.lost += head.first_lsn.0.saturating_sub(expected.0);
            self.expected = Some(head.first_lsn);
        }
        self.records(id, bytes, &head, last);
    }

    fn identity(&mut self, name: &str, head: &SegmentHeader, id: u64) {
        let log = *self.scan.log.get_or_insert(head.log);
        if head.log != log || head.id != id {
            self.report(
                Place::file(name, 16),
                "it is a segment of another log, or of another place in this one".to_owned(),
                "the service will not start; somebody has moved or copied files in the log's directory",
            );
        }
    }

    fn records(&mut self, id: u64, bytes: &[u8], head: &SegmentHeader, last: bool) {
        let mut walk = Walk::new(bytes, head.salt, file::HEADER_BYTES);
        loop {
            match walk.next() {
                Ok((at, header, payload)) => self.record(id, at, &header, payload),
                Err(Stop::End) if last => return,
                Err(Stop::Sealed(seal)) => {
                    self.sealed(id, &seal, walk.at, bytes);
                    return;
                }
                Err(Stop::Invalid | Stop::End) => {
                    // Room that was made beforehand, in the last segment. What is missing there the end tells.
                    if last && is_blank(&bytes[walk.at..]) {
                        return;
                    }
                    match self.damaged(id, bytes, head.salt, walk.at, last) {
                        Some(at) => walk = Walk::new(bytes, head.salt, at),
                        None => return,
                    }
                }
            }
        }
    }

    fn record(&mut self, id: u64, at: usize, header: &Header, payload: &[u8]) {
        let expected = self.expected.unwrap_or(header.lsn);
        if header.lsn != expected {
            let problem = format!("a record of LSN {} stands where {} belongs", header.lsn.0, expected.0);
            self.report(Place::file(&file::name(id), at as u64), problem, "the service will not start");
        }
        self.expected = Some(Lsn(header.lsn.0 + 1));
        self.scan.last_lsn = header.lsn;
        self.scan.records += 1;
        (self.visit)(found(id, at, header, payload));
    }

    fn sealed(&mut self, id: u64, seal: &Header, end: usize, bytes: &[u8]) {
        let (name, at) = (file::name(id), (end - record::SEAL_BYTES) as u64);
        if self.expected.is_some_and(|expected| expected != seal.lsn) {
            let problem = format!("its seal says that it ends before LSN {}, and it doesn't", seal.lsn.0);
            self.report(Place::file(&name, at), problem, "the service will not start; records are missing");
        }
        self.expected = Some(seal.lsn);
        if let Some(stray) = bytes[end..content_end(bytes).max(end)].iter().position(|byte| *byte != 0) {
            let place = Place::file(&name, (end + stray) as u64);
            let means = "no record is touched, but something has written into this file";
            self.report(place, "something stands behind its end".to_owned(), means);
        }
    }

    /// Something else than a record stands at `at`. Gives where the next whole record is that is to be visited.
    fn damaged(&mut self, id: u64, bytes: &[u8], salt: u32, at: usize, last: bool) -> Option<usize> {
        let expected = self.expected.unwrap_or_default();
        let next = resume(bytes, salt, at + 1);
        let synced = self.scan.durable.unwrap_or_default().max(proven(bytes, salt, at + 1));
        if last && synced < expected {
            // Nothing of this was ever acknowledged.
            self.scan.torn_bytes = (bytes.len() - at) as u64;
            return None;
        }
        self.scan.damaged.insert(id);
        let place = Place::file(&file::name(id), at as u64);
        let stop = "the service will not start";
        let Some((resumed, header)) = next else {
            let problem = format!("no whole record stands here; LSN {} belongs here", expected.0);
            self.report(
                place,
                problem,
                format!("{stop}; this record and all behind it in this file are lost"),
            );
            return None;
        };
        let lost = header.lsn.0.saturating_sub(expected.0);
        let problem =
            format!("{} bytes are not what was written; LSN {} belongs here", resumed - at, expected.0);
        self.scan.lost += lost;
        let records = if lost == 1 { "one record is".to_owned() } else { format!("{lost} records are") };
        self.report(place, problem, format!("{stop}; {records} lost, and what builds on them"));
        self.expected = Some(header.lsn);
        Some(resumed)
    }

    fn end(&mut self, newest: Option<u64>) {
        let Some(durable) = self.scan.durable else { return };
        let reached = self.expected.map_or(0, |expected| expected.0.saturating_sub(1));
        // Damage that has been told accounts for what is missing behind it.
        if durable.0 > reached && self.scan.problems.is_empty() {
            let name = file::name(newest.unwrap_or(1));
            let problem =
                format!("it ends with LSN {reached}, and the log had been synced up to LSN {}", durable.0);
            let means = "the service will not start; acknowledged records are missing at the log's end";
            self.scan.lost += durable.0 - reached;
            self.report(Place::file(&name, 0), problem, means);
        }
    }
}

/// A file that was read.
#[derive(Debug)]
struct InMemory(Vec<u8>);

impl File for InMemory {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.0.get(at..)).unwrap_or(&[]);
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

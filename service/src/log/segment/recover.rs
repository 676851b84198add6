//! From a directory to a log that can be appended to. [`open`] reads from top to bottom.
//!
//! What a crash can leave is mended: a torn tail, and said; a segment that was being made, a trim half done, an index half written,
//! which nobody need hear of. Anything else
//! that is not what was written refuses the start, with file and offset.
//!
//! Checked here: every checksum, and that LSNs rise by one from the oldest record kept to the newest. That a system's events
//! follow each other without gaps and under epochs that never fall is checked where they are read ([`super::reader`]):
//! it takes nothing that a scan of all systems would have to remember, and one system's contradiction keeps no other one
//! from starting.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mipro_telemetry::clock;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use uuid::Uuid;

use super::super::disk::{Dir, Disk, File, Lock, read_all};
use super::super::{Lsn, ReadError, Sealed};
use super::catalog::{Catalog, Kept, Open};
use super::control::{self, Control};
use super::file::{self, SegmentHeader};
use super::index::{Of, SegmentIndex, Sidecar};
use super::queue::Spare;
use super::scan::{Ending, Scanned, damaged, ending, scan, scan_sealed};
use super::{OpenError, Opened, SegmentOptions, former, helper};
use crate::crash;

const LOCK: &str = "lock";
/// Progress is said about this often.
const SAY_AFTER: Duration = Duration::from_secs(2);
/// Zeros written at a time.
const ZEROS: usize = 64 << 10;

/// Everything a log is made of.
#[derive(Debug)]
pub(super) struct LogParts {
    pub(super) dir: Box<dyn Dir>,
    pub(super) lock: Box<dyn Lock>,
    pub(super) control: Control,
    pub(super) catalog: Catalog,
    pub(super) dice: ChaCha8Rng,
    pub(super) opened: Opened,
    pub(super) former: Vec<Uuid>,
}

fn at(file: &str) -> impl Fn(io::Error) -> OpenError {
    move |error| OpenError::io(file, &error)
}

pub(super) fn open(options: &SegmentOptions, disk: &dyn Disk) -> Result<LogParts, OpenError> {
    // 1. The directory, and nobody else in it.
    let dir = disk.open_dir(&options.dir).map_err(at("the log's directory"))?;
    let lock = dir.lock(LOCK).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::InUse { dir: options.dir.clone() },
        _ => at(LOCK)(error),
    })?;
    let mut dice = dice(options.seed);
    let former = former::read(&*dir).map_err(at(former::NAME))?;

    // 2. What must be there according to the control file.
    let names = dir.list().map_err(at("the log's directory"))?;
    let mut control = open_control(&*dir, &names, &mut dice)?;
    // What it says decides what is removed: it must be on the disk before.
    control.renew().map_err(at(control::NAME))?;

    // 3. What is there; leftovers of a trim and of unfinished files go.
    let ids = tidy(&*dir, &names, control.said().first_segment).map_err(at("a leftover file"))?;
    check_numbers(&ids, &control)?;

    // 4. Every segment but the last: whole, sealed, and the next one begins where it ends.
    let mut verified = Verified::new(&ids);
    if let Some((last, sealed)) = ids.split_last() {
        for id in sealed {
            verified.sealed(&*dir, *id, &control)?;
        }
        // 5. The last one, and its tail.
        verified.last(&*dir, *last, &control)?;
    }

    // 6. Where appends go on: in the last segment, or in a new one.
    let Verified { sealed, open, mut opened, next_lsn, .. } = verified;
    let open = match open {
        Some(open) => open,
        None => {
            let id = ids.last().map_or_else(|| control.said().first_segment, |last| last + 1);
            opened.segments += 1;
            create(&*dir, id, next_lsn, options.segment_bytes, &mut dice, control.said().log)
                .map_err(at(&file::name(id)))?
        }
    };

    // 7. All that was found is durable now, also what an earlier process had only written.
    dir.sync().map_err(at("the log's directory"))?;
    opened.durable = open.last_lsn;
    opened.log_id = control.said().log;
    // Into the other slot: `renew` has synced the one that counts.
    control.raise(open.last_lsn).and_then(|()| control.sync()).map_err(at(control::NAME))?;
    Ok(LogParts { dir, lock, control, catalog: Catalog { sealed, open }, dice, opened, former })
}

fn dice(seed: Option<u64>) -> ChaCha8Rng {
    match seed {
        Some(seed) => ChaCha8Rng::seed_from_u64(seed),
        None => {
            let mut bytes = [0; 32];
            bytes[..16].copy_from_slice(Uuid::new_v4().as_bytes());
            bytes[16..].copy_from_slice(Uuid::new_v4().as_bytes());
            ChaCha8Rng::from_seed(bytes)
        }
    }
}

fn open_control(dir: &dyn Dir, names: &[String], dice: &mut ChaCha8Rng) -> Result<Control, OpenError> {
    match Control::open(dir).map_err(at(control::NAME))? {
        Some(control) => Ok(control.map_err(|bad| damaged(control::NAME, 0, bad.to_string()))?),
        None if names.iter().any(|name| file::number(name, ".seg").is_some()) => {
            Err(damaged(control::NAME, 0, "it is missing, and segments are there").into())
        }
        None => {
            let mut id = [0; 16];
            dice.fill_bytes(&mut id);
            let log = uuid::Builder::from_random_bytes(id).into_uuid();
            Control::create(dir, log).map_err(at(control::NAME))
        }
    }
}

/// Removes what no log needs; returns the segments' numbers, sorted.
fn tidy(dir: &dyn Dir, names: &[String], first: u64) -> io::Result<Vec<u64>> {
    let mut ids = Vec::new();
    for name in names {
        let segment = file::number(name, ".seg");
        let index = file::number(name, ".idx");
        let unfinished = name
            .strip_suffix(".tmp")
            .is_some_and(|name| file::number(name, ".seg").is_some() || file::number(name, ".idx").is_some());
        if unfinished || segment.or(index).is_some_and(|id| id < first) {
            helper::remove(dir, name)?;
        } else {
            ids.extend(segment);
        }
    }
    ids.sort_unstable();
    Ok(ids)
}

fn check_numbers(ids: &[u64], control: &Control) -> Result<(), ReadError> {
    let said = control.said();
    for (id, expected) in ids.iter().zip(said.first_segment..) {
        if *id != expected {
            return Err(damaged(&file::name(expected), 0, "it is missing, and later segments are there"));
        }
    }
    // A new log whose first segment was not made yet is the only one that may have none.
    if ids.is_empty() && said.durable > Lsn(0) {
        return Err(damaged(&file::name(said.first_segment), 0, "it is missing"));
    }
    Ok(())
}

/// What was verified so far.
struct Verified {
    sealed: BTreeMap<u64, Kept>,
    open: Option<Open>,
    opened: Opened,
    /// Where the next segment must begin; unknown before the first one.
    next_lsn: Lsn,
    segments: usize,
    said: Instant,
}

impl Verified {
    fn new(ids: &[u64]) -> Self {
        Self {
            sealed: BTreeMap::new(),
            open: None,
            opened: Opened::default(),
            next_lsn: Lsn(0),
            segments: ids.len(),
            said: clock::now(),
        }
    }

    /// Says how far it is, on long ones.
    fn progress(&mut self) {
        let now = clock::now();
        if now.duration_since(self.said) >= SAY_AFTER {
            self.said = now;
            let (done, of) = (self.opened.segments, self.segments);
            tracing::info!(done, of, bytes = self.opened.bytes, "verifying the log's segments");
        }
    }

    fn check(&mut self, name: &str, id: u64, scanned: &Scanned, control: &Control) -> Result<(), ReadError> {
        let header = &scanned.header;
        if header.log != control.said().log {
            return Err(damaged(name, 16, "it belongs to another log"));
        }
        if header.id != id {
            return Err(damaged(name, 32, "it is another segment than its name says"));
        }
        let first = self.opened.segments == 0;
        if !first && header.first_lsn != self.next_lsn || header.first_lsn == Lsn(0) {
            let problem =
                format!("it begins with record {} and not with {}", header.first_lsn.0, self.next_lsn.0);
            return Err(damaged(name, 40, problem));
        }
        self.next_lsn = Lsn(scanned.last_lsn.0 + 1);
        self.opened.segments += 1;
        self.opened.records += scanned.records;
        self.opened.bytes += scanned.end as u64;
        self.progress();
        Ok(())
    }

    fn sealed(&mut self, dir: &dyn Dir, id: u64, control: &Control) -> Result<(), OpenError> {
        let name = file::name(id);
        let content = read(dir, &name)?;
        // Where there is an index, it was written after the file had been cut to its content.
        let mut index = (!has_index(dir, &content)).then(SegmentIndex::default);
        let scanned = scan_sealed(&name, &content, &mut |at, header, _| {
            if let Some(index) = &mut index {
                index.add(header, u32::try_from(at).unwrap_or(u32::MAX));
            }
            ControlFlow::Continue(())
        })?;
        let Some(scanned) = scanned else { return Ok(()) };
        self.check(&name, id, &scanned, control)?;
        self.keep(dir, &scanned, index);
        Ok(())
    }

    /// Adds a sealed segment; its file is cut and its index written if `index` brings one.
    fn keep(&mut self, dir: &dyn Dir, scanned: &Scanned, index: Option<SegmentIndex>) {
        let header = scanned.header;
        let sealed = Sealed {
            id: header.id,
            first_lsn: header.first_lsn,
            last_lsn: scanned.last_lsn,
            bytes: scanned.end as u64,
        };
        let mut kept = Kept { sealed, header, index: index.map(Arc::new), tended: true };
        if kept.index.is_some()
            && let Err(error) = helper::tend(dir, &kept)
        {
            tracing::warn!(%error, segment = header.id, "a sealed segment's index can't be written now");
        }
        kept.index = None;
        self.sealed.insert(header.id, kept);
    }

    fn last(&mut self, dir: &dyn Dir, id: u64, control: &Control) -> Result<(), OpenError> {
        let name = file::name(id);
        let content = read(dir, &name)?;
        let durable = control.said().durable;
        let mut index = SegmentIndex::default();
        let (mut unsynced, mut newest) = (None, file::HEADER_BYTES);
        let scanned = scan(&name, &content, &mut |at, header, _| {
            index.add(header, u32::try_from(at).unwrap_or(u32::MAX));
            newest = at;
            if header.lsn > durable {
                unsynced.get_or_insert(at);
            }
            ControlFlow::Continue(())
        })?;
        let Some(scanned) = scanned else { return Ok(()) };
        self.check(&name, id, &scanned, control)?;
        if scanned.last_lsn < durable {
            let (durable, last) = (durable.0, scanned.last_lsn.0);
            let problem =
                format!("the log was durable up to record {durable}, and whole records end at {last}");
            return Err(damaged(&name, scanned.end, problem).into());
        }
        let file = dir.open(&name).map_err(at(&name))?;
        if !scanned.sealed {
            self.mend(&name, &*file, &content, &scanned)?;
        }
        // What an earlier process could not sync may be in the kernel's cache, marked as clean: only a write that is new
        // gets it to the disk. A seal has no number of its own: it goes with the record before it.
        let from = unsynced.unwrap_or(if scanned.sealed { newest } else { scanned.end });
        file.write_at(from as u64, &content[from..scanned.end])
            .and_then(|()| file.sync_data())
            .map_err(at(&name))?;
        if scanned.sealed {
            self.keep(dir, &scanned, Some(index));
        } else {
            let (header, end, last_lsn) = (scanned.header, scanned.end as u64, scanned.last_lsn);
            self.open = Some(Open { header, file, index, end, last_lsn });
        }
        Ok(())
    }

    /// Cuts a torn tail: zeros from the last whole record to the end of the file as it was made. The file keeps its length, and
    /// one that lost some gets it back.
    fn mend(
        &mut self,
        name: &str,
        file: &dyn File,
        content: &[u8],
        scanned: &Scanned,
    ) -> Result<(), OpenError> {
        let capacity = scanned.header.capacity;
        let missing = capacity.saturating_sub(content.len() as u64);
        let torn = match ending(content, scanned) {
            Ending::Clean if missing == 0 => return Ok(()),
            Ending::Clean => 0,
            Ending::Torn(bytes) => bytes,
            Ending::Damaged => {
                let problem = "no whole record stands here, and a later one proves that it had been durable";
                return Err(damaged(name, scanned.end, problem).into());
            }
        };
        let cut = torn as u64 + missing;
        let offset = scanned.end;
        if torn > 0 {
            tracing::warn!(
                file = name,
                offset,
                bytes = cut,
                "the log ends in bytes that are no whole record, and nothing says that they had been synced: cut off"
            );
        } else {
            tracing::warn!(
                file = name,
                offset,
                bytes = cut,
                "the last segment is shorter than it was made: filled with zeros"
            );
        }
        let until = capacity.max(content.len() as u64);
        zero(file, scanned.end as u64, until).map_err(at(name))?;
        self.opened.cut_bytes = Some(cut);
        self.opened.cut_at = Some((name.to_owned(), scanned.end as u64));
        Ok(())
    }
}

/// Whether a sealed segment whose file holds `content` and nothing more has its index.
fn has_index(dir: &dyn Dir, content: &[u8]) -> bool {
    let Ok(SegmentHeader { log, id, salt, .. }) = SegmentHeader::decode(content) else { return false };
    let of = Of { log, id, content_bytes: content.len() as u64, salt };
    let there = dir.open(&file::index_name(id)).map_err(Into::into);
    there.and_then(|file| Sidecar::open(file, &of)).is_ok()
}

fn read(dir: &dyn Dir, name: &str) -> Result<Vec<u8>, OpenError> {
    let content = dir.open(name).and_then(|file| read_all(&*file));
    content.map_err(at(name))
}

fn zero(file: &dyn File, from: u64, until: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS];
    let mut at = from;
    while at < until {
        let piece = ZEROS.min(usize::try_from(until - at).unwrap_or(ZEROS));
        file.write_at(at, &zeros[..piece])?;
        at += piece as u64;
    }
    file.sync_data()
}

/// Makes the segment that a log begins with, or goes on with at start.
fn create(
    dir: &dyn Dir,
    id: u64,
    next_lsn: Lsn,
    capacity: u64,
    dice: &mut ChaCha8Rng,
    log: Uuid,
) -> io::Result<Open> {
    let Spare { file, salt, .. } = helper::spare(dir, id, capacity, dice)?;
    let first_lsn = next_lsn.max(Lsn(1));
    let header = SegmentHeader { log, id, first_lsn, capacity, salt };
    install(dir, &header, &*file)?;
    let end = file::HEADER_BYTES as u64;
    Ok(Open { header, file, index: SegmentIndex::default(), end, last_lsn: Lsn(first_lsn.0 - 1) })
}

/// Makes a spare a segment: its header, then its name, each durable before what follows.
pub(super) fn install(dir: &dyn Dir, header: &SegmentHeader, file: &dyn File) -> io::Result<()> {
    file.write_at(0, &header.encode())?;
    file.sync_data()?;
    dir.rename(&Spare::name(header.id), &file::name(header.id))?;
    crash::point("log.created");
    dir.sync()
}

//! A system from here to there: out of the stores into one file, and back into stores.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use mipro_telemetry::{Stage, clock};
use uuid::Uuid;

use super::export::{Chunk, ExportError, ExportReader, ExportWriter, Header, Part};
use super::point::Point;
use super::replay::{Loaded, Named, state_hash};
use super::{EVENTS, InspectError, Inspector, ledger};
use crate::codec;
use crate::log::segment::{file, record};
use crate::log::{Batch, Lsn, Sealed};
use crate::snapshot::archive::{index, index_key, segment_key};
use crate::snapshot::format::{self, Expected};
use crate::store::SystemRow;
use crate::store::blobs::PutRule;
use crate::system::{Event, NewSystem, Recorded, State};

/// Bytes of events that one archived segment of an import holds, before packing.
const SEGMENT_BYTES: usize = 32 << 20;
const ZSTD_LEVEL: i32 = 1;

/// What to export.
#[derive(Debug, Clone)]
pub struct ExportAsked {
    /// Which system.
    pub system: Uuid,
    /// Where to; must not exist.
    pub out: PathBuf,
    /// As it was then; `None`: as it is.
    pub at: Option<Point>,
    /// Its events, too.
    pub with_history: bool,
}

/// What was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// What the file says of itself.
    pub header: Header,
    /// Events in the file.
    pub events: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// What to import.
#[derive(Debug, Clone)]
pub struct ImportAsked {
    /// What an export wrote.
    pub file: PathBuf,
    /// Under this id instead of the file's.
    pub new_id: Option<Uuid>,
    /// In place of a system of that id.
    pub replace: bool,
}

/// What was imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Under which id.
    pub system: Uuid,
    /// Number of its newest event.
    pub seq: u64,
    /// The epoch it was written under.
    pub epoch: u64,
    /// Events that came with it.
    pub events: u64,
    /// BLAKE3 of the state's encoding; as in the file unless the id is another.
    pub state_hash: String,
    /// What the system was at that stood there before.
    pub replaced: Option<u64>,
    /// Where the log is that was set aside, since it held later events of the system that stood there before.
    pub set_aside: Option<PathBuf>,
}

impl Inspector {
    /// Writes one system into one file. Nothing in the stores changes; after an error there is no file.
    ///
    /// # Errors
    /// There is no such system, its history does not reach that far, or the file can't be written or exists.
    pub async fn export(&self, asked: &ExportAsked) -> Result<Exported, InspectError> {
        let loaded = match asked.at {
            None => {
                let recovered = self.recover(asked.system).await?;
                // What it gives is the epoch to write under; what is stored is below it.
                Loaded { state: recovered.state, epoch: recovered.epoch.saturating_sub(1) }
            }
            Some(point) => self.state_at(asked.system, point).await?,
        };
        let failed = |source: ExportError| InspectError::File { file: asked.out.clone(), source };
        // It holds prompts and a capability: nobody else reads it.
        let out = File::options().write(true).create_new(true).mode(0o600).open(&asked.out);
        let out = out.map_err(|e| failed(e.into()))?;
        let written = self.write(asked, &loaded, out).await;
        if written.is_err() {
            // Half a file is worse than none; the error that led here is the one to tell.
            let _ = std::fs::remove_file(&asked.out);
        }
        written
    }

    async fn write(&self, asked: &ExportAsked, loaded: &Loaded, out: File) -> Result<Exported, InspectError> {
        let failed = |source: ExportError| InspectError::File { file: asked.out.clone(), source };
        let state = &loaded.state;
        let mut pages = Pages { system: asked.system, since: 0, until: state.version };
        let mut page = if asked.with_history { pages.next(self).await? } else { Vec::new() };
        if asked.with_history && page.is_empty() {
            return Err(InspectError::refused(
                "nothing of its history is left; export it without --with-history",
            ));
        }
        let header = Header {
            system_id: state.system_id,
            org_id: state.org_id,
            seq: state.version,
            at_us: state.updated_us,
            epoch: loaded.epoch,
            state_hash: state_hash(state),
            exported_us: clock::unix_us(),
            written_by: concat!("mipro ", env!("CARGO_PKG_VERSION")).to_owned(),
            first_event: page.first().map(|event| event.seq),
        };
        let packed = format::pack(state, loaded.epoch)?;
        let mut writer = ExportWriter::begin(BufWriter::new(out), &header, &packed.bytes).map_err(failed)?;
        let mut events = 0;
        while let Some(first) = page.first() {
            writer.events(&chunk(first.seq, &page)).map_err(failed)?;
            events += page.len() as u64;
            page = pages.next(self).await?;
        }
        let mut out = writer.finish().map_err(failed)?;
        let synced = out.flush().and_then(|()| out.get_ref().sync_all());
        let bytes = synced.and_then(|()| out.get_ref().metadata()).map_err(|e| failed(e.into()))?.len();
        Ok(Exported { header, events, bytes })
    }

    /// A state as it was then.
    pub(super) async fn state_at(&self, system: Uuid, point: Point) -> Result<Loaded, InspectError> {
        let row = self.row(system).await?;
        let now = self.recover(system).await?;
        match point {
            Point::Seq(seq) if seq > now.state.version => {
                return Err(InspectError::refused(format!(
                    "the system is at event {}; there is no event {seq} yet",
                    now.state.version
                )));
            }
            _ if point.covers_place(now.state.version, now.state.updated_us) => {
                return Ok(Loaded { state: now.state, epoch: row.epoch });
            }
            _ => {}
        }
        // From the newest stored state before the point, else from the first event on.
        for named in [Named::current(&row), Named::previous(&row)].into_iter().flatten() {
            let Ok(base) = self.load(system, &named).await else { continue };
            if point.covers_place(base.state.version, base.state.updated_us) {
                return self.onward(base, point).await;
            }
        }
        let refold = self.refold(&row, point).await?;
        match (refold.state, refold.begins_at) {
            (Some(state), _) => Ok(Loaded { state, epoch: row.epoch }),
            (None, Some(first)) if first > 1 => Err(InspectError::refused(format!(
                "its history begins at event {first}, and no stored state is as old as {point}"
            ))),
            (None, None) => Err(InspectError::refused(format!(
                "nothing of its history is left, and no stored state is as old as {point}"
            ))),
            _ => Err(InspectError::refused(format!("it did not exist yet at {point}"))),
        }
    }

    /// A state and the events behind it up to a point, wherever they are kept.
    pub(super) async fn onward(&self, base: Loaded, point: Point) -> Result<Loaded, InspectError> {
        let Loaded { mut state, epoch } = base;
        loop {
            let events = self.history.events(state.system_id, state.version, EVENTS).await?;
            for event in &events {
                if !point.covers(event) {
                    return Ok(Loaded { state, epoch });
                }
                if event.seq != state.version + 1 {
                    let missing = state.version + 1;
                    return Err(InspectError::refused(format!(
                        "event {missing} is missing from its history"
                    )));
                }
                crate::system::apply(&mut state, event, &mut crate::system::NoProbe);
            }
            if events.is_empty() {
                return Ok(Loaded { state, epoch });
            }
        }
    }

    /// Restores an exported system: objects first, the row last. After an error the table is as it was.
    ///
    /// # Errors
    /// The file can't be used, there is a system of that id, or a service holds the data directory.
    pub async fn import(&self, asked: &ImportAsked) -> Result<Imported, InspectError> {
        let failed = |source: ExportError| InspectError::File { file: asked.file.clone(), source };
        // Read twice: the first time says whether the file is whole, before anything is written.
        let (header, state) = read_whole(&asked.file, asked.new_id).map_err(failed)?;
        let system = state.system_id;
        let there = self.stores.table.get(system, &ledger()).await?;
        self.may_import(system, there.as_ref(), asked).await?;
        let catalog = self.catalog().await?;
        let held = catalog.get(system).map_or(0, |held| held.epoch);
        let behind = catalog.get(system).is_some_and(|held| held.last_seq > state.version);
        let _lock = if there.is_some() { self.lock().await? } else { None };
        if behind && !self.read_log.scan_problems().is_empty() {
            return Err(InspectError::refused("the log is damaged: `mipro state repair` comes first"));
        }
        let epoch = there.as_ref().map_or(0, |row| row.epoch).max(header.epoch).max(held) + 1;
        let events = self.import_events(asked, system, header.epoch).await?;
        self.put_state(&state, epoch, there.is_some()).await?;
        let set_aside = if behind { self.cut(system, state.version).await? } else { None };
        let replaced = there.map(|row| row.version);
        Ok(Imported {
            system,
            seq: state.version,
            epoch,
            events,
            state_hash: state_hash(&state),
            replaced,
            set_aside,
        })
    }

    /// Builds the log anew without what it holds of a system beyond `version`: a start would take that for the work of a
    /// process that had been overtaken.
    async fn cut(&self, system: Uuid, version: u64) -> Result<Option<PathBuf>, InspectError> {
        let (staged, _) = self.stage(self.log.clone(), [(system, version)].into()).await?;
        self.swap(staged).await.map(Some)
    }

    async fn may_import(
        &self,
        system: Uuid,
        there: Option<&SystemRow>,
        asked: &ImportAsked,
    ) -> Result<(), InspectError> {
        if there.is_some() && !asked.replace {
            return Err(InspectError::refused(
                "there is a system of that id: --as new imports a copy beside it, --replace puts the file in its place",
            ));
        }
        if there.is_none() && self.catalog().await?.get(system).is_some() {
            return Err(InspectError::refused(
                "the log in this data directory holds events of a system of that id, and the table has no row for it: import it \
                 under another id (--as new)",
            ));
        }
        Ok(())
    }

    /// Stores a file's events as archived segments of a log of their own, where every reader of histories looks.
    async fn import_events(
        &self,
        asked: &ImportAsked,
        system: Uuid,
        epoch: u64,
    ) -> Result<u64, InspectError> {
        let failed = |source: ExportError| InspectError::File { file: asked.file.clone(), source };
        let opened = File::open(&asked.file).map_err(ExportError::Io);
        let mut reader = opened.and_then(|file| ExportReader::open(BufReader::new(file))).map_err(failed)?;
        let (log, mut id, mut events) = (Uuid::new_v4(), 1, 0);
        let mut segment = Segment::begin(log, id, Lsn(1));
        while let Some(part) = reader.next_part().map_err(failed)? {
            let Part::Events(chunk) = part else { continue };
            let mut recorded = codec::event::decode(&chunk.payload, chunk.first_seq, chunk.count)
                .map_err(|_| failed(unreadable()))?;
            recorded.iter_mut().for_each(|recorded| rename(recorded, system));
            events += recorded.len() as u64;
            segment.add(system, epoch, chunk.first_seq, &recorded);
            if segment.bytes.len() >= SEGMENT_BYTES {
                id += 1;
                let next = Segment::begin(log, id, segment.next);
                self.archive(std::mem::replace(&mut segment, next)).await?;
            }
        }
        self.archive(segment).await?;
        Ok(events)
    }

    async fn archive(&self, segment: Segment) -> Result<(), InspectError> {
        if segment.next == segment.first {
            return Ok(());
        }
        let (log, sealed, raw) = segment.finish();
        let stored = Bytes::from(
            zstd::bulk::compress(&raw, ZSTD_LEVEL)
                .map_err(|e| InspectError::Log { path: self.log.path().to_owned(), source: e })?,
        );
        let runs = index::survey(&raw, crate::log::segment::visit_bytes)
            .map_err(|_| InspectError::Internal("a segment that was just made can't be read"))?;
        let about = index::about(log, &sealed, &raw, stored.len() as u64, 0);
        let (blobs, ledger) = (&self.stores.blobs, ledger());
        let key = segment_key(log, sealed.id, 0);
        blobs.put(&key, stored, PutRule::Create, Stage::S3Put, &ledger).await?;
        let (key, index) = (index_key(log, sealed.id, 0), index::encode(&about, &runs));
        Ok(blobs.put(&key, index, PutRule::Create, Stage::S3Put, &ledger).await?)
    }
}

/// A history, some events at a time, up to a version.
struct Pages {
    system: Uuid,
    since: u64,
    until: u64,
}

impl Pages {
    async fn next(&mut self, inspector: &Inspector) -> Result<Vec<Recorded>, InspectError> {
        let mut page = inspector.history.events(self.system, self.since, EVENTS).await?;
        page.retain(|event| event.seq <= self.until);
        if let Some(last) = page.last() {
            self.since = last.seq;
        }
        Ok(page)
    }
}

fn chunk(first_seq: u64, events: &[Recorded]) -> Chunk {
    let mut payload = Vec::new();
    codec::event::encode(events, &mut payload);
    Chunk { first_seq, count: u32::try_from(events.len()).unwrap_or(u32::MAX), payload }
}

fn unreadable() -> ExportError {
    ExportError::Damaged { offset: 0, problem: "its events are not what this build knows" }
}

/// Whether a file is a whole export that this build reads. **Blocks.**
///
/// # Errors
/// What is wrong with it.
pub fn check(path: &Path) -> Result<Header, InspectError> {
    let read = read_whole(path, None);
    read.map(|(header, _)| header).map_err(|source| InspectError::File { file: path.to_owned(), source })
}

/// Reads a whole file, checks what it says of itself, and gives the state under the id it is to have.
fn read_whole(path: &Path, new_id: Option<Uuid>) -> Result<(Header, State), ExportError> {
    let damaged = |problem| ExportError::Damaged { offset: 0, problem };
    let mut reader = ExportReader::open(BufReader::new(File::open(path)?))?;
    let header = reader.header().clone();
    let (mut state, mut next) = (None, header.first_event);
    while let Some(part) = reader.next_part()? {
        match part {
            Part::State(bytes) => {
                let expected = Expected { checksum: None, bytes: None, system: header.system_id };
                let unpacked = format::unpack(&bytes, &expected);
                state = Some(unpacked.map_err(|_| damaged("its state is not what this build knows"))?.state);
            }
            Part::Events(Chunk { first_seq, count, .. }) if next != Some(first_seq) || count == 0 => {
                return Err(damaged("its events are not in a row"));
            }
            Part::Events(Chunk { first_seq, count, .. }) => next = Some(first_seq + u64::from(count)),
            Part::End => {}
        }
    }
    let mut state = state.ok_or_else(|| damaged("it holds no state"))?;
    if state.version != header.seq || state_hash(&state) != header.state_hash {
        return Err(damaged("its state is not the one its header names"));
    }
    if next.is_some_and(|next| next != header.seq + 1) {
        return Err(damaged("its events do not lead to its state"));
    }
    state.system_id = new_id.unwrap_or(state.system_id);
    Ok((header, state))
}

/// Gives an event the system's new id, where it names it.
fn rename(recorded: &mut Recorded, system: Uuid) {
    if let Event::SystemCreated { system: made } = &mut recorded.event
        && made.system_id != system
    {
        *made = NewSystem { system_id: system, ..NewSystem::clone(made) }.into();
    }
}

/// A segment that is made in memory.
struct Segment {
    log: Uuid,
    id: u64,
    salt: u32,
    first: Lsn,
    next: Lsn,
    records: u64,
    bytes: Vec<u8>,
}

impl Segment {
    fn begin(log: Uuid, id: u64, first: Lsn) -> Self {
        let salt = Uuid::new_v4().as_fields().0;
        let bytes = vec![0; file::HEADER_BYTES];
        Self { log, id, salt, first, next: first, records: 0, bytes }
    }

    fn add(&mut self, system: Uuid, epoch: u64, first_seq: u64, events: &[Recorded]) {
        let mut payload = Vec::new();
        codec::event::encode(events, &mut payload);
        let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
        let at = self.bytes.len();
        record::push(
            &mut self.bytes,
            self.next,
            &Batch { system, epoch, first_seq, count, payload: &payload },
        );
        record::finish(&mut self.bytes[at..], Lsn(0), self.salt);
        self.next.0 += 1;
        self.records += 1;
    }

    /// Its log, what it is, and its bytes.
    fn finish(mut self) -> (Uuid, Sealed, Vec<u8>) {
        let at = self.bytes.len();
        record::push_seal(&mut self.bytes, self.next, self.records);
        record::finish(&mut self.bytes[at..], Lsn(0), self.salt);
        let capacity = self.bytes.len() as u64;
        let header = file::SegmentHeader {
            log: self.log,
            id: self.id,
            first_lsn: self.first,
            capacity,
            salt: self.salt,
        };
        self.bytes[..file::HEADER_BYTES].copy_from_slice(&header.encode());
        let last_lsn = Lsn(self.next.0 - 1);
        let sealed = Sealed { id: self.id, first_lsn: self.first, last_lsn, bytes: capacity };
        (self.log, sealed, self.bytes)
    }
}

//! Finding a system's records again, and handing out sealed segments.
//!
//! A read looks the system up in each segment's index, opens the files that hold something of it, and only then visits:
//! a segment that is trimmed meanwhile is read to its end, or not at all together with all before it.

use std::io;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use uuid::Uuid;

use super::super::disk::{File, read_all};
use super::super::{Entry, Lsn, ReadError, Span};
use super::catalog::Kept;
use super::index::{BadIndex, Place, SegmentIndex, Sidecar};
use super::record::{self, HEADER_BYTES, Header, Kind};
use super::scan::{damaged, scan_sealed};
use super::shared::Shared;
use super::{file, helper};

/// Index files held open: those of 8 GiB in full segments of 64 MiB, the defaults.
const OPEN_MAX: NonZeroUsize = NonZeroUsize::new(128).expect("128 is not 0");
/// Read at once: most records are smaller.
const READ_BYTES: usize = 4096;

/// What reading keeps between reads.
#[derive(Debug)]
pub(super) struct Reader {
    sidecars: Mutex<LruCache<u64, Arc<Sidecar>>>,
}

/// Why a segment could not be asked.
enum Trouble {
    /// Its file is gone.
    Gone,
    Read(ReadError),
}

/// Records of one system in one segment.
struct Holding {
    name: String,
    file: Arc<dyn File>,
    salt: u32,
    places: Vec<Place>,
}

fn trouble(name: &str, error: &io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::NotFound => Trouble::Gone,
        _ => Trouble::Read(ReadError::io(name, error)),
    }
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { sidecars: Mutex::new(LruCache::new(OPEN_MAX)) }
    }

    pub(super) fn read(
        &self,
        shared: &Shared,
        system: Uuid,
        after_seq: u64,
        visit: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let mut visitor = Visitor { system, epoch: 0, next_seq: None, lsn: Lsn(0), buffer: Vec::new() };
        for source in self.sources(shared, system, after_seq)? {
            if visitor.source(&source, visit)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn sources(&self, shared: &Shared, system: Uuid, after_seq: u64) -> Result<Vec<Holding>, ReadError> {
        let wanted = |places: &[Place]| -> Vec<Place> {
            places.iter().filter(|place| place.last_seq() > after_seq).copied().collect()
        };
        let catalog = shared.catalog();
        let sealed: Vec<Kept> = catalog.sealed.values().cloned().collect();
        let open = Holding {
            name: file::name(catalog.open.header.id),
            file: Arc::clone(&catalog.open.file),
            salt: catalog.open.header.salt,
            places: wanted(catalog.open.index.places(system)),
        };
        drop(catalog);
        let mut sources = Vec::new();
        for kept in &sealed {
            let name = file::name(kept.sealed.id);
            let source = self.places(shared, kept, system).and_then(|places| {
                let places = wanted(&places);
                if places.is_empty() {
                    return Ok(None);
                }
                let file = shared.dir.open(&name).map_err(|error| trouble(&name, &error))?;
                Ok(Some(Holding { name: name.clone(), file, salt: kept.header.salt, places }))
            });
            match source {
                Ok(source) => sources.extend(source),
                // Trimmed meanwhile, and so were all before it.
                Err(Trouble::Gone) if !shared.catalog().sealed.contains_key(&kept.sealed.id) => {
                    sources.clear();
                }
                Err(Trouble::Gone) => return Err(damaged(&name, 0, "it is missing")),
                Err(Trouble::Read(error)) => return Err(error),
            }
        }
        sources.push(open);
        Ok(sources)
    }

    fn places(&self, shared: &Shared, kept: &Kept, system: Uuid) -> Result<Vec<Place>, Trouble> {
        if let Some(index) = &kept.index {
            return Ok(index.places(system).to_vec());
        }
        match self.sidecar(shared, kept).and_then(|sidecar| sidecar.places(system)) {
            Ok(places) => Ok(places),
            Err(bad) => Ok(self.rebuild(shared, kept, &bad)?.places(system).to_vec()),
        }
    }

    fn sidecar(&self, shared: &Shared, kept: &Kept) -> Result<Arc<Sidecar>, BadIndex> {
        let id = kept.sealed.id;
        let mut sidecars = self.sidecars.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sidecar) = sidecars.get(&id) {
            return Ok(Arc::clone(sidecar));
        }
        drop(sidecars);
        let file = shared.dir.open(&file::index_name(id))?;
        let sidecar = Arc::new(Sidecar::open(file, &kept.of())?);
        sidecars = self.sidecars.lock().unwrap_or_else(PoisonError::into_inner);
        sidecars.put(id, Arc::clone(&sidecar));
        Ok(sidecar)
    }

    pub(super) fn forget(&self, id: u64) {
        self.sidecars.lock().unwrap_or_else(PoisonError::into_inner).pop(&id);
    }

    /// Makes an index anew from its segment, and writes it where that is possible.
    fn rebuild(&self, shared: &Shared, kept: &Kept, bad: &BadIndex) -> Result<SegmentIndex, Trouble> {
        let id = kept.sealed.id;
        self.forget(id);
        let mut index = SegmentIndex::default();
        checked(shared, kept, &mut |at, header| index.add(header, u32::try_from(at).unwrap_or(u32::MAX)))?;
        let _files = shared.files();
        if shared.catalog().sealed.contains_key(&id) {
            tracing::warn!(%bad, segment = id, "a segment's index is made anew");
            if let Err(error) = helper::write_index(&*shared.dir, &kept.of(), &index) {
                tracing::warn!(%error, segment = id, "a segment's index can't be written now");
            }
        }
        Ok(index)
    }

    pub(super) fn spans(&self, shared: &Shared, id: u64) -> Result<Vec<Span>, ReadError> {
        let kept = kept(shared, id)?;
        if let Some(index) = &kept.index {
            return Ok(index.spans());
        }
        match self.sidecar(shared, &kept).and_then(|sidecar| sidecar.spans()) {
            Ok(spans) => Ok(spans),
            Err(bad) => self.rebuild(shared, &kept, &bad).map(|index| index.spans()).map_err(gone(id)),
        }
    }
}

fn gone(id: u64) -> impl Fn(Trouble) -> ReadError {
    move |trouble| match trouble {
        Trouble::Gone => damaged(&file::name(id), 0, "it is missing"),
        Trouble::Read(error) => error,
    }
}

/// A sealed segment that is kept.
fn kept(shared: &Shared, id: u64) -> Result<Kept, ReadError> {
    shared.catalog().sealed.get(&id).cloned().ok_or_else(|| ReadError::Io {
        file: file::name(id),
        reason: "there is no sealed segment of that number".to_owned(),
    })
}

/// A sealed segment's content, every checksum verified.
pub(super) fn bytes(shared: &Shared, id: u64) -> Result<Vec<u8>, ReadError> {
    let kept = kept(shared, id)?;
    checked(shared, &kept, &mut |_, _| {}).map_err(gone(id))
}

fn checked(shared: &Shared, kept: &Kept, each: &mut dyn FnMut(usize, &Header)) -> Result<Vec<u8>, Trouble> {
    let name = file::name(kept.sealed.id);
    let mut content =
        shared.dir.open(&name).and_then(|file| read_all(&*file)).map_err(|error| trouble(&name, &error))?;
    let scanned = scan_sealed(&name, &content, &mut |at, header, _| {
        each(at, header);
        ControlFlow::Continue(())
    });
    let end = scanned.map_err(Trouble::Read)?.map_or(0, |scanned| scanned.end);
    if end as u64 != kept.sealed.bytes {
        return Err(Trouble::Read(damaged(&name, end, "it is not as long as it was")));
    }
    content.truncate(end);
    Ok(content)
}

/// Visits one system's records and checks that they follow each other.
struct Visitor {
    system: Uuid,
    epoch: u64,
    next_seq: Option<u64>,
    lsn: Lsn,
    buffer: Vec<u8>,
}

impl Visitor {
    fn source(
        &mut self,
        source: &Holding,
        visit: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ReadError> {
        for place in &source.places {
            let header = self.record(source, place)?;
            self.check(source, place, &header)?;
            let payload = &self.buffer[HEADER_BYTES..header.record_bytes()];
            if visit(Entry { lsn: header.lsn, batch: header.batch(payload) }).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Reads a record into the buffer.
    fn record(&mut self, source: &Holding, place: &Place) -> Result<Header, ReadError> {
        let at = u64::from(place.offset);
        let bad = || damaged(&source.name, place.offset as usize, "no whole record stands here");
        self.buffer.resize(READ_BYTES, 0);
        let read =
            source.file.read_at(at, &mut self.buffer).map_err(|error| ReadError::io(&source.name, &error))?;
        let header = record::header(&self.buffer[..read]).ok_or_else(bad)?;
        let bytes = header.record_bytes();
        if bytes > read {
            let size = source.file.size().map_err(|error| ReadError::io(&source.name, &error))?;
            if at + bytes as u64 > size {
                return Err(bad());
            }
            self.buffer.resize(bytes, 0);
            let rest = source.file.read_at(at + read as u64, &mut self.buffer[read..]);
            rest.map_err(|error| ReadError::io(&source.name, &error))?;
        }
        let (header, _) = record::parse(&self.buffer[..bytes], source.salt).ok_or_else(bad)?;
        Ok(header)
    }

    /// Within an epoch events follow each other without gaps; epochs never fall. Where an epoch begins, the events before it
    /// may be elsewhere: an owner can have begun from a snapshot that another one made.
    fn check(&mut self, source: &Holding, place: &Place, header: &Header) -> Result<(), ReadError> {
        let at = place.offset as usize;
        let indexed = header.kind == Kind::Events
            && header.system == self.system
            && header.first_seq == place.first_seq
            && header.count == place.count
            && header.lsn > self.lsn;
        if !indexed {
            return Err(damaged(&source.name, at, "another record stands here than the index says"));
        }
        if header.epoch < self.epoch {
            let problem = format!("epoch {} comes after epoch {}", header.epoch, self.epoch);
            return Err(damaged(&source.name, at, problem));
        }
        let follows = self.next_seq.is_none_or(|next| next == header.first_seq);
        if header.epoch == self.epoch && !follows {
            let next = self.next_seq.unwrap_or(0);
            let problem = format!("event {} stands where {next} should", header.first_seq);
            return Err(damaged(&source.name, at, problem));
        }
        (self.epoch, self.lsn) = (header.epoch, header.lsn);
        self.next_seq = Some(header.last_seq().saturating_add(1));
        Ok(())
    }
}

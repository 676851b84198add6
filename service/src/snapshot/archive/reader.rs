//! Reading what is archived: which segments hold a system, and their events in order.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lru::LruCache;
use mipro_telemetry::{Ledger, Operation};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use uuid::Uuid;

use super::index::{About, Index};
use super::{ArchiveError, FOLDER, KEYS_MAX, VisitBytes, segment_key};
use crate::log::Entry;
use crate::offload::Offload;
use crate::store::{Blobs, StoreError};

/// Bytes of indexes kept in memory.
pub const INDEXES_BYTES_MAX: usize = 64 << 20;

/// How old a listing may be where an older one does, too.
const LISTING_AGE_MAX: Duration = Duration::from_secs(60);

/// Segments in memory at a time, each up to its full length twice.
const SEGMENTS_MAX: usize = 2;

/// What an archived segment holds of a system under one epoch, and where the segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The fencing epoch.
    pub epoch: u64,
    /// The first event there.
    pub first_seq: u64,
    /// The last event there.
    pub last_seq: u64,
    /// The segment.
    pub about: About,
}

/// Where each epoch of a system begins. An epoch ends where a higher one begins: what a host decided after another had taken
/// the system over is not part of its history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Epochs(BTreeMap<u64, u64>);

impl Epochs {
    /// Learns of events of an epoch.
    pub fn saw(&mut self, epoch: u64, first_seq: u64) {
        let begin = self.0.entry(epoch).or_insert(first_seq);
        *begin = first_seq.min(*begin);
    }

    /// The last event that can count of an epoch.
    #[must_use]
    pub fn last_of(&self, epoch: u64) -> u64 {
        let higher = self.0.range(epoch.saturating_add(1)..).map(|(_, begin)| *begin).min();
        higher.filter(|_| epoch < u64::MAX).map_or(u64::MAX, |begin| begin.saturating_sub(1))
    }
}

/// What a reader makes of batches. Batches are offered in order; it has all up to [`Fold::reached`].
pub trait Fold: Send + 'static {
    /// The newest event it has.
    fn reached(&self) -> u64;

    /// Takes what it has not yet of a batch, up to `last_seq`. The batch begins no later than the event after
    /// [`Fold::reached`]. Break: it wants no more.
    fn take(&mut self, entry: Entry<'_>, last_seq: u64) -> ControlFlow<()>;
}

/// The archived segments of all logs. All state is a cache.
#[derive(Debug)]
pub struct Archive {
    blobs: Blobs,
    visit: VisitBytes,
    offload: Offload,
    indexes: Mutex<Indexes>,
    listing: tokio::sync::Mutex<Listing>,
    segments: Semaphore,
    recent: Mutex<Option<(About, Bytes)>>,
}

#[derive(Debug)]
struct Indexes {
    cache: LruCache<String, Arc<Index>>,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Listing {
    at: Option<Instant>,
    keys: Arc<[String]>,
}

impl Archive {
    /// An archive in these objects, of segments that `visit` can read.
    #[must_use]
    pub fn new(blobs: Blobs, visit: VisitBytes, offload: Offload) -> Self {
        Self::keeping(INDEXES_BYTES_MAX, blobs, visit, offload)
    }

    /// One that keeps at most so many bytes of indexes in memory.
    #[must_use]
    pub fn keeping(indexes_bytes_max: usize, blobs: Blobs, visit: VisitBytes, offload: Offload) -> Self {
        let indexes = Indexes { cache: LruCache::unbounded(), bytes: 0, bytes_max: indexes_bytes_max };
        Self {
            blobs,
            visit,
            offload,
            indexes: Mutex::new(indexes),
            listing: tokio::sync::Mutex::default(),
            segments: Semaphore::new(SEGMENTS_MAX),
            recent: Mutex::default(),
        }
    }

    /// What is archived of a system, of every log but `except`. `fresh`: a listing made now; else one that may be a minute
    /// old.
    ///
    /// # Errors
    /// The object store is down, or an index is damaged.
    pub async fn sources(
        &self,
        system: Uuid,
        except: Option<Uuid>,
        fresh: bool,
    ) -> Result<Vec<Source>, ArchiveError> {
        let mut sources = Vec::new();
        let except = except.map(|log| format!("{FOLDER}/{log}/"));
        for key in self.list(fresh).await?.iter() {
            if except.as_ref().is_some_and(|log| key.starts_with(log)) {
                continue;
            }
            let index = self.index(key).await?;
            let source = |run: super::index::Run| Source {
                epoch: run.epoch,
                first_seq: run.first_seq,
                last_seq: run.last_seq,
                about: index.about,
            };
            sources.extend(index.runs(system).map(source));
        }
        Ok(sources)
    }

    /// Gives `fold` what `sources` have of a system, in order and without gaps or doubles, until it has `until_seq`, wants no
    /// more, or nothing goes on where it is. Ask [`Fold::reached`] how far it came. One segment is in memory at a time.
    ///
    /// # Errors
    /// The object store is down, or a segment is damaged.
    pub async fn fold<F: Fold>(
        &self,
        system: Uuid,
        mut sources: Vec<Source>,
        epochs: &Epochs,
        until_seq: u64,
        mut fold: F,
    ) -> Result<F, ArchiveError> {
        loop {
            let reached = fold.reached();
            let last = |source: &Source| source.last_seq.min(epochs.last_of(source.epoch)).min(until_seq);
            sources.retain(|source| last(source) > reached);
            let next = sources.iter().enumerate().filter(|(_, source)| source.first_seq <= reached + 1);
            // Of two that go on here the higher epoch counts, and of those the one that leads farther.
            let Some((i, _)) = next.max_by_key(|(_, source)| (source.epoch, last(source))) else {
                return Ok(fold);
            };
            let source = sources.swap_remove(i);
            let (more, returned) = self.visit(system, source, last(&source), fold).await?;
            fold = returned;
            if more.is_break() {
                return Ok(fold);
            }
        }
    }

    async fn visit<F: Fold>(
        &self,
        system: Uuid,
        source: Source,
        last_seq: u64,
        mut fold: F,
    ) -> Result<(ControlFlow<()>, F), ArchiveError> {
        let _permit = self.segments.acquire().await.map_err(|_| ArchiveError::Panicked)?;
        let raw = self.segment(&source.about).await?;
        let visit = self.visit;
        let work = move || {
            let mut more = ControlFlow::Continue(());
            let visited = visit(&raw, Some(system), fold.reached(), &mut |entry| {
                let batch = entry.batch;
                let done = batch.first_seq > fold.reached() + 1 || batch.first_seq > last_seq;
                if batch.epoch != source.epoch || batch.last_seq() <= fold.reached() {
                    return ControlFlow::Continue(());
                }
                if done {
                    return ControlFlow::Break(());
                }
                more = fold.take(entry, last_seq);
                more
            });
            visited.map(|()| (more, fold))
        };
        let visited = self.offload.run(work).await.map_err(|_| ArchiveError::Panicked)?;
        visited.map_err(|error| damaged(&source.about, error.to_string()))
    }

    /// A segment's bytes, checked against its index. The one read last is kept: pages of a history follow each other.
    async fn segment(&self, about: &About) -> Result<Bytes, ArchiveError> {
        let recent = || self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = recent().as_ref().filter(|(kept, _)| kept == about).map(|(_, raw)| raw.clone());
        if let Some(raw) = kept {
            return Ok(raw);
        }
        let key = segment_key(about.log_id, about.segment, about.suffix);
        let ledger = Ledger::start(Operation::Background);
        let stored = match self.blobs.get(&key, &ledger).await {
            Err(StoreError::NotFound) => return Err(damaged(about, "it is not there".to_owned())),
            other => other?,
        };
        let expected = *about;
        let work = move || unpack(&stored, &expected);
        let unpacked = self.offload.run(work).await.map_err(|_| ArchiveError::Panicked)?;
        let raw = unpacked.map_err(|problem| damaged(about, problem))?;
        *recent() = Some((*about, raw.clone()));
        Ok(raw)
    }

    async fn list(&self, fresh: bool) -> Result<Arc<[String]>, ArchiveError> {
        let mut listing = self.listing.lock().await;
        let young = listing.at.is_some_and(|at| at.elapsed() < LISTING_AGE_MAX);
        if fresh || !young {
            let mut keys = self.blobs.list(FOLDER, KEYS_MAX).await?;
            keys.retain(|key| key.ends_with(".idx"));
            *listing = Listing { at: Some(Instant::now()), keys: keys.into() };
        }
        Ok(Arc::clone(&listing.keys))
    }

    async fn index(&self, key: &str) -> Result<Arc<Index>, ArchiveError> {
        let indexes = || self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = indexes().cache.get(key) {
            return Ok(Arc::clone(index));
        }
        let bytes = self.blobs.get(key, &Ledger::start(Operation::Background)).await?;
        let index = Index::decode(&bytes)
            .map_err(|problem| ArchiveError::Damaged { object: key.to_owned(), problem })?;
        let index = Arc::new(index);
        indexes().keep(key, &index);
        Ok(index)
    }
}

impl Indexes {
    fn keep(&mut self, key: &str, index: &Arc<Index>) {
        self.bytes += index.bytes();
        if let Some(old) = self.cache.put(key.to_owned(), Arc::clone(index)) {
            self.bytes -= old.bytes();
        }
        while self.bytes > self.bytes_max {
            let Some((_, oldest)) = self.cache.pop_lru() else { break };
            self.bytes -= oldest.bytes();
        }
    }
}

/// Inflates a segment's object and checks it.
fn unpack(stored: &[u8], about: &About) -> Result<Bytes, String> {
    let length =
        usize::try_from(about.raw_bytes).map_err(|_| "it is too long for this machine".to_owned())?;
    let raw = zstd::bulk::decompress(stored, length).map_err(|_| "it can't be inflated".to_owned())?;
    if raw.len() != length || *blake3::hash(&raw).as_bytes() != about.checksum {
        return Err("its content is not what its index says".to_owned());
    }
    Ok(raw.into())
}

fn damaged(about: &About, problem: String) -> ArchiveError {
    ArchiveError::Damaged { object: segment_key(about.log_id, about.segment, about.suffix), problem }
}

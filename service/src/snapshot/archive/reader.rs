//! Reading what is archived: which segments hold a system, and their events in order.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use lru::LruCache;
use mipro_telemetry::{Ledger, Operation};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::index::{About, ArchiveIndex};
use super::listing::{Listings, Name};
use super::{ArchiveError, VisitBytes, index, index_key, segment_key};
use crate::log::{Entry, EventLog};
use crate::offload::Offload;
use crate::store::{Blobs, StoreError};

/// Bytes of indexes kept in memory.
pub const INDEXES_BYTES_MAX: usize = 64 << 20;

/// Logs listed, and indexes fetched, at once.
const LISTS_MAX: usize = 8;
const FETCHES_MAX: usize = 16;

/// MiB of segments in memory at a time, packed and unpacked; a segment that is larger comes alone.
const MIB_MAX: u32 = 256;

/// How many segments are fetched ahead, and how many bytes of them: many small ones at once, large ones by and by.
const AHEAD_MAX: usize = 16;
const AHEAD_BYTES_MAX: u64 = 8 << 20;

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

/// Segments that a reader has at hand: those of its own log, from one on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Here {
    log_id: Uuid,
    from_segment: u64,
}

impl Here {
    /// Whatever this log has ever held, for those who know that they miss nothing of it.
    #[must_use]
    pub fn all_of(log: &dyn EventLog) -> Option<Self> {
        Some(Self { log_id: log.segments()?.log_id(), from_segment: 0 })
    }

    /// What this log still has. Read the log first, and ask then: what was trimmed in between is looked for in the archive.
    /// **Blocks** on files.
    #[must_use]
    pub fn still_in(log: &dyn EventLog) -> Option<Self> {
        let segments = log.segments()?;
        let oldest = segments.sealed().iter().map(|sealed| sealed.id).min();
        Some(Self { log_id: segments.log_id(), from_segment: oldest.unwrap_or(u64::MAX) })
    }
}

/// What a reader makes of batches. Batches are offered in order; it has all up to [`Fold::reached`].
pub trait Fold: Send + 'static {
    /// The newest event it has.
    fn reached(&self) -> u64;

    /// Takes what it has not yet of a batch, up to `last_seq`. The batch begins no later than the event after
    /// [`Fold::reached`]. Break: it wants no more.
    fn take(&mut self, entry: Entry<'_>, last_seq: u64) -> ControlFlow<()>;

    /// Until when it waits for more. `None`: it is of no use before it has all, however long that takes. Then, or when the
    /// archive fails, it is given back as it is.
    fn settles_at(&self) -> Option<Instant> {
        None
    }
}

/// The archived segments of all logs. All state is a cache.
#[derive(Debug)]
pub struct Archive {
    blobs: Blobs,
    visit: VisitBytes,
    offload: Offload,
    indexes: Mutex<Indexes>,
    listings: Listings,
    memory: Semaphore,
    recent: Mutex<Option<(About, Bytes)>>,
}

/// An archived segment, by its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    log_id: Uuid,
    name: Name,
    /// An index was listed beside it.
    indexed: bool,
}

impl Key {
    fn index(&self) -> String {
        index_key(self.log_id, self.name.segment, self.name.suffix)
    }

    fn segment(&self) -> String {
        segment_key(self.log_id, self.name.segment, self.name.suffix)
    }
}

/// Indexes, `None` for a segment that counts for nothing.
#[derive(Debug)]
struct Indexes {
    cache: LruCache<Key, Option<Arc<ArchiveIndex>>>,
    bytes: usize,
    bytes_max: usize,
}

/// A segment's bytes, and the room they take.
struct Loaded<'a> {
    raw: Bytes,
    _room: Option<SemaphorePermit<'a>>,
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
            listings: Listings::of(blobs.clone()),
            blobs,
            visit,
            offload,
            indexes: Mutex::new(indexes),
            memory: Semaphore::new(MIB_MAX as usize),
            recent: Mutex::default(),
        }
    }

    /// What is archived of a system, of every log, but for what is `here`. `fresh`: by listings made now; else by such that
    /// may be a minute old, or ten while none can be made.
    ///
    /// # Errors
    /// The object store is down, or a segment can't be read and its index neither.
    pub async fn sources(
        &self,
        system: Uuid,
        here: Option<Here>,
        fresh: bool,
    ) -> Result<Vec<Source>, ArchiveError> {
        let keys = self.keys(here, fresh).await?;
        let (mut sources, mut missing) = (Vec::new(), Vec::new());
        {
            let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
            for key in keys {
                match indexes.cache.get(&key) {
                    Some(index) => sources.extend(index.iter().flat_map(|index| sources_of(index, system))),
                    None => missing.push(key),
                }
            }
        }
        let fetches = missing.into_iter().map(|key| self.fetch_index(key));
        let mut fetched = stream::iter(fetches).buffered(FETCHES_MAX);
        while let Some(index) = fetched.try_next().await? {
            sources.extend(index.iter().flat_map(|index| sources_of(index, system)));
        }
        Ok(sources)
    }

    /// The archived segments that are to be looked at.
    async fn keys(&self, here: Option<Here>, fresh: bool) -> Result<Vec<Key>, StoreError> {
        let logs = self.listings.logs(fresh).await?;
        let wholly_here = |log: Uuid| here == Some(Here { log_id: log, from_segment: 0 });
        let lists = logs.iter().copied().filter(|log| !wholly_here(*log)).map(|log| async move {
            let names = self.listings.names(log, fresh).await?;
            Ok::<_, StoreError>((log, names))
        });
        let mut listed = stream::iter(lists.collect::<Vec<_>>()).buffered(LISTS_MAX);
        let mut keys = Vec::new();
        while let Some((log_id, names)) = listed.try_next().await? {
            let from = here.filter(|here| here.log_id == log_id).map_or(u64::MAX, |here| here.from_segment);
            let elsewhere = names.indexed.iter().filter(|(name, _)| name.segment < from);
            keys.extend(elsewhere.map(|(name, indexed)| Key { log_id, name: *name, indexed: *indexed }));
        }
        Ok(keys)
    }

    /// Gives `fold` what `sources` have of a system, in order and without gaps or doubles, until it has `until_seq`, wants no
    /// more, or nothing goes on where it is. Ask [`Fold::reached`] how far it came. Small segments are fetched some at a time;
    /// what all readers together hold in memory is bounded, the segment that was read last apart, which is kept.
    ///
    /// # Errors
    /// The object store is down, or a segment is damaged; unless the fold settles for what it has.
    pub async fn fold<F: Fold>(
        &self,
        system: Uuid,
        mut sources: Vec<Source>,
        epochs: &Epochs,
        until_seq: u64,
        mut fold: F,
    ) -> Result<F, ArchiveError> {
        loop {
            let run = next_run(&mut sources, epochs, until_seq, fold.reached());
            if run.is_empty() {
                return Ok(fold);
            }
            let (more, used, returned) = self.fold_run(system, &run, fold).await?;
            fold = returned;
            if more.is_break() {
                return Ok(fold);
            }
            // One that had less than its index said: the rest is looked at again.
            sources.extend(run[used..].iter().map(|(source, _)| *source));
        }
    }

    /// Folds a run of sources; gives how many of them it used.
    async fn fold_run<F: Fold>(
        &self,
        system: Uuid,
        run: &[(Source, u64)],
        mut fold: F,
    ) -> Result<(ControlFlow<()>, usize, F), ArchiveError> {
        let fetches: Vec<_> = run.iter().map(|(source, _)| self.segment(source.about)).collect();
        let mut fetched = stream::iter(fetches).buffered(AHEAD_MAX);
        for (used, (source, last_seq)) in run.iter().enumerate() {
            if source.first_seq > fold.reached() + 1 {
                return Ok((ControlFlow::Continue(()), used, fold));
            }
            let settles_at = fold.settles_at();
            let next = match settles_at {
                Some(at) => timeout_at(at, fetched.next()).await.ok(),
                None => Some(fetched.next().await),
            };
            let segment = match next.flatten() {
                Some(Err(error)) if settles_at.is_some() => {
                    tracing::warn!(%error, "the archive fails in the middle of a history; a part of it is answered");
                    None
                }
                other => other.transpose()?,
            };
            let Some(segment) = segment else { return Ok((ControlFlow::Break(()), used, fold)) };
            let (more, returned) = self.visit(system, *source, *last_seq, &segment, fold).await?;
            fold = returned;
            *self.recent.lock().unwrap_or_else(PoisonError::into_inner) = Some((source.about, segment.raw));
            if more.is_break() {
                return Ok((more, used + 1, fold));
            }
        }
        Ok((ControlFlow::Continue(()), run.len(), fold))
    }

    async fn visit<F: Fold>(
        &self,
        system: Uuid,
        source: Source,
        last_seq: u64,
        segment: &Loaded<'_>,
        mut fold: F,
    ) -> Result<(ControlFlow<()>, F), ArchiveError> {
        let (visit, raw) = (self.visit, segment.raw.clone());
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
        let visited = self.offload.run(work).await?;
        visited.map_err(|error| damaged(&source.about, error.to_string()))
    }

    /// A segment's bytes, checked against its index. The one read last is kept: pages of a history follow each other.
    async fn segment(&self, about: About) -> Result<Loaded<'_>, ArchiveError> {
        let kept = self.recent.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, raw)) = kept.filter(|(kept, _)| *kept == about) {
            return Ok(Loaded { raw, _room: None });
        }
        let mib = about.raw_bytes.saturating_add(about.stored_bytes) >> 20;
        let mib = u32::try_from(mib).unwrap_or(MIB_MAX).saturating_add(1).min(MIB_MAX);
        let room = self.memory.acquire_many(mib).await.expect("the semaphore is never closed");
        let key = segment_key(about.log_id, about.segment, about.suffix);
        let stored = match self.get(&key).await? {
            Some(stored) => stored,
            None => return Err(damaged(&about, "it is not there".to_owned())),
        };
        let unpacked = self.offload.run(move || unpack(&stored, &about)).await?;
        let raw = unpacked.map_err(|problem| damaged(&about, problem))?;
        Ok(Loaded { raw, _room: Some(room) })
    }

    /// An object, if it is there.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        match self.blobs.get(key, &Ledger::start(Operation::Background)).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A segment's index, made anew from the segment where it is missing or damaged. `None`: neither is there any more, or
    /// there never was an index, so that the segment does not count as archived, and it can't be read.
    async fn fetch_index(&self, key: Key) -> Result<Option<Arc<ArchiveIndex>>, ArchiveError> {
        let stored = if key.indexed { self.get(&key.index()).await? } else { None };
        let decoded = stored.as_ref().map(ArchiveIndex::decode);
        let index = match decoded {
            Some(Ok(index)) if key.is_of(&index.about) => Some(index),
            Some(Ok(_)) => self.rebuilt(key, true, "it is another segment's").await?,
            Some(Err(problem)) => self.rebuilt(key, true, &problem).await?,
            None => self.rebuilt(key, false, "it is not there").await?,
        };
        let index = index.map(Arc::new);
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner).keep(key, index.clone());
        Ok(index)
    }

    /// An index made from its segment, in memory only.
    async fn rebuilt(
        &self,
        key: Key,
        there: bool,
        problem: &str,
    ) -> Result<Option<ArchiveIndex>, ArchiveError> {
        let object = key.index();
        let _room = self.memory.acquire_many(MIB_MAX / 2).await.expect("the semaphore is never closed");
        let made = match self.get(&key.segment()).await? {
            None => Err("it is not there".to_owned()),
            Some(stored) => {
                let (visit, Key { log_id, name: Name { segment, suffix }, .. }) = (self.visit, key);
                let make = move || index::anew(log_id, segment, suffix, &stored, visit);
                self.offload.run(make).await?
            }
        };
        match made {
            Ok(index) => {
                tracing::warn!(
                    object,
                    problem,
                    "an archived segment's index can't be used; it was made anew, for as long as this process needs it"
                );
                Ok(Some(index))
            }
            // The segment may hold what is nowhere else: whoever would go on without it must say so, and remove both.
            Err(segment) if there => Err(ArchiveError::Damaged {
                object,
                problem: format!("{problem}; and its segment: {segment}"),
            }),
            Err(segment) => {
                tracing::error!(
                    object = key.segment(),
                    problem = segment,
                    "an archived segment has no index and can't be read: it counts for nothing"
                );
                Ok(None)
            }
        }
    }
}

impl Key {
    fn is_of(&self, about: &About) -> bool {
        (self.log_id, self.name.segment, self.name.suffix) == (about.log_id, about.segment, about.suffix)
    }
}

fn sources_of(index: &ArchiveIndex, system: Uuid) -> impl Iterator<Item = Source> {
    let about = index.about;
    index.runs(system).map(move |run| Source {
        epoch: run.epoch,
        first_seq: run.first_seq,
        last_seq: run.last_seq,
        about,
    })
}

/// Takes out of `sources` those that lead on from `reached`, one after the other, as many as may be fetched at once; each with
/// the last event that counts of it. Drops those that can't lead on any more.
fn next_run(
    sources: &mut Vec<Source>,
    epochs: &Epochs,
    until_seq: u64,
    mut reached: u64,
) -> Vec<(Source, u64)> {
    let last = |source: &Source| source.last_seq.min(epochs.last_of(source.epoch)).min(until_seq);
    let (mut run, mut bytes) = (Vec::new(), 0_u64);
    while run.len() < AHEAD_MAX {
        sources.retain(|source| last(source) > reached);
        let next = sources.iter().enumerate().filter(|(_, source)| source.first_seq <= reached + 1);
        // Of two that go on here the higher epoch counts, and of those the one that leads farther.
        let Some((i, source)) = next.max_by_key(|(_, source)| (source.epoch, last(source))) else { break };
        bytes = bytes.saturating_add(source.about.raw_bytes);
        if !run.is_empty() && bytes > AHEAD_BYTES_MAX {
            break;
        }
        let last_seq = last(source);
        run.push((sources.swap_remove(i), last_seq));
        reached = last_seq;
    }
    run
}

impl Indexes {
    fn keep(&mut self, key: Key, index: Option<Arc<ArchiveIndex>>) {
        let bytes = |index: &Option<Arc<ArchiveIndex>>| {
            size_of::<Key>() + index.as_ref().map_or(0, |index| index.bytes())
        };
        self.bytes += bytes(&index);
        if let Some(old) = self.cache.put(key, index) {
            self.bytes -= bytes(&old);
        }
        while self.bytes > self.bytes_max {
            let Some((_, oldest)) = self.cache.pop_lru() else { break };
            self.bytes -= bytes(&oldest);
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

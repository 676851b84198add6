//! One turn of the archiver: archive what is sealed, trim what is covered, name who lags.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use lru::LruCache;
use mipro_telemetry::{Ledger, Operation, Stage};
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use super::index::{self, About, ArchiveIndex, Runs};
use super::{ArchiveError, ArchiveOptions, Counts, index_key, segment_key};
use crate::crash;
use crate::log::{EventLog, Sealed, Segments, Span};
use crate::snapshot::hashed;
use crate::store::blobs::PutRule;
use crate::store::{StoreError, Stores, SystemRow};
use crate::system::SystemId;

/// Rows asked for at once.
const ROWS: usize = 500;

/// `HEAD`s under way at once.
const HEADS: usize = 16;

/// Laggards looked for in a turn.
const LAGGARDS_MAX: usize = 1_024;

/// Laggards named in the log.
const TOLD_MAX: usize = 8;

/// Systems whose verified snapshot is remembered.
const COVERED_MAX: usize = 1 << 18;

/// Archives and trims. [`Archiver::spawn`] runs it in the background; [`Archiver::turn`] is one step of it.
#[derive(Debug)]
pub struct Archiver {
    log: Arc<dyn EventLog>,
    stores: Stores,
    options: ArchiveOptions,
    laggards: mpsc::Sender<SystemId>,
    counts: Arc<Counts>,
    /// Segments known to be archived and still here, and since when that is known.
    archived: BTreeMap<u64, Instant>,
    /// System → number up to which a verified snapshot covers it.
    covered: LruCache<Uuid, u64>,
    /// The segment whose laggards were told of.
    told: Option<u64>,
}

/// A segment, ready to be put.
struct Ready {
    raw: Vec<u8>,
    runs: Runs,
    stored: Bytes,
}

impl Archiver {
    /// One that has done nothing yet. `None`: this log has no segments.
    #[must_use]
    pub fn new(
        log: Arc<dyn EventLog>,
        stores: Stores,
        options: ArchiveOptions,
        laggards: mpsc::Sender<SystemId>,
    ) -> Option<Self> {
        log.segments()?;
        Some(Self {
            log,
            stores,
            options,
            laggards,
            counts: Arc::default(),
            archived: BTreeMap::new(),
            covered: LruCache::new(std::num::NonZero::new(COVERED_MAX)?),
            told: None,
        })
    }

    pub(super) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// What it has done so far.
    #[must_use]
    pub fn figures(&self) -> super::ArchiveFigures {
        self.counts.read()
    }

    /// The log's id.
    pub(super) fn log_id(&self) -> Uuid {
        self.log.segments().map_or(Uuid::nil(), Segments::log_id)
    }

    /// Archives every sealed segment, oldest first; then trims those that are covered. Dropping it leaves it done up to one of
    /// its steps; the next turn takes up there.
    ///
    /// # Errors
    /// A store or the log's disk is down; what was done stays done.
    pub async fn turn(&mut self) -> Result<(), ArchiveError> {
        let (log_id, sealed) = self.segments(|segments| (segments.log_id(), segments.sealed())).await?;
        let archived = self.archive_all(log_id, &sealed).await;
        // What could be archived is trimmed also when more could not: a long backlog must not fill the disk meanwhile.
        let ready = sealed.iter().take_while(|segment| self.archived.contains_key(&segment.id)).count();
        let trimmed = self.trim(&sealed[..ready]).await;
        archived.and(trimmed)
    }

    /// Archives what is not archived yet, oldest first, up to the first failure.
    async fn archive_all(&mut self, log_id: Uuid, sealed: &[Sealed]) -> Result<(), ArchiveError> {
        for segment in sealed {
            if !self.archived.contains_key(&segment.id) {
                self.archive(log_id, segment).await?;
                crash::point("log.archived");
                self.archived.insert(segment.id, Instant::now());
                self.counts.archived.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Trims the oldest of these archived segments up to the first that some system's snapshot does not cover.
    async fn trim(&mut self, sealed: &[Sealed]) -> Result<(), ArchiveError> {
        let mut covered = 0;
        let mut behind = Vec::new();
        for segment in sealed {
            behind = self.uncovered(segment.id).await?;
            if !behind.is_empty() {
                break;
            }
            covered += 1;
        }
        let (free, pinned) = sealed.split_at(covered);
        if let Some(last) = free.last().map(|segment| segment.id) {
            self.segments(move |segments| segments.trim(last)).await??;
            free.iter().for_each(|segment| _ = self.archived.remove(&segment.id));
            self.counts.trimmed.fetch_add(free.len() as u64, Ordering::Relaxed);
        }
        let oldest = pinned.first().map(|segment| segment.id);
        let since = oldest.and_then(|oldest| self.archived.get(&oldest).copied());
        self.counts.pinned.store(pinned.len() as u64, Ordering::Relaxed);
        self.counts.pinned_oldest.store(oldest.unwrap_or(0), Ordering::Relaxed);
        *self.counts.pinned_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
        self.counts.laggards.store(behind.len() as u64, Ordering::Relaxed);
        if since.is_some_and(|since| since.elapsed() >= self.options.pinned_warn_after) && self.told != oldest
        {
            self.told = oldest;
            self.tell(oldest.unwrap_or(0), pinned.len(), &behind);
        }
        if pinned.len() > self.options.newer_min {
            self.name(behind);
        }
        Ok(())
    }

    /// Says, once for a segment, who keeps it and all behind it from being trimmed. Systems' ids are secrets, their hashes are not.
    fn tell(&self, segment: u64, pinned: usize, behind: &[SystemId]) {
        let named: Vec<_> = behind.iter().take(TOLD_MAX).map(|id| hashed(&id.to_string())).collect();
        tracing::warn!(
            segment,
            pinned_segments = pinned,
            systems = behind.len(),
            hashes = named.join(" "),
            "these systems' states can't be saved, and keep the log from being trimmed until it is full: `mipro state verify` \
             names them and says what is wrong, `mipro state repair` what can be done; see docs/durability.md, \"A system that \
             holds the log back\""
        );
    }

    /// Hands laggards to the engine, as many as it takes now.
    fn name(&self, laggards: Vec<SystemId>) {
        for system in laggards {
            if self.laggards.try_send(system).is_err() {
                return;
            }
        }
    }

    /// Stores a segment and its index, unless they are stored.
    async fn archive(&self, log_id: Uuid, sealed: &Sealed) -> Result<(), ArchiveError> {
        let (id, visit) = (sealed.id, self.options.visit);
        let prepare = move |segments: &dyn Segments| {
            let raw = segments.bytes(id)?;
            let runs = index::survey(&raw, visit)?;
            let stored = zstd::bulk::compress(&raw, 1)
                .map_err(|error| ArchiveError::Compress { reason: error.to_string() })?
                .into();
            Ok::<_, ArchiveError>(Ready { raw, runs, stored })
        };
        let ready = self.segments(prepare).await??;
        let own = index::about(log_id, sealed, &ready.raw, ready.stored.len() as u64, 0);
        // A suffix made from the content: what is there under it is ours, whole or not.
        let [a, b, c, d, ..] = own.checksum;
        let suffix = u32::from_le_bytes([a, b, c, d]).max(1);
        for suffix in [0, suffix] {
            let about = About { suffix, ..own };
            if self.archive_as(&about, &ready).await? {
                return Ok(());
            }
        }
        let object = index_key(log_id, sealed.id, suffix);
        Err(ArchiveError::Damaged { object, problem: "another index stands in its place".to_owned() })
    }

    /// Stores a segment and its index under the keys that `about` names. `false`: something else is there.
    async fn archive_as(&self, about: &About, ready: &Ready) -> Result<bool, ArchiveError> {
        let index_key = index_key(about.log_id, about.segment, about.suffix);
        if let Some(there) = self.find(&index_key).await? {
            let Some(index) = ArchiveIndex::decode(&there).ok() else { return Ok(false) };
            if index.about.checksum != about.checksum {
                return Ok(false);
            }
            // An index is no segment: an object that somebody removed, or let expire, is stored again as long as it can be.
            return self.there(&index_key, index.about, ready).await.map(|()| true);
        }
        let key = segment_key(about.log_id, about.segment, about.suffix);
        let mut about = *about;
        let put = self.put(&key, ready.stored.clone(), PutRule::Create).await;
        match put {
            Err(StoreError::AlreadyExists) => match self.holds(&key, &ready.raw).await? {
                Some(stored_bytes) => about.stored_bytes = stored_bytes,
                None if about.suffix == 0 => return Ok(false),
                None => self.put(&key, ready.stored.clone(), PutRule::Overwrite).await?,
            },
            other => other?,
        }
        match self.put(&index_key, index::encode(&about, &ready.runs), PutRule::Create).await {
            // A put whose answer was lost, or another process this very moment: the next turn reads it.
            Err(StoreError::AlreadyExists) => {
                let there = self.find(&index_key).await?;
                let index = there.and_then(|there| ArchiveIndex::decode(&there).ok());
                Ok(index.is_some_and(|index| index.about.checksum == about.checksum))
            }
            other => Ok(other.map(|()| true)?),
        }
    }

    /// Sees to it that the object of a segment is there, as its index says.
    async fn there(&self, index_key: &str, mut about: About, ready: &Ready) -> Result<(), ArchiveError> {
        let key = segment_key(about.log_id, about.segment, about.suffix);
        match self.stores.blobs.size(&key).await {
            Ok(bytes) if bytes == about.stored_bytes => return Ok(()),
            Ok(_) | Err(StoreError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        tracing::warn!(
            object = key,
            "an archived segment's object is gone, or another one; it is stored again"
        );
        self.put(&key, ready.stored.clone(), PutRule::Overwrite).await?;
        let stored_bytes = ready.stored.len() as u64;
        if about.stored_bytes != stored_bytes {
            // Packed by another build.
            about.stored_bytes = stored_bytes;
            self.put(index_key, index::encode(&about, &ready.runs), PutRule::Overwrite).await?;
        }
        Ok(())
    }

    async fn put(&self, key: &str, bytes: Bytes, rule: PutRule) -> Result<(), StoreError> {
        let ledger = Ledger::start(Operation::Background);
        self.stores.blobs.put(key, bytes, rule, Stage::S3Put, &ledger).await
    }

    async fn find(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        match self.stores.blobs.get(key, &Ledger::start(Operation::Background)).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The length of an object, if it inflates to `raw`.
    async fn holds(&self, key: &str, raw: &[u8]) -> Result<Option<u64>, ArchiveError> {
        let Some(there) = self.find(key).await? else { return Ok(None) };
        let (stored_bytes, length) = (there.len() as u64, raw.len());
        let inflate = move || zstd::bulk::decompress(&there, length).ok();
        let inflated = self.options.offload.run(inflate).await?;
        Ok(inflated.filter(|inflated| inflated == raw).map(|_| stored_bytes))
    }

    /// Systems whose verified snapshot does not cover what a segment holds of them; at least one if there is any.
    async fn uncovered(&mut self, segment: u64) -> Result<Vec<SystemId>, ArchiveError> {
        let mut spans = self.segments(move |segments| segments.spans(segment)).await??;
        spans.retain(|span| self.covered.get(&span.system).is_none_or(|covered| *covered < span.last_seq));
        let mut behind = Vec::new();
        for chunk in spans.chunks(ROWS) {
            behind.extend(self.uncovered_of(chunk).await?);
            if behind.len() >= LAGGARDS_MAX {
                break;
            }
        }
        Ok(behind)
    }

    async fn uncovered_of(&mut self, spans: &[Span]) -> Result<Vec<SystemId>, ArchiveError> {
        let systems: Vec<Uuid> = spans.iter().map(|span| span.system).collect();
        let ledger = Ledger::start(Operation::Background);
        let rows = self.stores.table.get_many(&systems, &ledger).await?;
        let mut rows: BTreeMap<Uuid, SystemRow> = rows.into_iter().map(|row| (row.system_id, row)).collect();
        let mut behind = Vec::new();
        let mut covering = Vec::new();
        for span in spans {
            match rows.remove(&span.system) {
                // No row: somebody removed it, or the database is older than the log. Nobody can ask for the system; its
                // events stay in the archive.
                None => {}
                Some(row) if row.version >= span.last_seq => covering.push(row),
                Some(_) => behind.push(span.system),
            }
        }
        let checks = covering.into_iter().map(|row| is_there(self.stores.clone(), row));
        let mut checks = stream::iter(checks.collect::<Vec<_>>()).buffer_unordered(HEADS);
        while let Some(check) = checks.next().await {
            let (row, there) = check?;
            if there {
                self.covered.put(row.system_id, row.version);
            } else {
                let object = hashed(row.state_ref.as_deref().unwrap_or_default());
                self.counts.missing.fetch_add(1, Ordering::Relaxed);
                tracing::error!(object, "a row names a state that is not there as it says; its log is kept");
                behind.push(row.system_id);
            }
        }
        Ok(behind)
    }

    async fn segments<R: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Segments) -> R + Send + 'static,
    ) -> Result<R, ArchiveError> {
        let log = Arc::clone(&self.log);
        let run = self.options.offload.run(move || log.segments().map(work)).await?;
        run.ok_or(ArchiveError::NoSegments)
    }
}

/// Whether the object that a row names is there, as long as it says.
async fn is_there(stores: Stores, row: SystemRow) -> Result<(SystemRow, bool), StoreError> {
    let Some(key) = &row.state_ref else { return Ok((row, false)) };
    let there = match stores.blobs.size(key).await {
        Ok(bytes) => row.state_bytes.is_none_or(|expected| expected == bytes),
        Err(StoreError::NotFound) => false,
        Err(error) => return Err(error),
    };
    Ok((row, there))
}

//! The events of one system, wherever they are: in the log here, in archived segments, in an old document.
//!
//! A page is never given with a hole in it. What can't be found is named: in an error to those who need all of it
//! ([`HistoryReader::events`]), beside what is left to those who want to see what there is ([`HistoryReader::page`]). An epoch's
//! events end where a higher epoch's begin: what a host decided after another had taken the system over is no history.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use mipro_telemetry::{Ledger, Operation};
use tokio::time::Instant;

use crate::codec;
use crate::engine::EngineError;
use crate::engine::document::{Document, corrupt};
use crate::log::{Entry, EventLog, Level, ReadError};
use crate::offload::Offload;
use crate::recovery::log_failed;
use crate::snapshot::archive::Archive;
use crate::snapshot::archive::reader::{Epochs, Fold, Here};
use crate::snapshot::is_snapshot;
use crate::store::{StoreError, Stores, SystemRow};
use crate::system::{Recorded, SystemId};

/// Objects of one system, beyond which no old document is looked for.
const OBJECTS_MAX: usize = 100_000;

/// How long [`HistoryReader::page`] looks for more than it has.
pub const PAGE_TIME_MAX: Duration = Duration::from_secs(10);

/// Events of a system, and what is no longer to be had before them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HistoryPage {
    /// Oldest first, without holes. Fewer than were asked for also where a hole follows, or where looking for more took too
    /// long: whoever asks for those after the last one finds out.
    pub events: Vec<Recorded>,
    /// What was asked for from its beginning to the event before this one is nowhere any more. The first event of the page, or
    /// the first that may follow where the page is empty.
    pub truncated_before: Option<u64>,
}

/// Reads histories. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HistoryReader {
    stores: Stores,
    log: Arc<dyn EventLog>,
    offload: Offload,
    archive: Option<Arc<Archive>>,
}

impl HistoryReader {
    /// From these stores and this log.
    #[must_use]
    pub fn new(stores: Stores, log: Arc<dyn EventLog>, offload: Offload) -> Self {
        Self { stores, log, offload, archive: None }
    }

    /// Also from archived segments.
    #[must_use]
    pub fn with_archive(self, archive: Arc<Archive>) -> Self {
        Self { archive: Some(archive), ..self }
    }

    /// The first `limit` events after `since_seq`, oldest first, without holes. Whoever asks has been admitted to the system.
    /// May take seconds when it has to read archived segments.
    ///
    /// # Errors
    /// [`EngineError::Corrupt`] names the events that are missing; or a store is down.
    pub async fn events(
        &self,
        system: SystemId,
        since_seq: u64,
        limit: usize,
    ) -> Result<Vec<Recorded>, EngineError> {
        let page = Page { since_seq, limit, ..Page::default() };
        Ok(self.fill(system, page).await?.events)
    }

    /// As [`HistoryReader::events`], and as much as can be had: passes over what is lost and says so, gives a shorter page where
    /// the archive takes longer than `time_max` or fails in the middle.
    ///
    /// # Errors
    /// Damage, or a store is down, and there is nothing yet to be given.
    pub async fn page(
        &self,
        system: SystemId,
        since_seq: u64,
        limit: usize,
        time_max: Duration,
    ) -> Result<HistoryPage, EngineError> {
        let settles_at = Some(Instant::now() + time_max);
        let page = self.fill(system, Page { since_seq, limit, settles_at, ..Page::default() }).await?;
        let truncated_before = page.truncated.then_some(page.since_seq + 1);
        Ok(HistoryPage { events: page.events, truncated_before })
    }

    async fn fill(&self, system: SystemId, page: Page) -> Result<Page, EngineError> {
        // 1. The log here. Where it has what was asked for it also has the newest.
        let (mut page, mut next) = self.logged(system, page).await?;
        if page.is_full() || (!page.events.is_empty() && next.is_none()) {
            return Ok(page);
        }
        let row = self.stores.table.get(system, &Ledger::start(Operation::Background)).await?;
        let row = row.ok_or(EngineError::NotFound)?;
        let mut document = None;
        while !page.is_full() {
            let reached = page.reached();
            let until = next.map_or(u64::MAX, |next| next - 1);
            // Beyond the row there can only be what a log archived whose host is gone.
            let beyond = reached >= row.version && next.is_none();
            // 2. What is archived, up to where the log here goes on.
            let archived;
            (page, archived) = self.archived(system, page, until, beyond).await?;
            // 3. What a document has: read once, and only if nothing else goes on.
            if page.reached() == reached && !beyond {
                if document.is_none() {
                    document = Some(self.document(system, &row).await?);
                }
                if let Some(Some((epoch, document))) = &document {
                    page.take_document(document, archived.epochs.last_of(*epoch).min(until));
                }
            }
            if page.reached() == reached {
                if beyond {
                    break;
                }
                // What was lost with a host. Where it ends is where anything else begins, or behind what the row says was stored.
                let goes_on = archived.next.into_iter().chain(next).min().unwrap_or(row.version + 1);
                if page.settles_at.is_none() {
                    return Err(missing(system, reached + 1, goes_on - 1));
                }
                if !page.events.is_empty() {
                    break;
                }
                (page.since_seq, page.truncated) = (goes_on - 1, true);
            }
            // 4. The log again.
            (page, next) = self.logged(system, page).await?;
        }
        Ok(page)
    }

    /// Adds what the log here has; with the first event it has beyond a hole.
    async fn logged(&self, system: SystemId, page: Page) -> Result<(Page, Option<u64>), EngineError> {
        if page.is_full() {
            return Ok((page, None));
        }
        let log = Arc::clone(&self.log);
        let work = move || {
            let mut page = page;
            let next = read_log(&*log, system, &mut page)?;
            Ok::<_, ReadError>((page, next))
        };
        let read = self.offload.run(work).await;
        let read = read.map_err(|_| EngineError::Internal { what: "reading the log panicked" })?;
        let (page, next) = read.map_err(|error| log_failed(&error))?;
        Ok((page.checked(system)?, next))
    }

    /// Adds what is archived. `others`: looks for nothing unless another log has archived something beyond.
    async fn archived(
        &self,
        system: SystemId,
        page: Page,
        until_seq: u64,
        others: bool,
    ) -> Result<(Page, Archived), EngineError> {
        let mut epochs = Epochs::default();
        let Some(archive) = &self.archive else { return Ok((page, Archived::default())) };
        let reached = page.reached();
        if others {
            let sources = archive.sources(system, Here::all_of(&*self.log), false).await?;
            if sources.iter().all(|of| of.last_seq <= reached) {
                return Ok((page, Archived::default()));
            }
        }
        let log = Arc::clone(&self.log);
        let work = move || {
            let see = &mut |entry: Entry<'_>| {
                epochs.saw(entry.batch.epoch, entry.batch.first_seq);
                ControlFlow::Continue(())
            };
            log.read(system, 0, see).map(|()| (epochs, Here::still_in(&*log)))
        };
        let read = self.offload.run(work).await;
        let read = read.map_err(|_| EngineError::Internal { what: "reading the log panicked" })?;
        let (mut epochs, here) = read.map_err(|error| log_failed(&error))?;
        let sources = archive.sources(system, here, true).await?;
        sources.iter().for_each(|source| epochs.saw(source.epoch, source.first_seq));
        let page = archive.fold(system, sources.clone(), &epochs, until_seq, page).await?;
        let page = page.checked(system)?;
        let later = sources.iter().filter(|source| source.first_seq > page.reached());
        let counts = later.filter(|source| source.first_seq <= epochs.last_of(source.epoch));
        let next = counts.map(|source| source.first_seq).min();
        Ok((page, Archived { epochs, next }))
    }

    /// The newest document there is, with its epoch.
    async fn document(
        &self,
        system: SystemId,
        row: &SystemRow,
    ) -> Result<Option<(u64, Document)>, EngineError> {
        let named = row.state_ref.clone().filter(|key| !is_snapshot(key)).map(|key| (row.epoch, key));
        let found = match named {
            Some(named) => Some(named),
            // What no row names any more may be of a save that was cut off: any epoch that began since then overrules it.
            None => {
                let keys = self.stores.blobs.list(&format!("systems/{system}"), OBJECTS_MAX).await?;
                keys.into_iter().filter(|key| key.ends_with(".json")).max().map(|key| (0, key))
            }
        };
        let Some((epoch, key)) = found else { return Ok(None) };
        let bytes = match self.stores.blobs.get(&key, &Ledger::start(Operation::Background)).await {
            Err(StoreError::NotFound) => return Ok(None),
            other => other?,
        };
        let work = move || Document::decode(&key, system, &bytes);
        let decoded = self.offload.run(work).await;
        let decoded = decoded.map_err(|_| EngineError::Internal { what: "reading a document panicked" })?;
        Ok(Some((epoch, decoded?)))
    }
}

/// What the archive told beside events.
#[derive(Debug, Default)]
struct Archived {
    /// Where epochs begin, there and in the log here.
    epochs: Epochs,
    /// The first event there that does not follow on what the page has.
    next: Option<u64>,
}

/// Adds what a log has after what the page has, while it goes on without a hole; gives the first event beyond one.
fn read_log(log: &dyn EventLog, system: SystemId, page: &mut Page) -> Result<Option<u64>, ReadError> {
    // A log in memory may hold events of a state that was dropped; what was decided in their place comes later.
    let in_memory = log.level() == Level::Memory;
    let mut next = None;
    let mut epoch = 0;
    log.read(system, page.since_seq + page.events.len() as u64, &mut |entry| {
        let batch = entry.batch;
        if in_memory && batch.epoch > epoch && batch.first_seq > page.since_seq {
            page.cut(batch.first_seq);
        }
        epoch = epoch.max(batch.epoch);
        if batch.last_seq() <= page.reached() {
            return ControlFlow::Continue(());
        }
        if !page.is_full() {
            if batch.first_seq > page.reached() + 1 {
                next = Some(batch.first_seq);
                return ControlFlow::Break(());
            }
            if page.take(entry, u64::MAX).is_continue() {
                return ControlFlow::Continue(());
            }
        }
        if in_memory && page.problem.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(next)
}

/// A page of a history, as it fills.
#[derive(Debug, Default)]
struct Page {
    since_seq: u64,
    limit: usize,
    events: Vec<Recorded>,
    problem: Option<String>,
    /// When it will do with what it has, if that is anything; `None`: all or an error.
    settles_at: Option<Instant>,
    /// Events before its first one are lost.
    truncated: bool,
}

impl Page {
    fn is_full(&self) -> bool {
        self.events.len() >= self.limit || self.settles().is_some_and(|at| Instant::now() >= at)
    }

    /// When what it has is enough; never while it has nothing.
    fn settles(&self) -> Option<Instant> {
        self.settles_at.filter(|_| !self.events.is_empty())
    }

    /// Forgets events from a number on.
    fn cut(&mut self, from_seq: u64) {
        let kept = self.events.partition_point(|event| event.seq < from_seq);
        self.events.truncate(kept);
    }

    fn take_document(&mut self, document: &Document, last_seq: u64) {
        let more = document.history.after(self.reached(), self.limit - self.events.len());
        for event in more {
            if event.seq == self.reached() + 1 && event.seq <= last_seq {
                self.events.push(event);
            }
        }
    }

    fn checked(self, system: SystemId) -> Result<Self, EngineError> {
        match self.problem {
            Some(problem) => Err(corrupt(&system.to_string(), problem)),
            None => Ok(self),
        }
    }
}

impl Fold for Page {
    fn reached(&self) -> u64 {
        self.since_seq + self.events.len() as u64
    }

    fn take(&mut self, entry: Entry<'_>, last_seq: u64) -> ControlFlow<()> {
        let batch = entry.batch;
        match codec::event::decode(batch.payload, batch.first_seq, batch.count) {
            Ok(recorded) => {
                let reached = self.reached();
                let room = self.limit.saturating_sub(self.events.len());
                let fresh = recorded.into_iter().filter(|event| event.seq > reached && event.seq <= last_seq);
                self.events.extend(fresh.take(room));
            }
            Err(error) => {
                let first = batch.first_seq;
                self.problem = Some(format!("the events from {first} on can't be read: {error}"));
                return ControlFlow::Break(());
            }
        }
        if self.is_full() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn settles_at(&self) -> Option<Instant> {
        self.settles()
    }
}

fn missing(system: SystemId, from: u64, to: u64) -> EngineError {
    corrupt(
        &system.to_string(),
        format!("events {from} to {to} are neither in the log here, nor archived, nor in an old document"),
    )
}

//! Which segments are archived: a listing for each log, kept and carried on.
//!
//! **One fetch for all.** Whoever needs a listing that is under way waits for that one ([`Flight`]); no lock is held
//! meanwhile, and whoever can do with the listing that is there waits for nothing.
//!
//! **Carried on.** Segments' numbers rise, so that a listing goes on from the newest number known. Now and then a log is listed
//! whole again: a copied data directory may have archived under a lower number (docs/formats.md), and somebody may have
//! removed objects by hand.
//!
//! **When no listing can be made** the old one is served for a while, and that is said: a host that is gone archives nothing
//! more, and its segments' objects may well be readable.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::time::Instant;
use uuid::Uuid;

use super::FOLDER;
use crate::store::{Blobs, StoreError};

/// How old a listing may be where one need not be made now.
const AGE_MAX: Duration = Duration::from_secs(60);

/// How old one may be that is served because none can be made.
const STALE_MAX: Duration = Duration::from_secs(600);

/// After a listing has failed the next is tried no sooner.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// After so long a log is listed whole again.
const WHOLE_AGE_MAX: Duration = Duration::from_secs(600);

/// Segments of one log, beyond which nothing is read from it: 64 TiB of events with segments of 64 MiB.
const SEGMENTS_MAX: usize = 1 << 20;

/// A segment of a log in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name {
    pub(super) segment: u64,
    pub(super) suffix: u32,
}

/// A log's archived segments.
#[derive(Debug)]
pub(super) struct Names {
    /// Whether the segment has its index.
    pub(super) indexed: BTreeMap<Name, bool>,
    /// When all of the log was listed.
    whole: Instant,
}

/// The listings of all logs.
#[derive(Debug)]
pub(super) struct Listings {
    blobs: Blobs,
    logs: Flight<Vec<Uuid>>,
    names: Mutex<BTreeMap<Uuid, Arc<Flight<Names>>>>,
}

impl Listings {
    pub(super) fn of(blobs: Blobs) -> Self {
        Self { blobs, logs: Flight::default(), names: Mutex::default() }
    }

    /// Every log that has archived something. `fresh`: as it is now; else a minute ago does.
    pub(super) async fn logs(&self, fresh: bool) -> Result<Arc<Vec<Uuid>>, StoreError> {
        let logs = self.logs.get(fresh, |_| list_logs(self.blobs.clone()).boxed()).await?;
        self.lock().retain(|log, _| logs.contains(log));
        Ok(logs)
    }

    /// The archived segments of a log.
    pub(super) async fn names(&self, log: Uuid, fresh: bool) -> Result<Arc<Names>, StoreError> {
        let flight = Arc::clone(self.lock().entry(log).or_default());
        flight.get(fresh, |known| list_segments(self.blobs.clone(), log, known).boxed()).await
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, Arc<Flight<Names>>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn list_logs(blobs: Blobs) -> Result<Arc<Vec<Uuid>>, StoreError> {
    let folders = blobs.folders(FOLDER).await?;
    Ok(Arc::new(folders.iter().filter_map(|name| name.parse().ok()).collect()))
}

/// Lists a log from where `known` can't have changed.
async fn list_segments(blobs: Blobs, log: Uuid, known: Option<Arc<Names>>) -> Result<Arc<Names>, StoreError> {
    let known = known.filter(|known| known.whole.elapsed() < WHOLE_AGE_MAX);
    // The newest may have got its index since, or another of its number beside it: from itself on, so to speak.
    let unsure = |known: &Names| {
        let bare = known.indexed.iter().find(|(_, indexed)| !**indexed);
        bare.or_else(|| known.indexed.last_key_value()).map(|(name, _)| name.segment)
    };
    let after = known.as_deref().and_then(unsure).map(|segment| format!("{FOLDER}/{log}/{segment:020}"));
    let whole = Instant::now();
    let mut found = BTreeMap::new();
    let visit = &mut |key: &str| {
        if let Some((name, is_index)) = parse(key)
            && found.len() <= SEGMENTS_MAX
        {
            *found.entry(name).or_insert(false) |= is_index;
        }
    };
    blobs.visit_after(&format!("{FOLDER}/{log}"), after.as_deref(), visit).await?;
    let names = match known {
        None => Names { indexed: found, whole },
        Some(known) if found.iter().all(|(name, indexed)| known.indexed.get(name) == Some(indexed)) => {
            return Ok(known);
        }
        Some(known) => {
            let mut indexed = known.indexed.clone();
            indexed.extend(found);
            Names { indexed, whole: known.whole }
        }
    };
    if names.indexed.len() > SEGMENTS_MAX {
        let reason = format!("the archive of one log holds more than {SEGMENTS_MAX} segments");
        return Err(StoreError::Unavailable { what: "the archive", reason });
    }
    Ok(Arc::new(names))
}

/// What a key names: `…/<segment>[-<suffix>].idx` or `.seg.zst`.
fn parse(key: &str) -> Option<(Name, bool)> {
    let (name, kind) = key.rsplit('/').next()?.split_once('.')?;
    let (segment, suffix) = name.split_once('-').map_or((name, None), |(name, suffix)| (name, Some(suffix)));
    let is_index = match kind {
        "idx" => true,
        "seg.zst" => false,
        _ => return None,
    };
    let suffix = suffix.map_or(Ok(0), |suffix| u32::from_str_radix(suffix, 16)).ok()?;
    Some((Name { segment: segment.parse().ok()?, suffix }, is_index))
}

type Fetch<T> = BoxFuture<'static, Result<Arc<T>, StoreError>>;

/// A value that one caller fetches for all who want it. A caller who goes away leaves the fetch to the others, or to the next
/// one.
struct Flight<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    /// Counts callers and fetches: tells what began before what.
    turn: u64,
    known: Option<Known<T>>,
    under_way: Option<UnderWay<T>>,
    failed: Option<Instant>,
}

/// What the last fetch gave, and when it began.
struct Known<T> {
    value: Arc<T>,
    turn: u64,
    at: Instant,
}

struct UnderWay<T> {
    turn: u64,
    at: Instant,
    fetch: Shared<Fetch<T>>,
}

impl<T> Default for Flight<T> {
    fn default() -> Self {
        Self { state: Mutex::new(State { turn: 0, known: None, under_way: None, failed: None }) }
    }
}

impl<T> fmt::Debug for Flight<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flight")
    }
}

impl<T> Clone for UnderWay<T> {
    fn clone(&self) -> Self {
        Self { turn: self.turn, at: self.at, fetch: self.fetch.clone() }
    }
}

impl<T> State<T> {
    fn next(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }

    /// What is known, if it will do for whoever came at `asked`.
    fn serves(&self, asked: u64, fresh: bool) -> Option<Arc<T>> {
        let known = self.known.as_ref()?;
        let waits = self.failed.is_some_and(|failed| failed.elapsed() < TRY_AGAIN);
        let age_max = if waits { STALE_MAX } else { AGE_MAX };
        let serves = known.turn > asked || !fresh && known.at.elapsed() < age_max;
        serves.then(|| Arc::clone(&known.value))
    }

    /// The fetch that is under way, or a new one.
    fn join(&mut self, fetch: impl Fn(Option<Arc<T>>) -> Fetch<T>) -> UnderWay<T> {
        if self.under_way.is_none() {
            let known = self.known.as_ref().map(|known| Arc::clone(&known.value));
            let (turn, at) = (self.next(), Instant::now());
            self.under_way = Some(UnderWay { turn, at, fetch: fetch(known).shared() });
        }
        self.under_way.clone().expect("it was there or has been made")
    }

    /// Notes what a fetch came to; whoever comes first does.
    fn land(&mut self, flown: &UnderWay<T>, result: &Result<Arc<T>, StoreError>) {
        if self.under_way.as_ref().is_none_or(|under_way| under_way.turn != flown.turn) {
            return;
        }
        self.under_way = None;
        match result {
            Ok(value) => {
                self.failed = None;
                self.known = Some(Known { value: Arc::clone(value), turn: flown.turn, at: flown.at });
            }
            Err(error) => {
                self.failed = Some(Instant::now());
                let age_s = self.known.as_ref().map(|known| known.at.elapsed().as_secs());
                tracing::warn!(%error, age_s, "the archive can't be listed now; a listing that is not too old is used");
            }
        }
    }
}

impl<T> Flight<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value. `fresh`: as a fetch gave it that began after this call.
    async fn get(
        &self,
        fresh: bool,
        fetch: impl Fn(Option<Arc<T>>) -> Fetch<T>,
    ) -> Result<Arc<T>, StoreError> {
        let asked = self.lock().next();
        loop {
            let flown = {
                let mut state = self.lock();
                if let Some(value) = state.serves(asked, fresh) {
                    return Ok(value);
                }
                state.join(&fetch)
            };
            let result = flown.fetch.clone().await;
            let mut state = self.lock();
            state.land(&flown, &result);
            match result {
                // One that began before this call may be too old for it: once more.
                Ok(value) if !fresh || flown.turn > asked => return Ok(value),
                Ok(_) => {}
                Err(error) => return state.serves(asked, fresh).ok_or(error),
            }
        }
    }
}

#[cfg(test)]
mod tests;

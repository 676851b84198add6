//! The way out of damage: what can be kept, what can't, and the doing of it. Nothing that is damaged is ever removed or
//! altered: the log is built anew beside the old one, which is then set aside whole; states are written as new objects.
//!
//! A crash at any point leaves either the old log in place, and [`Inspector::plan`] finds the rest of the work, or the new
//! one, and the work is done:
//!
//! 1. the new log, complete and synced, in a directory beside the old one;
//! 2. for each system whose stored states are all damaged: a new object, then its row;
//! 3. the two directories change places in one step; the old one then gets a name that says what it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mipro_telemetry::{Stage, clock};
use serde::Serialize;
use uuid::Uuid;

use super::point::Point;
use super::problem::Problem;
use super::rebuild::{Cut, Rebuilt, rebuild, swap};
use super::replay::{Loaded, Named, state_hash};
use super::segments::LostRecords;
use super::{InspectError, Inspector, PAGE, ledger};
use crate::log::EventLog as _;
use crate::log::disk::{Disk as _, Lock, RealDisk};
use crate::snapshot::archive::index::ArchiveIndex;
use crate::snapshot::archive::{index_key, segment_key};
use crate::snapshot::{format, is_snapshot, key};
use crate::store::blobs::PutRule;
use crate::store::{StoreError, SystemRow, WriteRule};
use crate::system::State;

/// Archived segments that are taken in the place of damaged ones, in memory while the repair runs.
const RESCUED_MAX: usize = 8;
/// Snapshots of one system that are looked at when none that its row names is whole.
const SNAPSHOTS_MAX: usize = 1_000;

/// Events that are lost, as far as that can be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// The first.
    pub first_seq: u64,
    /// The last that is known of.
    pub last_seq: u64,
}

/// What is to be done about a system.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SystemPlan {
    /// Which.
    pub system: Uuid,
    /// What is wrong with it.
    pub problem: String,
    /// Number of the newest event that it will have; `None`: nothing of it can be made, it stays as it is.
    pub keeps_to: Option<u64>,
    /// What it loses.
    pub lost: Option<Lost>,
    /// Its state is stored anew, since none that its row names is whole.
    pub new_snapshot: bool,
    /// BLAKE3 of the state it will have.
    pub state_hash: Option<String>,
    /// The log holds more of it than it keeps.
    #[serde(skip)]
    cuts_log: bool,
    #[serde(skip)]
    row: Option<SystemRow>,
    #[serde(skip)]
    state: Option<Box<State>>,
}

/// What is to be done.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Plan {
    /// What is wrong with the log.
    pub problems: Vec<Problem>,
    /// Damaged segments of which the archive has a whole copy.
    pub rescued: Vec<u64>,
    /// The systems that something is done about.
    pub systems: Vec<SystemPlan>,
    /// Lost records that snapshots cover: no state needs them, but the events in them can't be shown any more.
    pub lost_history: u64,
    /// Lost records of which nobody can say whose they were.
    pub lost_unknown: u64,
    /// Whether the log is built anew.
    pub rebuilds_log: bool,
    #[serde(skip)]
    inspected: Option<super::LogDir>,
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.rebuilds_log && self.systems.is_empty()
    }

    /// Whether events are lost by it, or stay out of reach.
    #[must_use]
    pub fn loses(&self) -> bool {
        self.lost_unknown > 0
            || self.systems.iter().any(|plan| plan.lost.is_some() || plan.keeps_to.is_none())
    }
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// Where the old log is now; `None` where it was not touched.
    pub set_aside: Option<PathBuf>,
    /// Records of the old log that the new one has.
    pub records: u64,
    /// Records left out, as the plan said; they are in the log that was set aside.
    pub left_out: u64,
    /// States stored anew.
    pub snapshots: u64,
}

impl Inspector {
    /// What can be done about what is damaged. Changes nothing.
    ///
    /// # Errors
    /// The stores or the log can't be read.
    pub async fn plan(&self) -> Result<Plan, InspectError> {
        let log = Arc::clone(&self.read_log);
        let (_, scan) = self.blocking(move || log.scanned()).await?;
        let mut plan = Plan { problems: scan.problems.clone(), ..Plan::default() };
        plan.rebuilds_log = !scan.problems.is_empty();
        let mut dir = self.log.clone();
        for id in scan.damaged_segments().take(RESCUED_MAX) {
            let Some(log) = scan.log else { break };
            if let Some(bytes) = self.archived_segment(log, id).await? {
                dir.overlay(id, bytes);
                plan.rescued.push(id);
            }
        }
        // From here on the log is what it will be: with the archive's copies in place of what is damaged.
        let inspector = self.over(dir.clone());
        let log = Arc::clone(&inspector.read_log);
        let (catalog, scan) = inspector.blocking(move || log.scanned()).await?;
        let mut lost: BTreeMap<Uuid, Vec<LostRecords>> = BTreeMap::new();
        let mut unknown = scan.lost;
        for records in inspector.blocking(move || dir_lost(&dir, &scan)).await? {
            unknown = unknown.saturating_sub(1);
            lost.entry(records.system).or_default().push(records);
        }
        let mut after = None;
        loop {
            let rows = self.stores.table.list(after, PAGE, &ledger()).await?;
            let Some(last) = rows.last() else { break };
            after = Some(last.system_id);
            for row in rows {
                let last = catalog.get(row.system_id).map_or(0, |held| held.last_seq);
                let named = lost.get(&row.system_id).map_or(&[][..], Vec::as_slice);
                plan.systems.extend(inspector.plan_system(row, last, named, &mut plan.lost_history).await?);
            }
        }
        // Without indexes, a gap in a system's events tells of one lost record at least.
        let gaps = plan.systems.iter().filter(|plan| plan.lost.is_some()).count() as u64;
        plan.lost_unknown = if lost.is_empty() { unknown.saturating_sub(gaps) } else { unknown };
        plan.rebuilds_log |= plan.systems.iter().any(|plan| plan.cuts_log);
        plan.inspected = Some(inspector.log.clone());
        Ok(plan)
    }

    /// This inspector with another log.
    fn over(&self, dir: super::LogDir) -> Self {
        Self::with(self.stores.clone(), dir)
    }

    /// A segment's archived copy, if there is a whole one.
    async fn archived_segment(&self, log: Uuid, id: u64) -> Result<Option<Vec<u8>>, InspectError> {
        let get = async |key: String| match self.stores.blobs.get(&key, &ledger()).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error),
        };
        let Some(index) = get(index_key(log, id, 0)).await? else { return Ok(None) };
        let Ok(ArchiveIndex { about, .. }) = ArchiveIndex::decode(&index) else { return Ok(None) };
        let Some(stored) = get(segment_key(log, id, about.suffix)).await? else { return Ok(None) };
        let length = usize::try_from(about.raw_bytes).unwrap_or(usize::MAX);
        let raw = zstd::bulk::decompress(&stored, length.min(1 << 31)).ok();
        Ok(raw.filter(|raw| *blake3::hash(raw).as_bytes() == about.checksum))
    }

    /// What is to be done about one system; `None`: nothing.
    async fn plan_system(
        &self,
        row: SystemRow,
        last_logged: u64,
        named: &[LostRecords],
        lost_history: &mut u64,
    ) -> Result<Option<SystemPlan>, InspectError> {
        let system = row.system_id;
        let problem = match self.recover(system).await {
            Ok(recovered) => {
                let version = recovered.state.version;
                *lost_history += named.iter().filter(|lost| lost.last_seq <= version).count() as u64;
                let lost = lost_beyond(version, version, named);
                return Ok(lost.map(|lost| SystemPlan {
                    problem: "its newest events were in a damaged part of the log".to_owned(),
                    lost: Some(lost),
                    ..SystemPlan::kept(system, version)
                }));
            }
            Err(InspectError::Engine(error)) if error.is_retryable() => return Err(error.into()),
            Err(error) => error.to_string(),
        };
        let (loaded, new_snapshot) = self.best(&row).await?;
        let Some(Loaded { state, .. }) = loaded else {
            let lost = Some(Lost { first_seq: 1, last_seq: row.version.max(last_logged) });
            return Ok(Some(SystemPlan { problem, lost, keeps_to: None, ..SystemPlan::kept(system, 0) }));
        };
        let keeps_to = state.version;
        Ok(Some(SystemPlan {
            problem,
            lost: lost_beyond(keeps_to, row.version.max(last_logged), named),
            new_snapshot,
            cuts_log: last_logged > keeps_to,
            state_hash: Some(state_hash(&state)),
            state: new_snapshot.then(|| Box::new(state)),
            row: Some(row),
            ..SystemPlan::kept(system, keeps_to)
        }))
    }

    /// The newest state that can be made of a system, and whether it must be stored anew for a start to find it.
    async fn best(&self, row: &SystemRow) -> Result<(Option<Loaded>, bool), InspectError> {
        let system = row.system_id;
        if let Some(named) = Named::current(row)
            && let Ok(base) = self.load(system, &named).await
        {
            let tail = self.tail(base, None).await?;
            // What follows here is no start's to fold where another host has claimed the system: stored, it is.
            let foreign = row.claimed_by.is_some_and(|by| !self.read_log.is_or_was(by));
            let anew = foreign && tail.state.version > row.version;
            return Ok((Some(Loaded { state: tail.state, epoch: tail.epoch }), anew));
        }
        let mut best = None;
        let previous = Named::previous(row);
        let stored = self.stored_snapshots(system).await?.into_iter().map(Named::unchecked);
        for named in previous.into_iter().chain(stored.flatten()) {
            let Ok(base) = self.load(system, &named).await else { continue };
            let tail = self.onward(base, Point::Seq(u64::MAX)).await?;
            keep_newer(&mut best, tail);
        }
        if let Some(state) = self.refold(row, Point::Seq(u64::MAX)).await?.state {
            keep_newer(&mut best, Loaded { state, epoch: row.epoch });
        }
        Ok((best, true))
    }

    /// Keys of all snapshots of a system that the store has, newest first.
    async fn stored_snapshots(&self, system: Uuid) -> Result<Vec<String>, InspectError> {
        let mut keys = self.stores.blobs.list(&format!("systems/{system}/snap"), SNAPSHOTS_MAX).await?;
        keys.retain(|key| is_snapshot(key));
        keys.reverse();
        Ok(keys)
    }

    /// Does what a plan says.
    ///
    /// # Errors
    /// A service holds the log, or a store or the disk fails; see the module for what is then left.
    pub async fn repair(&self, plan: &mut Plan) -> Result<Repaired, InspectError> {
        let _lock = self.lock().await?;
        let mut repaired = Repaired::default();
        let cutting = plan.systems.iter().filter(|plan| plan.cuts_log);
        let cut: Cut = cutting.filter_map(|plan| Some((plan.system, plan.keeps_to?))).collect();
        let log = plan.inspected.clone().unwrap_or_else(|| self.log.clone());
        let staged = if plan.rebuilds_log { Some(self.stage(log, cut).await?) } else { None };
        for system in plan.systems.iter_mut().filter(|plan| plan.new_snapshot) {
            if let (Some(row), Some(state)) = (&system.row, system.state.take()) {
                self.store_anew(row, *state).await?;
                repaired.snapshots += 1;
            }
        }
        if let Some((dir, rebuilt)) = staged {
            repaired.set_aside = Some(self.swap(dir).await?);
            (repaired.records, repaired.left_out) = (rebuilt.records, rebuilt.left_out);
        }
        Ok(repaired)
    }

    /// Stores a state under a new epoch, whatever the row is at.
    async fn store_anew(&self, row: &SystemRow, state: State) -> Result<(), InspectError> {
        let held = self.catalog().await?.get(row.system_id).map_or(0, |held| held.epoch);
        let epoch = row.epoch.max(held) + 1;
        self.put_state(&state, epoch, true).await
    }

    /// Puts a state's object, then makes the row name it. `false` for `replace`: only where there is no row.
    pub(super) async fn put_state(
        &self,
        state: &State,
        epoch: u64,
        replace: bool,
    ) -> Result<(), InspectError> {
        let packed = format::pack(state, epoch)?;
        let bytes = packed.bytes.len() as u64;
        let key = key(state.system_id, epoch, state.version, Some(Uuid::new_v4()));
        self.stores.blobs.put(&key, packed.bytes, PutRule::Create, Stage::S3Put, &ledger()).await?;
        let row = SystemRow {
            system_id: state.system_id,
            org_id: state.org_id,
            status: state.status.name().to_owned(),
            mode: state.spec.mode.name().to_owned(),
            version: state.version,
            state_ref: Some(key),
            epoch,
            claimed_by: None,
            state_bytes: Some(bytes),
            state_checksum: Some(packed.checksum),
            previous: None,
            updated_at: None,
        };
        let rule = if replace { WriteRule::Overwrite } else { WriteRule::Advance };
        if self.stores.table.upsert(&row, rule, &ledger()).await? {
            return Ok(());
        }
        Err(InspectError::refused(
            "somebody made a system of that id in this very moment; nothing was changed",
        ))
    }

    /// Takes the log's lock, so that no service starts while it is changed.
    pub(super) async fn lock(&self) -> Result<Option<Box<dyn Lock>>, InspectError> {
        let path = self.log.path().to_owned();
        let lock = self.blocking(move || {
            if !path.is_dir() {
                return Ok(None);
            }
            RealDisk.open_dir(&path)?.lock("lock").map(Some)
        });
        lock.await.map_err(|error| match error {
            InspectError::Log { source, .. } if source.kind() == std::io::ErrorKind::WouldBlock => {
                InspectError::refused("a service is running on this data directory: stop it first")
            }
            other => other,
        })
    }

    /// Builds a new log beside the old one.
    pub(super) async fn stage(
        &self,
        log: super::LogDir,
        cut: Cut,
    ) -> Result<(PathBuf, Rebuilt), InspectError> {
        let dir = beside(self.log.path(), "new");
        let made = dir.clone();
        let rebuilt = self.blocking(move || rebuild(&log, &made, &cut)).await;
        if rebuilt.is_err() {
            // It was never in use, and takes room that may be what is missing.
            let _ = std::fs::remove_dir_all(&dir);
        }
        Ok((dir, rebuilt?))
    }

    /// Puts the new log in the old one's place; gives where the old one is now.
    pub(super) async fn swap(&self, new: PathBuf) -> Result<PathBuf, InspectError> {
        let (old, aside) = (self.log.path().to_owned(), beside(self.log.path(), "set-aside"));
        let named = aside.clone();
        self.blocking(move || swap(&old, &new, &named)).await?;
        self.read_log.forget();
        Ok(aside)
    }
}

impl SystemPlan {
    fn kept(system: Uuid, keeps_to: u64) -> Self {
        Self {
            system,
            problem: String::new(),
            keeps_to: Some(keeps_to),
            lost: None,
            new_snapshot: false,
            cuts_log: false,
            state_hash: None,
            row: None,
            state: None,
        }
    }
}

fn keep_newer(best: &mut Option<Loaded>, loaded: Loaded) {
    if best.as_ref().is_none_or(|best| best.state.version < loaded.state.version) {
        *best = Some(loaded);
    }
}

/// What is lost behind `kept`, knowing of events up to `known` and of lost records.
fn lost_beyond(kept: u64, known: u64, named: &[LostRecords]) -> Option<Lost> {
    let named = named.iter().map(|lost| lost.last_seq).max().unwrap_or(0);
    let last_seq = known.max(named);
    (last_seq > kept).then(|| Lost { first_seq: kept + 1, last_seq })
}

fn dir_lost(dir: &super::LogDir, scan: &super::Scan) -> std::io::Result<Vec<LostRecords>> {
    let mut lost = Vec::new();
    for id in scan.damaged_segments() {
        lost.extend(dir.lost_records(id)?);
    }
    Ok(lost)
}

/// A name beside the log's directory that says what it is and from when.
fn beside(log: &Path, what: &str) -> PathBuf {
    let name = log.file_name().map_or_else(|| "log".to_owned(), |name| name.to_string_lossy().into_owned());
    log.with_file_name(format!("{name}.{what}-{}", clock::unix_us()))
}

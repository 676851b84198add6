//! Whether all that is stored is whole: the log, what each row names, and how they fit.

use std::ops::ControlFlow;
use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

use super::point::Point;
use super::problem::{Place, Problem, remedy};
use super::replay::{Fault, Named, state_hash};
use super::segments::Scan;
use super::{InspectError, Inspector, PAGE, ledger};
use crate::log::segment::visit_bytes;
use crate::snapshot::archive::index::ArchiveIndex;
use crate::snapshot::archive::{FOLDER, segment_key};
use crate::store::SystemRow;
use crate::system::State;

/// How often a system is looked at again that a running service changes under our eyes.
const LOOKS: usize = 3;
/// Objects of the archive that are looked at.
const ARCHIVED_MAX: usize = 400_000;
/// Longest segment there is.
const RAW_BYTES_MAX: usize = 1 << 31;

/// What the log's directory holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogReport {
    /// Segments.
    pub segments: u64,
    /// Whole records in them.
    pub records: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// The newest whole record.
    pub last_lsn: u64,
    /// How far it was synced for certain.
    pub durable_lsn: Option<u64>,
    /// Bytes at its end that were never acknowledged; a start cuts them.
    pub torn_bytes: u64,
    /// Systems that it holds events of.
    pub systems: u64,
}

/// What the archive holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ArchiveReport {
    /// Whole archived segments, of all logs that were archived to these stores.
    pub segments: u64,
    /// Bytes of their objects.
    pub bytes: u64,
}

/// What was found of a system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SystemReport {
    /// Which.
    pub system: Uuid,
    /// Number of the newest event that a start recovers; of the row's snapshot where nothing can be recovered.
    pub version: u64,
    /// The row's epoch.
    pub epoch: u64,
    /// Number of the newest event in the snapshot that it is recovered from.
    pub snapshot_seq: Option<u64>,
    /// BLAKE3 of the recovered state's encoding; `None` where nothing can be recovered.
    pub state_hash: Option<String>,
    /// The same of the state folded from the first event on; `None` where the whole history is not there.
    pub refold_hash: Option<String>,
    /// The oldest event that is still there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history_begins_at: Option<u64>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

impl Inspector {
    /// What the log's directory holds, and what is wrong with it. Does not need the stores.
    ///
    /// # Errors
    /// The directory can't be read.
    pub async fn verify_log(&self) -> Result<(LogReport, Vec<Problem>), InspectError> {
        let log = Arc::clone(&self.read_log);
        let (catalog, scan) = self.blocking(move || log.scanned()).await?;
        let Scan { segments, records, bytes, last_lsn, durable, torn_bytes, .. } = *scan;
        let report = LogReport {
            segments,
            records,
            bytes,
            last_lsn: last_lsn.0,
            durable_lsn: durable.map(|lsn| lsn.0),
            torn_bytes,
            systems: catalog.systems.len() as u64,
        };
        Ok((report, scan.problems.clone()))
    }

    /// Every archived segment, from end to end; one is in memory at a time.
    ///
    /// # Errors
    /// The object store can't be listed.
    pub async fn verify_archive(&self) -> Result<(ArchiveReport, Vec<Problem>), InspectError> {
        let (mut report, mut problems) = (ArchiveReport::default(), Vec::new());
        let mut keys = self.stores.blobs.list(FOLDER, ARCHIVED_MAX).await?;
        // An index is put last: a segment without one was being archived, and is still in its log.
        keys.retain(|key| key.ends_with(".idx"));
        for key in keys {
            match self.archived(&key).await {
                Ok(bytes) => {
                    report.segments += 1;
                    report.bytes += bytes;
                }
                Err((object, problem)) => problems.push(Problem {
                    // These keys name logs and segments, never a system.
                    place: Place::Object { object, offset: None },
                    system: None,
                    problem,
                    means: "no state is touched; the events in it can't be shown, nor a state be folded from them".to_owned(),
                    remedy: remedy::ARCHIVE,
                }),
            }
        }
        Ok((report, problems))
    }

    /// Bytes of an archived segment's object, if it is whole; else what is wrong with which object.
    async fn archived(&self, key: &str) -> Result<u64, (String, String)> {
        let get = async |key: &str| {
            let got = self.stores.blobs.get(key, &ledger()).await;
            got.map_err(|error| (key.to_owned(), error.to_string()))
        };
        let ArchiveIndex { about, .. } =
            ArchiveIndex::decode(&get(key).await?).map_err(|e| (key.to_owned(), e))?;
        let segment = segment_key(about.log_id, about.segment, about.suffix);
        let stored = get(&segment).await?;
        let bytes = stored.len() as u64;
        let read = tokio::task::spawn_blocking(move || {
            let length = usize::try_from(about.raw_bytes).unwrap_or(usize::MAX).min(RAW_BYTES_MAX);
            let raw =
                zstd::bulk::decompress(&stored, length).map_err(|_| "it can't be inflated".to_owned())?;
            if *blake3::hash(&raw).as_bytes() != about.checksum {
                return Err("its content is not what its index says".to_owned());
            }
            visit_bytes(&raw, None, 0, &mut |_| ControlFlow::Continue(())).map_err(|error| error.to_string())
        });
        let read = read.await.unwrap_or_else(|_| Err("reading it panicked".to_owned()));
        read.map(|()| bytes).map_err(|problem| (segment, problem))
    }

    /// The systems to be verified after `after`, a page at a time; empty behind the last.
    ///
    /// # Errors
    /// The table can't be read.
    pub async fn page(&self, after: Option<Uuid>) -> Result<Vec<SystemRow>, InspectError> {
        Ok(self.stores.table.list(after, PAGE, &ledger()).await?)
    }

    /// Everything that is stored of one system.
    ///
    /// # Errors
    /// There is no such system, or the table or the log can't be read.
    pub async fn verify(&self, system: Uuid) -> Result<SystemReport, InspectError> {
        let mut looks = 1;
        loop {
            let log = self.log.clone();
            let marks = self.blocking(move || log.marks()).await?;
            let row = self.row(system).await?;
            let report = self.look(&row).await?;
            if report.problems.is_empty() || looks == LOOKS {
                return Ok(report);
            }
            // A service that runs may have moved on: what the row named is then rightly gone, and the log has more.
            let log = self.log.clone();
            let moved = self.blocking(move || log.marks()).await? != marks || self.row(system).await? != row;
            if !moved && looks > 1 {
                return Ok(report);
            }
            // The first look may have had a log in hand that was read long before.
            self.read_log.forget();
            looks += 1;
        }
    }

    async fn look(&self, row: &SystemRow) -> Result<SystemReport, InspectError> {
        let mut report = SystemReport {
            system: row.system_id,
            version: row.version,
            epoch: row.epoch,
            snapshot_seq: None,
            state_hash: None,
            refold_hash: None,
            history_begins_at: None,
            problems: Vec::new(),
        };
        self.look_at_states(row, &mut report).await?;
        match self.recover(row.system_id).await {
            Ok(recovered) => {
                report.version = recovered.state.version;
                report.snapshot_seq = Some(recovered.snapshot_seq);
                report.state_hash = Some(state_hash(&recovered.state));
                self.look_at_history(row, &recovered.state, &mut report).await;
                // What does not follow in the log is no damage where the archive fills it.
                report.problems.retain(|problem| problem.place.is_stored());
            }
            Err(InspectError::Engine(error)) => {
                // Where it is wrong has been found most often; then it is told with its place.
                if report.problems.iter().all(|problem| problem.remedy == remedy::NOTHING) {
                    report.problems.push(unrecoverable(row.system_id, error.to_string()));
                }
            }
            Err(error) => return Err(error),
        }
        Ok(report)
    }

    /// Both states that the row names, and what follows the one that a start takes.
    async fn look_at_states(&self, row: &SystemRow, report: &mut SystemReport) -> Result<(), InspectError> {
        let system = row.system_id;
        let named = [Named::current(row), Named::previous(row)];
        if named[0].is_none() {
            report.problems.push(unnamed(system));
        }
        let mut taken = None;
        for (i, named) in named.iter().enumerate() {
            let Some(named) = named else { continue };
            match self.load(system, named).await {
                Ok(base) => {
                    taken.get_or_insert(base);
                }
                Err(fault) => {
                    let other = taken.is_some() || self.other_is_whole(row, i, &named.key).await;
                    report.problems.push(bad_state(system, named, &fault, i == 0, other));
                }
            }
        }
        let Some(base) = taken else { return Ok(()) };
        let tail = self.tail(base, None).await?;
        if let Some((place, fault)) = &tail.fault {
            report.problems.push(bad_tail(system, place.clone(), fault));
        }
        Ok(())
    }

    async fn other_is_whole(&self, row: &SystemRow, bad: usize, key: &str) -> bool {
        let other = if bad == 0 { Named::previous(row) } else { Named::current(row) };
        let Some(other) = other.filter(|other| other.key != key) else { return false };
        let loaded = self.load(row.system_id, &other).await;
        loaded.is_ok()
    }

    /// Whether the history, as far as it is there, leads to this very state.
    async fn look_at_history(&self, row: &SystemRow, state: &State, report: &mut SystemReport) {
        let refold = self.refold(row, Point::Seq(state.version)).await;
        let refold = match refold {
            Ok(refold) => refold,
            Err(error) => {
                report.problems.push(Problem {
                    place: Place::History,
                    system: Some(row.system_id),
                    problem: format!("it can't be read: {error}"),
                    means: "the state is whole; its events can't all be shown, nor folded again".to_owned(),
                    remedy: remedy::ARCHIVE,
                });
                return;
            }
        };
        report.history_begins_at = refold.begins_at;
        let Some(folded) = refold.state else { return };
        let hash = state_hash(&folded);
        if report.state_hash.as_ref() != Some(&hash) {
            report.problems.push(Problem {
                place: Place::History,
                system: Some(row.system_id),
                problem: "folding all its events gives another state than the one recovered".to_owned(),
                means:
                    "state and events contradict each other: a fault of this program, or of the object store"
                        .to_owned(),
                remedy: remedy::REPORT,
            });
        }
        report.refold_hash = Some(hash);
    }
}

fn unrecoverable(system: Uuid, problem: String) -> Problem {
    Problem {
        place: Place::History,
        system: Some(system),
        problem,
        means: "the system can't be loaded".to_owned(),
        remedy: remedy::REPAIR,
    }
}

fn unnamed(system: Uuid) -> Problem {
    Problem {
        place: Place::Row,
        system: Some(system),
        problem: Fault::Unnamed.to_string(),
        means: "the system can't be loaded".to_owned(),
        remedy: remedy::REPAIR,
    }
}

fn bad_state(system: Uuid, named: &Named, fault: &Fault, newest: bool, other: bool) -> Problem {
    let (means, remedy) = match (fault, newest, other) {
        (Fault::Unreachable { .. }, ..) => ("nothing is known of it", remedy::LOOK),
        (_, true, true) => {
            ("a start takes the state before it, and a longer tail of the log", remedy::NOTHING)
        }
        (_, false, true) => ("nothing falls back on it while the newest state is whole", remedy::NOTHING),
        _ => ("no state that its row names is whole: the system can't be loaded", remedy::REPAIR),
    };
    let which = if newest { "newest" } else { "previous" };
    Problem {
        place: Place::object(&named.key),
        system: Some(system),
        problem: format!("the {which} state, at event {}: {fault}", named.version),
        means: means.to_owned(),
        remedy,
    }
}

fn bad_tail(system: Uuid, place: Place, fault: &Fault) -> Problem {
    let means = match fault {
        Fault::Superseded { .. } => {
            "another process has written this system's state in the meantime: the log in this directory has been overtaken, and \
             what it holds beyond that state was decided without knowing it; the system can't be loaded here"
        }
        Fault::Gap { .. } => {
            "the events between are lost, and those behind can't be applied; the system can't be loaded"
        }
        _ => "the system can't be loaded",
    };
    Problem {
        place,
        system: Some(system),
        problem: fault.to_string(),
        means: means.to_owned(),
        remedy: remedy::REPAIR,
    }
}

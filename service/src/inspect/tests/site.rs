//! What a service leaves behind.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

use crate::codec;
use crate::config::{Flags, Options};
use crate::inspect::{InspectError, Inspector, SystemReport};
use crate::log::disk::RealDisk;
use crate::log::segment::{OpenError, SegmentLog, SegmentOptions};
use crate::log::{Batch, EventLog, Level};
use crate::offload::Offload;
use crate::snapshot::{Attempt, SnapshotWriter};
use crate::store::{Stores, SystemRow};
use crate::system::{
    Command, Context, NewSystem, NoProbe, Prompt, Recorded, State, Status, StatusReport, SystemSpec, apply,
    begin, decide, record,
};

const START_US: u64 = 1_700_000_000_000_000;
/// Small enough that a few rollouts fill several.
const SEGMENT_BYTES: u64 = 4 << 10;

/// A system as its writer knows it.
pub(super) struct Life {
    pub(super) state: State,
    pub(super) history: Vec<Recorded>,
    attempt: Attempt,
}

/// A data directory and its stores.
pub(super) struct Site {
    pub(super) dir: TempDir,
    pub(super) options: Options,
    pub(super) stores: Stores,
    log: Option<Arc<SegmentLog>>,
    pub(super) lives: BTreeMap<Uuid, Life>,
    writer: SnapshotWriter,
    now_us: u64,
    pub(super) epoch: u64,
}

pub(super) fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn spec() -> SystemSpec {
    let prompt: Prompt = serde_json::from_value(json!({
        "id": "p", "name": "P",
        "messages": [{"role": "user", "order": 0, "pattern": "Query: {query}"}],
        "wildcards": {"query": "REQUIRED"},
    }))
    .unwrap();
    SystemSpec { prompt: prompt.into(), ..SystemSpec::default() }
}

impl Site {
    pub(super) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let flags = Flags { data_dir: Some(dir.path().join("data")), ..Flags::default() };
        let options = Options::load_with(&flags, &BTreeMap::new()).unwrap();
        let stores = crate::app::open_stores(&options).await.unwrap();
        let writer = SnapshotWriter::new(
            stores.clone(),
            mipro_telemetry::Recorders::new(),
            Arc::default(),
            Offload::Pool,
        );
        let mut site = Self {
            dir,
            options,
            stores,
            log: None,
            lives: BTreeMap::new(),
            writer,
            now_us: START_US,
            epoch: 1,
        };
        site.open().unwrap();
        site
    }

    /// Several systems with events in several segments, snapshots behind them; the log closed as a clean stop closes it.
    pub(super) async fn grown() -> Self {
        let mut site = Self::new().await;
        for system in 1..=3 {
            site.begin(id(system)).await;
        }
        // As an engine does before a stay's first event.
        site.epoch += 1;
        for system in 1..=3 {
            let (table, seen) = (Arc::clone(&site.stores.table), site.row(system).await.mark());
            let (log, ledger) = (site.log().id(), crate::inspect::ledger());
            assert!(table.claim(id(system), seen, site.epoch, log, &ledger).await.unwrap());
        }
        for round in 0..30 {
            for system in 1..=3 {
                site.reward(id(system), &format!("r{round}"));
            }
            if round == 5 || round == 10 {
                site.snapshot(id(1)).await;
                site.snapshot(id(2)).await;
            }
        }
        site.close();
        // The next start makes the indexes that the stop left unwritten.
        site.open().unwrap();
        site.close();
        site
    }

    pub(super) fn log_dir(&self) -> PathBuf {
        self.options.data_dir.join("log")
    }

    pub(super) fn open(&mut self) -> Result<(), OpenError> {
        let options = SegmentOptions { segment_bytes: SEGMENT_BYTES, ..SegmentOptions::at(self.log_dir()) };
        let (log, _) = SegmentLog::open(options, Arc::new(RealDisk))?;
        self.log = Some(log);
        Ok(())
    }

    pub(super) fn close(&mut self) {
        self.log = None;
    }

    pub(super) fn log(&self) -> &SegmentLog {
        self.log.as_ref().expect("the log is open")
    }

    fn context(&mut self) -> Context {
        self.now_us += 1_000_000;
        Context { now_us: self.now_us, seed: self.now_us }
    }

    fn append(&self, system: Uuid, events: &[Recorded]) {
        let mut payload = Vec::new();
        codec::event::encode(events, &mut payload);
        let count = u32::try_from(events.len()).unwrap();
        let batch = Batch { system, epoch: self.epoch, first_seq: events[0].seq, count, payload: &payload };
        while self.log().append(&batch).is_err() {
            std::thread::yield_now();
        }
    }

    pub(super) async fn begin(&mut self, system: Uuid) {
        let context = self.context();
        let new = NewSystem { system_id: system, org_id: id(0xa), name: None, spec: spec() };
        let (state, history, _) = begin(&new, &context);
        self.append(system, &history);
        let (_, attempt) = self
            .writer
            .write_first(state.clone(), self.epoch, None, &crate::inspect::ledger())
            .await
            .unwrap();
        self.lives.insert(system, Life { state, history, attempt });
    }

    pub(super) fn reward(&mut self, system: Uuid, rollout: &str) {
        let context = self.context();
        let report = StatusReport {
            rollout_id: rollout.to_owned(),
            status: Status::RewardDone,
            reward: Some(0.5),
            candidate_id: Some("baseline".to_owned()),
        };
        let state = &self.lives[&system].state;
        let decision = decide(state, &Command::Report(report), &context, &mut NoProbe).unwrap();
        let events = record(state, decision.events, &context);
        self.append(system, &events);
        let life = self.lives.get_mut(&system).unwrap();
        events.iter().for_each(|event| apply(&mut life.state, event, &mut NoProbe));
        life.history.extend(events);
    }

    pub(super) async fn snapshot(&mut self, system: Uuid) {
        let epoch = self.epoch;
        let life = self.lives.get_mut(&system).unwrap();
        self.writer.write(life.state.clone(), epoch, &mut life.attempt).await.unwrap();
    }

    pub(super) async fn sync(&self) {
        let last = self.log().health().appended;
        self.log().reached(Level::Disk).unwrap().wait_for(|durable| *durable >= last).await.unwrap();
    }

    pub(super) async fn inspector(&self) -> Inspector {
        Inspector::open(&self.options).await.unwrap()
    }

    pub(super) fn state(&self, system: u128) -> &State {
        &self.lives[&id(system)].state
    }

    pub(super) async fn row(&self, system: u128) -> SystemRow {
        self.stores.table.get(id(system), &crate::inspect::ledger()).await.unwrap().unwrap()
    }

    pub(super) fn object(&self, key: &str) -> PathBuf {
        self.options.data_dir.join("blobs").join(key)
    }

    /// Files of the log with this ending, oldest first.
    pub(super) fn files(&self, ending: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.log_dir()).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.to_string_lossy().ends_with(ending));
        files.sort();
        files
    }

    pub(super) async fn verify(&self) -> Vec<SystemReport> {
        let inspector = self.inspector().await;
        let mut reports = Vec::new();
        for row in inspector.page(None).await.unwrap() {
            reports.push(inspector.verify(row.system_id).await.unwrap());
        }
        reports
    }

    /// Whether a start would take this log, without changing it.
    pub(super) fn starts(&self) -> bool {
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(self.log_dir()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        let options = SegmentOptions { segment_bytes: SEGMENT_BYTES, ..SegmentOptions::at(copy.path()) };
        SegmentLog::open(options, Arc::new(RealDisk)).is_ok()
    }
}

/// Flips one bit of a file.
pub(super) fn flip(path: &std::path::Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

pub(super) fn refusal<T: std::fmt::Debug>(result: Result<T, InspectError>) -> String {
    result.expect_err("this must be refused").to_string()
}

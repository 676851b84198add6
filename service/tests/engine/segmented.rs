//! A log of segments in memory, systems that live in it, and what tests do to both.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use mipro_service::clock::Contexts;
use mipro_service::codec;
use mipro_service::engine::Access;
use mipro_service::history::HistoryReader;
use mipro_service::log::{
    AppendError, Batch, Entry, EventLog, Health, Level, Lsn, ReadError, Sealed, Segments, Span,
};
use mipro_service::offload::Offload;
use mipro_service::recovery::{Recovered, Recovery};
use mipro_service::snapshot::archive::{Archive, ArchiveOptions, Archiver};
use mipro_service::snapshot::{Attempt, SnapshotWriter, Written};
use mipro_service::system::{Command, NewSystem, NoProbe, Recorded, State, SystemId, begin, execute};
use mipro_telemetry::{Ledger, Operation};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use crate::support::{FlakyObjects, ORG, Rig, new_system, report};

/// A batch as a segment holds it.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) lsn: u64,
    pub(crate) system: Uuid,
    pub(crate) epoch: u64,
    pub(crate) first_seq: u64,
    pub(crate) count: u32,
    pub(crate) payload: Vec<u8>,
}

impl Row {
    fn entry(&self) -> Entry<'_> {
        let Self { lsn, system, epoch, first_seq, count, ref payload } = *self;
        Entry { lsn: Lsn(lsn), batch: Batch { system, epoch, first_seq, count, payload } }
    }
}

#[derive(Debug, Default)]
struct Inside {
    sealed: BTreeMap<u64, Vec<Row>>,
    open: Vec<Row>,
    next_lsn: u64,
    next_segment: u64,
}

/// The log. Segments are sealed when the test says so.
#[derive(Debug)]
pub(crate) struct SegmentedLog {
    id: Uuid,
    inside: Mutex<Inside>,
    durable: watch::Sender<Lsn>,
}

impl SegmentedLog {
    pub(crate) fn new() -> Arc<Self> {
        Self::named(Uuid::new_v4())
    }

    pub(crate) fn named(id: Uuid) -> Arc<Self> {
        let inside = Inside { next_lsn: 1, next_segment: 1, ..Inside::default() };
        Arc::new(Self { id, inside: Mutex::new(inside), durable: watch::Sender::new(Lsn(0)) })
    }

    /// What the log holds here, oldest first.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let inside = self.inside.lock().unwrap();
        inside.sealed.values().flatten().chain(&inside.open).cloned().collect()
    }

    /// Changes what the open segment holds.
    pub(crate) fn tamper(&self, change: impl FnOnce(&mut Vec<Row>)) {
        change(&mut self.inside.lock().unwrap().open);
    }

    pub(crate) fn sealed_ids(&self) -> Vec<u64> {
        self.sealed().iter().map(|sealed| sealed.id).collect()
    }
}

impl EventLog for SegmentedLog {
    fn append(&self, batch: &Batch<'_>) -> Result<Lsn, AppendError> {
        let Batch { system, epoch, first_seq, count, payload } = *batch;
        let mut inside = self.inside.lock().unwrap();
        let lsn = inside.next_lsn;
        inside.next_lsn += 1;
        inside.open.push(Row { lsn, system, epoch, first_seq, count, payload: payload.to_vec() });
        self.durable.send_replace(Lsn(lsn));
        Ok(Lsn(lsn))
    }

    fn level(&self) -> Level {
        Level::Disk
    }

    fn reached(&self, _level: Level) -> Option<watch::Receiver<Lsn>> {
        Some(self.durable.subscribe())
    }

    fn health(&self) -> Health {
        Health::default()
    }

    fn read(
        &self,
        system: Uuid,
        after_seq: u64,
        visit: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        for row in self.rows().iter().filter(|row| row.system == system) {
            if row.entry().batch.last_seq() > after_seq && visit(row.entry()).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn segments(&self) -> Option<&dyn Segments> {
        Some(self)
    }
}

impl Segments for SegmentedLog {
    fn log_id(&self) -> Uuid {
        self.id
    }

    fn sealed(&self) -> Vec<Sealed> {
        let inside = self.inside.lock().unwrap();
        let describe = |(id, rows): (&u64, &Vec<Row>)| Sealed {
            id: *id,
            first_lsn: Lsn(rows.first().unwrap().lsn),
            last_lsn: Lsn(rows.last().unwrap().lsn),
            bytes: pack(rows).len() as u64,
        };
        inside.sealed.iter().map(describe).collect()
    }

    fn seal(&self) {
        let mut inside = self.inside.lock().unwrap();
        if !inside.open.is_empty() {
            let (id, rows) = (inside.next_segment, std::mem::take(&mut inside.open));
            inside.next_segment += 1;
            inside.sealed.insert(id, rows);
        }
    }

    fn spans(&self, id: u64) -> Result<Vec<Span>, ReadError> {
        let mut spans = BTreeMap::new();
        for row in &self.inside.lock().unwrap().sealed[&id] {
            let batch = row.entry().batch;
            let span = spans.entry(row.system).or_insert((batch.first_seq, 0));
            *span = (span.0.min(batch.first_seq), span.1.max(batch.last_seq()));
        }
        let span = |(system, (first_seq, last_seq))| Span { system, first_seq, last_seq };
        Ok(spans.into_iter().map(span).collect())
    }

    fn bytes(&self, id: u64) -> Result<Vec<u8>, ReadError> {
        Ok(pack(&self.inside.lock().unwrap().sealed[&id]))
    }

    fn trim(&self, id: u64) -> Result<(), ReadError> {
        self.inside.lock().unwrap().sealed.retain(|sealed, _| *sealed > id);
        Ok(())
    }
}

fn pack(rows: &[Row]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for row in rows {
        bytes.extend(row.system.as_bytes());
        for number in [row.lsn, row.epoch, row.first_seq, row.count.into(), row.payload.len() as u64] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(&row.payload);
    }
    bytes
}

/// Reads what [`Segments::bytes`] of this log gave.
pub(crate) fn visit_bytes(
    mut bytes: &[u8],
    system: Option<Uuid>,
    after_seq: u64,
    visit: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    while let Some((id, rest)) = bytes.split_first_chunk::<16>() {
        let mut numbers = [0_u64; 5];
        let (head, rest) = rest.split_at(40);
        for (number, bytes) in numbers.iter_mut().zip(head.chunks(8)) {
            *number = u64::from_le_bytes(bytes.try_into().unwrap());
        }
        let [lsn, epoch, first_seq, count, length] = numbers;
        let (payload, rest) = rest.split_at(usize::try_from(length).unwrap());
        bytes = rest;
        let batch = Batch {
            system: Uuid::from_bytes(*id),
            epoch,
            first_seq,
            count: u32::try_from(count).unwrap(),
            payload,
        };
        let wanted = system.is_none_or(|system| system == batch.system) && batch.last_seq() > after_seq;
        if wanted && visit(Entry { lsn: Lsn(lsn), batch }).is_break() {
            break;
        }
    }
    Ok(())
}

/// Stores that outlive hosts; each host has a log of its own.
pub(crate) struct World {
    pub(crate) rig: Rig,
    pub(crate) log: Arc<SegmentedLog>,
    pub(crate) writer: SnapshotWriter,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::over(Rig::sqlite().await)
    }

    pub(crate) fn over(rig: Rig) -> Self {
        let writer =
            SnapshotWriter::new(rig.stores(), rig.recorders.clone(), Arc::default(), Offload::Inline);
        Self { rig, log: SegmentedLog::new(), writer }
    }

    pub(crate) fn objects(&self) -> &FlakyObjects {
        &self.rig.objects
    }

    pub(crate) fn archive(&self) -> Arc<Archive> {
        Arc::new(Archive::new(self.rig.stores().blobs, visit_bytes, Offload::Inline))
    }

    pub(crate) fn recovery(&self) -> Recovery {
        Recovery::new(self.rig.stores(), self.log.clone(), Offload::Inline).with_archive(self.archive())
    }

    pub(crate) fn history(&self) -> HistoryReader {
        HistoryReader::new(self.rig.stores(), self.log.clone(), Offload::Inline).with_archive(self.archive())
    }

    pub(crate) async fn recover(
        &self,
        system: SystemId,
    ) -> Result<Recovered, mipro_service::engine::EngineError> {
        self.recovery().recover(system, Access::Org(ORG), &ledger()).await
    }

    pub(crate) fn options(&self) -> ArchiveOptions {
        ArchiveOptions { offload: Offload::Inline, newer_min: 0, ..ArchiveOptions::new(visit_bytes) }
    }

    pub(crate) fn archiver(&self) -> (Archiver, mpsc::Receiver<SystemId>) {
        let (laggards, named) = mpsc::channel(8);
        (Archiver::new(self.log.clone(), self.rig.stores(), self.options(), laggards).unwrap(), named)
    }

    /// A system with its creation in the log and its first snapshot in the stores.
    pub(crate) async fn begin(&self) -> Live {
        let new = NewSystem { system_id: Uuid::new_v4(), ..new_system() };
        let contexts = Contexts::frozen(3, 1_700_000_000_000_000);
        let (state, events, _) = begin(&new, &contexts.context());
        let mut live =
            Live { state, epoch: 1, contexts, attempt: Attempt::default(), rollouts: 0, history: vec![] };
        live.log(&self.log, events);
        let (_, attempt) = self.writer.write_first(live.state.clone(), 1, None, &ledger()).await.unwrap();
        live.attempt = attempt;
        live
    }

    /// The keys of all objects.
    pub(crate) async fn keys(&self) -> Vec<String> {
        self.rig.stores().blobs.list("", 10_000).await.unwrap()
    }
}

/// A system in memory, and everything that ever happened to it.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) state: State,
    pub(crate) epoch: u64,
    pub(crate) attempt: Attempt,
    pub(crate) history: Vec<Recorded>,
    contexts: Contexts,
    pub(crate) rollouts: u64,
}

impl Live {
    pub(crate) fn id(&self) -> SystemId {
        self.state.system_id
    }

    /// Runs a command; gives how many events it made.
    pub(crate) fn run(&mut self, log: &SegmentedLog, command: &Command) -> usize {
        let context = self.contexts.context();
        let (events, _) = execute(&mut self.state, command, &context, &mut NoProbe).unwrap();
        self.log(log, events)
    }

    /// Reports `n` rollouts.
    pub(crate) fn work(&mut self, log: &SegmentedLog, n: u64) {
        for _ in 0..n {
            self.rollouts += 1;
            let made = self.run(log, &report(&format!("r{}-{}", self.epoch, self.rollouts), 0.5));
            assert!(made > 1, "its batches can be straddled");
        }
    }

    fn log(&mut self, log: &SegmentedLog, events: Vec<Recorded>) -> usize {
        let mut payload = Vec::new();
        codec::event::encode(&events, &mut payload);
        let count = u32::try_from(events.len()).unwrap();
        let first_seq = events[0].seq;
        let batch = Batch { system: self.id(), epoch: self.epoch, first_seq, count, payload: &payload };
        log.append(&batch).unwrap();
        self.history.extend(events);
        count as usize
    }

    pub(crate) async fn snapshot(
        &mut self,
        writer: &SnapshotWriter,
    ) -> Result<Written, mipro_service::snapshot::SaveError> {
        writer.write(self.state.clone(), self.epoch, &mut self.attempt).await
    }

    /// Goes on from what was recovered, as another load of the same system, with the history it has.
    pub(crate) fn resume_keeping(&mut self, recovered: &Recovered) {
        self.state = recovered.state.clone();
        self.epoch = recovered.epoch;
        self.attempt = Attempt::after(recovered);
    }

    /// The same, with no more history than what was recovered.
    pub(crate) fn resume(&mut self, recovered: &Recovered) {
        self.resume_keeping(recovered);
        self.history.truncate(usize::try_from(recovered.state.version).unwrap());
    }
}

pub(crate) fn ledger() -> Ledger {
    Ledger::start(Operation::Background)
}

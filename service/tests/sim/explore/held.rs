//! Stores whose answers wait to be let through, and a log whose watermark is raised by hand.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use mipro_service::log::{AppendError, Batch, Entry, EventLog, Health, Level, Lsn, OwnedEntry, ReadError};
use mipro_service::store::{RowMark, StoreError, SystemRow, SystemTable, WriteRule};
use mipro_telemetry::Ledger;
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use crate::scene::lock;
use crate::stores::claim;

/// What a held call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Load,
    Save,
}

/// How a held call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Done,
    Failed,
    /// Done, and its caller is told that it failed.
    Lost,
}

/// A call that waits to be let through.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) kind: Kind,
    system: Uuid,
    pub(super) release: oneshot::Sender<End>,
}

/// The calls under way.
#[derive(Debug, Default)]
pub(super) struct Desk {
    pub(super) held: Mutex<Vec<Held>>,
    /// While it is false, everything passes at once.
    pub(super) holding: AtomicBool,
    /// Loads and saves under way, by system.
    under_way: Mutex<BTreeMap<(Uuid, Kind), u64>>,
    pub(super) wrong: Mutex<Option<String>>,
}

impl Desk {
    /// Waits to be let through. Gives how it is to end.
    async fn pass(&self, kind: Kind, system: Uuid) -> End {
        if !self.holding.load(Ordering::SeqCst) {
            return End::Done;
        }
        let (release, released) = oneshot::channel();
        self.hold(Held { kind, system, release });
        released.await.unwrap_or(End::Failed)
    }

    fn hold(&self, call: Held) {
        let mut held = lock(&self.held);
        held.push(call);
        // Who comes first after a rise of the watermark is chance.
        held.sort_by_key(|held| (held.system, held.kind));
    }

    /// A load or a save begins. There is one copy of a system: never two of these at once.
    fn begin(&self, kind: Kind, system: Uuid) {
        let mut under_way = lock(&self.under_way);
        if self.holding.load(Ordering::SeqCst) && under_way.iter().any(|((id, _), n)| *id == system && *n > 0)
        {
            let before: Vec<_> = under_way.iter().filter(|((id, _), n)| *id == system && **n > 0).collect();
            *lock(&self.wrong) = Some(format!("a {kind:?} begins beside {before:?}"));
        }
        *under_way.entry((system, kind)).or_default() += 1;
    }

    fn end(&self, kind: Kind, system: Uuid) {
        if let Some(n) = lock(&self.under_way).get_mut(&(system, kind)) {
            *n = n.saturating_sub(1);
        }
    }
}

/// Rows; a load begins with reading one, a save ends with writing one.
#[derive(Debug)]
pub(super) struct HeldTable {
    pub(super) desk: Arc<Desk>,
    pub(super) rows: Mutex<BTreeMap<Uuid, SystemRow>>,
}

fn failed() -> StoreError {
    StoreError::Unavailable { what: "the database", reason: "told so".to_owned() }
}

#[async_trait]
impl SystemTable for HeldTable {
    async fn get(&self, system_id: Uuid, _ledger: &Ledger) -> Result<Option<SystemRow>, StoreError> {
        self.desk.begin(Kind::Load, system_id);
        let passed = self.desk.pass(Kind::Load, system_id).await;
        self.desk.end(Kind::Load, system_id);
        if passed == End::Done { Ok(lock(&self.rows).get(&system_id).cloned()) } else { Err(failed()) }
    }

    async fn upsert(&self, row: &SystemRow, rule: WriteRule, _ledger: &Ledger) -> Result<bool, StoreError> {
        self.desk.begin(Kind::Save, row.system_id);
        let passed = self.desk.pass(Kind::Save, row.system_id).await;
        self.desk.end(Kind::Save, row.system_id);
        if passed == End::Failed {
            return Err(failed());
        }
        let mut rows = lock(&self.rows);
        let held = rows.get(&row.system_id);
        let taken = rule == WriteRule::Overwrite || held.is_none_or(|held| held.version < row.version);
        if taken {
            let claimed_by = held.map_or(row.claimed_by, |held| held.claimed_by);
            rows.insert(row.system_id, SystemRow { claimed_by, ..row.clone() });
        }
        if passed == End::Lost { Err(failed()) } else { Ok(taken) }
    }

    /// At once: what may come between is for loads and saves to show.
    async fn claim(
        &self,
        system_id: Uuid,
        seen: RowMark,
        epoch: u64,
        by: Uuid,
        _ledger: &Ledger,
    ) -> Result<bool, StoreError> {
        let mut rows = lock(&self.rows);
        let row = rows.get_mut(&system_id).filter(|row| row.mark() == seen && row.epoch < epoch);
        Ok(row.map(|row| claim(row, epoch, by)).is_some())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn close(&self) {}

    fn kind(&self) -> &'static str {
        "held"
    }
}

/// A log in memory; only what the watermark covers survives.
#[derive(Debug)]
pub(super) struct HandLog {
    batches: Mutex<Vec<OwnedEntry>>,
    watermark: Mutex<Option<watch::Sender<Lsn>>>,
    receiver: watch::Receiver<Lsn>,
    pub(super) appended: AtomicU64,
}

impl HandLog {
    pub(super) fn new() -> Arc<Self> {
        let (sender, receiver) = watch::channel(Lsn(0));
        Arc::new(Self {
            batches: Mutex::default(),
            watermark: Mutex::new(Some(sender)),
            receiver,
            appended: AtomicU64::new(0),
        })
    }

    pub(super) fn durable(&self) -> u64 {
        self.receiver.borrow().0
    }

    /// The place of a system's event, if it was ever appended here.
    pub(super) fn place(&self, system: Uuid, seq: u64) -> Option<u64> {
        let batches = lock(&self.batches);
        let holds = |owned: &&OwnedEntry| {
            let batch = owned.entry().batch;
            batch.system == system && (batch.first_seq..=batch.last_seq()).contains(&seq)
        };
        batches.iter().find(holds).map(|owned| owned.lsn.0)
    }

    /// Everything that was appended is durable.
    pub(super) fn rise(&self) {
        let newest = self.appended.load(Ordering::SeqCst);
        if let Some(sender) = &*lock(&self.watermark) {
            sender.send_replace(Lsn(newest));
        }
    }

    pub(super) fn close(&self) {
        *lock(&self.watermark) = None;
    }

    pub(super) fn is_closed(&self) -> bool {
        lock(&self.watermark).is_none()
    }

    /// The log as the next process finds it.
    pub(super) fn survivor(&self) -> Arc<Self> {
        let durable = self.durable();
        let next = Self::new();
        *lock(&next.batches) = lock(&self.batches).iter().filter(|b| b.lsn.0 <= durable).cloned().collect();
        next.appended.store(durable, Ordering::SeqCst);
        next.rise();
        next
    }
}

impl EventLog for HandLog {
    fn append(&self, batch: &Batch<'_>) -> Result<Lsn, AppendError> {
        if self.is_closed() {
            return Err(AppendError::Closed);
        }
        let lsn = Lsn(self.appended.fetch_add(1, Ordering::SeqCst) + 1);
        lock(&self.batches).push(OwnedEntry::new(lsn, batch));
        Ok(lsn)
    }

    fn level(&self) -> Level {
        Level::Disk
    }

    fn reached(&self, level: Level) -> Option<watch::Receiver<Lsn>> {
        (level <= Level::Disk).then(|| self.receiver.clone())
    }

    fn health(&self) -> Health {
        let appended = Lsn(self.appended.load(Ordering::SeqCst));
        Health { appended, closed: self.is_closed(), ..Health::default() }
    }

    /// Shows what is durable and nothing else, which is the least that a log may show.
    fn read(
        &self,
        system: Uuid,
        after_seq: u64,
        visit: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let durable = self.durable();
        let batches = lock(&self.batches);
        OwnedEntry::visit(batches.iter().filter(|b| b.lsn.0 <= durable), system, after_seq, visit);
        Ok(())
    }
}

//! Many requests' times: one set of HDR histograms per thread, merged when somebody looks.
//!
//! [`Recorders`] is a cheap handle, not a global: two services in one process do not share. Each thread that records gets
//! a shard of its own, whose lock nobody else takes except during a snapshot; a thread that ends hands its shard on.
//!
//! Memory is constant: at most one histogram per (operation, stage, phase) and thread, made when first needed. With two
//! significant digits between 1 ns and 1 h a histogram takes about 36 KiB; a running service uses some fifty of them a
//! thread, and no traffic can make it more than [`HISTOGRAMS_MAX`].

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use hdrhistogram::Histogram;

use crate::ledger::{Breakdown, StageEntry};
use crate::stage::{Operation, Phase, Stage};

#[cfg(test)]
mod tests;

/// Largest time that is told apart: one hour. Larger ones are recorded as this.
pub const VALUE_MAX_NS: u64 = 3_600_000_000_000;

/// Significant decimal digits of a histogram.
pub const DIGITS: u8 = 2;

const PHASES: usize = Phase::ALL.len() + 1;
const CELLS: usize = Operation::ALL.len() * Stage::ALL.len() * PHASES;

/// Most histograms that one thread's shard can ever hold.
pub const HISTOGRAMS_MAX: usize = CELLS + Operation::ALL.len();

/// Where a process records its requests. Clones share.
#[derive(Debug, Clone, Default)]
pub struct Recorders {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    shards: Mutex<Shards>,
}

#[derive(Debug, Default)]
struct Shards {
    all: Vec<Arc<Mutex<Shard>>>,
    /// Those whose thread has ended, for the next thread.
    free: Vec<Arc<Mutex<Shard>>>,
}

thread_local! {
    /// This thread's shards, one for each registry it has met and that still lives.
    static LEASES: RefCell<Vec<Lease>> = const { RefCell::new(Vec::new()) };
}

/// A thread's use of a shard.
struct Lease {
    owner: Weak<Shared>,
    shard: Arc<Mutex<Shard>>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.upgrade() {
            lock(&owner.shards).free.push(Arc::clone(&self.shard));
        }
    }
}

#[derive(Debug)]
struct Shard {
    stages: Vec<Option<Box<Cell>>>,
    totals: Vec<Option<Box<Histogram<u64>>>>,
}

/// The sums and the distribution of one stage.
#[derive(Debug, Clone)]
struct Cell {
    exclusive: Histogram<u64>,
    exclusive_ns: u64,
    overlap_ns: u64,
    count: u64,
    bytes: u64,
    round_trips: u64,
    cancelled: u64,
}

impl Recorders {
    /// A fresh set, shared with nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one request. Takes well under a microsecond and waits for no other recording thread.
    pub fn record(&self, breakdown: &Breakdown) {
        self.with_shard(|shard| shard.record(breakdown));
    }

    /// Everything recorded so far by every thread, the ended ones too. Threads go on recording meanwhile, so two requests of
    /// the same moment may fall on either side.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let shards = lock(&self.shared.shards).all.clone();
        let mut sum = Shard::new();
        for shard in shards {
            sum.merge(&lock(&shard));
        }
        sum.into_snapshot()
    }

    fn with_shard(&self, work: impl FnOnce(&mut Shard)) {
        let shard = LEASES.try_with(|leases| self.leased(&mut leases.borrow_mut()));
        // A thread that is being torn down has no thread-locals any more: it borrows a shard for this once.
        let shard = shard.unwrap_or_else(|_| Arc::clone(&self.lease().shard));
        work(&mut lock(&shard));
    }

    fn leased(&self, leases: &mut Vec<Lease>) -> Arc<Mutex<Shard>> {
        // A lease keeps its owner's allocation alive, so that an address is never another registry's.
        let mine = |l: &&Lease| std::ptr::eq(l.owner.as_ptr(), Arc::as_ptr(&self.shared));
        if let Some(lease) = leases.iter().find(mine) {
            return Arc::clone(&lease.shard);
        }
        leases.retain(|l| l.owner.strong_count() > 0);
        let lease = self.lease();
        let shard = Arc::clone(&lease.shard);
        leases.push(lease);
        shard
    }

    fn lease(&self) -> Lease {
        let mut shards = lock(&self.shared.shards);
        let shard = shards.free.pop().unwrap_or_else(|| {
            let fresh = Arc::new(Mutex::new(Shard::new()));
            shards.all.push(Arc::clone(&fresh));
            fresh
        });
        Lease { owner: Arc::downgrade(&self.shared), shard }
    }
}

/// A panic elsewhere leaves plain numbers behind: they stay usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn histogram() -> Histogram<u64> {
    let mut histogram =
        Histogram::new_with_bounds(1, VALUE_MAX_NS, DIGITS).expect("constant bounds are valid");
    histogram.auto(false);
    histogram
}

fn add_ns(histogram: &mut Histogram<u64>, value_ns: u64) {
    histogram.saturating_record(value_ns.clamp(1, VALUE_MAX_NS));
}

fn add_all(into: &mut Histogram<u64>, from: &Histogram<u64>) {
    into.add(from).expect("all histograms have the same bounds");
}

impl Cell {
    fn new() -> Self {
        let exclusive = histogram();
        Self { exclusive, exclusive_ns: 0, overlap_ns: 0, count: 0, bytes: 0, round_trips: 0, cancelled: 0 }
    }

    fn record(&mut self, entry: &StageEntry) {
        add_ns(&mut self.exclusive, entry.exclusive_ns);
        self.exclusive_ns += entry.exclusive_ns;
        self.overlap_ns += entry.overlap_ns;
        self.count += entry.count;
        self.bytes += entry.bytes;
        self.round_trips += entry.round_trips;
        self.cancelled += entry.cancelled;
    }

    fn merge(&mut self, other: &Self) {
        add_all(&mut self.exclusive, &other.exclusive);
        self.exclusive_ns += other.exclusive_ns;
        self.overlap_ns += other.overlap_ns;
        self.count += other.count;
        self.bytes += other.bytes;
        self.round_trips += other.round_trips;
        self.cancelled += other.cancelled;
    }
}

fn cell_index(operation: Operation, stage: Stage, phase: Option<Phase>) -> usize {
    let phase = phase.map_or(0, |p| p as usize + 1);
    (operation as usize * Stage::ALL.len() + stage as usize) * PHASES + phase
}

fn cell_key(index: usize) -> (Operation, Stage, Option<Phase>) {
    let (rest, phase) = (index / PHASES, index % PHASES);
    let (operation, stage) = (rest / Stage::ALL.len(), rest % Stage::ALL.len());
    (Operation::ALL[operation], Stage::ALL[stage], phase.checked_sub(1).map(|p| Phase::ALL[p]))
}

impl Shard {
    fn new() -> Self {
        Self { stages: vec![None; CELLS], totals: vec![None; Operation::ALL.len()] }
    }

    fn record(&mut self, breakdown: &Breakdown) {
        let operation = breakdown.operation;
        let total = self.totals[operation as usize].get_or_insert_with(|| Box::new(histogram()));
        add_ns(total, breakdown.total_ns);
        for entry in &breakdown.entries {
            self.cell(operation, entry.stage, entry.phase).record(entry);
        }
        let other = self.cell(operation, Stage::Other, None);
        add_ns(&mut other.exclusive, breakdown.other_ns);
        other.exclusive_ns += breakdown.other_ns;
        other.count += 1;
    }

    fn cell(&mut self, operation: Operation, stage: Stage, phase: Option<Phase>) -> &mut Cell {
        self.stages[cell_index(operation, stage, phase)].get_or_insert_with(|| Box::new(Cell::new()))
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.stages.iter_mut().zip(&other.stages) {
            if let Some(theirs) = theirs {
                mine.get_or_insert_with(|| Box::new(Cell::new())).merge(theirs);
            }
        }
        for (mine, theirs) in self.totals.iter_mut().zip(&other.totals) {
            if let Some(theirs) = theirs {
                add_all(mine.get_or_insert_with(|| Box::new(histogram())), theirs);
            }
        }
    }

    fn into_snapshot(self) -> Snapshot {
        let cells = self.stages.into_iter().enumerate().filter_map(|(i, cell)| Some((i, cell?)));
        let stages = cells.map(|(i, cell)| stage_row(cell_key(i), *cell)).collect();
        let totals = self.totals.into_iter().zip(Operation::ALL);
        let operations = totals
            .filter_map(|(total, operation)| Some(OperationRow { operation: *operation, total: *total? }))
            .collect();
        Snapshot { operations, stages }
    }
}

fn stage_row((operation, stage, phase): (Operation, Stage, Option<Phase>), cell: Cell) -> StageRow {
    StageRow {
        operation,
        stage,
        phase,
        exclusive: cell.exclusive,
        exclusive_ns: cell.exclusive_ns,
        overlap_ns: cell.overlap_ns,
        count: cell.count,
        bytes: cell.bytes,
        round_trips: cell.round_trips,
        cancelled: cell.cancelled,
    }
}

/// What had been recorded at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// One row per operation that was recorded, in vocabulary order.
    pub operations: Vec<OperationRow>,
    /// One row per (operation, stage, phase) that was recorded, in vocabulary order; `other` among them.
    pub stages: Vec<StageRow>,
}

impl Snapshot {
    /// The row of an operation.
    #[must_use]
    pub fn operation(&self, operation: Operation) -> Option<&OperationRow> {
        self.operations.iter().find(|r| r.operation == operation)
    }

    /// The row of a stage.
    #[must_use]
    pub fn stage(&self, operation: Operation, stage: Stage, phase: Option<Phase>) -> Option<&StageRow> {
        self.stages.iter().find(|r| r.operation == operation && r.stage == stage && r.phase == phase)
    }
}

/// One operation's requests.
#[derive(Debug, Clone)]
pub struct OperationRow {
    /// Which.
    pub operation: Operation,
    /// Totals in nanoseconds; its length is the number of requests.
    pub total: Histogram<u64>,
}

/// One stage of one operation.
#[derive(Debug, Clone)]
pub struct StageRow {
    /// For whom.
    pub operation: Operation,
    /// What.
    pub stage: Stage,
    /// Loading, saving or neither.
    pub phase: Option<Phase>,
    /// Exclusive nanoseconds per request in which it ran.
    pub exclusive: Histogram<u64>,
    /// Sum of the exclusive nanoseconds, exact.
    pub exclusive_ns: u64,
    /// Time hidden beside other stages, summed over requests.
    pub overlap_ns: u64,
    /// Statements or requests.
    pub count: u64,
    /// Payload bytes.
    pub bytes: u64,
    /// Round trips on the wire.
    pub round_trips: u64,
    /// Cancelled or failed runs.
    pub cancelled: u64,
}

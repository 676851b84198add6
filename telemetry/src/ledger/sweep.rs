//! The arithmetic behind [`super::Ledger::finish`], on plain nanoseconds since the request's start.

use crate::ledger::{Breakdown, StageEntry};
use crate::stage::{Operation, Phase, Stage};

/// One run of one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) stage: Stage,
    pub(super) phase: Option<Phase>,
    pub(super) start_ns: u64,
    /// None while it runs.
    pub(super) end_ns: Option<u64>,
    pub(super) cancelled: bool,
}

/// What was counted for one stage in one phase.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tally {
    pub(super) stage: Stage,
    pub(super) phase: Option<Phase>,
    pub(super) count: u64,
    pub(super) bytes: u64,
    pub(super) round_trips: u64,
}

/// An interval clipped to the request, with the place where its stage's sums are kept.
#[derive(Debug, Clone, Copy)]
struct Span {
    entry: usize,
    yields: bool,
    from: u64,
    to: u64,
}

impl Span {
    fn open(&self, from: u64, to: u64) -> bool {
        self.from <= from && self.to >= to
    }

    /// Whether `inner` runs within this one, which then waits for it rather than working beside it.
    fn encloses(&self, inner: &Self) -> bool {
        !self.yields && self.from <= inner.from && self.to >= inner.to
    }

    /// Which of several open spans is charged: the one that began last; of those, the one that ends first (guards nest,
    /// and a coarse clock gives both the same start); a yielding one only when nothing else runs.
    fn precedence(&self) -> (bool, u64, std::cmp::Reverse<u64>) {
        (!self.yields, self.from, std::cmp::Reverse(self.to))
    }
}

/// Charges every instant between 0 and `total_ns` to at most one interval. Quadratic in the handful of intervals that a
/// request has.
pub(super) fn sweep(
    operation: Operation,
    total_ns: u64,
    intervals: &[Interval],
    tallies: &[Tally],
) -> Breakdown {
    let mut entries = Vec::with_capacity(8);
    let mut spans = Vec::with_capacity(intervals.len());
    let mut cuts = Vec::with_capacity(intervals.len() * 2 + 2);
    cuts.extend([0, total_ns]);
    for interval in intervals {
        let (from, to) = (interval.start_ns.min(total_ns), interval.end_ns.unwrap_or(total_ns).min(total_ns));
        let entry = place(&mut entries, interval.stage, interval.phase);
        entries[entry].count += 1;
        entries[entry].cancelled += u64::from(interval.cancelled || interval.end_ns.is_none());
        if from < to {
            cuts.extend([from, to]);
            spans.push(Span { entry, yields: interval.stage.yields(), from, to });
        }
    }
    cuts.sort_unstable();
    cuts.dedup();
    let other_ns = charge(&cuts, &spans, &mut entries);
    add_tallies(&mut entries, tallies);
    entries.sort_by_key(|e| (e.stage, e.phase));
    Breakdown { operation, total_ns, other_ns, entries }
}

/// Gives what nobody claims.
fn charge(cuts: &[u64], spans: &[Span], entries: &mut [StageEntry]) -> u64 {
    let mut other_ns = 0;
    let mut beside = Vec::new();
    for pair in cuts.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let open = || spans.iter().filter(move |s| s.open(from, to));
        let Some(charged) = open().max_by_key(|s| s.precedence()) else {
            other_ns += to - from;
            continue;
        };
        entries[charged.entry].exclusive_ns += to - from;
        // A stage that runs twice at once, or beside itself, is hidden once: overlap is a union.
        beside.clear();
        beside.extend(open().filter(|s| s.entry != charged.entry && !s.encloses(charged)).map(|s| s.entry));
        beside.sort_unstable();
        beside.dedup();
        for entry in &beside {
            entries[*entry].overlap_ns += to - from;
        }
    }
    other_ns
}

fn place(entries: &mut Vec<StageEntry>, stage: Stage, phase: Option<Phase>) -> usize {
    entries.iter().position(|e| e.stage == stage && e.phase == phase).unwrap_or_else(|| {
        entries.push(StageEntry {
            stage,
            phase,
            exclusive_ns: 0,
            overlap_ns: 0,
            count: 0,
            bytes: 0,
            round_trips: 0,
            cancelled: 0,
        });
        entries.len() - 1
    })
}

fn add_tallies(entries: &mut Vec<StageEntry>, tallies: &[Tally]) {
    for tally in tallies {
        let at = place(entries, tally.stage, tally.phase);
        let row = &mut entries[at];
        if tally.count > 0 {
            row.count = tally.count;
        }
        row.bytes += tally.bytes;
        row.round_trips += tally.round_trips;
    }
}

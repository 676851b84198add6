//! A closed request's time, instant by instant, on one stack each.

use std::collections::BTreeMap;

use super::book::{Closed, Ended, Poll, REQUEST, Span};
use super::{AWAIT, CANCELLED, FAILED, POLL};
use crate::folded::Folded;

/// Adds what each stack of the request took, in nanoseconds. The sum is the request's wall-clock time.
pub(super) fn into_stacks(closed: &Closed, stacks: &mut Folded) {
    for ((span, polled), ns) in charged(&closed.spans, &closed.polls) {
        let mut frames = path(closed, span);
        frames.push(if polled { POLL } else { AWAIT });
        stacks.add(frames, ns);
    }
}

/// Nanoseconds by span and by whether the request's code ran.
///
/// While it ran, the time belongs to the innermost span that was polled, or to what began below that and has no poll of its own
/// (a guard held across other calls). While it did not, to what is being waited for. Where several qualify it is the ledger's
/// rule: the one that began last; of those the one that ends first; one that yields only when there is no other.
fn charged(spans: &[Span], polls: &[Poll]) -> BTreeMap<(usize, bool), u64> {
    let edges = spans.iter().map(|s| (s.from, s.to)).chain(polls.iter().map(|p| (p.from, p.to)));
    let mut edges: Vec<u64> = edges.flat_map(|(from, to)| [from, to]).collect();
    edges.sort_unstable();
    edges.dedup();
    let (mut spans_open, mut polls_open) =
        (Sweep::new(spans.iter().map(range)), Sweep::new(polls.iter().map(poll_range)));
    let total = spans[REQUEST].to;
    let mut sums = BTreeMap::new();
    for pair in edges.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        if to > total {
            break;
        }
        let open = spans_open.at(from);
        let polled = polls_open.at(from).iter().map(|poll| polls[*poll].span).max_by_key(|s| rank(spans, *s));
        let within = polled.and_then(|polled| {
            open.iter().copied().filter(|s| is_below(spans, *s, polled)).max_by_key(|s| rank(spans, *s))
        });
        let winner = within.or_else(|| open.iter().copied().max_by_key(|s| rank(spans, *s)));
        *sums.entry((winner.unwrap_or(REQUEST), polled.is_some())).or_insert(0) += to - from;
    }
    sums
}

fn range(span: &Span) -> (u64, u64) {
    (span.from, span.to)
}

fn poll_range(poll: &Poll) -> (u64, u64) {
    (poll.from, poll.to)
}

/// Which of several is charged.
fn rank(spans: &[Span], index: usize) -> (bool, bool, u64, std::cmp::Reverse<u64>, usize) {
    let span = &spans[index];
    (index != REQUEST, !span.stage.yields(), span.from, std::cmp::Reverse(span.to), index)
}

/// Whether a span is another, or opened within it.
fn is_below(spans: &[Span], mut span: usize, ancestor: usize) -> bool {
    while span != ancestor && span != REQUEST {
        span = spans[span].parent;
    }
    span == ancestor
}

/// Which of many ranges are open as time goes on.
struct Sweep {
    /// By start.
    ahead: std::iter::Peekable<std::vec::IntoIter<(u64, u64, usize)>>,
    open: Vec<(u64, usize)>,
    indices: Vec<usize>,
}

impl Sweep {
    fn new(ranges: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut ahead: Vec<_> = ranges.enumerate().map(|(index, (from, to))| (from, to, index)).collect();
        ahead.sort_unstable();
        Self { ahead: ahead.into_iter().peekable(), open: Vec::new(), indices: Vec::new() }
    }

    /// Those that begin at `at` or before, and end after it. To be asked in the order of time.
    fn at(&mut self, at: u64) -> &[usize] {
        while let Some((_, to, index)) = self.ahead.next_if(|(from, _, _)| *from <= at) {
            self.open.push((to, index));
        }
        self.open.retain(|(to, _)| *to > at);
        self.indices.clear();
        self.indices.extend(self.open.iter().map(|(_, index)| *index));
        &self.indices
    }
}

/// The frames from the operation down to a span, with what did not succeed said so.
fn path(closed: &Closed, span: usize) -> Vec<&'static str> {
    let mut chain = vec![span];
    while let Some(last) = chain.last().copied().filter(|last| *last != REQUEST) {
        chain.push(closed.spans[last].parent);
    }
    let mut frames = Vec::with_capacity(chain.len() + 3);
    let mut phase = None;
    for index in chain.into_iter().rev() {
        let span = &closed.spans[index];
        if index == REQUEST {
            frames.push(closed.operation.name());
        } else {
            if span.phase != phase {
                frames.extend(span.phase.map(|phase| phase.name()));
                phase = span.phase.or(phase);
            }
            frames.push(span.stage.name());
        }
        match span.ended {
            Ended::Done => {}
            Ended::Failed => frames.push(FAILED),
            Ended::Cancelled => frames.push(CANCELLED),
        }
    }
    frames
}

//! How long a run must take at least: the mock's planned delays laid out on the lanes, in constant memory.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Most plans kept back while an earlier rollout is not done. Beyond it the earliest gap is given up.
const WAITING_MAX: usize = 65_536;

/// The layout being built.
#[derive(Debug)]
pub(crate) struct Layout {
    lanes: Lanes,
    planned: u64,
    unplanned: u64,
}

#[derive(Debug)]
enum Lanes {
    /// Rollout `i` belongs to lane `i mod lanes`.
    Fixed(Vec<u64>),
    /// Each rollout takes the lane that is free first, in the order of their indices, as the real lanes do.
    Greedy { free_us: BinaryHeap<Reverse<u64>>, next: u64, waiting: BTreeMap<u64, u64> },
}

impl Layout {
    pub(crate) fn new(lanes: usize, fixed: bool) -> Self {
        let lanes = if fixed {
            Lanes::Fixed(vec![0; lanes])
        } else {
            let free_us = std::iter::repeat_n(Reverse(0), lanes).collect();
            Lanes::Greedy { free_us, next: 0, waiting: BTreeMap::new() }
        };
        Self { lanes, planned: 0, unplanned: 0 }
    }

    /// Adds a rollout that is done. Indices count from 0, in any order.
    pub(crate) fn add(&mut self, index: u64, planned_us: Option<u64>) {
        *if planned_us.is_some() { &mut self.planned } else { &mut self.unplanned } += 1;
        let us = planned_us.unwrap_or(0);
        match &mut self.lanes {
            Lanes::Fixed(sums_us) => {
                let lane = index % sums_us.len() as u64;
                sums_us[lane as usize] += us;
            }
            Lanes::Greedy { free_us, next, waiting } => {
                waiting.insert(index, us);
                if waiting.len() > WAITING_MAX {
                    *next = waiting.first_key_value().map_or(*next, |(first, _)| *first);
                }
                while let Some(us) = waiting.remove(next) {
                    assign(free_us, us);
                    *next += 1;
                }
            }
        }
    }

    /// The whole layout's length; none unless every rollout came with a plan.
    pub(crate) fn finish(mut self) -> Option<Duration> {
        if self.planned == 0 || self.unplanned > 0 {
            return None;
        }
        let longest_us = match &mut self.lanes {
            Lanes::Fixed(sums_us) => sums_us.iter().copied().max(),
            Lanes::Greedy { free_us, waiting, .. } => {
                // Only gaps are left before these: rollouts that were never done.
                waiting.values().for_each(|us| assign(free_us, *us));
                free_us.iter().map(|Reverse(us)| *us).max()
            }
        };
        longest_us.map(Duration::from_micros)
    }
}

fn assign(free_us: &mut BinaryHeap<Reverse<u64>>, us: u64) {
    if let Some(mut earliest) = free_us.peek_mut() {
        earliest.0 += us;
    }
}

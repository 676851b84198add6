//! Which slices may be compared. A slice is never dropped alone: its whole pair is set aside, so that both sides always ran
//! as often and under the same circumstances; and no reason for it may look at a latency.

use std::collections::BTreeMap;

use super::Slice;
use crate::schema::{InvalidPair, Side};

#[cfg(test)]
mod tests;

/// Share of the pairs that may be set aside before what is left no longer stands for the run.
pub(crate) const INVALID_SHARE_MAX: f64 = 1.0 / 3.0;

/// Slices set aside on one side, with none on the other, that are no coincidence any more: one in 32 by chance.
const ONE_SIDED_MIN: usize = 6;

/// Slices sorted into pairs.
#[derive(Debug, Default)]
pub(crate) struct Pairs<'a> {
    /// Pairs that count, by number.
    pub(crate) valid: Vec<Pair<'a>>,
    /// Those set aside.
    pub(crate) invalid: Vec<InvalidPair>,
    /// Why all of it is not to be believed; empty where it may be.
    pub(crate) doubts: Vec<String>,
}

/// One slice of each side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair<'a> {
    pub(crate) number: u32,
    pub(crate) a: &'a Slice,
    pub(crate) b: &'a Slice,
}

impl<'a> Pairs<'a> {
    pub(crate) fn of(slices: &'a [Slice]) -> Self {
        let mut by_number: BTreeMap<u32, [Vec<&Slice>; 2]> = BTreeMap::new();
        for slice in slices {
            by_number.entry(slice.pair).or_default()[slice.side as usize].push(slice);
        }
        let mut pairs = Self::default();
        for (number, [a, b]) in by_number {
            let reasons: Vec<String> =
                [(Side::A, &a), (Side::B, &b)].into_iter().flat_map(|(side, of)| reasons(side, of)).collect();
            match (a.as_slice(), b.as_slice()) {
                ([a], [b]) if reasons.is_empty() => pairs.valid.push(Pair { number, a, b }),
                _ => pairs.invalid.push(InvalidPair { pair: number, reasons }),
            }
        }
        pairs.doubts = pairs.doubts(slices);
        pairs
    }

    fn doubts(&self, slices: &[Slice]) -> Vec<String> {
        let (aside, all) = (self.invalid.len(), self.invalid.len() + self.valid.len());
        let mut doubts = Vec::new();
        if aside as f64 > all as f64 * INVALID_SHARE_MAX {
            doubts.push(format!("{aside} of {all} pairs set aside: {}", self.commonest_reasons()));
        }
        let of = |side| slices.iter().filter(|slice| slice.side == side && !slice.invalid.is_empty()).count();
        let (a, b) = (of(Side::A), of(Side::B));
        for (side, many, none) in [("A", a, b), ("B", b, a)] {
            if many >= ONE_SIDED_MIN && none == 0 {
                doubts.push(format!(
                    "{many} slices set aside, all of side {side}: what makes them invalid may be what is compared"
                ));
            }
        }
        doubts
    }

    /// The reasons, the commonest first, at most three.
    fn commonest_reasons(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        self.invalid
            .iter()
            .flat_map(|pair| &pair.reasons)
            .for_each(|reason| *counts.entry(reason).or_default() += 1);
        let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let said: Vec<String> =
            counts.iter().take(3).map(|(reason, count)| format!("{reason} ({count} times)")).collect();
        said.join(", ")
    }
}

fn reasons(side: Side, of: &[&Slice]) -> Vec<String> {
    let name = side.name();
    match of {
        [] => vec![format!("no slice of side {name}")],
        [slice] => slice.invalid.iter().map(|reason| format!("{name}: {reason}")).collect(),
        more => vec![format!("{} slices of side {name}", more.len())],
    }
}

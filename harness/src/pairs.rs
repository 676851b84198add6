//! Two sides in alternation: slices in quads `ABBA` or `BAAB`, which of the two is drawn by the seed, so that whatever drifts
//! in a straight line hits both sides alike. Slices that stand together are a pair; what goes wrong with one of them takes
//! the pair away, never the slice alone. Nothing here looks at a latency.

use mipro_bench_reports::Side;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::options::Error;

#[cfg(test)]
mod tests;

/// Who measures a slice of a side.
pub(crate) trait Driver {
    /// What a slice gives.
    type Slice;
    /// Makes both sides ready for the next pair, `first` first, as no slice before has had them.
    async fn renew(&mut self, first: Side) -> Result<(), Error>;
    /// Measures a slice of `side` for pair number `pair`: both slices of a pair get the same arrivals, payloads and delays.
    async fn slice(&mut self, side: Side, pair: u32) -> Result<Self::Slice, Error>;
    /// Whether somebody has asked for the end.
    fn is_interrupted(&self) -> bool;
}

/// How it came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// A look found enough.
    Decided,
    /// All looks were taken.
    Exhausted,
    /// Somebody asked for it; the last pair may lack a slice.
    Interrupted,
}

/// The pairs after which it is looked whether enough is known: at most three times, since each look is one more chance to
/// be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Looks(Vec<u32>);

impl Looks {
    /// One look, after `pairs`.
    pub(crate) fn once(pairs: u32) -> Self {
        Self(vec![pairs.max(1)])
    }

    /// Three looks, after two thirds of `pairs`, `pairs`, and half as many again: 20, 30 and 45 of 30.
    pub(crate) fn extended(pairs: u32) -> Self {
        let pairs = pairs.max(1);
        let mut at = vec![(pairs * 2).div_ceil(3), pairs, (pairs * 3).div_ceil(2)];
        at.dedup();
        Self(at)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.0.len() as u32
    }
}

/// Which side goes first in pair number `pair`, the two of a quad mirroring each other.
pub(crate) fn first_of(seed: u64, pair: u32) -> Side {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(u64::from(pair / 2));
    let (one, other) = if rng.random::<bool>() { (Side::A, Side::B) } else { (Side::B, Side::A) };
    if pair.is_multiple_of(2) { one } else { other }
}

/// The side that `side` is held against.
pub(crate) fn opposite(side: Side) -> Side {
    match side {
        Side::A => Side::B,
        Side::B => Side::A,
    }
}

/// Measures pairs until `judge`, asked after each look's pairs with all slices so far, has heard enough.
pub(crate) async fn run<D: Driver>(
    driver: &mut D,
    looks: &Looks,
    seed: u64,
    mut judge: impl FnMut(&[D::Slice]) -> bool,
) -> Result<(Vec<D::Slice>, Ended), Error> {
    let mut slices = Vec::new();
    let mut pair = 0;
    for at in &looks.0 {
        while pair < *at {
            if driver.is_interrupted() {
                return Ok((slices, Ended::Interrupted));
            }
            let first = first_of(seed, pair);
            driver.renew(first).await?;
            for side in [first, opposite(first)] {
                if driver.is_interrupted() {
                    return Ok((slices, Ended::Interrupted));
                }
                slices.push(driver.slice(side, pair).await?);
            }
            pair += 1;
        }
        if driver.is_interrupted() {
            return Ok((slices, Ended::Interrupted));
        }
        if judge(&slices) {
            return Ok((slices, Ended::Decided));
        }
    }
    Ok((slices, Ended::Exhausted))
}

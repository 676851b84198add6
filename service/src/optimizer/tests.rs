//! The optimizer's tests, by subject.

mod faults;
mod properties;
mod tpe;

use std::collections::BTreeMap;

use super::{Arm, Space};

/// Arms with these (rewards, mean); rewards are 0 or 1, so the spread follows.
fn arms(stats: &[(u64, f64)]) -> Vec<Arm> {
    let arm = |&(n, mean): &(u64, f64)| {
        let m2 = super::arm::count(n) * mean * (1.0 - mean);
        Arm { starts: n, pending: 0, n, mean, m2 }
    };
    stats.iter().map(arm).collect()
}

/// The space of arms that have no params.
fn plain(arms: usize) -> Space {
    let none = BTreeMap::new();
    Space::new((0..arms).map(|_| &none))
}

/// The space of a full grid of instructions × demos.
fn grid(instructions: u32, demos: u32) -> Space {
    let place = |i: u32, d: u32| BTreeMap::from([("instruction".to_owned(), i), ("demos".to_owned(), d)]);
    let params: Vec<_> = (0..instructions).flat_map(|i| (0..demos).map(move |d| place(i, d))).collect();
    Space::new(params.iter())
}

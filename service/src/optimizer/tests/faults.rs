//! The seeds' pseudo-code has fifteen faults; those of the optimizer itself, each mended. The others are tested in `system`.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{arms, grid, plain};
use crate::optimizer::{Arm, ArmsView, Policy, Space, Tpe, recommend};

fn distribution(tpe: &Tpe, arms: &[Arm], space: &Space) -> Vec<f64> {
    tpe.distribution(&ArmsView { arms, space })
}

fn greedy() -> Tpe {
    Tpe { epsilon: 0.0, ..Tpe::default() }
}

/// Seeds: the γ-quantile as threshold kept the best 75 % as good.
#[test]
fn fault_01_good_are_the_best_quarter() {
    let tpe = Tpe { optimism: 0.0, ..Tpe::default() };
    let stats: Vec<_> = (1..=12).map(|rank| (100, f64::from(rank) / 20.0)).collect();
    let (good, bad) = tpe.split(&tpe.values(&arms(&stats)));
    let chosen: Vec<usize> = (0..12).filter(|&arm| good[arm] > 0.0).collect();
    assert_eq!(chosen, [9, 10, 11]);
    assert!((0..12).all(|arm| (good[arm] > 0.0) != (bad[arm] > 0.0)), "every other arm is bad");
}

/// Seeds: the best average only rose, so one lucky reward was best for ever.
#[test]
fn fault_02_the_recommendation_is_looked_at_afresh() {
    let mut arms = arms(&[(40, 0.7), (1, 1.0)]);
    assert_eq!(recommend(&arms, 1.0), Some(0), "one lucky reward does not outweigh forty");
    for _ in 0..30 {
        arms[1].observe(0.9);
    }
    assert_eq!(recommend(&arms, 1.0), Some(1));
    for _ in 0..30 {
        arms[1].observe(0.0);
    }
    assert_eq!(recommend(&arms, 1.0), Some(0), "a leader that gets worse is left");
    assert_eq!(recommend(&self::arms(&[(0, 0.0), (2, 0.5)]), 1.0), Some(1), "the only arm with rewards");
    assert_eq!(recommend(&self::arms(&[(0, 0.0), (0, 0.0)]), 1.0), None);
}

/// Seeds: no prior, so a value never seen among the good was never tried, and with equal averages nothing was bad.
#[test]
fn fault_03_every_arm_keeps_a_probability_and_equals_are_treated_equally() {
    let stats: Vec<_> = (0..8).map(|arm| (50, if arm == 0 { 0.9 } else { 0.1 })).collect();
    let all = arms(&stats);
    let tpe = Tpe::default();
    let space = plain(8);
    let (good, bad) = tpe.split(&tpe.values(&all));
    for weights in [&good, &bad] {
        assert!(tpe.density(&space, weights).iter().all(|p| *p > 0.0), "the prior reaches every arm");
    }
    assert!(distribution(&tpe, &all, &space).iter().all(|p| *p >= 0.25 / 8.0), "and ε guarantees a share");
    let equal = distribution(&tpe, &arms(&[(50, 0.5); 8]), &space);
    assert!(equal.iter().all(|p| (p - 0.125).abs() < 1e-9), "{equal:?}");
}

/// Seeds: 2 rewards weighed as much as 2,000.
#[test]
fn fault_04_few_rewards_weigh_little() {
    let tpe = Tpe { optimism: 0.0, ..Tpe::default() };
    let values = tpe.values(&arms(&[(2_000, 0.8), (2, 1.0), (1_000, 0.5)]));
    assert!(values[1] < 0.92, "two rewards are pulled towards the mean of all: {values:?}");
    assert!((values[0] - 0.8).abs() < 0.001, "two thousand are not: {values:?}");
}

/// Seeds: candidates with fewer than two rewards were left out once two others had them, so a new proposal starved.
#[test]
fn fault_05_a_new_arm_is_tried_at_once() {
    let mut all = arms(&[(500, 0.9), (500, 0.4), (0, 0.0)]);
    let space = plain(3);
    for tries in 0..3 {
        assert_eq!(distribution(&Tpe::default(), &all, &space), [0.0, 0.0, 1.0], "after {tries} tries");
        all[2].begin();
    }
    assert!(distribution(&Tpe::default(), &all, &space)[0] > 0.5, "then the model decides again");
    // An arm all of whose calls fail can't hold the traffic for ever.
    let mut failing = arms(&[(500, 0.9), (500, 0.4), (0, 0.0)]);
    for _ in 0..6 {
        failing[2].begin();
        failing[2].end();
    }
    assert!(distribution(&Tpe::default(), &failing, &space)[2] < 0.2);
}

/// Seeds: proposals were drawn uniformly, so most of them were spent on noise as the space grew.
#[test]
fn fault_06_proposals_are_drawn_from_the_good_density() {
    let tpe = greedy();
    let space = grid(8, 8);
    let stats: Vec<_> = (0..64).map(|arm| (20, if arm / 8 == 3 { 0.9 } else { 0.2 })).collect();
    let all = arms(&stats);
    let (good, _) = tpe.split(&tpe.values(&all));
    let l = tpe.density(&space, &good);
    let in_row: f64 = l[24..32].iter().sum();
    assert!(in_row > 0.5, "an eighth of the space has {in_row} of the draws");
    // One draw is a draw from l itself.
    let single = distribution(&Tpe { draws: 1, ..tpe }, &all, &space);
    assert!(single.iter().zip(&l).all(|(a, b)| (a - b).abs() < 1e-9));
}

/// Seeds: `max_by` returned the last of equals, and a NaN was a panic.
#[test]
fn fault_07_equals_are_decided_by_chance_and_nan_never_gets_in() {
    let all = arms(&[(50, 0.8), (50, 0.8), (50, 0.2), (50, 0.2), (50, 0.2), (50, 0.2), (50, 0.2), (50, 0.2)]);
    let spread = distribution(&greedy(), &all, &plain(8));
    assert!((spread[0] - spread[1]).abs() < 1e-9 && spread[0] > 0.4, "{spread:?}");

    let mut arm = all[0];
    for reward in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        arm.observe(reward);
    }
    assert_eq!(arm, all[0]);
    let broken = [Arm { mean: f64::NAN, ..all[0] }, all[1]];
    let mut dice = ChaCha8Rng::seed_from_u64(1);
    let view = ArmsView { arms: &broken, space: &plain(2) };
    assert_eq!(
        Tpe::default().suggest(&view, &mut dice).unwrap().probability,
        0.5,
        "no panic, an even choice"
    );
    assert!(recommend(&broken, 1.0).is_some());
}

/// Seeds: params nobody registered could be served; candidates registered by deltas had none.
#[test]
fn fault_08_every_registered_arm_has_a_place_of_its_own_and_no_other_place_exists() {
    let named =
        |pairs: &[(&str, u32)]| pairs.iter().map(|(name, choice)| ((*name).to_owned(), *choice)).collect();
    let params: [BTreeMap<String, u32>; 6] = [
        named(&[]),
        named(&[("instruction", 900)]),
        named(&[("instruction", 900), ("demos", 4)]),
        named(&[]),
        named(&[("instruction", 900)]),
        named(&[("demos", 0), ("instruction", 0)]),
    ];
    let space = Space::new(params.iter());
    let places: Vec<_> = (0..6).map(|arm| space.place(arm).to_vec()).collect();
    // Dimensions: demos {0, 4}, instruction {0, 900}, and one for candidates that params don't tell apart.
    assert_eq!(space.sizes(), [2, 2, 4]);
    assert_eq!(places, [[0, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1], [0, 1, 2], [0, 0, 3]]);
}

/// Seeds: rollouts in flight were invisible, so parallel ones all chose the same arm.
#[test]
fn fault_13_rollouts_in_flight_shrink_the_bonus() {
    let tpe = Tpe::default();
    let mut all = arms(&[(20, 0.6), (20, 0.6), (20, 0.2), (20, 0.2)]);
    (0..16).for_each(|_| all[0].begin());
    let values = tpe.values(&all);
    assert!(values[0] < values[1], "{values:?}");
    let spread = distribution(&greedy(), &all, &plain(4));
    assert!(spread[1] > spread[0], "{spread:?}");
}

/// Seeds: every reward was kept and averaged anew.
#[test]
fn fault_14_an_arm_keeps_three_numbers() {
    let rewards: Vec<f64> = (0..1_000).map(|index| f64::from(index % 7) / 7.0).collect();
    let mut arm = Arm::default();
    rewards.iter().for_each(|reward| arm.observe(*reward));
    let mean = rewards.iter().sum::<f64>() / 1_000.0;
    let m2: f64 = rewards.iter().map(|reward| (reward - mean).powi(2)).sum();
    assert!((arm.mean - mean).abs() < 1e-12 && (arm.m2 - m2).abs() < 1e-9);
}

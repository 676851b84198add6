//! Whatever has been seen: probabilities are probabilities, and statistics don't depend on how they came together.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::optimizer::tpe::best_of_draws;
use crate::optimizer::{Arm, ArmsView, Policy, Space, Tpe, recommend};

type Params = BTreeMap<String, u32>;

fn params() -> impl Strategy<Value = Params> {
    prop::collection::btree_map(
        prop::sample::select(vec!["a", "b", "c"]).prop_map(str::to_owned),
        0..4_u32,
        0..4,
    )
}

fn arm() -> impl Strategy<Value = Arm> {
    let reward = prop_oneof![Just(0.0), Just(1.0), -3.0..3.0_f64, any::<f64>()];
    (prop::collection::vec(reward, 0..12), 0..4_u32, 0..3_u64).prop_map(|(rewards, pending, lost)| {
        let mut arm = Arm::default();
        rewards.iter().for_each(|reward| arm.observe(*reward));
        (0..pending).for_each(|_| arm.begin());
        arm.starts = arm.n + u64::from(pending) + lost;
        arm
    })
}

fn tpe() -> impl Strategy<Value = Tpe> {
    (0.01..0.99_f64, 1..200_u32, 0.0..=1.0_f64, 0.01..20.0_f64, 0..20_u32).prop_map(
        |(gamma, draws, epsilon, alpha, startup_trials)| Tpe {
            gamma,
            draws,
            epsilon,
            alpha,
            startup_trials,
            ..Tpe::default()
        },
    )
}

proptest! {
    #[test]
    fn probabilities_sum_to_one_and_the_choice_has_its_own(
        arms in prop::collection::vec((arm(), params()), 1..30),
        tpe in tpe(),
        seed in any::<u64>(),
    ) {
        let (arms, params): (Vec<Arm>, Vec<Params>) = arms.into_iter().unzip();
        let space = Space::new(params.iter());
        let view = ArmsView { arms: &arms, space: &space };
        let distribution = tpe.distribution(&view);
        prop_assert_eq!(distribution.len(), arms.len());
        prop_assert!(distribution.iter().all(|p| (0.0..=1.0 + 1e-9).contains(p)), "{:?}", distribution);
        let sum: f64 = distribution.iter().sum();
        prop_assert!((sum - 1.0).abs() < 1e-9, "sum {}", sum);
        let choice = tpe.suggest(&view, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap();
        prop_assert_eq!(choice.probability, distribution[choice.arm]);
        prop_assert!(choice.probability > 0.0);
        prop_assert_eq!(tpe.suggest(&view, &mut ChaCha8Rng::seed_from_u64(seed)), Some(choice));
        prop_assert_eq!(recommend(&arms, tpe.alpha).is_some(), arms.iter().any(|arm| arm.n > 0));
    }

    #[test]
    fn the_winner_of_draws_is_a_distribution(
        weights in prop::collection::vec((0.001..1.0_f64, 0.001..1.0_f64), 1..40),
        ties in any::<bool>(),
        draws in 1..500_u32,
    ) {
        let normal = |values: Vec<f64>| {
            let sum: f64 = values.iter().sum();
            values.into_iter().map(|value| value / sum).collect::<Vec<f64>>()
        };
        let l = normal(weights.iter().map(|(l, _)| *l).collect());
        let g = if ties { l.clone() } else { normal(weights.iter().map(|(_, g)| *g).collect()) };
        let chosen = best_of_draws(&l, &g, draws);
        prop_assert!((chosen.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        prop_assert!(chosen.iter().all(|p| *p >= 0.0));
        if ties || draws == 1 {
            prop_assert!(chosen.iter().zip(&l).all(|(chosen, l)| (chosen - l).abs() < 1e-9));
        }
    }

    #[test]
    fn rewards_in_another_order_teach_the_same(
        mut rewards in prop::collection::vec(-5.0..5.0_f64, 1..50),
        rotate in 0..50_usize,
    ) {
        let learned = |rewards: &[f64]| {
            let mut arm = Arm::default();
            rewards.iter().for_each(|reward| arm.observe(*reward));
            arm
        };
        let before = learned(&rewards);
        let by = rotate % rewards.len();
        rewards.rotate_left(by);
        let after = learned(&rewards);
        prop_assert_eq!(before.n, after.n);
        prop_assert!((before.mean - after.mean).abs() < 1e-9 && (before.m2 - after.m2).abs() < 1e-6);
    }

    #[test]
    fn no_two_arms_share_a_place(params in prop::collection::vec(params(), 1..40)) {
        let space = Space::new(params.iter());
        let mut places: Vec<_> = (0..params.len()).map(|arm| space.place(arm).to_vec()).collect();
        for place in &places {
            prop_assert!(place.iter().zip(space.sizes()).all(|(choice, size)| choice < size));
        }
        places.sort();
        places.dedup();
        prop_assert_eq!(places.len(), params.len());
    }

    #[test]
    fn numbers_stay_finite_whatever_comes(rewards in prop::collection::vec(any::<f64>(), 0..40)) {
        let mut arm = Arm::default();
        for reward in rewards {
            arm.observe(reward);
            prop_assert!(arm.mean.is_finite() && arm.m2.is_finite() && arm.m2 >= 0.0);
        }
    }
}

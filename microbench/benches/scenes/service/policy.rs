//! One suggestion of TPE, the densities included.

use std::collections::BTreeMap;
use std::hint::black_box;

use mipro_microbench::{Scene, Supply, repeated};
use mipro_service::optimizer::{Arm, ArmsView, Policy, Space, Tpe};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

const SUGGESTIONS: u32 = 20;
/// Rewards an arm has seen: past the startup, in which TPE has nothing to do.
const REWARDS: u32 = 20;

pub(super) fn all() -> Vec<Scene> {
    vec![
        Scene::pure("service/tpe.suggest_8", SUGGESTIONS, || suggest(8)),
        Scene::pure("service/tpe.suggest_64", SUGGESTIONS, || suggest(64)),
    ]
}

/// Candidates of three dimensions with four choices each, and rewards that rise with them.
fn suggest(candidates: u32) -> Supply {
    let params: Vec<BTreeMap<String, u32>> = (0..candidates)
        .map(|index| {
            let choices = [("a", index % 4), ("b", index / 4 % 4), ("c", index / 16)];
            choices.into_iter().map(|(name, choice)| (name.to_owned(), choice)).collect()
        })
        .collect();
    let space = Space::new(params.iter());
    let arms: Vec<Arm> = (0..candidates).map(|index| arm(f64::from(index) / f64::from(candidates))).collect();
    repeated(move || {
        let mut dice = ChaCha8Rng::seed_from_u64(7);
        let (policy, view) = (Tpe::default(), ArmsView { arms: &arms, space: &space });
        for _ in 0..SUGGESTIONS {
            black_box(policy.suggest(black_box(&view), &mut dice));
        }
    })
}

fn arm(mean: f64) -> Arm {
    let mut arm = Arm::default();
    for turn in 0..REWARDS {
        arm.begin();
        arm.end();
        arm.observe(if turn % 2 == 0 { mean } else { mean / 2.0 });
    }
    arm
}

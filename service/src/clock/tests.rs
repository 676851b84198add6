use std::collections::HashSet;

use super::Contexts;

#[test]
fn seeds_repeat_with_the_sequence_and_never_within_it() {
    let (a, b) = (Contexts::seeded(7), Contexts::seeded(7));
    let seeds: Vec<u64> = (0..1_000).map(|_| a.context().seed).collect();
    assert!(seeds.iter().all(|seed| *seed == b.context().seed));
    assert_eq!(seeds.iter().collect::<HashSet<_>>().len(), seeds.len());
    assert_ne!(Contexts::seeded(8).context().seed, seeds[0]);
}

#[test]
fn clones_share_one_sequence() {
    let a = Contexts::frozen(7, 99);
    let b = a.clone();
    assert_ne!(a.context().seed, b.context().seed);
    assert_eq!(a.context().now_us, 99);
}

#[test]
fn two_starts_differ() {
    assert_ne!(Contexts::from_os().context().seed, Contexts::from_os().context().seed);
}

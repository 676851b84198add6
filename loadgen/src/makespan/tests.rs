use std::time::Duration;

use proptest::prelude::*;

use super::{Lanes, Layout, WAITING_MAX};

fn laid_out(lanes: usize, fixed: bool, plans: &[(u64, u64)]) -> Option<Duration> {
    let mut layout = Layout::new(lanes, fixed);
    plans.iter().for_each(|(index, us)| layout.add(*index, Some(*us)));
    layout.finish()
}

#[test]
fn the_lane_that_is_free_first_takes_the_next() {
    let plans = [(0, 30), (1, 10), (2, 10), (3, 5)];
    assert_eq!(laid_out(2, false, &plans), Some(Duration::from_micros(30)));
    assert_eq!(laid_out(2, true, &plans), Some(Duration::from_micros(40)), "lane 0 has rollouts 0 and 2");
    assert_eq!(laid_out(1, false, &plans), Some(Duration::from_micros(55)));
}

#[test]
fn without_every_plan_there_is_no_makespan() {
    assert_eq!(laid_out(2, false, &[]), None);
    let mut layout = Layout::new(2, false);
    layout.add(0, Some(5));
    layout.add(1, None);
    assert_eq!(layout.finish(), None);
}

#[test]
fn one_that_never_ends_cannot_fill_the_memory() {
    let mut layout = Layout::new(2, false);
    let rollouts = WAITING_MAX as u64 + 1_000;
    (1..=rollouts).for_each(|index| layout.add(index, Some(2)));
    let Lanes::Greedy { waiting, .. } = &layout.lanes else { unreachable!() };
    assert!(waiting.len() <= WAITING_MAX, "{}", waiting.len());
    assert_eq!(layout.finish(), Some(Duration::from_micros(rollouts)));
}

proptest! {
    #[test]
    fn the_order_of_ends_does_not_matter(
        delays in prop::collection::vec(0..1_000u64, 1..60),
        lanes in 1..8usize,
        keys in prop::collection::vec(any::<u32>(), 60),
    ) {
        let mut free = vec![0u64; lanes];
        for us in &delays {
            let first = (0..lanes).min_by_key(|lane| free[*lane]).unwrap();
            free[first] += us;
        }
        let wanted = Duration::from_micros(free.into_iter().max().unwrap());
        let mut shuffled: Vec<(u64, u64)> = (0..).zip(delays).collect();
        shuffled.sort_by_key(|(index, _)| keys[*index as usize]);
        prop_assert_eq!(laid_out(lanes, false, &shuffled), Some(wanted));
    }
}

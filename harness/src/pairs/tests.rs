use super::*;

/// Notes what it is asked for; is interrupted after so many slices.
struct Notes {
    asked: Vec<(Side, u32)>,
    /// After how many slices both sides were begun anew, and which one first.
    renewed_at: Vec<(usize, Side)>,
    interrupted_after: usize,
}

impl Notes {
    fn new() -> Self {
        Self { asked: Vec::new(), renewed_at: Vec::new(), interrupted_after: usize::MAX }
    }
}

impl Driver for Notes {
    type Slice = (Side, u32);
    async fn renew(&mut self, first: Side) -> Result<(), Error> {
        self.renewed_at.push((self.asked.len(), first));
        Ok(())
    }
    async fn slice(&mut self, side: Side, pair: u32) -> Result<(Side, u32), Error> {
        self.asked.push((side, pair));
        Ok((side, pair))
    }
    fn is_interrupted(&self) -> bool {
        self.asked.len() >= self.interrupted_after
    }
}

fn letters(asked: &[(Side, u32)]) -> String {
    asked.iter().map(|(side, _)| side.name()).collect()
}

#[test]
fn looks_are_at_two_thirds_all_and_half_as_many_again() {
    assert_eq!(Looks::extended(30), Looks(vec![20, 30, 45]));
    assert_eq!(Looks::extended(1), Looks(vec![1, 2]));
    assert_eq!(Looks::once(0), Looks(vec![1]));
}

#[tokio::test]
async fn sides_alternate_in_quads_that_the_seed_draws() {
    let mut orders = std::collections::BTreeSet::new();
    for seed in 0..8 {
        let mut notes = Notes::new();
        let (slices, ended) = run(&mut notes, &Looks::once(6), seed, |_| false).await.unwrap();
        assert_eq!((slices.len(), ended), (12, Ended::Exhausted));
        let before_each_pair: Vec<_> = (0..12).step_by(2).map(|at| (at, notes.asked[at].0)).collect();
        assert_eq!(notes.renewed_at, before_each_pair, "in the order in which they are measured");
        let order = letters(&notes.asked);
        let quads: Vec<&str> = (0..3).map(|quad| &order[4 * quad..4 * quad + 4]).collect();
        assert!(quads.iter().all(|quad| ["ABBA", "BAAB"].contains(quad)), "{order}");
        assert!(
            notes.asked.chunks(2).enumerate().all(|(n, pair)| pair.iter().all(|(_, p)| *p as usize == n))
        );
        let mut again = Notes::new();
        run(&mut again, &Looks::once(6), seed, |_| false).await.unwrap();
        assert_eq!(again.asked, notes.asked, "the same seed gives the same order");
        orders.insert(order);
    }
    assert!(orders.len() > 2, "quads are drawn: {orders:?}");
}

#[tokio::test]
async fn nothing_is_measured_beyond_the_look_that_decides() {
    let mut notes = Notes::new();
    let mut seen = Vec::new();
    let (slices, ended) = run(&mut notes, &Looks::extended(3), 1, |slices| {
        seen.push(slices.len());
        seen.len() == 2
    })
    .await
    .unwrap();
    assert_eq!((seen, slices.len(), ended), (vec![4, 6], 6, Ended::Decided));
}

#[tokio::test]
async fn an_interrupt_ends_it_within_a_pair_and_is_not_judged() {
    let mut notes = Notes { interrupted_after: 3, ..Notes::new() };
    let (slices, ended) = run(&mut notes, &Looks::once(2), 1, |_| panic!("judged")).await.unwrap();
    assert_eq!((slices.len(), ended), (3, Ended::Interrupted));
    // Also when the last slice of the last pair was still measured.
    let mut notes = Notes { interrupted_after: 4, ..Notes::new() };
    let (_, ended) = run(&mut notes, &Looks::once(2), 1, |_| panic!("judged")).await.unwrap();
    assert_eq!(ended, Ended::Interrupted);
}

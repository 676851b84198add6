use proptest::prelude::*;

use super::{Knee, Next, PRECISION, Search, Trial};

/// Runs a search against something that holds up to `knee`, and offers up to `limit`; gives the stages it took.
fn search(first: f64, knee: f64, limit: f64) -> (Knee, u32) {
    let mut search = Search::new(first, 0.1, 100_000.0);
    for stages in 0..200 {
        let rate = match search.next() {
            Next::Done(knee) => return (knee, stages),
            Next::Try(rate) | Next::Confirm(rate) => rate,
        };
        search.tell(match rate {
            rate if rate > limit => Trial::GeneratorLimit,
            rate if rate > knee => Trial::Broke,
            _ => Trial::Held,
        });
    }
    panic!("the search does not end");
}

#[test]
fn ends_are_told_apart() {
    assert_eq!(search(10.0, 0.01, 1e9).0, Knee::Below(0.1));
    assert_eq!(search(10.0, 1e9, 1e9).0, Knee::AtLeast { rate: 100_000.0, generator: false });
    let (knee, _) = search(10.0, 1e9, 700.0);
    assert!(
        matches!(knee, Knee::AtLeast { rate, generator: true } if (680.0..=700.0).contains(&rate)),
        "{knee:?}"
    );
}

#[test]
fn what_does_not_confirm_is_lowered_and_then_given_up() {
    let until = |confirms: u32| {
        let mut search = Search::new(64.0, 1.0, 1_000.0);
        let mut asked = 0;
        loop {
            let trial = match search.next() {
                Next::Try(rate) => {
                    if rate > 100.0 {
                        Trial::Broke
                    } else {
                        Trial::Held
                    }
                }
                Next::Confirm(_) => {
                    asked += 1;
                    if asked == confirms { Trial::Held } else { Trial::Broke }
                }
                Next::Done(knee) => return knee,
            };
            search.tell(trial);
        }
    };
    let Knee::At { rate: first, .. } = until(1) else { panic!("not confirmed at once") };
    let Knee::At { rate: second, broke_at } = until(2) else { panic!("not confirmed after backing off") };
    assert!((second - first * 0.95).abs() < 1e-9 && broke_at == first, "{first} {second} {broke_at}");
    assert!(matches!(until(9), Knee::Unsteady(_)));
}

proptest! {
    #[test]
    fn the_knee_is_found_in_few_stages(first in 0.5..5_000.0f64, knee in 0.5..50_000.0f64) {
        let (found, stages) = search(first, knee, 1e9);
        let Knee::At { rate, broke_at } = found else { return Err(TestCaseError::fail(format!("{found:?}"))) };
        prop_assert!(rate <= knee && knee < broke_at && broke_at <= rate * (1.0 + PRECISION));
        prop_assert!(stages <= 26, "{} stages", stages);
    }
}

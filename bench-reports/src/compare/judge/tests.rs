use proptest::prelude::*;

use super::*;

fn pass(improved: bool) -> CompareVerdict {
    CompareVerdict::Pass { improved }
}

fn open(more_pairs: Option<u32>) -> CompareVerdict {
    CompareVerdict::Inconclusive { more_pairs, reason: "±4 %".to_owned() }
}

fn invalid() -> CompareVerdict {
    CompareVerdict::Invalid { reasons: vec!["no samples".to_owned()] }
}

fn all(verdicts: &[CompareVerdict]) -> CompareVerdict {
    together(verdicts.iter().map(|verdict| ("x", verdict)))
}

#[test]
fn all_must_pass_and_one_may_fail() {
    assert_eq!(all(&[pass(false), CompareVerdict::Shown]), pass(false));
    assert_eq!(all(&[pass(false), pass(true)]), pass(true));
    assert_eq!(
        all(&[pass(true), open(Some(3)), invalid(), CompareVerdict::Regress]),
        CompareVerdict::Regress
    );
    let CompareVerdict::Invalid { reasons } = all(&[pass(true), open(None), invalid()]) else { panic!() };
    assert_eq!(reasons, ["x: no samples"]);
    let CompareVerdict::Inconclusive { more_pairs, .. } = all(&[open(Some(3)), open(Some(12))]) else {
        panic!()
    };
    assert_eq!(more_pairs, Some(12), "the one that needs most");
    let CompareVerdict::Inconclusive { more_pairs, .. } = all(&[open(Some(3)), open(None)]) else { panic!() };
    assert_eq!(more_pairs, None, "one is beyond reach");
}

#[test]
fn nothing_gated_passes_nothing() {
    assert_eq!(all(&[]).exit_code(), 125);
    assert_eq!(all(&[CompareVerdict::Shown]).exit_code(), 125);
}

#[test]
fn exit_codes_are_those_of_the_command_line() {
    let codes = [pass(true), pass(false), CompareVerdict::Regress, open(None), invalid()];
    assert_eq!(codes.map(|verdict| verdict.exit_code()), [0, 0, 99, 125, 125]);
}

#[test]
fn holm_by_hand() {
    // 0.05/4, 0.05/3, 0.05/2, 0.05: the third of them fails, and with it the fourth, though 0.04 < 0.05.
    assert_eq!(holm(&[0.04, 0.01, 0.03, 0.015], 0.05), [false, true, false, true]);
    assert_eq!(holm(&[0.05], 0.05), [true]);
    assert_eq!(holm(&[], 0.05), Vec::<bool>::new());
}

#[test]
fn shares_as_people_read_them() {
    let shown = [0.104, -0.02, 0.0, 3.0, -0.000_4].map(percent);
    assert_eq!(shown, ["+10.4 %", "−2.0 %", "+0.0 %", "+300 %", "−0.0 %"]);
}

proptest! {
    /// Holm rejects at least what Bonferroni rejects, at most what no correction would, and never a larger p before a smaller.
    #[test]
    fn holm_lies_between(p_values in prop::collection::vec(0.0_f64..1.0, 1..12)) {
        let alpha = 0.05;
        let rejected = holm(&p_values, alpha);
        for (p, rejected) in p_values.iter().zip(&rejected) {
            prop_assert!(*rejected || *p > alpha / p_values.len() as f64);
            prop_assert!(!rejected || *p <= alpha);
        }
        let largest_rejected = p_values.iter().zip(&rejected).filter(|(_, r)| **r).map(|(p, _)| *p).fold(0.0, f64::max);
        let smallest_kept = p_values.iter().zip(&rejected).filter(|(_, r)| !**r).map(|(p, _)| *p).fold(2.0, f64::min);
        prop_assert!(largest_rejected <= smallest_kept);
    }
}

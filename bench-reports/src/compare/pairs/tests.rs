use super::super::tests::{QUIET, slices};
use super::*;

#[test]
fn a_bad_slice_takes_its_pair_with_it() {
    let mut data = slices(10, 1.0, QUIET);
    data[5].invalid.push("2 errors".to_owned());
    let pairs = Pairs::of(&data);
    assert_eq!(pairs.valid.iter().map(|pair| pair.number).collect::<Vec<_>>(), [0, 1, 3, 4, 5, 6, 7, 8, 9]);
    let side = data[5].side.name();
    assert_eq!(pairs.invalid, [InvalidPair { pair: 2, reasons: vec![format!("{side}: 2 errors")] }]);
    assert!(pairs.doubts.is_empty());
}

#[test]
fn halves_and_doubles_are_no_pairs() {
    let mut data = slices(10, 1.0, QUIET);
    let gone = data.remove(0).side.name();
    data.push(data.iter().find(|slice| slice.pair == 9 && slice.side == Side::B).unwrap().clone());
    let reasons: Vec<_> = Pairs::of(&data).invalid.into_iter().flat_map(|pair| pair.reasons).collect();
    assert_eq!(reasons, [format!("no slice of side {gone}"), "2 slices of side B".to_owned()]);
}

#[test]
fn more_than_a_third_set_aside_is_no_measurement() {
    let mut data = slices(12, 1.0, QUIET);
    for slice in data.iter_mut().filter(|slice| slice.pair < 4) {
        slice.invalid.push("stolen CPU".to_owned());
    }
    assert!(Pairs::of(&data).doubts.is_empty(), "a third may be");
    data.last_mut().unwrap().invalid.push("a clock step".to_owned());
    let doubts = Pairs::of(&data).doubts;
    assert_eq!(doubts.len(), 1);
    assert!(
        doubts[0].starts_with("5 of 12 pairs set aside: A: stolen CPU (4 times), B: stolen CPU (4 times), "),
        "{doubts:?}"
    );
}

#[test]
fn what_befalls_only_one_side_is_no_accident() {
    let mut data = slices(30, 1.0, QUIET);
    data.iter_mut()
        .filter(|of| of.side == Side::B && of.pair < 6)
        .for_each(|of| of.invalid.push("errors".to_owned()));
    let doubts = Pairs::of(&data).doubts;
    assert_eq!(
        doubts,
        ["6 slices set aside, all of side B: what makes them invalid may be what is compared"]
    );
    data.iter_mut().find(|of| of.side == Side::A).unwrap().invalid.push("errors".to_owned());
    assert!(Pairs::of(&data).doubts.is_empty());
}

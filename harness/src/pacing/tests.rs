use super::*;

#[test]
fn light_load_leaves_room_and_too_much_is_refused() {
    assert_eq!(Pacing::Light.rate(100.0).unwrap(), Some(30.0));
    assert_eq!(Pacing::Rate(99.0).rate(100.0).unwrap(), Some(99.0));
    assert_eq!(Pacing::Closed.rate(100.0).unwrap(), None);
    let error = Pacing::Rate(100.0).rate(100.0).unwrap_err().to_string();
    assert!(error.contains("100.0 rollouts a second") && error.contains("-q light"), "{error}");
}

#[test]
fn both_slices_of_a_pair_have_the_same_arrivals() {
    let starts = |seed| match schedule(Some(30.0), seed).unwrap() {
        Schedule::Open(arrivals) => arrivals.starts().take(60).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(starts(7), starts(7));
    assert_eq!(starts(7)[30], 1_000_000_000);
    assert_eq!(schedule(None, 7).unwrap(), Schedule::Closed);
}

#[test]
fn it_reads_what_it_writes_and_says_what_it_can_not_read() {
    for text in ["light", "closed", "12.5"] {
        assert_eq!(text.parse::<Pacing>().unwrap().to_string(), text);
    }
    for text in ["", "heavy", "-3", "0", "inf", "NaN", "10/s"] {
        assert!(text.parse::<Pacing>().unwrap_err().contains("say light, closed"), "{text}");
    }
}

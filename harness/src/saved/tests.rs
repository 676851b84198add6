use super::*;

fn report(round_trips: f64) -> Report {
    let mut rung = Rung { name: "blob".to_owned(), ..Rung::default() };
    rung.counts.critical.db_round_trips = round_trips;
    rung.overhead.p50_us = Some(1_000.0);
    let mut report = Report { rungs: vec![rung], ..Report::default() };
    report.run.seed = 1;
    report
}

#[test]
fn counts_are_judged_and_times_only_shown() {
    let saved = compare(&report(12.0), &report(13.0)).unwrap();
    assert!(saved.is_worse());
    let [change] = saved.counts.as_slice() else { panic!("{:?}", saved.counts) };
    assert_eq!((change.rung.as_str(), change.count), ("blob", "db_round_trips"));
    assert_eq!(saved.times.len(), 1);

    let fewer = compare(&report(12.0), &report(11.0)).unwrap();
    assert!(!fewer.is_worse() && fewer.counts.len() == 1);
    assert_eq!(compare(&report(12.0), &report(12.0)).unwrap().counts, []);
}

#[test]
fn reports_that_are_not_comparable_are_refused_with_every_reason() {
    let mut other = report(12.0);
    other.run.seed = 2;
    other.environment.link = "cross-region".to_owned();
    other.environment.cpu = "another".to_owned();
    let reasons = compare(&report(12.0), &other).unwrap_err().join("; ");
    for part in ["seed: 1 and 2", "link", "CPU"] {
        assert!(reasons.contains(part), "{reasons}");
    }
}

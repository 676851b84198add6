use mipro_bench_reports::Accounting;

use super::{Class, FAILURES_MAX, Failure, add, note};

const ALL: [Class; 8] = [
    Class::Http4xx,
    Class::Http5xx,
    Class::Invalid,
    Class::Connect,
    Class::Tls,
    Class::Write,
    Class::Read,
    Class::Timeout,
];

#[test]
fn every_class_has_a_counter_of_its_own() {
    let mut books = Accounting::default();
    for (number, class) in ALL.iter().enumerate() {
        (0..=number).for_each(|_| class.count(&mut books));
    }
    let Accounting { http_4xx, http_5xx, invalid, connect, tls, write, read, timeout, .. } = books;
    assert_eq!([http_4xx, http_5xx, invalid, connect, tls, write, read, timeout], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(books.errors(), 36);
    books.intended = 36;
    let mut twice = books;
    add(&mut twice, &books);
    assert!(books.holds() && twice.holds());
    assert_eq!((twice.intended, twice.timeout), (72, 16));
}

#[test]
fn failures_are_told_apart_up_to_a_bound() {
    let mut failures = Vec::new();
    for round in 0..2 {
        for number in 0..FAILURES_MAX + 5 {
            note(&mut failures, "rollout", &Failure::invalid(format!("no {number}")), 1 + round);
        }
    }
    assert_eq!(failures.len(), FAILURES_MAX);
    assert!(failures.iter().all(|f| f.count == 3));
    note(&mut failures, "status_done", &Failure::invalid("no 0"), 1);
    assert_eq!(failures.len(), FAILURES_MAX, "another step is another failure, and the list is full");
}

#[test]
fn a_long_message_is_cut_between_characters() {
    let failure = Failure::new(Class::Http5xx, "é".repeat(1_000));
    assert_eq!(failure.detail.chars().count(), 301);
    assert_eq!(Failure::new(Class::Timeout, "too late").to_string(), "too late (timeout)");
}

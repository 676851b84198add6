use mipro_bench_reports::Accounting;

use super::{Facts, Gauge, Health, descriptors, preflight_in_flight, process_cpu};
use crate::outcome::Identity;
use crate::record::{Released, Sheet, Times};
use crate::run::Offered;
use crate::session::{Books, Finished};

const MS: u64 = 1_000_000;
const WELL: Offered =
    Offered { rate: 10.0, at_end: Some((1_000, 1)), backlog_full: false, slots_measured: false };

/// A thousand rollouts of 10 ms each in the open model.
fn sheet(pacer_lag_ns: u64, slot_wait_ns: u64, slot_free: bool) -> Sheet {
    let mut sheet = Sheet::new(1);
    let released = Some(Released { pacer_lag_ns, slot_free });
    for index in 0..1_000 {
        let times = Times { lag_ns: pacer_lag_ns + slot_wait_ns, service_ns: 10 * MS, released };
        sheet.finished(times, &Finished::default(), (0, index));
    }
    sheet.accounting.intended = 1_000;
    sheet
}

fn doubts(sheet: &Sheet, offered: Option<Offered>, health: Health) -> Vec<String> {
    let facts = Facts {
        sheet,
        failures: &[],
        identity: &Identity::default(),
        interrupted: false,
        books: Books::NotExpected,
        lanes: 4,
        health,
        open: offered,
    };
    facts.doubts()
}

fn of(sheet: &Sheet, offered: Offered) -> String {
    doubts(sheet, Some(offered), Health::default()).join("\n")
}

#[test]
fn a_run_that_kept_its_schedule_is_believed() {
    assert_eq!(of(&sheet(5_000, 20_000, true), WELL), "");
    assert_eq!(
        of(&sheet(5_000, 900 * MS, false), WELL),
        "",
        "who waits for a busy slot waits for the service"
    );
}

#[test]
fn a_generator_that_fell_behind_says_by_how_much() {
    insta::assert_snapshot!(of(&sheet(2 * MS, 0, false), WELL), @"the generator fell behind: lag of the pacer p99 2000 µs, allowed 1000 µs");
    insta::assert_snapshot!(of(&sheet(5_000, 2 * MS, true), WELL), @"the generator fell behind: lag with a free slot p99 2005 µs, allowed 1000 µs");
}

#[test]
fn a_missed_schedule_counts_only_while_slots_are_free() {
    let good = sheet(5_000, 0, true);
    insta::assert_snapshot!(of(&good, Offered { at_end: Some((980, 2)), ..WELL }), @"the generator missed its schedule: at its end 980 of 1000 were sent, while 2 slots were free");
    assert_eq!(of(&good, Offered { at_end: Some((980, 0)), ..WELL }), "");
    assert_eq!(of(&good, Offered { at_end: Some((995, 2)), ..WELL }), "");
    insta::assert_snapshot!(of(&good, Offered { backlog_full: true, ..WELL }), @"more arrivals waited for a slot than this generator keeps");
}

#[test]
fn littles_law_is_held_against_the_slots() {
    let good = sheet(5_000, 0, true);
    assert_eq!(of(&good, Offered { rate: 390.0, ..WELL }), "", "3.9 in flight on 4 slots");
    assert_eq!(of(&good, Offered { rate: 410.0, slots_measured: true, ..WELL }), "", "asked not to");
    insta::assert_snapshot!(of(&good, Offered { rate: 410.0, ..WELL }), @"410.0/s × 10.0 ms keep 4.1 in flight, more than the 4 slots: what waits for a slot would be this generator's cap; raise the concurrency or lower the rate");

    assert!(preflight_in_flight(Some(410.0), None, 4).is_ok(), "nothing is known of the service");
    assert!(preflight_in_flight(None, Some(10 * MS), 4).is_ok(), "a closed model has no rate");
    assert!(preflight_in_flight(Some(390.0), Some(10 * MS), 4).is_ok());
    let refused = preflight_in_flight(Some(1_000.0), Some(10 * MS), 4).unwrap_err().to_string();
    insta::assert_snapshot!(refused, @"the measurement would not be valid: as the warm-up went, 1000.0/s × 10.0 ms keep 10.0 in flight, more than the 4 slots: what waits for a slot would be this generator's cap; raise the concurrency or lower the rate");
}

#[test]
fn the_machine_is_doubted_where_it_gave_out() {
    let mut bad = sheet(5_000, 0, true);
    bad.exhausted = [3, 2];
    let health = Health { seconds: 2.0, cpu_share: Some(0.93), clock_step_us: -1_500_000 };
    insta::assert_snapshot!(doubts(&bad, Some(WELL), health).join("\n"), @r"
    the generator used 93 % of this machine's cores, so it measured itself (allowed 80 %)
    the wall clock stepped by -1500 ms against the monotonic one
    3 calls found no free file descriptor on this machine: raise `ulimit -n`
    2 calls found no free local port on this machine
    ");
    bad.exhausted = [0, 0];
    let short = Health { seconds: 0.9, cpu_share: Some(1.0), clock_step_us: 90_000 };
    assert_eq!(doubts(&bad, Some(WELL), short), Vec::<String>::new());
}

#[test]
fn a_closed_run_is_held_to_its_whole_lag() {
    let late = doubts(&sheet(0, 2 * MS, false), None, Health::default());
    assert_eq!(late, ["the generator fell behind: lag p99 2000 µs, allowed 1000 µs"]);
}

#[test]
fn books_that_do_not_hold_are_told() {
    let mut lost = sheet(5_000, 0, true);
    lost.accounting = Accounting { intended: 1_001, ..lost.accounting };
    assert_eq!(of(&lost, WELL), "the accounting does not hold: some rollouts are nowhere");
}

#[test]
fn more_connections_than_files_are_refused() {
    assert!(descriptors(10, 2).is_ok());
    let refused = descriptors(1 << 40, 2).map_err(|error| error.to_string());
    // A system without any limit has nothing to refuse.
    let unlimited = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.is_none();
    assert!(refused.is_ok() == unlimited, "{refused:?}");
    if let Err(message) = refused {
        assert!(
            message.starts_with("the measurement would not be valid: 1099511627776 in flight need"),
            "{message}"
        );
    }
}

#[test]
fn the_process_counts_its_time_and_the_clocks_agree() {
    let before = process_cpu().unwrap();
    let mut gauge = Gauge::start();
    // Until the system has charged something: it counts in hundredths.
    let mut spun = 0u64;
    while process_cpu().unwrap() == before {
        spun = std::hint::black_box(spun + 1);
    }
    gauge.look();
    let health = gauge.finish();
    assert!(health.seconds > 0.0 && health.cpu_share.is_some_and(|share| share > 0.0), "{health:?}");
    // Another clock than ours may be set at any time; a test machine's is not set by seconds.
    assert!(health.clock_step_us.abs() < 5_000_000, "{health:?}");
}

#[test]
fn missing_books_count_where_they_were_expected() {
    let of = |books: Books, joined: u64| {
        let sheet = Sheet { joined, ..sheet(5_000, 0, true) };
        let (identity, health) = (Identity::default(), Health::default());
        let facts = Facts {
            sheet: &sheet,
            failures: &[],
            identity: &identity,
            interrupted: false,
            books,
            lanes: 4,
            health,
            open: Some(WELL),
        };
        facts.doubts().len()
    };
    assert_eq!([Books::NotExpected, Books::AllOrNone, Books::Expected].map(|b| of(b, 0)), [0, 0, 1]);
    assert_eq!([Books::NotExpected, Books::AllOrNone, Books::Expected].map(|b| of(b, 900)), [0, 1, 1]);
    assert_eq!([Books::NotExpected, Books::AllOrNone, Books::Expected].map(|b| of(b, 1_000)), [0, 0, 0]);
}

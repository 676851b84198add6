use mipro_telemetry::prometheus::{Exposition, names};
use mipro_telemetry::{Operation, Recorders, Stage};

use super::*;

#[test]
fn syncs_are_counted_from_the_page_as_it_is_written() {
    let recorders = Recorders::new();
    let page = |recorders: &Recorders| {
        let mut page = Exposition::new();
        page.recorders(&recorders.snapshot());
        page.finish()
    };
    assert_eq!(log_syncs(&page(&recorders)), 0);
    for _ in 0..3 {
        let ledger = mipro_telemetry::Ledger::start(Operation::Background);
        ledger.time(Stage::LogSync, || ());
        ledger.time(Stage::SnapshotPut, || ());
        recorders.record(&ledger.finish());
    }
    assert_eq!(log_syncs(&page(&recorders)), 3, "{}", page(&recorders));
}

#[test]
fn allocations_are_those_between_two_pages_and_none_where_nobody_counts() {
    let page = |totals: Option<(f64, f64)>| {
        let mut page = Exposition::new();
        page.gauge(names::BUILD_INFO, &[], 1.0);
        if let Some((allocations, bytes)) = totals {
            page.counter(names::ALLOCATIONS, &[], allocations);
            page.counter(names::ALLOCATED_BYTES, &[], bytes);
        }
        Counted::on(&page.finish())
    };
    let (before, after) = (page(Some((1_000.0, 5e6))), page(Some((12_345_678_901.0, 7e12))));
    let between = Totals { allocations: 12_345_677_901, bytes: 6_999_995_000_000 };
    assert_eq!(after.since(before).allocated, Some(between));
    assert_eq!(page(None).allocated, None);
    assert_eq!(after.since(page(None)).allocated, None, "a difference needs both");
}

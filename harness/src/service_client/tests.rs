use mipro_telemetry::prometheus::Exposition;
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

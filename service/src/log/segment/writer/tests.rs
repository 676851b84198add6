use super::super::{SegmentLog, SegmentOptions};
use crate::log::disk::sim::SimDisk;
use crate::log::{Batch, EventLog};
use mipro_telemetry::clock;
use uuid::Uuid;

/// What follows the last whole record must not be acknowledged as if it were one.
#[test]
fn bytes_that_are_no_whole_records_close_the_log_before_they_are_written() {
    let disk = std::sync::Arc::new(SimDisk::new());
    let (log, _, mut stepper) =
        SegmentLog::open_stepped(SegmentOptions::at("/log"), disk.clone(), clock::now()).unwrap();
    let batch = Batch { system: Uuid::from_u128(1), epoch: 1, first_seq: 1, count: 1, payload: b"events" };
    log.append(&batch).unwrap();
    let writer = &mut stepper.writer;
    writer.shared.queue.drain(&mut writer.taken);
    writer.taken.bytes.extend([0xff; 10]);
    let operations = disk.operations().len();
    let fault = writer.write(clock::now()).unwrap_err();
    assert_eq!(fault.step, "drive", "{fault}");
    assert!(fault.reason.contains("of 80 bytes taken, 70 are whole records"), "{fault}");
    assert_eq!(disk.operations().len(), operations, "nothing was written");
}

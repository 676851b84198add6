//! Disks that refuse.

use std::io;

use super::support::{Rig, open, options};
use crate::log::disk::sim::SimDisk;
use crate::log::segment::SegmentOptions;
use crate::log::{AppendError, EventLog, Lsn, Segments};

/// The log has closed: nothing is acknowledged any more, nothing is taken, and it says why.
fn assert_closed(rig: &mut Rig, acknowledged: Lsn, step: &str) {
    assert_eq!(rig.durable(), acknowledged, "no later acknowledgement");
    assert!(rig.durable.has_changed().is_err(), "the senders are gone");
    assert!(rig.os.has_changed().is_err(), "the senders are gone");
    assert_eq!(rig.append(0, 1, 10), Err(AppendError::Closed));
    assert!(rig.log.health().closed);
    let fault = rig.log.fault().borrow().clone().expect("a fault is told");
    assert_eq!(fault.step, step, "{fault}");
    rig.settle();
    assert_eq!(rig.durable(), acknowledged, "no later acknowledgement");
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged() {
    let mut rig = Rig::fresh();
    rig.settle();
    rig.append(0, 1, 10).unwrap();
    rig.settle();
    rig.append(0, 1, 10).unwrap();
    rig.disk.fail_syncs(0, 1);
    rig.settle();
    assert_closed(&mut rig, Lsn(1), "sync");
    let syncs = rig.disk.operations().len();
    rig.settle();
    assert_eq!(rig.disk.operations().len(), syncs, "a failed sync is not repeated");
    assert_eq!(rig.content().len(), 2, "reads go on");
}

/// The failed sync's pages can be read and are not on the disk: a start must not call them durable because it read them.
#[test]
fn what_a_failed_sync_left_in_the_cache_is_made_durable_by_the_next_start() {
    let mut rig = Rig::fresh();
    rig.settle();
    rig.append(0, 1, 10).unwrap();
    rig.disk.fail_syncs(0, 1);
    rig.settle();
    let rig = rig.reopen().unwrap();
    assert_eq!(rig.opened.durable, Lsn(1));
    rig.disk.crash(&mut || false);
    let rig = open(&rig.disk, options()).unwrap();
    assert_eq!(rig.content().len(), 1);
}

/// So it is with a seal: without it the segment would be damaged, once another one follows.
#[test]
fn a_seal_that_was_not_synced_is_made_durable_by_the_next_start() {
    let mut rig = Rig::fresh();
    rig.settle();
    rig.append(0, 1, 10).unwrap();
    rig.settle();
    rig.log.seal();
    rig.disk.fail_syncs(0, 1);
    rig.settle();
    assert_closed(&mut rig, Lsn(1), "sync");
    let mut rig = rig.reopen().unwrap();
    rig.append(0, 1, 10).unwrap();
    rig.settle();
    assert_eq!(rig.durable(), Lsn(2));
    let appended = rig.appended.clone();
    rig.disk.crash(&mut || false);
    assert_eq!(open(&rig.disk, options()).unwrap().content(), appended);
}

/// And with the control file: what it says is trimmed a start removes, and after the power went it would be missed.
#[test]
fn a_trim_that_was_not_synced_is_made_durable_before_the_next_start_acts_on_it() {
    for operations in 0..12 {
        let mut rig = Rig::fresh();
        rig.settle();
        rig.append(0, 1, 10).unwrap();
        rig.settle();
        rig.log.seal();
        rig.settle();
        rig.append(0, 1, 10).unwrap();
        rig.settle();
        // What the control file says of the watermark is written at a start; so that start has nothing more to say.
        let mut rig = rig.reopen().unwrap();
        rig.settle();
        let oldest = rig.log.sealed()[0].id;
        rig.disk.fail_syncs(0, 1);
        rig.log.trim(oldest).unwrap_err();
        let disk = rig.disk.clone();
        drop(rig);
        disk.kill();
        disk.off_after(operations);
        drop(open(&disk, options()));
        disk.crash(&mut || false);
        let rig = open(&disk, options()).unwrap_or_else(|error| panic!("after {operations}: {error}"));
        assert!(rig.content().contains_key(&2), "what was not trimmed is there");
    }
}

#[test]
fn after_a_failed_write_nothing_is_acknowledged() {
    let mut rig = Rig::fresh();
    rig.settle();
    rig.append(0, 1, 10).unwrap();
    rig.settle();
    rig.append(0, 1, 100).unwrap();
    rig.disk.fail_writes(0, 1);
    rig.settle();
    assert_closed(&mut rig, Lsn(1), "write");
    let rig = rig.reopen().unwrap();
    assert_eq!(rig.opened.durable, Lsn(1));
    assert!(rig.opened.cut_bytes.is_some(), "half a record was written");
}

#[test]
fn a_full_disk_refuses_appends_and_recovers() {
    let mut rig = Rig::fresh();
    // Room for the control file and two segments.
    rig.disk.set_capacity(Some(8192 + 2048 + 500));
    rig.settle();
    let mut taken = 0;
    let refused = loop {
        match rig.append(0, 1, 100) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        rig.settle();
    };
    assert_eq!(refused, AppendError::Full);
    assert!(rig.log.health().full && !rig.log.health().closed);
    assert!(taken > 9, "both segments were filled: {taken}");
    assert_eq!(rig.durable(), Lsn(taken), "all that was taken is durable");
    assert_eq!(rig.content().len() as u64, taken, "reads go on");
    rig.disk.set_capacity(None);
    rig.settle();
    assert_eq!(rig.append(0, 1, 100), Err(AppendError::Full), "it asks again only after a while");
    rig.wait(std::time::Duration::from_secs(1));
    assert!(!rig.log.health().full);
    rig.append(0, 1, 100).unwrap();
    rig.settle();
    assert_eq!(rig.durable(), Lsn(taken + 1));
    let appended = rig.appended.clone();
    assert_eq!(rig.reopen().unwrap().content(), appended);
}

/// What is in the way is named as what it is: an operator who is told of a full disk frees room for nothing.
#[test]
fn what_keeps_a_segment_from_being_made_is_called_by_its_name() {
    for (why, refusal) in [
        (io::ErrorKind::StorageFull, AppendError::Full),
        (io::ErrorKind::QuotaExceeded, AppendError::Full),
        (io::ErrorKind::PermissionDenied, AppendError::Unavailable(io::ErrorKind::PermissionDenied)),
        (io::ErrorKind::ReadOnlyFilesystem, AppendError::Unavailable(io::ErrorKind::ReadOnlyFilesystem)),
    ] {
        let mut rig = Rig::fresh();
        rig.disk.fail_creates(Some(why));
        rig.settle();
        let refused = std::iter::repeat_with(|| rig.append(0, 1, 100)).find_map(Result::err);
        assert_eq!(refused, Some(refusal), "{why}");
        let health = rig.log.health();
        let full = refusal == AppendError::Full;
        assert_eq!((health.full, health.blocked), (full, (!full).then_some(why)), "{why}");
        rig.settle();
        rig.disk.fail_creates(None);
        rig.wait(std::time::Duration::from_secs(1));
        rig.append(0, 1, 100).unwrap();
        assert_eq!((rig.log.health().full, rig.log.health().blocked), (false, None), "{why}");
    }
}

#[test]
fn beyond_the_kept_bytes_appends_are_refused_until_something_is_trimmed() {
    let options = SegmentOptions { kept_bytes_max: 4096, ..options() };
    let mut rig = open(&SimDisk::new(), options).unwrap();
    rig.settle();
    while rig.append(1, 1, 200).is_ok() {
        rig.settle();
    }
    assert!(rig.log.health().full);
    assert!(rig.log.health().kept_bytes <= 4096);
    let oldest = rig.log.sealed()[0].id;
    rig.log.trim(oldest).unwrap();
    rig.settle();
    assert!(!rig.log.health().full, "at once, without waiting for the next try");
    rig.append(1, 1, 200).unwrap();
}

#[test]
fn a_full_queue_is_busy_and_then_takes_again() {
    let options = SegmentOptions { queue_bytes_max: 300, ..options() };
    let mut rig = open(&SimDisk::new(), options).unwrap();
    rig.append(0, 1, 100).unwrap();
    assert_eq!(rig.append(0, 1, 100), Err(AppendError::Busy));
    assert_eq!(rig.append(0, 1, 300), Err(AppendError::TooLarge));
    let health = rig.log.health();
    assert_eq!((health.queued_bytes, health.queued_bytes_max), (164, 300));
    rig.stepper.write(rig.now);
    assert_eq!(rig.append(0, 1, 100), Err(AppendError::Busy), "written is not yet at the level");
    rig.settle();
    assert_eq!(rig.log.health().queued_bytes, 0);
    rig.append(0, 1, 100).unwrap();
}

#[test]
fn without_a_next_segment_an_append_that_does_not_fit_is_busy() {
    let mut rig = Rig::fresh();
    rig.append(0, 1, 800).unwrap();
    assert_eq!(rig.append(0, 1, 800), Err(AppendError::Busy), "the next segment is being made");
    rig.settle();
    rig.append(0, 1, 800).unwrap();
}

#[test]
fn a_batch_larger_than_a_segment_is_too_large() {
    let mut rig = Rig::fresh();
    assert_eq!(rig.append(0, 1, 1024 - 64 * 3 + 1), Err(AppendError::TooLarge));
    rig.append(0, 1, 1024 - 64 * 3).unwrap();
    assert_eq!(rig.append(0, 0, 1), Err(AppendError::TooLarge), "a batch holds events");
}

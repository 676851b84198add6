//! Segments come, are sealed, read and go.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use mipro_telemetry::{Operation as Work, Recorders, Stage};

use super::support::{Content, Rig, Written, open, options, path, system};
use crate::log::disk::RealDisk;
use crate::log::disk::sim::{Operation, SimDisk};
use crate::log::segment::{OpenError, SegmentLog, SegmentOptions, control, file, visit_bytes};
use crate::log::{Batch, Entry, EventLog, Level, Lsn, ReadError, Segments};

fn owned(entry: &Entry<'_>) -> (u64, Written) {
    let Batch { system, epoch, first_seq, count, payload } = entry.batch;
    (entry.lsn.0, Written { system, epoch, first_seq, count, payload: payload.to_vec() })
}

/// Appends until there are so many sealed segments.
fn filled(segments: usize) -> Rig {
    let mut rig = Rig::fresh();
    let mut turn = 0;
    while rig.log.sealed().len() < segments {
        rig.settle();
        rig.append(turn % 3, 1 + (turn % 2) as u32, 100).unwrap();
        turn += 1;
    }
    rig.settle();
    rig
}

#[test]
fn segments_are_sealed_by_size_and_follow_each_other() {
    let rig = filled(4);
    let sealed = rig.log.sealed();
    assert_eq!(sealed.iter().map(|segment| segment.id).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(sealed[0].first_lsn, Lsn(1));
    assert!(sealed.windows(2).all(|pair| pair[0].last_lsn.0 + 1 == pair[1].first_lsn.0));
    assert!(sealed.iter().all(|segment| segment.bytes <= 1024));
    assert_eq!(rig.log.health().segments, 5);
    let kept = sealed.iter().map(|segment| segment.bytes).sum::<u64>();
    assert!(rig.log.health().kept_bytes > kept);
    assert_eq!(rig.content(), rig.appended);
    for segment in &sealed {
        let size = rig.disk.content(&path(&file::name(segment.id))).unwrap().len();
        assert_eq!(size as u64, segment.bytes, "its file is cut to its content");
    }
    let memory = rig.log.shared.catalog().sealed.values().filter(|kept| kept.index.is_some()).count();
    assert_eq!(memory, 0, "sealed segments' indexes are on the disk only");
}

#[test]
fn archived_bytes_hold_what_the_segment_did() {
    let rig = filled(3);
    let mut archived = Content::new();
    for segment in rig.log.sealed() {
        let bytes = rig.log.bytes(segment.id).unwrap();
        assert_eq!(bytes.len() as u64, segment.bytes);
        let mut lsns = Vec::new();
        visit_bytes(&bytes, None, 0, &mut |entry| {
            lsns.push(entry.lsn);
            archived.extend([owned(&entry)]);
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!((lsns[0], lsns[lsns.len() - 1]), (segment.first_lsn, segment.last_lsn));
        for span in rig.log.spans(segment.id).unwrap() {
            let mut seqs = Vec::new();
            visit_bytes(&bytes, Some(span.system), 0, &mut |entry| {
                seqs.extend([entry.batch.first_seq, entry.batch.last_seq()]);
                ControlFlow::Continue(())
            })
            .unwrap();
            assert_eq!((seqs[0], seqs[seqs.len() - 1]), (span.first_seq, span.last_seq));
        }
        for keep in 0..bytes.len() {
            let refused = visit_bytes(&bytes[..keep], None, 0, &mut |_| ControlFlow::Continue(()));
            assert!(matches!(refused, Err(ReadError::Damaged { .. })), "cut to {keep} bytes");
        }
    }
    let in_sealed = rig.log.sealed().last().unwrap().last_lsn.0;
    let expected: Content = rig.appended.clone().into_iter().filter(|(lsn, _)| *lsn <= in_sealed).collect();
    assert_eq!(archived, expected);
    assert!(matches!(rig.log.bytes(99), Err(ReadError::Io { .. })));
    assert!(matches!(rig.log.spans(4), Err(ReadError::Io { .. })), "the open one is not sealed");
}

#[test]
fn an_old_segment_is_sealed_and_an_empty_one_never() {
    let mut rig = Rig::fresh();
    rig.wait(Duration::from_secs(4000));
    rig.log.seal();
    rig.settle();
    assert!(rig.log.sealed().is_empty(), "there is nothing in it");
    rig.append(0, 1, 10).unwrap();
    rig.settle();
    rig.wait(Duration::from_secs(3599));
    assert!(rig.log.sealed().is_empty());
    rig.wait(Duration::from_secs(1));
    assert_eq!(rig.log.sealed().len(), 1);
    rig.wait(Duration::from_secs(4000));
    assert_eq!(rig.log.sealed().len(), 1, "the new one is empty");
}

#[test]
fn a_seal_waits_for_the_next_segment() {
    let mut rig = Rig::fresh();
    rig.append(0, 1, 10).unwrap();
    rig.log.seal();
    while rig.stepper.write(rig.now) {}
    assert!(rig.log.sealed().is_empty(), "there is no next segment yet");
    rig.settle();
    assert_eq!(rig.log.sealed().len(), 1);
    assert_eq!(rig.durable(), Lsn(1));
}

#[test]
fn trimming_removes_the_oldest_and_reading_goes_on() {
    let rig = filled(4);
    let sealed = rig.log.sealed();
    rig.log.trim(2).unwrap();
    rig.log.trim(2).unwrap();
    rig.log.trim(1).unwrap();
    assert_eq!(rig.log.sealed(), sealed[2..]);
    let left: Content =
        rig.appended.clone().into_iter().filter(|(lsn, _)| *lsn > sealed[1].last_lsn.0).collect();
    assert_eq!(rig.content(), left);
    let names: Vec<_> = rig.disk.paths();
    assert!(names.iter().all(|name| !name.ends_with(file::name(1)) && !name.ends_with(file::index_name(2))));
    let mut rig = rig.reopen().unwrap();
    assert_eq!(rig.content(), left);
    rig.settle();
    rig.log.trim(u64::MAX).unwrap();
    assert!(rig.log.sealed().is_empty(), "the open one stays");
    rig.settle();
    rig.append(0, 1, 10).unwrap();
    rig.settle();
    let newest = rig.durable();
    let rig = rig.reopen().unwrap();
    assert_eq!(rig.opened.durable, newest, "LSNs go on where they were");
}

#[test]
fn a_read_that_began_before_a_trim_sees_all_it_would_have() {
    let rig = filled(3);
    let mut seen = 0;
    let log = Arc::clone(&rig.log);
    log.read(system(0), 0, &mut |_| {
        seen += 1;
        rig.log.trim(3).unwrap();
        ControlFlow::Continue(())
    })
    .unwrap();
    let all = rig.appended.values().filter(|written| written.system == system(0)).count();
    assert_eq!(seen, all);
}

#[test]
fn a_read_gives_what_comes_after_and_ends_when_told() {
    let rig = filled(3);
    let read = |after: u64, most: usize| {
        let mut found = Vec::new();
        rig.log
            .read(system(1), after, &mut |entry| {
                found.push(owned(&entry));
                if found.len() == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .unwrap();
        found
    };
    let all = read(0, usize::MAX);
    assert!(all.len() > 4);
    for after in 0..=rig.next_seq[1] {
        let expected: Vec<_> = all
            .iter()
            .filter(|(_, written)| written.first_seq + u64::from(written.count) > after + 1)
            .cloned()
            .collect();
        assert_eq!(read(after, usize::MAX), expected, "after {after}");
    }
    assert_eq!(read(0, 2), all[..2]);
    assert!(read(u64::MAX, 1).is_empty());
}

#[test]
fn only_one_process_has_a_log_open() {
    let rig = Rig::fresh();
    let error = open(&rig.disk, options()).err().unwrap();
    assert_eq!(error.to_string(), "another process uses the log in /log");
    let Rig { disk, log, stepper, .. } = rig;
    drop((log, stepper));
    open(&disk, options()).unwrap();
}

#[test]
fn the_real_disk_has_real_locks() {
    let dir = tempfile::tempdir().unwrap();
    let options = SegmentOptions { dir: dir.path().join("log"), ..options() };
    let (log, _) = SegmentLog::open(options.clone(), Arc::new(RealDisk)).unwrap();
    let refused = SegmentLog::open(options.clone(), Arc::new(RealDisk)).unwrap_err();
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    drop(log);
    SegmentLog::open(options, Arc::new(RealDisk)).unwrap();
}

#[test]
fn syncs_are_clocked_as_background_work() {
    let recorders = Recorders::new();
    let options = SegmentOptions { recorders: Some(recorders.clone()), ..options() };
    let mut rig = open(&SimDisk::new(), options).unwrap();
    rig.append(0, 1, 10).unwrap();
    rig.append(0, 1, 10).unwrap();
    rig.settle();
    let snapshot = recorders.snapshot();
    let row = snapshot.stage(Work::Background, Stage::LogSync, None).unwrap();
    assert_eq!(row.count, 1, "one sync for both");
}

#[test]
fn at_level_os_a_sync_follows_by_itself_or_in_a_hurry() {
    let mut rig = open(&SimDisk::new(), SegmentOptions { level: Level::Os, ..options() }).unwrap();
    rig.settle();
    rig.append(0, 1, 10).unwrap();
    rig.settle();
    assert_eq!((*rig.os.borrow(), rig.durable()), (Lsn(1), Lsn(0)));
    assert_eq!(rig.log.health().queued_bytes, 0);
    rig.wait(Duration::from_millis(999));
    assert_eq!(rig.durable(), Lsn(0));
    rig.wait(Duration::from_millis(1));
    assert_eq!(rig.durable(), Lsn(1));
    rig.append(0, 1, 10).unwrap();
    rig.log.hurry(Level::Disk);
    rig.settle();
    assert_eq!(rig.durable(), Lsn(2));
    rig.append(0, 1, 10).unwrap();
    rig.settle();
    assert_eq!(rig.durable(), Lsn(2));
    rig.log.hurry(Level::Disk);
    rig.settle();
    assert_eq!(rig.durable(), Lsn(3));
}

#[test]
fn a_group_is_one_write_and_one_sync() {
    let mut rig = Rig::fresh();
    rig.settle();
    let before = rig.disk.operations().len();
    for _ in 0..9 {
        rig.append(0, 1, 20).unwrap();
    }
    rig.settle();
    let operations = rig.disk.operations();
    let kinds = operations[before..].iter().map(|operation| match operation {
        Operation::Write { path, .. } => format!("write {}", path.file_name().unwrap().to_str().unwrap()),
        Operation::Sync { .. } => "sync".to_owned(),
        other => format!("{other:?}"),
    });
    // Files keep the names under which they were made.
    let expected = ["write 0000000000000001.seg.tmp", "sync", "write control.tmp"];
    assert_eq!(kinds.collect::<Vec<_>>(), expected);
}

#[test]
fn the_control_file_is_synced_when_the_log_is_idle() {
    let mut rig = Rig::fresh();
    rig.settle();
    rig.append(0, 1, 10).unwrap();
    rig.settle();
    rig.wait(Duration::from_secs(1));
    assert_eq!(rig.disk.unsynced(), 1, "the spare's name is all that is not durable");
    let fork = rig.disk.fork();
    fork.crash(&mut || false);
    let (said, _) = control::decode(&fork.content(&path("control")).unwrap()).unwrap();
    assert_eq!(said.durable, Lsn(1));
}

#[test]
fn the_control_file_is_synced_once_a_second_however_busy_the_log_is() {
    let options = SegmentOptions { segment_bytes: 64 << 10, ..options() };
    let mut rig = open(&SimDisk::new(), options).unwrap();
    rig.settle();
    for _ in 0..100 {
        // There is always something to write: the writer never comes to rest.
        rig.append(0, 1, 10).unwrap();
        rig.now += Duration::from_millis(50);
        assert!(rig.stepper.write(rig.now));
    }
    let fork = rig.disk.fork();
    fork.crash(&mut || false);
    let (said, _) = control::decode(&fork.content(&path("control")).unwrap()).unwrap();
    let (said, durable) = (said.durable.0, rig.durable().0);
    assert!(durable > 90, "all but what waits for its turn: {durable}");
    assert!(
        said + 25 >= durable,
        "the control file says {said} where {durable} are durable: more than a second ago"
    );
}

#[test]
fn closing_makes_durable_what_was_taken() {
    let (log, ..) = SegmentLog::open(options(), Arc::new(SimDisk::new())).unwrap();
    let durable = log.reached(Level::Disk).unwrap();
    let batch = Batch { system: system(0), epoch: 1, first_seq: 1, count: 1, payload: b"events" };
    log.append(&batch).unwrap();
    log.close();
    assert_eq!(*durable.borrow(), Lsn(1));
    assert!(durable.has_changed().is_err(), "nothing will follow");
    assert_eq!(*log.fault().borrow(), None, "it was asked to");
    log.close();
}

/// One system's contradiction is told to those who read it, and keeps no other one from starting.
#[test]
fn a_contradiction_within_a_system_is_told_to_its_readers() {
    for (epoch, first_seq, problem) in [(2, 3, "event 3 stands where 2 should"), (1, 2, "epoch 1 comes")] {
        let mut rig = Rig::fresh();
        rig.settle();
        rig.append(1, 1, 10).unwrap();
        for (epoch, first_seq) in [(2, 1), (epoch, first_seq)] {
            let batch = Batch { system: system(0), epoch, first_seq, count: 1, payload: b"x" };
            rig.log.append(&batch).unwrap();
        }
        rig.settle();
        let Rig { disk, log, stepper, .. } = rig;
        drop((log, stepper));
        let now = mipro_telemetry::clock::now();
        let (log, ..) = SegmentLog::open_stepped(options(), Arc::new(disk), now).unwrap();
        let mut seen = 0;
        let error = log.read(system(0), 0, &mut |_| {
            seen += 1;
            ControlFlow::Continue(())
        });
        assert_eq!(seen, 1, "what was visited before was right");
        assert!(error.unwrap_err().to_string().contains(problem));
        log.read(system(1), 0, &mut |_| ControlFlow::Continue(())).unwrap();
    }
}

#[test]
fn a_higher_epoch_may_begin_anywhere() {
    let mut rig = Rig::fresh();
    rig.settle();
    rig.append(0, 5, 10).unwrap();
    rig.epoch = 4;
    rig.next_seq[0] = 3;
    rig.append(0, 1, 10).unwrap();
    rig.settle();
    assert_eq!(rig.content().len(), 2);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let refused = |change: fn(&mut SegmentOptions)| {
        let mut options = options();
        change(&mut options);
        matches!(open(&SimDisk::new(), options), Err(OpenError::Options(_)))
    };
    assert!(refused(|options| options.level = Level::Memory));
    assert!(refused(|options| options.segment_bytes = 100));
    assert!(refused(|options| options.kept_bytes_max = 2000));
    assert!(!refused(|_| ()));
}

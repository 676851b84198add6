//! Every bit of a small log flipped, every length of it cut: never swallowed, never a panic.

use std::path::{Path, PathBuf};

use super::support::{Content, DIR, Rig, open, options, path};
use crate::log::disk::sim::SimDisk;
use crate::log::segment::{OpenError, file};
use crate::log::{Lsn, ReadError, Segments};

struct Small {
    disk: SimDisk,
    content: Content,
    /// The control file as it was when only all but the last record were durable.
    older_control: Vec<u8>,
    last: u64,
}

/// Two sealed segments, and an open one with three records of which the last can be beyond the watermark.
fn small() -> Small {
    let mut rig = Rig::fresh();
    rig.settle();
    for segment in 0..2 {
        rig.append(segment, 1, 30).unwrap();
        rig.append(2, 2, 70).unwrap();
        rig.log.seal();
        rig.settle();
    }
    rig.append(0, 1, 20).unwrap();
    rig.append(1, 1, 30).unwrap();
    rig.settle();
    let older_control = rig.disk.content(&path("control")).unwrap();
    rig.append(2, 1, 40).unwrap();
    rig.settle();
    let Rig { disk, appended: content, .. } = rig;
    let last = *content.keys().last().unwrap();
    Small { disk, content, older_control, last }
}

impl Small {
    fn with(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> SimDisk {
        let disk = self.disk.fork();
        let mut content = disk.content(path).unwrap();
        change(&mut content);
        disk.set_content(path, &content);
        disk
    }

    /// Opens and reads everything. What is missing must have been cut, said so, and never durable.
    fn judge(&self, disk: &SimDisk, durable: u64, changed: &Path, context: &str) -> Result<(), ReadError> {
        match open(disk, options()) {
            Ok(rig) => {
                let found = rig.content();
                let missing = self.content.keys().filter(|lsn| !found.contains_key(lsn));
                let lost: Vec<u64> = missing.copied().collect();
                assert!(found.iter().all(|(lsn, w)| self.content.get(lsn) == Some(w)), "{context}: invented");
                assert!(lost.iter().all(|lsn| *lsn > durable), "{context}: swallowed {lost:?}");
                let said = lost.is_empty() || rig.opened.cut_bytes.is_some();
                assert!(said, "{context}: {lost:?} went without a word");
                Ok(())
            }
            Err(OpenError::Damaged(error)) => {
                let text = OpenError::Damaged(error.clone()).to_string();
                let name = changed.file_name().unwrap().to_str().unwrap();
                assert!(text.contains("is damaged at byte") && text.contains("mipro state verify"), "{text}");
                assert!(text.starts_with(name), "{context}: {text} names another file");
                Err(error)
            }
            Err(other) => panic!("{context}: {other}"),
        }
    }

    fn segments(&self) -> Vec<PathBuf> {
        (1..=3).map(|id| path(&file::name(id))).collect()
    }
}

#[test]
fn a_bit_flipped_in_a_sealed_segment_refuses_the_start() {
    let small = small();
    for path in &small.segments()[..2] {
        let bytes = small.disk.content(path).unwrap().len();
        for at in 0..bytes {
            for bit in [at % 8, (at + 3) % 8] {
                let disk = small.with(path, |content| content[at] ^= 1 << bit);
                small.judge(&disk, small.last, path, &format!("{at}.{bit}")).unwrap_err();
            }
        }
    }
}

#[test]
fn a_bit_flipped_in_the_open_segment_is_never_swallowed() {
    let small = small();
    let path = &small.segments()[2];
    let bytes = small.disk.content(path).unwrap().len();
    let used = 64 * 4 + 20 + 30 + 40;
    for at in 0..bytes {
        // Every bit of what is written, and one of each byte that is not.
        let bits = if at < used { 0..8 } else { at % 8..at % 8 + 1 };
        for bit in bits {
            let disk = small.with(path, |content| content[at] ^= 1 << bit);
            let current = small.judge(&disk, small.last, path, &format!("{at}.{bit}"));
            assert_eq!(current.is_err(), at < used, "{at}.{bit}: all records were durable");
            disk.set_content(&self::path("control"), &small.older_control);
            drop(small.judge(&disk, small.last - 1, path, &format!("{at}.{bit}, older control")));
        }
    }
}

#[test]
fn a_record_torn_at_every_byte_is_cut_if_it_was_not_durable_and_refused_if_it_was() {
    let small = small();
    let path = &small.segments()[2];
    let last_begins = 64 * 3 + 20 + 30;
    let used = last_begins + 64 + 40;
    for keep in 0..=used {
        let cut = small.with(path, |content| content.truncate(keep));
        let zeroed = small.with(path, |content| content[keep..].fill(0));
        for (disk, how) in [(cut, "cut"), (zeroed, "zeroed")] {
            let context = format!("{how} at {keep}");
            let result = small.judge(&disk, small.last, path, &context);
            assert_eq!(result.is_err(), keep < used, "{context}: it was durable");
            if how == "zeroed" && keep == last_begins {
                // As if it had never been written, and nobody was told that it was.
                continue;
            }
            disk.set_content(&self::path("control"), &small.older_control);
            let result = small.judge(&disk, small.last - 1, path, &context);
            assert_eq!(result.is_err(), keep < last_begins, "{context}: only the last one was not durable");
        }
    }
}

#[test]
fn a_damaged_control_file_is_refused_or_does_not_matter() {
    let small = small();
    let path = path("control");
    for at in (0..64).chain(4096..4160) {
        for bit in 0..8 {
            let disk = small.with(&path, |content| content[at] ^= 1 << bit);
            small.judge(&disk, small.last, &path, &format!("{at}.{bit}")).unwrap();
        }
    }
    let disk = small.with(&path, |content| {
        content[20] ^= 1;
        content[4096 + 20] ^= 1;
    });
    small.judge(&disk, small.last, &path, "both slots").unwrap_err();
    let disk = small.disk.fork();
    disk.remove_content(&path);
    small.judge(&disk, small.last, &path, "no control file").unwrap_err();
}

#[test]
fn a_damaged_index_is_made_anew() {
    let small = small();
    let path = path(&file::index_name(1));
    let bytes = small.disk.content(&path).unwrap().len();
    for at in 0..bytes {
        let disk = small.with(&path, |content| content[at] ^= 1 << (at % 8));
        small.judge(&disk, small.last, &path, &format!("{at}")).unwrap();
        let rig = open(&disk, options()).unwrap();
        assert_eq!(rig.log.spans(1).unwrap().len(), 2, "{at}");
    }
    let whole = small.disk.content(&path).unwrap();
    for disk in [small.with(&path, |content| content.truncate(70)), {
        let disk = small.disk.fork();
        disk.remove_content(&path);
        disk
    }] {
        small.judge(&disk, small.last, &path, "no index").unwrap();
        assert_eq!(disk.content(&path), Some(whole.clone()));
    }
}

#[test]
fn a_missing_segment_is_refused() {
    let small = small();
    for (index, path) in small.segments().iter().enumerate() {
        let disk = small.disk.fork();
        disk.remove_content(path);
        let named = if index == 2 { &small.segments()[1] } else { path };
        small.judge(&disk, small.last, named, "missing").unwrap_err();
    }
    let disk = small.disk.fork();
    for path in small.segments() {
        disk.remove_content(&path);
    }
    small.judge(&disk, small.last, &small.segments()[0], "all missing").unwrap_err();
}

/// Records that waited for the same sync may come through in any subset; only what is behind them proves anything.
#[test]
fn a_hole_in_an_unsynced_group_is_a_torn_tail() {
    let mut rig = Rig::fresh();
    rig.settle();
    rig.append(0, 1, 10).unwrap();
    rig.settle();
    let hole = 64 * 2 + 10;
    for _ in 0..3 {
        rig.append(0, 1, 10).unwrap();
    }
    rig.stepper.write(rig.now);
    let path = path(&file::name(1));
    let damage = |rig: &Rig| {
        let disk = rig.disk.fork();
        let mut content = disk.content(&path).unwrap();
        content[hole + 70] ^= 1;
        disk.set_content(&path, &content);
        open(&disk, options())
    };
    let torn = damage(&rig).unwrap();
    assert_eq!(torn.opened.durable, Lsn(1));
    assert_eq!(torn.opened.cut_bytes, Some(3 * 74));
    assert_eq!(torn.opened.cut_at, Some((file::name(1), hole as u64)));
    // The same hole, once a later record says that it had been synced; the control file is of an earlier time.
    let control = rig.disk.content(&self::path("control")).unwrap();
    rig.settle();
    rig.append(1, 1, 10).unwrap();
    rig.settle();
    rig.disk.set_content(&self::path("control"), &control);
    let refused = damage(&rig).err().unwrap();
    let OpenError::Damaged(ReadError::Damaged { file: named, offset, .. }) = refused else {
        panic!("{refused}");
    };
    assert_eq!((named, offset), (file::name(1), hole as u64));
}

#[test]
fn a_foreign_segment_is_refused() {
    let small = small();
    let other = open(&SimDisk::new(), super::support::options_seeded(8)).unwrap();
    let foreign = other.disk.content(&Path::new(DIR).join(file::name(1))).unwrap();
    let path = &small.segments()[2];
    let disk = small.with(path, |content| *content = foreign);
    small.judge(&disk, small.last, path, "foreign").unwrap_err();
    // Stale bytes of another segment of the same log never parse: their salt differs.
    let first = small.disk.content(&small.segments()[0]).unwrap();
    let disk = small.with(path, |content| content[350..350 + 94].copy_from_slice(&first[64..158]));
    let rig = open(&disk, options()).unwrap();
    assert_eq!(rig.content(), small.content);
    assert!(rig.opened.cut_bytes.is_some());
}

use std::io::ErrorKind;
use std::path::Path;

use super::super::Disk;
use super::SimDisk;

fn rig() -> (SimDisk, Box<dyn super::Dir>) {
    let disk = SimDisk::new();
    let dir = disk.open_dir(Path::new("d")).unwrap();
    (disk, dir)
}

#[test]
fn what_is_synced_survives_and_the_rest_as_fate_says() {
    let (disk, dir) = rig();
    let file = dir.create("f", 2048).unwrap();
    dir.sync().unwrap();
    file.write_at(0, b"synced").unwrap();
    file.sync_data().unwrap();
    file.write_at(500, &[7; 24]).unwrap();
    assert_eq!(disk.unsynced(), 2, "the write lies in two sectors");
    let mut turn = 0;
    disk.crash(&mut || {
        turn += 1;
        turn == 2
    });
    let content = disk.content(Path::new("d/f")).unwrap();
    assert_eq!(&content[..6], b"synced");
    assert_eq!(&content[500..512], &[0; 12], "the first sector was lost");
    assert_eq!(&content[512..524], &[7; 12], "the second came through");
    assert!(file.write_at(0, b"x").is_err(), "what was open is dead");
}

#[test]
fn names_come_through_only_when_the_directory_was_synced() {
    let (disk, dir) = rig();
    dir.create("kept", 1).unwrap();
    dir.sync().unwrap();
    dir.create("lost", 1).unwrap();
    dir.rename("kept", "renamed").unwrap();
    disk.crash(&mut || false);
    assert_eq!(disk.paths(), [Path::new("d/kept")]);
}

#[test]
fn a_kill_loses_nothing_but_the_locks() {
    let (disk, dir) = rig();
    let _lock = dir.lock("lock").unwrap();
    assert_eq!(dir.lock("lock").unwrap_err().kind(), ErrorKind::WouldBlock);
    dir.create("f", 4).unwrap().write_at(0, b"told").unwrap();
    disk.kill();
    let again = disk.open_dir(Path::new("d")).unwrap();
    again.lock("lock").unwrap();
    assert_eq!(disk.content(Path::new("d/f")).unwrap(), b"told");
}

#[test]
fn a_failed_sync_is_not_mended_by_the_next() {
    let (disk, dir) = rig();
    let file = dir.create("f", 4).unwrap();
    dir.sync().unwrap();
    file.write_at(0, b"gone").unwrap();
    disk.fail_syncs(0, 1);
    file.sync_data().unwrap_err();
    file.sync_data().unwrap();
    let mut read = [0; 4];
    file.read_at(0, &mut read).unwrap();
    assert_eq!(&read, b"gone", "the cache still has it");
    disk.crash(&mut || true);
    assert_eq!(disk.content(Path::new("d/f")).unwrap(), [0; 4]);
}

#[test]
fn a_full_disk_says_so() {
    let (disk, dir) = rig();
    disk.set_capacity(Some(10));
    dir.create("a", 8).unwrap();
    let error = dir.create("b", 8).unwrap_err();
    assert!(super::super::is_full(error.kind()), "{error}");
}

#[test]
fn the_power_goes_during_an_operation() {
    let (disk, dir) = rig();
    let file = dir.create("f", 4).unwrap();
    dir.sync().unwrap();
    disk.off_after(1);
    file.write_at(0, b"a").unwrap();
    file.write_at(1, b"b").unwrap_err();
    assert!(disk.is_off());
    file.sync_data().unwrap_err();
    disk.crash(&mut || true);
    assert_eq!(disk.content(Path::new("d/f")).unwrap(), b"ab\0\0", "the last write was under way");
}

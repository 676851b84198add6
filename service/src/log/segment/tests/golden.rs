//! Files of a released build, read by this one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::support::{Content, Rig, content, options};
use crate::log::disk::RealDisk;
use crate::log::segment::{SegmentLog, SegmentOptions};
use crate::log::{Lsn, Segments};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/log-v1");

/// What the golden log holds: a sealed segment with its index, an open one, and the control file.
fn golden() -> (Content, Vec<(String, Vec<u8>)>) {
    let mut rig = Rig::fresh();
    rig.settle();
    for (number, count, bytes) in [(0, 1, 40), (1, 2, 0), (2, 1, 99), (0, 3, 12)] {
        rig.append(number, count, bytes).unwrap();
    }
    rig.log.seal();
    rig.settle();
    rig.epoch = 2;
    rig.append(0, 1, 64).unwrap();
    rig.append(2, 1, 8).unwrap();
    rig.settle();
    rig.wait(std::time::Duration::from_secs(1));
    let wanted = |path: &PathBuf| path.extension().is_none_or(|ending| ending != "tmp");
    let files = rig.disk.paths().into_iter().filter(wanted).map(|path| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, rig.disk.content(&path).unwrap())
    });
    (rig.appended.clone(), files.collect())
}

/// Where the files are not there yet they are written, to be looked at and committed; they are never changed afterwards.
#[test]
fn the_golden_log_of_version_1_is_read_by_this_build() {
    let (expected, files) = golden();
    if !Path::new(GOLDEN).exists() {
        std::fs::create_dir_all(GOLDEN).unwrap();
        for (name, bytes) in &files {
            std::fs::write(Path::new(GOLDEN).join(name), bytes).unwrap();
        }
        panic!("the golden log was written to {GOLDEN}");
    }
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(GOLDEN).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let options = SegmentOptions { dir: dir.path().to_owned(), ..options() };
    let (log, opened) = SegmentLog::open(options, Arc::new(RealDisk)).unwrap();
    assert_eq!((opened.segments, opened.records, opened.durable), (2, 6, Lsn(6)));
    assert_eq!(opened.cut_bytes, None);
    assert_eq!(content(&*log).unwrap(), expected);
    assert_eq!(log.sealed().len(), 1);
    assert_eq!(log.spans(1).unwrap().len(), 3);
}

/// This build writes what the released one did, byte by byte.
#[test]
fn this_build_writes_the_golden_log() {
    let (_, files) = golden();
    assert_eq!(files.len(), 4, "control, two segments, an index");
    for (name, bytes) in files {
        let path = Path::new(GOLDEN).join(&name);
        let released = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(bytes == released, "{name} is written differently: a new version of the format?");
    }
}

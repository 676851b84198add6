//! Bytes that nobody wrote, and bytes that somebody changed: decoders neither panic nor believe them.

use std::ops::ControlFlow;

use proptest::prelude::*;

use super::support::{Rig, path, system};
use crate::log::Segments;
use crate::log::disk::Disk;
use crate::log::disk::sim::SimDisk;
use crate::log::segment::file::{self, SegmentHeader};
use crate::log::segment::index::{Of, Sidecar};
use crate::log::segment::scan::{ending, scan};
use crate::log::segment::{control, record, visit_bytes};

fn sample() -> (Vec<u8>, Vec<u8>, Vec<u8>, Of) {
    let mut rig = Rig::fresh();
    rig.settle();
    for number in [0, 1, 2, 0, 1] {
        rig.append(number, 2, 25).unwrap();
    }
    rig.log.seal();
    rig.settle();
    let of = rig.log.shared.catalog().sealed[&1].of();
    let index = rig.disk.content(&path(&file::index_name(1))).unwrap();
    let control = rig.disk.content(&path(control::NAME)).unwrap();
    (rig.log.bytes(1).unwrap(), index, control, of)
}

/// Overwrites, cuts and lengthens.
fn mutate(bytes: &mut Vec<u8>, changes: &[(u16, u8)], length: Option<u16>) {
    for (at, value) in changes {
        let at = usize::from(*at) % bytes.len();
        bytes[at] = *value;
    }
    if let Some(length) = length {
        bytes.resize(usize::from(length) % 2048, 0x5a);
    }
}

fn decode_all(bytes: &[u8], of: &Of) {
    let _ = SegmentHeader::decode(bytes);
    let _ = control::decode(bytes);
    let _ = record::parse(bytes, 0);
    if let Ok(Some(scanned)) = scan("s", bytes, &mut |_, _, _| ControlFlow::Continue(())) {
        let _ = ending(bytes, &scanned);
    }
    let disk = SimDisk::new();
    disk.set_content(&path("i"), bytes);
    let dir = disk.open_dir(path("i").parent().unwrap()).unwrap();
    if let Ok(sidecar) = Sidecar::open(dir.open("i").unwrap(), of) {
        let _ = sidecar.spans();
        let _ = sidecar.places(system(1));
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let of = Of { log: system(0), id: 1, content_bytes: 9, salt: 3 };
        decode_all(&bytes, &of);
        prop_assert!(visit_bytes(&bytes, None, 0, &mut |_| ControlFlow::Continue(())).is_err());
        prop_assert!(control::decode(&bytes).is_err());
    }

    #[test]
    fn changed_bytes_are_refused_or_were_not_changed(
        changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..4),
        length in proptest::option::weighted(0.3, any::<u16>()),
    ) {
        let (segment, index, control, of) = sample();
        for whole in [&segment, &index, &control] {
            let mut changed = whole.clone();
            mutate(&mut changed, &changes, length);
            decode_all(&changed, &of);
        }
        let mut changed = segment.clone();
        mutate(&mut changed, &changes, length);
        let visited = visit_bytes(&changed, None, 0, &mut |_| ControlFlow::Continue(()));
        prop_assert_eq!(visited.is_ok(), changed == segment);
    }

    /// The checksums are right and the numbers are not: nothing is believed to be larger than the file.
    #[test]
    fn sealed_nonsense_takes_no_memory(words in proptest::array::uniform12(any::<u32>()), body in proptest::collection::vec(any::<u8>(), 0..300)) {
        for magic in [b"MIPROLOG", b"MIPROCTL", b"MIPROIDX"] {
            let mut block = [0; 64];
            block[0..8].copy_from_slice(magic);
            block[8] = 1;
            for (at, word) in words.iter().enumerate() {
                block[16 + at * 4..20 + at * 4].copy_from_slice(&word.to_le_bytes());
            }
            file::seal_block(&mut block);
            let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| block[at + i]));
            let of = Of {
                log: uuid::Uuid::from_bytes(std::array::from_fn(|i| block[16 + i])),
                id: long(32),
                content_bytes: long(40),
                salt: words[10],
            };
            let mut bytes = block.to_vec();
            bytes.extend_from_slice(&body);
            decode_all(&bytes, &of);
        }
    }

    #[test]
    fn a_record_reads_back_and_only_under_its_salt(
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        salt: u32,
        other: u32,
        epoch: u64,
        first_seq in 0..u64::MAX / 2,
        count in 1..u32::MAX,
    ) {
        let batch = crate::log::Batch { system: system(1), epoch, first_seq, count, payload: &payload };
        let mut bytes = Vec::new();
        record::push(&mut bytes, crate::log::Lsn(9), &batch);
        record::finish(&mut bytes, crate::log::Lsn(8), salt).unwrap();
        let (header, found) = record::parse(&bytes, salt).unwrap();
        prop_assert_eq!(found, payload.as_slice());
        let read = (header.epoch, header.first_seq, header.count, header.system);
        prop_assert_eq!(read, (epoch, first_seq, count, system(1)));
        prop_assert_eq!(record::parse(&bytes, other).is_some(), salt == other);
    }
}

#[test]
fn a_newer_format_is_named() {
    let (mut segment, ..) = sample();
    let mut head: [u8; 64] = segment[..64].try_into().unwrap();
    head[8] = 9;
    file::seal_block(&mut head);
    segment[..64].copy_from_slice(&head);
    let error = visit_bytes(&segment, None, 0, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(error.to_string().contains("version 9, and this build reads up to 1"), "{error}");
}

#[test]
fn a_log_that_reads_its_own_index_finds_what_a_scan_finds() {
    let (segment, index, _, of) = sample();
    let disk = SimDisk::new();
    disk.set_content(&path("i"), &index);
    let dir = disk.open_dir(path("i").parent().unwrap()).unwrap();
    let sidecar = Sidecar::open(dir.open("i").unwrap(), &of).unwrap();
    for number in 0..4 {
        let mut scanned = Vec::new();
        scan("s", &segment, &mut |at, header, _| {
            if header.system == system(number) {
                scanned.push((at as u32, header.first_seq, header.count));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        let places = sidecar.places(system(number)).unwrap();
        let found: Vec<_> = places.iter().map(|p| (p.offset, p.first_seq, p.count)).collect();
        assert_eq!(found, scanned);
    }
}

use super::*;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/export-v1.mipro");

fn header() -> Header {
    Header {
        system_id: Uuid::from_u128(7),
        org_id: Uuid::from_u128(8),
        seq: 5,
        at_us: 1_500_000,
        epoch: 3,
        state_hash: "ab".repeat(32),
        exported_us: 2_000_000,
        written_by: "mipro 0.1.0".to_owned(),
        first_event: Some(1),
    }
}

fn chunks() -> [Chunk; 2] {
    [
        Chunk { first_seq: 1, count: 3, payload: b"three events".to_vec() },
        Chunk { first_seq: 4, count: 2, payload: b"and two".to_vec() },
    ]
}

fn file() -> Vec<u8> {
    let mut writer = ExportWriter::begin(Vec::new(), &header(), b"a snapshot").unwrap();
    chunks().iter().for_each(|chunk| writer.events(chunk).unwrap());
    writer.finish().unwrap()
}

fn read(bytes: &[u8]) -> Result<(Header, Vec<Part>), ExportError> {
    let mut reader = ExportReader::open(bytes)?;
    let mut parts = Vec::new();
    while let Some(part) = reader.next_part()? {
        parts.push(part);
    }
    Ok((reader.header().clone(), parts))
}

#[test]
fn what_is_written_is_read() {
    let [first, second] = chunks();
    let parts = [
        Part::State(Bytes::from_static(b"a snapshot")),
        Part::Events(first),
        Part::Events(second),
        Part::End,
    ];
    let (found, read) = read(&file()).unwrap();
    assert_eq!((found, read.as_slice()), (header(), parts.as_slice()));
}

#[test]
fn the_file_is_as_the_golden_one() {
    let Ok(golden) = std::fs::read(GOLDEN) else {
        std::fs::write(GOLDEN, file()).unwrap();
        panic!("{GOLDEN} was missing and has been written: look at it and commit it");
    };
    let (found, parts) = read(&golden).unwrap();
    assert_eq!((found, parts.len()), (header(), 4), "every later build must read this file");
    // Packers may pack anew what they unpack; head, header and state must not move.
    let packed = golden.windows(4).position(|four| four == [0x28, 0xb5, 0x2f, 0xfd]).unwrap();
    let head = packed - 12 - FRAME_HEAD;
    assert_eq!(golden[..head], file()[..head], "released bytes have changed: this is a new format version");
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let whole = file();
    for at in 0..whole.len() {
        assert!(read(&whole[..at]).is_err(), "cut at {at}");
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            assert!(read(&bytes).is_err(), "bit {bit} of byte {at}");
        }
    }
    let longer = [whole.as_slice(), b"x"].concat();
    assert!(matches!(read(&longer), Err(ExportError::Damaged { .. })));
}

#[test]
fn foreign_and_newer_files_are_told_apart() {
    for text in [&b""[..], b"MIPRO", b"a text file, and not a short one"] {
        assert!(matches!(read(text), Err(ExportError::Foreign)), "{text:?}");
    }
    let mut newer = file();
    newer[10..12].copy_from_slice(&2_u16.to_le_bytes());
    assert!(matches!(read(&newer), Err(ExportError::Newer { needed: 2 })));
}

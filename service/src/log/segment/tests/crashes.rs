//! At every prefix of what a log did to its disk: the power goes, unsynced writes are lost and torn in many ways, and what is
//! recovered must be all that was acknowledged, dense, whole, and nothing else.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::support::{Content, Rig, open, options};
use crate::log::disk::sim::SimDisk;
use crate::log::segment::SegmentOptions;
use crate::log::{EventLog, Level, Lsn, Segments};

/// With so few unsynced parts every subset of them is tried.
const EXHAUSTIVE: usize = 7;
const SEEDS: u64 = 12;

#[derive(Debug, Clone, Copy)]
enum Act {
    Append(u64, u32, usize),
    Write,
    Prepare,
    Seal,
    Settle,
    Later,
    TrimAllBut(usize),
}

/// What is known of a log when the power goes.
struct Known {
    appended: Content,
    acknowledged: Lsn,
    /// Records up to here may have been trimmed.
    trimmed: Lsn,
}

/// Acts until all is done or the power goes.
fn act(rig: &mut Rig, acts: &[Act]) -> Known {
    let mut trimmed = Lsn(0);
    for act in acts {
        if rig.disk.is_off() {
            break;
        }
        match *act {
            Act::Append(system, count, bytes) => drop(rig.append(system, count, bytes)),
            Act::Write => drop(rig.stepper.write(rig.now)),
            Act::Prepare => drop(rig.stepper.prepare(rig.now)),
            Act::Seal => rig.log.seal(),
            Act::Settle => rig.settle(),
            Act::Later => rig.wait(Duration::from_secs(2)),
            Act::TrimAllBut(keep) => {
                let sealed = rig.log.sealed();
                if let Some(last) = sealed.len().checked_sub(keep + 1).map(|at| &sealed[at]) {
                    trimmed = trimmed.max(last.last_lsn);
                    drop(rig.log.trim(last.id));
                }
            }
        }
    }
    Known { appended: rig.appended.clone(), acknowledged: rig.durable(), trimmed }
}

fn check(known: &Known, recovered: &Content, context: &str) {
    for (lsn, written) in recovered {
        assert_eq!(known.appended.get(lsn), Some(written), "{context}: record {lsn} was invented");
    }
    for lsn in known.trimmed.0 + 1..=known.acknowledged.0 {
        assert!(recovered.contains_key(&lsn), "{context}: record {lsn} was acknowledged and is gone");
    }
    let lsns: Vec<u64> = recovered.keys().copied().collect();
    assert!(lsns.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{context}: LSNs have gaps: {lsns:?}");
}

/// Opens after a crash, checks, and goes on a little.
fn recover(disk: &SimDisk, options: SegmentOptions, known: &Known, context: &str) {
    let mut rig = open(disk, options).unwrap_or_else(|error| panic!("{context}: {error}"));
    check(known, &rig.content(), context);
    let before = rig.content();
    rig.epoch = 100;
    for number in 0..3 {
        rig.settle();
        rig.append(number, 1, 40).unwrap();
    }
    rig.log.hurry(Level::Disk);
    rig.settle();
    assert_eq!(rig.durable(), Lsn(rig.opened.durable.0 + 3), "{context}: it goes on");
    let after = rig.content();
    let rig = rig.reopen().unwrap();
    assert_eq!(rig.opened.cut_bytes, None, "{context}: what was mended stays mended");
    assert_eq!(rig.content(), after, "{context}");
    assert!(after.len() == before.len() + 3, "{context}");
}

fn crash_everywhere(options: &SegmentOptions, acts: &[Act]) {
    for operations in 0.. {
        let disk = SimDisk::new();
        let mut rig = open(&disk, options.clone()).unwrap();
        disk.off_after(operations);
        let known = act(&mut rig, acts);
        let over = !disk.is_off();
        drop(rig);
        let unsynced = disk.unsynced();
        if unsynced <= EXHAUSTIVE {
            for subset in 0..1_u32 << unsynced {
                let fork = disk.fork();
                let mut turn = 0;
                fork.crash(&mut || {
                    turn += 1;
                    subset >> (turn - 1) & 1 == 1
                });
                recover(&fork, options.clone(), &known, &format!("after {operations}, subset {subset:b}"));
            }
        } else {
            for seed in 0..SEEDS {
                let fork = disk.fork();
                fork.crash_seeded(seed);
                recover(&fork, options.clone(), &known, &format!("after {operations}, seed {seed}"));
            }
        }
        if over {
            assert!(operations > acts.len() as u64 / 4, "the acts did something");
            return;
        }
    }
}

const GROUPS: &[Act] = &[
    Act::Prepare,
    Act::Append(0, 1, 10),
    Act::Append(1, 2, 200),
    Act::Write,
    Act::Append(0, 3, 120),
    Act::Write,
    Act::Append(2, 1, 0),
    Act::Settle,
    Act::Append(2, 1, 700),
    Act::Append(0, 1, 30),
    Act::Append(1, 1, 500),
    Act::Write,
    Act::Append(1, 1, 60),
    Act::Settle,
    Act::Later,
];

const SEGMENTS: &[Act] = &[
    Act::Settle,
    Act::Append(0, 1, 100),
    Act::Settle,
    Act::Seal,
    Act::Settle,
    Act::Append(0, 1, 100),
    Act::Append(1, 1, 100),
    Act::Seal,
    Act::Append(2, 1, 100),
    Act::Settle,
    Act::Later,
    Act::Seal,
    Act::Settle,
    Act::TrimAllBut(1),
    Act::Append(2, 1, 100),
    Act::Settle,
    Act::TrimAllBut(0),
    Act::Append(0, 1, 300),
    Act::Settle,
];

#[test]
fn what_was_acknowledged_survives_whenever_the_power_goes() {
    crash_everywhere(&options(), GROUPS);
}

#[test]
fn seals_and_trims_survive_whenever_the_power_goes() {
    crash_everywhere(&options(), SEGMENTS);
}

#[test]
fn at_level_os_what_was_synced_survives_whenever_the_power_goes() {
    let options = SegmentOptions { level: Level::Os, ..options() };
    crash_everywhere(&options, GROUPS);
    crash_everywhere(&options, SEGMENTS);
}

fn random_acts(dice: &mut ChaCha8Rng) -> Vec<Act> {
    let act = |dice: &mut ChaCha8Rng| match dice.next_u32() % 16 {
        0..7 => {
            let bytes = [0, 5, 60, 300, 890][dice.next_u32() as usize % 5];
            Act::Append(u64::from(dice.next_u32() % 3), 1 + dice.next_u32() % 3, bytes)
        }
        7..10 => Act::Write,
        10..12 => Act::Prepare,
        12 => Act::Seal,
        13 => Act::Settle,
        14 => Act::Later,
        _ => Act::TrimAllBut(dice.next_u32() as usize % 3),
    };
    (0..40).map(|_| act(dice)).collect()
}

/// Crash, crash again while recovering, recover, go on, crash again.
#[test]
fn crashes_in_a_row_lose_nothing_that_was_acknowledged() {
    for seed in 0..250 {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let level = if seed % 3 == 0 { Level::Os } else { Level::Disk };
        let options = SegmentOptions { level, ..options() };
        let disk = SimDisk::new();
        let mut known = Known { appended: Content::new(), acknowledged: Lsn(0), trimmed: Lsn(0) };
        for life in 0..4 {
            let context = format!("seed {seed}, life {life}");
            let mut rig = open(&disk, options.clone()).unwrap_or_else(|error| panic!("{context}: {error}"));
            check(&known, &rig.content(), &context);
            rig.epoch = life + 1;
            let acts = random_acts(&mut dice);
            disk.off_after(u64::from(dice.next_u32() % 60));
            let trimmed = known.trimmed;
            known = act(&mut rig, &acts);
            known.trimmed = known.trimmed.max(trimmed);
            drop(rig);
            disk.crash_seeded(u64::from(dice.next_u32()));
            // The power goes while it recovers, too.
            disk.off_after(u64::from(dice.next_u32() % 12));
            drop(open(&disk, options.clone()));
            disk.crash_seeded(u64::from(dice.next_u32()));
        }
        recover(&disk, options, &known, &format!("seed {seed}, the end"));
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_written() {
    let options = SegmentOptions { level: Level::Os, ..options() };
    let mut rig = open(&SimDisk::new(), options).unwrap();
    rig.settle();
    for _ in 0..3 {
        rig.append(0, 1, 50).unwrap();
    }
    rig.settle();
    assert_eq!((*rig.os.borrow(), rig.durable()), (Lsn(3), Lsn(0)), "written, not synced");
    let appended = rig.appended.clone();
    let rig = rig.reopen().unwrap();
    assert_eq!(rig.content(), appended);
    assert_eq!(rig.opened.durable, Lsn(3), "the start synced it");
    rig.disk.crash(&mut || false);
    let again = open(&rig.disk, rig.log.shared.options.clone()).unwrap();
    assert_eq!(again.content(), appended, "and so it survives the power");
}

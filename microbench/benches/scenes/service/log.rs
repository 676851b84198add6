//! Appending: to the log in memory, and to the one of segments. Of the latter once on a disk that does nothing, which leaves the
//! log's own work (frame, checksum, index), and once on a real one: the difference is the disk's.

use std::path::Path;
use std::sync::Arc;

use mipro_microbench::{Scene, Supply, Work};
use mipro_service::log::disk::{Disk, NullDisk, RealDisk};
use mipro_service::log::segment::Stepper;
use mipro_service::log::{Batch, EventLog, MemoryLog, SegmentLog, SegmentOptions};
use mipro_telemetry::clock;
use uuid::Uuid;

/// Appends of one call; they make one group, written and synced together.
const APPENDS: u32 = 100;
const SYSTEMS: u64 = 16;
const PAYLOAD: [u8; 100] = [7; 100];
/// The smallest that holds a call's appends with room to spare: the file is made at this length.
const SEGMENT_BYTES: u64 = 1 << 20;

pub(super) fn all() -> Vec<Scene> {
    vec![
        Scene::pure("service/log.append_memory", APPENDS, memory),
        Scene::pure("service/log.append_segment", APPENDS, || segment(|| Place::Nowhere)),
        Scene::timed_only("service/log.append_segment_on_disk", APPENDS, || segment(on_disk)),
    ]
}

fn batch(index: u32) -> Batch<'static> {
    let (system, round) = (u64::from(index) % SYSTEMS, u64::from(index) / SYSTEMS);
    let system = Uuid::from_u128(u128::from(system));
    Batch { system, epoch: 1, first_seq: round + 1, count: 1, payload: &PAYLOAD }
}

fn memory() -> Supply {
    Box::new(|| -> Work {
        let log = MemoryLog::default();
        Box::new(move || {
            for index in 0..APPENDS {
                log.append(&batch(index)).expect("memory takes it");
            }
        })
    })
}

/// Where a segment log lies.
enum Place {
    Nowhere,
    OnDisk(tempfile::TempDir),
}

/// Below the target directory, or where `MIPRO_BENCH_DIR` says: /tmp may be memory.
fn on_disk() -> Place {
    let root = std::env::var_os("MIPRO_BENCH_DIR").unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into());
    Place::OnDisk(tempfile::tempdir_in(root).expect("a directory can be made there"))
}

/// A fresh log each time, driven by hand: appends, then one group written and synced.
fn segment(place: fn() -> Place) -> Supply {
    Box::new(move || -> Work {
        let place = place();
        let (log, mut stepper) = match &place {
            Place::Nowhere => open(Path::new("/nowhere"), Arc::new(NullDisk)),
            Place::OnDisk(dir) => open(dir.path(), Arc::new(RealDisk)),
        };
        let now = clock::now();
        // The spare segment is made ahead, by another thread.
        stepper.settle(now);
        Box::new(move || {
            let _kept = &place;
            for index in 0..APPENDS {
                log.append(&batch(index)).expect("there is room");
            }
            stepper.settle(now);
        })
    })
}

fn open(dir: &Path, disk: Arc<dyn Disk>) -> (Arc<SegmentLog>, Stepper) {
    let options = SegmentOptions { segment_bytes: SEGMENT_BYTES, seed: Some(7), ..SegmentOptions::at(dir) };
    let (log, _, stepper) = SegmentLog::open_stepped(options, disk, clock::now()).expect("the log opens");
    (log, stepper)
}

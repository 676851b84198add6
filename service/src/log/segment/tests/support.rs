//! A log on a simulated disk, driven by hand, and what is known of it from outside.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mipro_telemetry::clock;
use tokio::sync::watch;
use uuid::Uuid;

use crate::log::disk::sim::SimDisk;
use crate::log::segment::{OpenError, Opened, SegmentLog, SegmentOptions, Stepper};
use crate::log::{AppendError, Batch, EventLog, Level, Lsn, ReadError};

pub(super) const DIR: &str = "/log";
pub(super) const SYSTEMS: u64 = 3;

pub(super) fn path(name: &str) -> PathBuf {
    PathBuf::from(DIR).join(name)
}

pub(super) fn options() -> SegmentOptions {
    SegmentOptions {
        segment_bytes: 1024,
        queue_bytes_max: 64 << 10,
        kept_bytes_max: 1 << 20,
        seed: Some(7),
        ..SegmentOptions::at(DIR)
    }
}

pub(super) fn options_seeded(seed: u64) -> SegmentOptions {
    SegmentOptions { seed: Some(seed), ..options() }
}

pub(super) fn system(number: u64) -> Uuid {
    Uuid::from_u128(0xabc0 + u128::from(number))
}

/// A batch, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) system: Uuid,
    pub(super) epoch: u64,
    pub(super) first_seq: u64,
    pub(super) count: u32,
    pub(super) payload: Vec<u8>,
}

pub(super) type Content = BTreeMap<u64, Written>;

/// All records of a log, by LSN, system by system.
pub(super) fn content(log: &dyn EventLog) -> Result<Content, ReadError> {
    let mut found = Content::new();
    for number in 0..SYSTEMS {
        log.read(system(number), 0, &mut |entry| {
            let Batch { system, epoch, first_seq, count, payload } = entry.batch;
            let written = Written { system, epoch, first_seq, count, payload: payload.to_vec() };
            assert!(found.insert(entry.lsn.0, written).is_none(), "an LSN is found once");
            ControlFlow::Continue(())
        })?;
    }
    Ok(found)
}

pub(super) fn open(disk: &SimDisk, options: SegmentOptions) -> Result<Rig, OpenError> {
    let start = clock::now();
    let (log, opened, stepper) = SegmentLog::open_stepped(options, Arc::new(disk.clone()), start)?;
    let found = content(&*log).map_err(OpenError::Damaged)?;
    let mut next_seq = [1; SYSTEMS as usize];
    for written in found.values() {
        for (number, next) in next_seq.iter_mut().enumerate() {
            if written.system == system(number as u64) {
                *next = written.first_seq + u64::from(written.count);
            }
        }
    }
    let reached = |level| log.reached(level).unwrap();
    let (os, durable) = (reached(Level::Os), reached(Level::Disk));
    let disk = disk.clone();
    Ok(Rig { disk, log, opened, stepper, now: start, epoch: 1, next_seq, appended: found, os, durable })
}

pub(super) struct Rig {
    pub(super) disk: SimDisk,
    pub(super) log: Arc<SegmentLog>,
    pub(super) opened: Opened,
    pub(super) stepper: Stepper,
    pub(super) now: Instant,
    pub(super) epoch: u64,
    pub(super) next_seq: [u64; SYSTEMS as usize],
    /// All that was found at the start, and all that the log took.
    pub(super) appended: Content,
    pub(super) os: watch::Receiver<Lsn>,
    pub(super) durable: watch::Receiver<Lsn>,
}

impl Rig {
    pub(super) fn fresh() -> Self {
        open(&SimDisk::new(), options()).unwrap()
    }

    /// Appends `count` events of a system, `bytes` in all.
    pub(super) fn append(&mut self, number: u64, count: u32, bytes: usize) -> Result<Lsn, AppendError> {
        let first_seq = self.next_seq[number as usize];
        let fill = (self.appended.len() % 250) as u8 + 1;
        let payload = vec![fill; bytes];
        let written = Written { system: system(number), epoch: self.epoch, first_seq, count, payload };
        let Written { system, epoch, first_seq, count, ref payload } = written;
        let lsn = self.log.append(&Batch { system, epoch, first_seq, count, payload })?;
        self.next_seq[number as usize] += u64::from(count);
        assert!(self.appended.insert(lsn.0, written).is_none(), "an LSN is given once");
        Ok(lsn)
    }

    pub(super) fn settle(&mut self) {
        self.stepper.settle(self.now);
    }

    pub(super) fn wait(&mut self, time: Duration) {
        self.now += time;
        self.settle();
    }

    pub(super) fn durable(&self) -> Lsn {
        *self.durable.borrow()
    }

    pub(super) fn content(&self) -> Content {
        content(&*self.log).unwrap()
    }

    /// Ends the process and begins another one on the same disk.
    pub(super) fn reopen(self) -> Result<Self, OpenError> {
        let Self { disk, log, stepper, .. } = self;
        let options = log.shared.options.clone();
        drop((log, stepper));
        disk.kill();
        open(&disk, options)
    }
}

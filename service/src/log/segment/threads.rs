//! Who drives writer and helper: two threads in the service, a hand in tests and simulations.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use mipro_telemetry::clock;

use super::helper::Helper;
use super::shared::Shared;
use super::writer::{Progress, Writer};

/// The log's work, to be driven by hand: nothing that was appended is written before [`Stepper::step`] is called. Dropping it
/// closes the log, as the death of its thread would.
#[derive(Debug)]
pub struct Stepper {
    pub(super) writer: Writer,
    pub(super) helper: Helper,
}

impl Stepper {
    /// Does the next thing that is to be done: first what the helper's thread would, then what the writer's would. False when
    /// there is nothing to do at this time. Times must not fall from call to call.
    pub fn step(&mut self, now: Instant) -> bool {
        self.prepare(now) || self.write(now)
    }

    /// One step of the writer: all that waits is written, or what was written is synced.
    pub fn write(&mut self, now: Instant) -> bool {
        self.writer.step(now) == Progress::Worked
    }

    /// One step of the helper: the next segment is made, or a sealed one's index is.
    pub fn prepare(&mut self, now: Instant) -> bool {
        self.helper.step(now)
    }

    /// Steps until there is nothing to do at this time.
    pub fn settle(&mut self, now: Instant) {
        while self.step(now) {}
    }
}

/// The threads of a log.
pub(super) fn spawn(shared: &Arc<Shared>, stepper: Stepper) -> io::Result<Vec<JoinHandle<()>>> {
    let Stepper { mut writer, mut helper } = stepper;
    let (ours, theirs) = (Arc::clone(shared), Arc::clone(shared));
    let writing = Builder::new().name("log-writer".to_owned()).spawn(move || {
        loop {
            let now = clock::now();
            match writer.step(now) {
                Progress::Worked => {}
                Progress::Idle => ours.queue.wait(writer.sleep(now)),
                Progress::Ended => break,
            }
        }
    })?;
    let helping = Builder::new().name("log-helper".to_owned()).spawn(move || {
        while !theirs.queue.standing().closed {
            let now = clock::now();
            if !helper.step(now) {
                theirs.bell.wait(helper.sleep(now));
            }
        }
    })?;
    Ok(vec![writing, helping])
}

//! From the pacer to the slots: arrivals whose time has come, waiting in order for somebody to be free.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

#[cfg(test)]
mod tests;

/// An arrival that the pacer has released. Times are nanoseconds from the run's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Release {
    pub(crate) number: u64,
    pub(crate) intended_ns: u64,
    pub(crate) released_ns: u64,
    /// Whether a slot was free then: what it still waited is the generator's own doing.
    pub(crate) slot_free: bool,
}

/// Released arrivals and the slots that take them, first come first served. Holds a bounded number.
#[derive(Debug)]
pub(crate) struct Backlog {
    waiting: Mutex<VecDeque<Release>>,
    /// As many permits as arrivals wait; closed when there will be no more.
    ready: Semaphore,
    /// Slots that wait for an arrival.
    idle: AtomicUsize,
    capacity: usize,
}

impl Backlog {
    pub(crate) fn new(capacity: usize) -> Self {
        let waiting = Mutex::new(VecDeque::new());
        Self { waiting, ready: Semaphore::new(0), idle: AtomicUsize::new(0), capacity }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Release>> {
        // A panic while holding the lock leaves whole entries behind.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one arrival; gives it back when there is no room.
    pub(crate) fn push(&self, number: u64, intended_ns: u64, released_ns: u64) -> Result<(), Full> {
        {
            let mut waiting = self.waiting();
            if waiting.len() >= self.capacity {
                return Err(Full);
            }
            let slot_free = self.idle.load(Ordering::Acquire) > waiting.len();
            waiting.push_back(Release { number, intended_ns, released_ns, slot_free });
        }
        self.ready.add_permits(1);
        Ok(())
    }

    /// No arrival will be added any more: who waits for one is sent away when the last is taken.
    pub(crate) fn close(&self) {
        self.ready.close();
    }

    /// Waits for the next arrival; none when there will be no more. Dropping the future loses none.
    pub(crate) async fn take(&self) -> Option<Release> {
        loop {
            let idle = Idle::new(&self.idle);
            let permit = self.ready.acquire().await;
            drop(idle);
            let release = self.waiting().pop_front();
            match permit {
                Ok(permit) => permit.forget(),
                // Closed: permits no longer count, what is left is taken by whoever comes.
                Err(_) => return release,
            }
            if release.is_some() {
                return release;
            }
            // Closed since, and somebody without a permit was quicker.
        }
    }

    /// Slots that wait for an arrival.
    pub(crate) fn idle(&self) -> usize {
        self.idle.load(Ordering::Acquire)
    }

    /// Empties it.
    pub(crate) fn rest(&self) -> VecDeque<Release> {
        std::mem::take(&mut *self.waiting())
    }
}

/// There is no room for another arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// A slot that waits, also when its waiting is given up.
struct Idle<'a>(&'a AtomicUsize);

impl<'a> Idle<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

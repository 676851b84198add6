//! A timer finer than tokio's, whose grain of 1 ms (and up to 2 ms of lateness) would triple a 1 ms round trip.
//!
//! One thread sleeps on a condition variable until the earliest due time. The kernel's own slack (about 50 µs) and two
//! thread switches are what remains: expect 0.1 ms of lateness on an idle machine, more when all cores are busy.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use mipro_telemetry::clock;
use tokio::sync::oneshot;

/// Cheap handle to the timer's thread, which ends when the last handle is dropped.
#[derive(Clone)]
pub(super) struct Timer {
    owner: Arc<Owner>,
}

struct Owner(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    /// Bounded by the number of connections: each direction waits for one chunk at a time.
    waiting: BinaryHeap<Reverse<Wait>>,
    count: u64,
    closed: bool,
}

struct Wait {
    due: Instant,
    /// Makes the order total.
    number: u64,
    wake: oneshot::Sender<()>,
}

impl Timer {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), changed: Condvar::new() });
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("link-timer".to_owned()).spawn(move || theirs.run())?;
        Ok(Self { owner: Arc::new(Owner(shared)) })
    }

    /// Returns at `due` or soon after, never before. Dropping the future forgets the wait.
    pub(super) async fn sleep_until(&self, due: Instant) {
        while clock::now() < due {
            let (wake, woken) = oneshot::channel();
            let shared = &self.owner.0;
            {
                let mut queue = shared.lock();
                let number = queue.count;
                queue.count += 1;
                let earliest = queue.waiting.peek().is_none_or(|Reverse(first)| due < first.due);
                queue.waiting.push(Reverse(Wait { due, number, wake }));
                if earliest {
                    shared.changed.notify_one();
                }
            }
            // An error means that the thread is gone; then the loop's condition still keeps the promise.
            if woken.await.is_err() {
                tokio::time::sleep_until(due.into()).await;
            }
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut queue = self.lock();
        while !queue.closed {
            let now = clock::now();
            while queue.waiting.peek().is_some_and(|Reverse(first)| first.due <= now) {
                if let Some(Reverse(wait)) = queue.waiting.pop() {
                    // Nobody waits for it any more when the connection is gone.
                    let _ = wait.wake.send(());
                }
            }
            let first = queue.waiting.peek().map(|Reverse(first)| first.due.saturating_duration_since(now));
            queue = match first {
                None => self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(rest) => {
                    self.changed.wait_timeout(queue, rest).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl PartialEq for Wait {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Wait {}

impl PartialOrd for Wait {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Wait {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

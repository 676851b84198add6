//! An allocator that counts, when asked: the system's own, with two counters in front.
//!
//! A binary installs [`Counting`] as its global allocator. Until somebody calls [`count_from_now`], an allocation costs one load of
//! a flag more than without; from then on, two additions to counters that a thread has nearly to itself. [`totals`] tells what was
//! counted. Nothing else changes: no byte is added, no address differs.
//!
//! This is the one member of the workspace that may write `unsafe` (docs/adr/0011): the trait of allocators is unsafe to implement.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

#[cfg(test)]
mod tests;

/// Asks a process of ours to count, with the value `1`.
pub const VARIABLE: &str = "MIPRO_COUNT_ALLOCATIONS";

/// Counters are spread over so many places, so that threads don't wait for each other's cache line.
const SLOTS: usize = 32;

static COUNTS: AtomicBool = AtomicBool::new(false);
static SLOTS_TAKEN: AtomicUsize = AtomicUsize::new(0);
static SLOT: [Slot; SLOTS] = [const { Slot::new() }; SLOTS];

thread_local! {
    /// Which slot is this thread's; `SLOTS` before it has one. Without a destructor and known when compiled, so that reaching it
    /// allocates nothing and works until the thread's last breath.
    static MINE: Cell<usize> = const { Cell::new(SLOTS) };
}

/// A cache line of its own, and its neighbour's, which processors fetch along.
#[repr(align(128))]
struct Slot {
    allocations: AtomicU64,
    bytes: AtomicU64,
}

impl Slot {
    const fn new() -> Self {
        Self { allocations: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }
}

/// What this process asked of its allocator since it began to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Calls that asked for memory, enlarging and shrinking among them; giving back is not counted.
    pub allocations: u64,
    /// Bytes asked for. Of a call that enlarges, those that it adds.
    pub bytes: u64,
}

/// Begins to count, for good. What was asked for before is in no total.
pub fn count_from_now() {
    COUNTS.store(true, Ordering::Relaxed);
}

/// What was counted so far, by all threads; `None` where nobody asked to count, or no [`Counting`] is installed. While other threads
/// allocate, their last few allocations may be missing.
#[must_use]
pub fn totals() -> Option<Totals> {
    // A process without the allocator has never taken a slot; one that counts has, for it has allocated.
    let counts = COUNTS.load(Ordering::Relaxed) && SLOTS_TAKEN.load(Ordering::Relaxed) > 0;
    counts.then(|| {
        SLOT.iter().fold(Totals::default(), |sum, slot| Totals {
            allocations: sum.allocations + slot.allocations.load(Ordering::Relaxed),
            bytes: sum.bytes + slot.bytes.load(Ordering::Relaxed),
        })
    })
}

#[inline]
fn note(bytes: usize) {
    if COUNTS.load(Ordering::Relaxed) {
        add(bytes);
    }
}

/// Not inlined: an allocation that is not counted should carry a jump, not the counting.
#[inline(never)]
fn add(bytes: usize) {
    // `try_with` can't fail: the cell has no destructor. Were it to, the first slot is as good as any.
    let mine = MINE.try_with(|mine| {
        if mine.get() == SLOTS {
            mine.set(SLOTS_TAKEN.fetch_add(1, Ordering::Relaxed) % SLOTS);
        }
        mine.get()
    });
    let slot = &SLOT[mine.unwrap_or(0)];
    slot.allocations.fetch_add(1, Ordering::Relaxed);
    slot.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
}

/// The system's allocator, counted. `#[global_allocator] static ALLOCATOR: Counting = Counting;`
#[derive(Debug, Clone, Copy, Default)]
pub struct Counting;

#[expect(
    unsafe_code,
    reason = "an allocator can't be written without; every call goes to the system's as it came"
)]
// SAFETY: each method hands its arguments unchanged to the system's allocator, and what that returns unchanged to the caller, so
// this keeps the promises of `GlobalAlloc` as far as `System` does. What comes before, `note`, neither allocates nor panics: it
// adds to statics and reads a thread-local without a destructor; the index is below the length by `%`.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps `alloc`'s contract, which is `System`'s, too.
        unsafe { System.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above, of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note(new_size.saturating_sub(layout.size()));
        // SAFETY: as above, of `realloc`; `block` came from `System`, since all of this type's do.
        unsafe { System.realloc(block, layout, new_size) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above, of `dealloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

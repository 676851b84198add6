//! What counting costs an allocation: `cargo bench -p mipro-allocations`. The same loop three times in turn: the system's allocator
//! asked directly, the counting one that nobody asked to count, and the one that counts. Prints; judges nothing.

#![expect(
    unsafe_code,
    reason = "the system's allocator, asked directly, is what the others are held against"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;

use mipro_allocations::{Counting, count_from_now};
use mipro_telemetry::clock;

const TURNS: u32 = 2_000_000;
const ROUNDS: usize = 15;

/// Nanoseconds of one allocation and its return.
fn each(allocator: &impl GlobalAlloc) -> f64 {
    let layout = Layout::new::<[u8; 64]>();
    let began = clock::now();
    for _ in 0..TURNS {
        // SAFETY: the layout is not empty, and the block goes back once, as it came, to the allocator it came from.
        unsafe {
            let block = black_box(allocator.alloc(black_box(layout)));
            allocator.dealloc(block, layout);
        }
    }
    began.elapsed().as_secs_f64() * 1e9 / f64::from(TURNS)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let (mut plain, mut silent) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        plain.push(each(&System));
        silent.push(each(&Counting));
    }
    count_from_now();
    let (mut beside, mut counting) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        beside.push(each(&System));
        counting.push(each(&Counting));
    }
    println!(
        "allocate 64 bytes and give them back, one thread, median of {ROUNDS} rounds, interleaved by pairs"
    );
    println!(
        "  the system's   {:6.2} ns, counting one, not asked to count {:6.2} ns",
        median(plain),
        median(silent)
    );
    println!(
        "  the system's   {:6.2} ns, counting one, counting           {:6.2} ns",
        median(beside),
        median(counting)
    );
}

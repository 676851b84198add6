use std::hint::black_box;
use std::sync::Barrier;
use std::thread;

use super::*;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn used(before: Totals) -> Totals {
    let after = totals().unwrap();
    Totals { allocations: after.allocations - before.allocations, bytes: after.bytes - before.bytes }
}

/// One test: counters are the process's, and other tests would be counted, too.
#[test]
fn what_is_asked_for_is_counted_from_the_moment_that_somebody_wants_it() {
    drop(black_box(vec![0_u8; 100]));
    assert_eq!(totals(), None, "nobody asked");
    count_from_now();
    drop(black_box(vec![0_u8; 100]));
    let before = totals().unwrap();
    // The harness's own thread waits and allocates nothing meanwhile.
    drop(black_box(Vec::<u8>::with_capacity(100)));
    assert_eq!(used(before), Totals { allocations: 1, bytes: 100 }, "giving back is not counted");

    let before = totals().unwrap();
    drop(black_box(vec![0_u8; 4096]));
    assert_eq!(used(before), Totals { allocations: 1, bytes: 4096 }, "zeroed");

    let before = totals().unwrap();
    let mut grown: Vec<u8> = Vec::with_capacity(100);
    grown.reserve_exact(1_000);
    assert_eq!(
        used(before),
        Totals { allocations: 2, bytes: 1_000 },
        "what is enlarged counts by what it grows"
    );
    let before = totals().unwrap();
    grown.shrink_to(10);
    assert_eq!(used(before), Totals { allocations: 1, bytes: 0 });

    threads();
}

/// More of them than there are slots: nothing is lost where two share one.
fn threads() {
    const THREADS: usize = 2 * SLOTS;
    const EACH: u64 = 1_000;
    let (begin, ended) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                begin.wait();
                (0..EACH).for_each(|_| drop(black_box(Box::new(7_u64))));
                ended.wait();
            });
        }
        // Before the first allocation that is looked for, after all that threads take to start.
        let before = totals().unwrap();
        begin.wait();
        ended.wait();
        let used = used(before);
        let wanted = EACH * THREADS as u64;
        // A thread that is just starting may still allocate for itself: some dozens, not thousands.
        assert!((wanted..wanted + 1_000).contains(&used.allocations), "{used:?}");
    });
}

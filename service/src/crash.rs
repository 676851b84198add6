//! Points at which a test can have the process killed: one at each crash step of the contract (docs/durability.md).
//!
//! `MIPRO_CRASH_AT=log.written:3` kills the process with SIGKILL the third time it comes by `log.written`: no destructor, no
//! flush, as if the power button of the process had been pressed. Only in builds with debug assertions; in a release
//! build a point is nothing.

/// Every point's name, in the order in which a reward passes them.
pub const POINTS: &[&str] = &[
    // A command has been received and not decided.
    "received",
    // Applied in memory and queued; not written.
    "applied",
    // Written, not synced.
    "log.written",
    // Synced; nobody has been told.
    "log.synced",
    // The answer is about to leave.
    "replied",
    // A new segment's file exists; its directory entry may not be durable.
    "log.created",
    // A segment was sealed; its index may not be there.
    "log.sealed",
    // The snapshot's object is there; the pointer does not name it yet.
    "snapshot.put",
    // The pointer names the new snapshot; the log still has what it covers.
    "pointer.moved",
    // A sealed segment is in the object store; it is still here, too.
    "log.archived",
    // A segment was removed here.
    "log.trimmed",
];

/// Kills the process here if the environment says so.
#[inline]
pub fn point(name: &'static str) {
    #[cfg(debug_assertions)]
    armed::pass(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Armed {
        name: String,
        left: AtomicU64,
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    fn read() -> Option<Armed> {
        let text = std::env::var("MIPRO_CRASH_AT").ok()?;
        let (name, turn) = text.rsplit_once(':').unwrap_or((&text, "1"));
        assert!(super::POINTS.contains(&name), "MIPRO_CRASH_AT names no crash point: {name}");
        Some(Armed { name: name.to_owned(), left: AtomicU64::new(turn.parse().unwrap_or(1)) })
    }

    pub(super) fn pass(name: &'static str) {
        debug_assert!(super::POINTS.contains(&name), "{name} is not in the list of crash points");
        let Some(armed) = ARMED.get_or_init(read) else { return };
        if armed.name == name && armed.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            let own = rustix::process::getpid();
            let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
            // SIGKILL is delivered before this thread runs on; should it ever not be, nothing after this point may happen.
            std::process::abort();
        }
    }
}

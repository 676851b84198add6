//! The view of tracing-flame: **busy time only**. Time in which nothing polls a span is not in it, so a wait of 200 ms that is
//! polled twice shows as microseconds. See [`crate::wall`] for what it leaves out.
//!
//! What tracing-flame 0.2 writes needs care, and gets it here:
//! - On entering a span it gives the time since the thread's last event to the span's parent, whatever the thread did meanwhile. A
//!   stage that is polled on a thread of its own would charge that thread's parked time to the request. So a stage that is the
//!   first to be entered on a thread is preceded by an empty visit of its request, which has no parent to be charged.
//! - It writes a line each time: they are summed here, within a bound, instead of filling a disk; nothing needs flushing.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Subscriber;
use tracing::span::{Attributes, Id};
use tracing_flame::FlameLayer;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::folded::{Folded, entry};

#[cfg(test)]
mod tests;

/// Longest line that is taken; a stack of ours is a few dozen bytes.
const LINE_MAX: usize = 4_096;

/// What tracing-flame has written, summed. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Busy {
    sums: Arc<Mutex<Folded>>,
}

impl Busy {
    /// The layer that feeds it. Of it and its like one must see a span, or none.
    #[must_use]
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> BusyLayer<S> {
        let sink = Sink { sums: Arc::clone(&self.sums), line: Vec::new() };
        let inner = FlameLayer::new(sink)
            .with_empty_samples(false)
            .with_threads_collapsed(true)
            .with_module_path(false)
            .with_file_and_line(false);
        BusyLayer { inner }
    }

    /// Forgets everything.
    pub fn begin(&self) {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Nanoseconds by stack: `request;stage`.
    #[must_use]
    pub fn found(&self) -> Folded {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Takes lines `all-threads; request; db.query 123`.
struct Sink {
    sums: Arc<Mutex<Folded>>,
    line: Vec<u8>,
}

impl Sink {
    fn end_of_line(&mut self) {
        let line = String::from_utf8_lossy(&self.line);
        if let Some((stack, ns)) = entry(&line) {
            // The first frame stands for the thread.
            let frames = stack.split(';').map(str::trim).skip(1);
            self.sums.lock().unwrap_or_else(PoisonError::into_inner).add(frames, ns);
        }
        self.line.clear();
    }
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            match byte {
                b'\n' => self.end_of_line(),
                _ if self.line.len() < LINE_MAX => self.line.push(*byte),
                _ => {}
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

thread_local! {
    /// How many spans this thread is in.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// tracing-flame's layer, kept from charging what it has not seen; see [`Busy`].
pub struct BusyLayer<S: Subscriber> {
    inner: FlameLayer<S, Sink>,
}

impl<S: Subscriber> fmt::Debug for BusyLayer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusyLayer").finish_non_exhaustive()
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for BusyLayer<S> {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        self.inner.on_new_span(attributes, id, ctx);
    }

    fn on_enter(&self, id: &Id, ctx: Context<'_, S>) {
        if DEPTH.get() == 0
            && let Some(span) = ctx.span(id)
            && let Some(root) =
                span.scope().from_root().next().map(|root| root.id()).filter(|root| root != id)
        {
            self.inner.on_enter(&root, ctx.clone());
            self.inner.on_exit(&root, ctx.clone());
        }
        DEPTH.set(DEPTH.get() + 1);
        self.inner.on_enter(id, ctx);
    }

    fn on_exit(&self, id: &Id, ctx: Context<'_, S>) {
        DEPTH.set(DEPTH.get().saturating_sub(1));
        self.inner.on_exit(id, ctx);
    }
}

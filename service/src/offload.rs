//! Where work that blocks or takes long runs: away from the threads that answer requests.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// The work panicked, or its thread was stopped. What it had in hand is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("work in the background panicked or was stopped")]
pub struct Panicked;

/// Runs blocking work. Injected, so that a deterministic simulation needs no threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Offload {
    /// On tokio's blocking pool. Dropping the future leaves the work running to its end.
    #[default]
    Pool,
    /// Here and now, on the caller's thread.
    Inline,
}

impl Offload {
    /// Runs `work` and gives what it gives.
    ///
    /// # Errors
    /// It panicked, or the runtime is stopping.
    pub async fn run<R: Send + 'static>(
        self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, Panicked> {
        match self {
            Self::Pool => tokio::task::spawn_blocking(work).await.map_err(|_| Panicked),
            // Whoever gets `Panicked` drops what the work had in hand, so that nobody sees what the panic left behind.
            Self::Inline => catch_unwind(AssertUnwindSafe(work)).map_err(|_| Panicked),
        }
    }
}

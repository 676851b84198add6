//! All children of one run.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::child::Pulse;
use super::error::tail_text;
use super::{Child, Error, Exit, Spec};

/// How long a dropped fleet waits for its children, all together, before it kills them.
const DROP_GRACE: Duration = Duration::from_secs(5);

/// Owns the children of a run: starts them, tells when one dies, ends them in reverse order.
///
/// Dropping it (also by a panic) asks all to end at once, blocks for 5 seconds at most, and kills what is left. It
/// does so even while clones of its children's handles live on.
#[derive(Debug)]
pub struct Fleet {
    log_dir: PathBuf,
    /// In the order of their start.
    members: Mutex<Vec<Member>>,
    pulse: Pulse,
}

#[derive(Debug)]
struct Member {
    child: Child,
    death_reported: bool,
}

/// A child has ended that nobody had asked to.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{name} died ({}); {}", exit.status, tail_text(stderr_tail))]
pub struct Death {
    /// The child's name in the run.
    pub name: String,
    /// How it ended.
    pub exit: Exit,
    /// The last lines it wrote; empty if it wrote none.
    pub stderr_tail: String,
}

/// How one child ended in a drain.
#[derive(Debug, Clone, PartialEq)]
pub struct Drained {
    /// The child's name in the run.
    pub name: String,
    /// How it ended; `None` if it still had not, long after SIGKILL.
    pub exit: Option<Exit>,
    /// Whether it took SIGKILL.
    pub forced: bool,
}

impl Drained {
    /// Whether it ended by itself, in time, with exit code 0.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        !self.forced && self.exit.is_some_and(|exit| exit.status.success())
    }
}

impl Fleet {
    /// A fleet without children, which writes their logs to `log_dir` (it must exist).
    #[must_use]
    pub fn new(log_dir: impl Into<PathBuf>) -> Self {
        Self { log_dir: log_dir.into(), members: Mutex::default(), pulse: Arc::new(watch::Sender::new(())) }
    }

    /// The directory of the children's logs.
    #[must_use]
    pub fn log_dir(&self) -> &Path {
        &self.log_dir
    }

    /// Starts a child and, if the spec says so, waits until it is ready. Dropping the future ends the child.
    ///
    /// # Errors
    /// See [`Error`]; the child is not in the fleet then, and not running.
    pub async fn start(&self, spec: Spec) -> Result<Child, Error> {
        let child = Child::start_with_pulse(spec, &self.log_dir, Some(Arc::clone(&self.pulse))).await?;
        self.members().push(Member { child: child.clone(), death_reported: false });
        Ok(child)
    }

    /// Waits for the next child that ends without having been asked to; each death is told once. Never completes
    /// while all live. May be dropped and called again, and misses nothing in between.
    pub async fn next_death(&self) -> Death {
        let mut pulse = self.pulse.subscribe();
        loop {
            // Subscribed before looking, so that an end in between wakes us.
            if let Some(death) = self.unreported_death() {
                return death;
            }
            // The sender is in `self`.
            let _ = pulse.changed().await;
        }
    }

    /// Runs `work` to its end, unless a child dies first. On a death the work is dropped.
    ///
    /// # Errors
    /// The death.
    pub async fn guard<T>(&self, work: impl Future<Output = T>) -> Result<T, Death> {
        tokio::select! {
            biased;
            death = self.next_death() => Err(death),
            output = work => Ok(output),
        }
    }

    /// Ends one child and takes it out of the fleet; see [`Child::terminate`] for the deadline.
    pub async fn stop(&self, child: &Child, deadline: Duration) -> Drained {
        let stopped = child.terminate(deadline).await;
        self.members().retain(|member| member.child.pid() != child.pid());
        Drained { name: child.name().to_owned(), exit: stopped.exit, forced: stopped.forced }
    }

    /// Ends all children in the reverse order of their start, each with `deadline` at most before it is killed, and
    /// tells how they ended, in that order. Children that had ended before are in it as well. If the future is
    /// dropped, the rest are still in the fleet.
    pub async fn drain(&self, deadline: Duration) -> Vec<Drained> {
        let mut drained = Vec::new();
        loop {
            let last = self.members().last().map(|member| member.child.clone());
            let Some(child) = last else { return drained };
            drained.push(self.stop(&child, deadline).await);
        }
    }

    /// Handles of all children in the fleet, in the order of their start.
    #[must_use]
    pub fn children(&self) -> Vec<Child> {
        self.members().iter().map(|member| member.child.clone()).collect()
    }

    fn unreported_death(&self) -> Option<Death> {
        let mut members = self.members();
        let dead = members.iter_mut().find(|member| {
            !member.death_reported && !member.child.is_expected_to_end() && member.child.exit().is_some()
        })?;
        dead.death_reported = true;
        let child = &dead.child;
        let exit = child.exit()?;
        Some(Death { name: child.name().to_owned(), exit, stderr_tail: child.output_tail() })
    }

    /// No code panics while it holds this lock.
    fn members(&self) -> MutexGuard<'_, Vec<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let members = std::mem::take(&mut *self.members());
        // All are asked before any is waited for: a drop is an emergency, and its time counts once.
        for member in members.iter().rev() {
            member.child.ask_at_drop();
        }
        let started = mipro_telemetry::clock::now();
        for member in members.iter().rev() {
            member.child.end_at_drop(DROP_GRACE.saturating_sub(started.elapsed()));
        }
    }
}

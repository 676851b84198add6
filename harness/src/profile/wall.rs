//! The stretch whose wall-clock time is profiled, by the service's own layers; or, where it has none, by what it tells each caller.

use std::path::Path;
use std::time::Duration;

use mipro_bench_reports::Rung;
use mipro_bench_reports::flame::waits::of_rollouts;
use mipro_loadgen::Outcome;
use mipro_telemetry::Folded;
use mipro_telemetry::profile::{BEGUN, BUSY, DIR_VARIABLE, SUMMARY, Summary, TRACE, WALL};
use tokio::time::{sleep, timeout};

use super::Stretches;
use crate::options::Error;
use crate::side::Side;

/// How long a service may take to begin a profile.
const BEGIN_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const BEGIN_LOOK: Duration = Duration::from_millis(5);
/// Largest file of a profile that is read.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// The wall-clock profile of a side.
pub(super) struct Wall {
    /// Rollouts that it rests on.
    pub(super) rollouts: u64,
    /// Everything that was gathered.
    pub(super) all: Folded,
    /// Of it, the rollouts' calls.
    pub(super) stacks: Folded,
    /// From spans, so that waiting is told from running.
    pub(super) from_spans: bool,
    /// tracing-flame's view.
    pub(super) busy: Option<Folded>,
    /// Chrome trace of the slowest rollout.
    pub(super) trace: Option<String>,
    /// How long that took, in nanoseconds.
    pub(super) slowest_ns: Option<u64>,
}

impl Stretches<'_> {
    /// Starts the side's service again with its layers on, drives the stretch, and stops it.
    pub(super) async fn wall(&self, side: &mut Side, notes: &mut Vec<String>) -> Result<Wall, Error> {
        self.watcher.step(&format!("{}: wall clock, {} rollouts", side.label, self.options.rollouts));
        let dir = self.ground.dir.join(format!("profile-{}", side.which.name().to_ascii_lowercase()));
        if side.service().is_some() {
            side.restart(self.ground, &[(DIR_VARIABLE.to_owned(), dir.display().to_string())]).await?;
        }
        let load = self.prepared(side, "wall", self.options.rollouts).await?;
        side.set_link(self.ground, true).await?;
        self.warm(side, &load).await?;
        let profiles = side.service().is_some() && dir.join(BEGUN).exists();
        if let Some(service) = side.service().filter(|_| profiles) {
            service.child.signal_user1();
            begun(&dir).await?;
        }
        let progress =
            self.watcher.rung(&side.label, side.which as usize, 1 + usize::from(self.options.b.is_some()));
        let outcome = self.drive(side, load, progress).await?;
        if outcome.accounting.ok < outcome.accounting.intended {
            let (ok, intended) = (outcome.accounting.ok, outcome.accounting.intended);
            notes.push(format!(
                "{}: {ok} of {intended} rollouts succeeded; all are in the picture.",
                side.label
            ));
        }
        let ours = side.service().is_some();
        if !side.stop(self.ground).await {
            notes.push(format!(
                "{}: the service did not stop cleanly, so its profile may be short.",
                side.label
            ));
        }
        match read(&dir, &outcome)? {
            Some((wall, cut)) => {
                if cut > 0 {
                    notes.push(format!(
                        "{}: {cut} spans and polls were more than a request's book holds; their time is charged to what was around them.",
                        side.label
                    ));
                }
                Ok(wall)
            }
            None => {
                if ours {
                    notes.push(format!(
                        "{}: this binary knows nothing of {DIR_VARIABLE}; its stages are as it tells them in Server-Timing, without [await] and [poll].",
                        side.label
                    ));
                }
                Ok(told(&outcome))
            }
        }
    }
}

/// Waits until the profile has begun anew.
async fn begun(dir: &Path) -> Result<(), Error> {
    let looked = async {
        while std::fs::read_to_string(dir.join(BEGUN)).ok().as_deref() != Some("1") {
            sleep(BEGIN_LOOK).await;
        }
    };
    let late = |_| Error::Unexpected("the service did not begin its profile".to_owned());
    timeout(BEGIN_MAX, looked).await.map_err(late)
}

/// What the service's layers have written, and how much did not fit; `None` where they have not.
fn read(dir: &Path, outcome: &Outcome) -> Result<Option<(Wall, u64)>, Error> {
    let Some(all) = text(dir, WALL) else { return Ok(None) };
    let folded = |name: &str, text: &str| {
        Folded::parse(text).map_err(|error| Error::Unexpected(format!("the service's {name}: {error}")))
    };
    let all = folded(WALL, &all)?;
    let summary: Summary =
        text(dir, SUMMARY).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let wall = Wall {
        rollouts: outcome.accounting.intended.max(1),
        stacks: of_rollouts(&all),
        all,
        from_spans: true,
        busy: text(dir, BUSY).map(|text| folded(BUSY, &text)).transpose()?,
        trace: text(dir, TRACE),
        slowest_ns: (summary.slowest_ns > 0).then_some(summary.slowest_ns),
    };
    Ok(Some((wall, summary.cut)))
}

fn text(dir: &Path, name: &str) -> Option<String> {
    let path = dir.join(name);
    let small = std::fs::metadata(&path).is_ok_and(|file| file.len() <= FILE_BYTES_MAX);
    small.then(|| std::fs::read_to_string(path).ok()).flatten()
}

/// The stages' means, as the callers were told.
fn told(outcome: &Outcome) -> Wall {
    let mut rung = Rung::default();
    outcome.fill(&mut rung);
    let (rollouts, mut stacks) = (outcome.accounting.ok.max(1), Folded::default());
    for (name, stage) in &rung.stages {
        let ns = stage.per_rollout_us * 1e3 * rollouts as f64;
        stacks.add(["rollout", name.as_str()], ns.max(0.0).round() as u64);
    }
    let all = stacks.clone();
    Wall { rollouts, all, stacks, from_spans: false, busy: None, trace: None, slowest_ns: None }
}

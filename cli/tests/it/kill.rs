//! The service killed again and again, at each crash point and at random moments, under load, on one data directory: and after
//! every few kills the history checker holds what clients were told against what is there.
//!
//! `MIPRO_KILL_ROUNDS` makes it longer (`just kill 500`), `MIPRO_KILL_STACK` chooses the stack, `MIPRO_KILL_SEED` the dice. Crash points
//! exist in builds with debug assertions only.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::Arc;
use std::time::Duration;

use mipro_testbed::history::{Truth, Verdict, check};
use mipro_testbed::stack::StackKind;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::common::*;
use super::kill_clients::{Dice, Place, System, Writer};
use super::kill_ground::Ground;

/// Each crash point (`mipro_service::crash::POINTS`), with how often the service may pass it before it dies there.
const POINTS: [(&str, u64); 11] = [
    ("received", 40),
    ("applied", 40),
    ("log.written", 20),
    ("log.synced", 20),
    ("replied", 40),
    ("log.created", 2),
    ("log.sealed", 2),
    ("snapshot.put", 4),
    ("pointer.moved", 4),
    ("log.archived", 2),
    ("log.trimmed", 1),
];
/// Rounds at random moments for each run through all points.
const RANDOM: usize = 3;
/// Rounds between two checks.
const ROUNDS_PER_CHECK: usize = 4;
const SYSTEMS: u32 = 2;
const CLIENTS_PER_SYSTEM: u32 = 3;
/// How long a crash point may stay unreached; the archive looks for work every ten seconds.
const REACH_DEADLINE: Duration = Duration::from_secs(30);

/// How a round ends.
#[derive(Debug, Clone)]
enum Death {
    /// At a crash point, by the service itself.
    At(&'static str, u64),
    /// After so many answers, by our signal.
    After(u32),
}

#[derive(Default)]
struct Totals {
    rounds: usize,
    at_points: BTreeMap<&'static str, usize>,
    verdict: Verdict,
}

/// What the clients of some systems did, until it is checked.
struct Batch {
    systems: Vec<System>,
    writers: Vec<Writer>,
    deaths: Vec<Death>,
}

fn deaths(rounds: usize, dice: &mut Dice) -> Vec<Death> {
    let points = if cfg!(debug_assertions) { POINTS.len() } else { 0 };
    let kinds = points + RANDOM;
    // Every kind comes before any comes again, in an order of its own each time.
    let mut deaths = Vec::with_capacity(rounds);
    while deaths.len() < rounds {
        let mut left: Vec<usize> = (0..kinds).collect();
        while !left.is_empty() && deaths.len() < rounds {
            let at = usize::try_from(dice.roll(left.len() as u64)).unwrap();
            deaths.push(match POINTS[..points].get(left.swap_remove(at)) {
                Some((name, most)) => Death::At(name, 1 + dice.roll(*most)),
                None => Death::After(u32::try_from(dice.roll(120)).unwrap()),
            });
        }
    }
    deaths
}

struct Loop {
    ground: Ground,
    dice: Dice,
    totals: Totals,
    checked: Vec<(Batch, usize)>,
}

impl Loop {
    /// A service that is to live.
    fn serve(&self, after: &[Death]) -> (Role, Place) {
        let role = self.ground.serve(None);
        let role = role.unwrap_or_else(|dead| {
            panic!("the service did not start again after {after:?}: {} {}", dead.status, dead.stderr)
        });
        let place = Place::new(&role.url);
        (role, place)
    }

    async fn batch(&mut self, number: usize, place: &str) -> Batch {
        let client = Client::new(place, KEY);
        let (mut systems, mut writers) = (Vec::new(), Vec::new());
        for index in 0..SYSTEMS {
            let job = client.small_job().await;
            let system = System { name: format!("b{number}s{index}"), id: job.system_id };
            for client in 0..CLIENTS_PER_SYSTEM {
                let id = index * CLIENTS_PER_SYSTEM + client;
                writers.push(Writer::new(id, system.clone(), self.dice.roll(u64::MAX)));
            }
            systems.push(system);
        }
        Batch { systems, writers, deaths: Vec::new() }
    }

    /// One life of the service, from its start to its death under load.
    async fn round(&mut self, batch: &mut Batch, death: &Death) {
        self.totals.rounds += 1;
        batch.deaths.push(death.clone());
        let armed = match death {
            Death::At(name, turn) => Some(format!("{name}:{turn}")),
            Death::After(_) => None,
        };
        let role = match self.ground.serve(armed.as_deref()) {
            Ok(role) => role,
            Err(dead) if armed.is_some() && dead.status.signal() == Some(9) => {
                // It died on the way up: at the first segment, or while it archived what lay there.
                return self.hit(death);
            }
            Err(dead) => panic!("after {:?}: {} {}", batch.deaths, dead.status, dead.stderr),
        };
        self.load(batch, role, death).await;
        self.hit(death);
    }

    fn hit(&mut self, death: &Death) {
        if let Death::At(name, _) = death {
            *self.totals.at_points.entry(name).or_default() += 1;
        }
    }

    /// Has the clients call until the service is dead, by itself or by our signal.
    async fn load(&mut self, batch: &mut Batch, mut role: Role, death: &Death) {
        let (place, acks) = (Place::new(&role.url), Arc::new(Semaphore::new(0)));
        let mut running = JoinSet::new();
        for writer in batch.writers.drain(..) {
            running.spawn(writer.run(place.clone(), Arc::clone(&acks)));
        }
        if let Death::After(answers) = death {
            let reached = tokio::time::timeout(REACH_DEADLINE, acks.acquire_many(*answers)).await;
            assert!(reached.is_ok(), "no {answers} answers in {REACH_DEADLINE:?}: {}", role.stderr());
            role.signal(rustix::process::Signal::KILL);
        }
        let all = async {
            while let Some(writer) = running.join_next().await {
                batch.writers.push(writer.unwrap());
            }
        };
        let ended = tokio::time::timeout(REACH_DEADLINE, all).await;
        assert!(ended.is_ok(), "{death:?} was not reached; after {:?}: {}", batch.deaths, role.stderr());
        let status = role.child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "it ended by {status}, not at {death:?}: {}", role.stderr());
    }

    /// Repeats what is open, reads what is there, and holds one against the other.
    async fn check(&mut self, batch: &mut Batch, place: &Place) {
        for writer in &mut batch.writers {
            writer.settle(place).await;
        }
        let (verdict, complaints) = verdict(batch, place).await;
        let deaths = &batch.deaths;
        assert!(verdict.holds(), "after {deaths:?}: {verdict}");
        assert!(complaints.is_empty(), "after {deaths:?}: {complaints:#?}");
        self.totals.verdict.add(verdict);
    }
}

async fn verdict(batch: &Batch, place: &Place) -> (Verdict, Vec<String>) {
    let mut truths: BTreeMap<String, Truth> = BTreeMap::new();
    for system in &batch.systems {
        truths.insert(system.name.clone(), place.truth(system).await);
    }
    let observations: Vec<_> = batch.writers.iter().flat_map(|writer| writer.observations.clone()).collect();
    let complaints = batch.writers.iter().flat_map(|writer| writer.complaints.clone()).collect();
    (check(&observations, &truths), complaints)
}

async fn kill(kind: StackKind, format: &str, rounds: usize, seed: u64) {
    let Some(ground) = Ground::new(kind, format).await else { return };
    let mut dice = Dice(seed);
    let deaths = deaths(rounds, &mut dice);
    let mut run = Loop { ground, dice, totals: Totals::default(), checked: Vec::new() };
    let mut last: Option<Batch> = None;
    for (number, deaths) in deaths.chunks(ROUNDS_PER_CHECK).enumerate() {
        let (role, place) = run.serve(last.as_ref().map_or(&[], |batch| &batch.deaths));
        if let Some(mut batch) = last.take() {
            run.check(&mut batch, &place).await;
            run.checked.push((batch, number));
        }
        let mut batch = run.batch(number, &role.url).await;
        drop(role);
        for death in deaths {
            run.round(&mut batch, death).await;
        }
        last = Some(batch);
    }
    let (role, place) = run.serve(last.as_ref().map_or(&[], |batch| &batch.deaths));
    if let Some(mut batch) = last.take() {
        run.check(&mut batch, &place).await;
    }
    // What was whole when it was checked is whole after all the kills, snapshots and trims that came since.
    for (batch, _) in &run.checked {
        let (verdict, _) = verdict(batch, &place).await;
        assert!(verdict.holds(), "in the end: {verdict}");
    }
    let (status, _, stderr) = role.stop();
    assert!(status.success(), "{status}: {stderr}");
    run.ground.verify();
    let (Totals { rounds, at_points, verdict }, seed) = (&run.totals, seed);
    // Past the capture of the test runner.
    let _ = writeln!(
        std::io::stderr(),
        "kill loops on {kind}, {format} snapshots, seed {seed}: {rounds} rounds ({} at crash points), {} acknowledged, {} unknown, {} lost, {} doubled",
        at_points.values().sum::<usize>(),
        verdict.acknowledged,
        verdict.unknown,
        verdict.lost,
        verdict.doubled
    );
    if cfg!(debug_assertions) && *rounds >= POINTS.len() + RANDOM {
        let missed: Vec<&str> =
            POINTS.iter().map(|(name, _)| *name).filter(|name| !at_points.contains_key(name)).collect();
        assert!(missed.is_empty(), "never died at {missed:?}");
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// On `kind`, unless `MIPRO_KILL_STACK` names another stack.
async fn on(kind: StackKind, format: &str, by_default: usize) {
    let only = std::env::var("MIPRO_KILL_STACK").ok();
    let only: Option<StackKind> = only.map(|name| name.parse().expect("MIPRO_KILL_STACK names a stack"));
    // A stack that neither test is for is run by the one for `embedded`.
    let here = match only {
        None => kind,
        Some(only) if only == kind || (kind == StackKind::Embedded && only != StackKind::Native) => only,
        Some(_) => return,
    };
    let rounds = number("MIPRO_KILL_ROUNDS").map_or(by_default, |rounds| usize::try_from(rounds).unwrap());
    Box::pin(kill(here, format, rounds, number("MIPRO_KILL_SEED").unwrap_or(1))).await;
}

/// Twice at each crash point.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_to_kills_on_the_embedded_stack() {
    Box::pin(on(StackKind::Embedded, "binary", 2 * (POINTS.len() + RANDOM))).await;
}

/// Once at each crash point.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_to_kills_on_the_native_stack() {
    Box::pin(on(StackKind::Native, "binary", POINTS.len() + RANDOM)).await;
}

/// Once at each crash point, with whole documents behind the log.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_to_kills_with_whole_documents() {
    Box::pin(on(StackKind::Embedded, "json", POINTS.len() + RANDOM)).await;
}

#[test]
fn every_crash_point_is_in_the_list() {
    let ours: Vec<&str> = POINTS.iter().map(|(name, _)| *name).collect();
    assert_eq!(ours, mipro_service::crash::POINTS);
}

//! The whole service, simulated: one seed is one history.
//!
//! A history is a few processes of the service, one after the other, on what outlives them: a disk, a table, an object
//! store, clients. All of it runs on one thread on tokio's paused clock, the production code unchanged. What is simulated:
//!
//! - **Clients** ([`client`]) found systems, start and report rollouts, read; they give up, walk away, repeat with the same key
//!   after unknown outcomes, send the same call twice at once, and two rewards for one rollout.
//! - **Stores** ([`stores`]) are slow, refuse, do it and lose the answer; what is still on the wire when its caller dies
//!   may arrive later, in the time of the next process.
//! - **The disk** ([`journal`]) loses or tears what was not synced, sector by sector, when the machine dies; is full, slow,
//!   fails to sync. The log on it is the real one, its writer stepped by hand; power also goes in the midst of a step, and while
//!   a log is being opened.
//! - **Memory** has room for fewer systems than there are, segments are tiny, the archiver is on: systems are evicted and recovered
//!   all the time, and their history is read from the archive.
//!
//! Checked ([`check`], [`journal`], [`stores`]): acknowledged exactly once, unknown at most once, nothing invented; dense
//! numbers; no client sees a version go back; whatever was read or refused is a prefix of the truth; duplicates answer the
//! same; each state ever pointed at is the fold of the events, byte for byte; pointers never name a missing object and never go
//! back; a new process's epoch is above all durable ones; in the end, with nothing wrong any more, everybody is answered. When
//! the host goes with its disk, loss is allowed and nothing else; and so where the machine dies at the level `os`, in which every
//! fourth history is lived: there, too, a process that is killed loses nothing.
//!
//! The same seed gives the same bytes: dice are a function of what is decided ([`dice`]), everybody acts in a millisecond of
//! its own ([`scene`]), `select!` on the path is `biased`. tokio's `watch` wakes in random order; that no wake-up touches
//! anybody else before its own turn is what [`a_seed_repeats_itself`] shows.
//!
//! `cargo test -p mipro-service --test sim`; `MIPRO_SIM_SEEDS=5000` and `MIPRO_SIM_SEED=1` say how many and from where; `just sim 42`
//! shows one. [`explore`] tries every order of a few messages instead.
//!
//! What it is worth: the service broken on purpose, by hand, and the first seed that showed it (seeds shift when histories
//! change). Not shown by 150 seeds: a system evicted before its events are durable, while its saves fail.
//!
//! | broken | shown by seed | and by `explore` |
//! |---|---|---|
//! | the gate opens one event early | 1 | yes |
//! | a duplicate passes without its gate | 7 | yes |
//! | a read passes without its gate | 57 | |
//! | a refusal passes without its gate | 16 | |
//! | a new process takes the old epoch | 1 | |
//! | the tail begins one event late | 1 | |
//! | the tail's fold ends after 20 events | 41 | |
//! | the dedup window is not in the snapshot | 1 | |
//! | the watermark rises before the sync | 3 | |
//! | no sync at all | 1 | |
//! | a failed sync passes for a good one | 11 | |
//! | a save does not wait for the log | 35 | |
//! | the log is trimmed 4 events too early | 23 | |
//! | every fourth segment is trimmed and not archived | 2 | |
//! | the pointer moves before the put | 1 | |
//! | the snapshot before the newest is deleted | 1 | |
//! | at `os`, the gate opens before the write | 34 | |

mod book;
mod check;
mod client;
mod dice;
mod explore;
mod journal;
mod process;
mod scene;
mod stores;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use book::Service;
use check::Truth;
use journal::Journal;
use mipro_service::history::HistoryReader;
use mipro_service::log::segment;
use mipro_service::offload::Offload;
use mipro_service::snapshot::archive::Archive;
use mipro_telemetry::clock;
use process::{Outside, audit};
use scene::lock;

/// How long histories are begun, unless somebody says how many.
const BUDGET: Duration = Duration::from_secs(20);
/// Histories that are lived through twice and compared.
const SEEDS_TWICE: u64 = 25;
/// What must occur.
const SEEN: [&str; 19] = [
    "killed",
    "log failed",
    "not opened",
    "tail cut",
    "answer lost",
    "late arrival",
    "gone",
    "duplicate",
    "conflict",
    "unknown",
    "not taken",
    "archived",
    "trimmed",
    "evicted",
    "killed at os",
    "the host is gone",
    "the machine died at the level os",
    "claimed",
    "claim refused",
];

/// What a history came to.
struct Report {
    seed: u64,
    hash: String,
    calls: usize,
    violations: Vec<String>,
    host_gone: bool,
    /// What occurred, how often.
    seen: BTreeMap<&'static str, u64>,
}

/// Lives one history through.
fn history(seed: u64, print: bool) -> Report {
    let panics = panics::count();
    let mut outside = Outside::new(seed, print);
    let mut dice = outside.scene.dice("history", &[]);
    for _ in 0..dice.between(1, 4) {
        let for_ms = dice.between(200, 2_500);
        outside.process(async |outside: &Outside, service: Service, journal: &Journal| {
            outside.under_load(service, journal, for_ms).await;
        });
    }
    outside.scene.calm_down();
    outside.process(async |outside: &Outside, service: Service, _: &Journal| {
        outside.to_the_end(&service).await;
    });
    let truth = outside.process(async |outside: &Outside, service: Service, journal: &Journal| {
        let founded = lock(&outside.founded).clone();
        audit(&service, &founded).await;
        truth(outside, journal).await
    });
    if let Some(truth) = truth {
        for wrong in check::check(&truth, &outside.book.made()) {
            outside.scene.violated(wrong);
        }
    }
    if panics::count() > panics {
        outside.scene.violated("something panicked".to_owned());
    }
    Report {
        seed,
        hash: outside.scene.hash(),
        calls: outside.book.made().len(),
        violations: outside.scene.violations(),
        host_gone: outside.host_gone,
        seen: outside.scene.seen(),
    }
}

/// What the service holds in the end.
async fn truth(outside: &Outside, journal: &Journal) -> Truth {
    let (stores, offload) = (outside.stores(), Offload::Inline);
    let archive = Arc::new(Archive::new(stores.blobs.clone(), segment::visit_bytes, offload));
    let history = HistoryReader::new(stores, journal.log.clone(), offload).with_archive(archive);
    let mut events = BTreeMap::new();
    let founded = lock(&outside.founded).clone();
    for system in founded {
        match history.events(outside.systems[system], 0, usize::MAX).await {
            Ok(found) => _ = events.insert(system, found),
            Err(_) if outside.host_gone => {}
            Err(error) => outside.scene.violated(format!("the history of system {system}: {error}")),
        }
    }
    let moves = lock(&outside.table.rows.moves).clone();
    let place = |row: &mipro_service::store::SystemRow| {
        outside.systems.iter().position(|system| *system == row.system_id)
    };
    let moves = moves.into_iter().filter_map(|(row, object)| Some((place(&row)?, row, object))).collect();
    Truth { events, moves, host_gone: outside.host_gone, process: outside.processes }
}

/// Panics on this thread. tokio and the service catch what tasks throw; nothing here may throw at all.
mod panics {
    use std::cell::Cell;
    use std::panic::{set_hook, take_hook};
    use std::sync::Once;

    thread_local! {
        static COUNT: Cell<u64> = const { Cell::new(0) };
    }

    /// How many there were on this thread.
    pub(crate) fn count() -> u64 {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = take_hook();
            set_hook(Box::new(move |info| {
                COUNT.set(COUNT.get() + 1);
                before(info);
            }));
        });
        COUNT.get()
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// Fails with what went wrong in a history, and how to see it again.
fn judge(report: &Report) {
    let Report { seed, violations, .. } = report;
    assert!(violations.is_empty(), "seed {seed} (`just sim {seed}` shows it): {violations:#?}");
}

/// As many histories as fit the budget, or as `MIPRO_SIM_SEEDS` says; the one of `MIPRO_SIM_SEED` alone, with its trace.
#[test]
fn nothing_acknowledged_is_lost_and_nothing_happens_twice() {
    if let Some(seed) = number("MIPRO_SIM_SEED").filter(|_| number("MIPRO_SIM_SEEDS").is_none()) {
        let report = history(seed, true);
        println!("seed {seed}: {} calls, trace {}", report.calls, report.hash);
        return judge(&report);
    }
    let (first, most) = (number("MIPRO_SIM_SEED").unwrap_or(1), number("MIPRO_SIM_SEEDS"));
    let (next, begun) = (AtomicU64::new(0), clock::now());
    let (histories, calls) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        loop {
            let turn = next.fetch_add(1, Ordering::SeqCst);
            if most.map_or_else(|| begun.elapsed() >= BUDGET, |most| turn >= most) {
                return;
            }
            let report = history(first + turn, false);
            histories.fetch_add(1, Ordering::SeqCst);
            calls.fetch_add(report.calls as u64, Ordering::SeqCst);
            judge(&report);
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let failed = workers.into_iter().filter_map(|worker| worker.join().err()).next();
        if let Some(panic) = failed {
            std::panic::resume_unwind(panic);
        }
    });
    let (histories, calls) = (histories.into_inner(), calls.into_inner());
    println!("{histories} histories from seed {first}, {calls} calls, {} s", begun.elapsed().as_secs());
    assert!(histories > 0);
}

/// The same seed gives the same history: every observation, every operation of the disk, every object.
#[test]
fn a_seed_repeats_itself() {
    for seed in 1..=number("MIPRO_SIM_SEEDS").unwrap_or(SEEDS_TWICE) {
        let (one, two) = (history(seed, false), history(seed, false));
        assert_eq!(one.hash, two.hash, "seed {seed}");
    }
    assert_ne!(history(1, false).hash, history(2, false).hash);
}

/// Among a few histories everything happens that a history is for: else they prove less than they say.
#[test]
fn trouble_comes() {
    let reports: Vec<Report> = (1..=40).map(|seed| history(seed, false)).collect();
    assert!(reports.iter().any(|report| report.host_gone), "no host goes");
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for (what, count) in reports.iter().flat_map(|report| &report.seen) {
        *seen.entry(what).or_default() += count;
    }
    println!("{seen:?}");
    for what in SEEN {
        assert!(seen.get(what).is_some_and(|count| *count > 0), "{what} does not occur: {seen:?}");
    }
}

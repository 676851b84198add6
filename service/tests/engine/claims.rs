//! Two hosts on the same stores at once: who may write, who is told to begin anew, and what it costs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::segmented::ledger;
use crate::support::*;
use mipro_service::engine::{self, Engine, EngineError, EngineKind, EngineOptions, Format};
use mipro_service::log::{EventLog, Level};
use mipro_service::store::blobs::PutRule;
use mipro_service::system::{NewSystem, SystemId};
use mipro_telemetry::Stage;

/// Saves nothing by itself within a test.
fn lazy() -> EngineOptions {
    let mut options = options(EngineKind::Actor);
    options.actor.save_events_max = 1_000_000;
    options.actor.save_delay_max = Duration::from_secs(3_600);
    options
}

/// A host: an engine over the rig's stores and a log of its own.
struct Host {
    log: Arc<HandLog>,
    engine: Arc<dyn Engine>,
}

impl Host {
    fn on(rig: &Rig) -> Self {
        Self::with(rig, HandLog::at(Level::Disk).open_wide(), &lazy())
    }

    fn with(rig: &Rig, log: Arc<HandLog>, options: &EngineOptions) -> Self {
        let taken = Arc::clone(&log) as Arc<dyn EventLog>;
        let engine = engine::build_with_log(options, rig.stores(), rig.recorders.clone(), taken);
        Self { log, engine }
    }

    async fn report(&self, system: SystemId, rollout: &str) -> Result<(), EngineError> {
        run(&*self.engine, system, report(rollout, 1.0)).await.map(drop)
    }

    async fn rewards(&self, system: SystemId) -> u64 {
        rewards(&*self.engine, system).await
    }
}

/// A system that a host which is gone has made and stored.
async fn stored(rig: &Rig) -> NewSystem {
    let new = new_system();
    create(&*Host::on(rig).engine, &new).await;
    new
}

fn claims(rig: &Rig) -> u64 {
    *rig.table.claims.borrow()
}

#[tokio::test]
async fn a_stay_claims_once_before_its_first_event_and_reads_claim_nothing() {
    let rig = Rig::sqlite().await;
    let new = stored(&rig).await;
    assert_eq!(claims(&rig), 0, "who made it holds it");
    let host = Host::on(&rig);
    assert_eq!(host.rewards(new.system_id).await, 0);
    assert_eq!(claims(&rig), 0, "a stay that is only read costs nothing");
    host.report(new.system_id, "r0").await.unwrap();
    assert_eq!(claims(&rig), 1);
    // From here on the database is asked for nothing.
    rig.table.down.store(true, Ordering::SeqCst);
    for i in 1..5 {
        host.report(new.system_id, &format!("r{i}")).await.unwrap();
    }
    assert_eq!((claims(&rig), host.rewards(new.system_id).await), (1, 5));
}

/// From its first moment: a host that takes over must know that another log has what followed.
#[tokio::test]
async fn a_new_row_names_the_log_that_it_is_written_from() {
    for format in [Format::Binary, Format::Document] {
        let rig = Rig::sqlite().await;
        let mut options = lazy();
        options.actor.format = format;
        let host = Host::with(&rig, HandLog::at(Level::Disk).open_wide(), &options);
        let new = new_system();
        create(&*host.engine, &new).await;
        let row = rig.stores().table.get(new.system_id, &ledger()).await.unwrap().unwrap();
        assert_eq!(row.claimed_by, Some(host.log.id()), "{format:?}");
        host.report(new.system_id, "first").await.unwrap();
        assert_eq!(claims(&rig), 0, "and its first stay claims nothing");
    }
}

#[tokio::test]
async fn of_two_hosts_that_saw_the_same_one_writes_and_the_other_begins_anew() {
    let rig = Rig::sqlite().await;
    let new = stored(&rig).await;
    let (one, two) = (Host::on(&rig), Host::on(&rig));
    assert_eq!((one.rewards(new.system_id).await, two.rewards(new.system_id).await), (0, 0));
    one.report(new.system_id, "one").await.unwrap();
    let refused = two.report(new.system_id, "two").await.unwrap_err();
    assert_eq!(refused, EngineError::Overtaken);
    assert!(refused.is_retryable());
    assert_eq!(two.log.epochs(new.system_id), [0; 0], "nothing was written under an epoch of another's");
    assert_eq!(two.engine.figures().conflicts, 1);
    // It reads anew, and takes over: under an epoch of its own.
    two.report(new.system_id, "two").await.unwrap();
    assert_eq!(two.rewards(new.system_id).await, 1, "what the other has not stored is not here");
    let (theirs, ours) = (one.log.epochs(new.system_id), two.log.epochs(new.system_id));
    assert!(theirs.iter().all(|epoch| !ours.contains(epoch)), "{theirs:?} {ours:?}");
}

#[tokio::test]
async fn the_overtaken_host_notices_when_it_saves_and_says_so() {
    let rig = Rig::sqlite().await;
    let (old, young) = (Host::on(&rig), Host::on(&rig));
    let new = new_system();
    create(&*old.engine, &new).await;
    old.report(new.system_id, "before").await.unwrap();
    young.report(new.system_id, "young").await.unwrap();
    old.report(new.system_id, "after").await.unwrap();
    let everything_saved = old.engine.shutdown().await;
    everything_saved.unwrap();
    let figures = old.engine.figures();
    assert_eq!((figures.conflicts, figures.unsaved_events), (1, 0), "{figures:?}");
    // Its own log goes on otherwise than the other one does: it serves no mixture, neither before that one has stored anything
    // nor afterwards.
    assert_another_host(&old, new.system_id).await;
    assert_eq!(young.rewards(new.system_id).await, 1);
    young.engine.shutdown().await.unwrap();
    assert_another_host(&Host::with(&rig, Arc::clone(&old.log), &lazy()), new.system_id).await;
    // Where the other one has gone further than the log here, its history counts, and this host may go on with it.
    let young = Host::with(&rig, Arc::clone(&young.log), &lazy());
    for i in 0..9 {
        young.report(new.system_id, &format!("more{i}")).await.unwrap();
    }
    young.engine.shutdown().await.unwrap();
    let again = Host::with(&rig, old.log, &lazy());
    assert_eq!(again.rewards(new.system_id).await, 10);
    again.report(new.system_id, "back").await.unwrap();
    assert_eq!(again.rewards(new.system_id).await, 11);
}

async fn assert_another_host(host: &Host, system: SystemId) {
    let refused = ask(&*host.engine, system, engine::Question::State).await.unwrap_err();
    assert!(
        matches!(&refused, EngineError::Corrupt { problem, .. } if problem.contains("another host")),
        "{refused:?}"
    );
}

/// What lies between the newest stored state and the one before it is known to the host that decided it.
#[tokio::test]
async fn no_host_falls_back_across_what_another_one_decided() {
    let rig = Rig::sqlite().await;
    let (one, two) = (Host::on(&rig), Host::on(&rig));
    let new = new_system();
    let system = new.system_id;
    create(&*one.engine, &new).await;
    for rollout in ["a1", "a2"] {
        one.report(system, rollout).await.unwrap();
    }
    drop(one.engine);
    for rollout in ["b1", "b2"] {
        two.report(system, rollout).await.unwrap();
    }
    two.engine.shutdown().await.unwrap();
    // Its own log reaches just as far, with other events; the newest stored state is the other one's.
    let again = Host::with(&rig, Arc::clone(&one.log), &lazy());
    assert_eq!(again.rewards(system).await, 2);
    again.report(system, "c").await.unwrap();
    drop(again.engine);
    let row = rig.stores().table.get(system, &ledger()).await.unwrap().unwrap();
    assert_eq!(row.previous, None, "two's own first state is not one's to go back to");
    let (key, rule) = (row.state_ref.unwrap(), PutRule::Overwrite);
    let damage = rig.stores().blobs.put(&key, "damage".into(), rule, Stage::S3Put, &ledger()).await;
    damage.unwrap();
    let third = Host::with(&rig, one.log, &lazy());
    let refused = ask(&*third.engine, system, engine::Question::State).await.unwrap_err();
    assert!(matches!(refused, EngineError::Corrupt { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_claim_whose_answer_is_lost_costs_a_retry_and_one_that_fails_changes_nothing() {
    let rig = Rig::sqlite().await;
    let new = stored(&rig).await;
    let host = Host::on(&rig);
    assert_eq!(host.rewards(new.system_id).await, 0);
    rig.table.down.store(true, Ordering::SeqCst);
    let refused = host.report(new.system_id, "r").await.unwrap_err();
    assert!(matches!(refused, EngineError::Unavailable { .. }), "{refused:?}");
    assert_eq!(host.rewards(new.system_id).await, 0, "reads go on");
    rig.table.down.store(false, Ordering::SeqCst);
    rig.table.lose_answer.store(true, Ordering::SeqCst);
    assert_eq!(host.report(new.system_id, "r").await.unwrap_err(), EngineError::Overtaken);
    host.report(new.system_id, "r").await.unwrap();
    assert_eq!(host.rewards(new.system_id).await, 1);
}

#[tokio::test]
async fn commands_that_come_while_a_claim_is_under_way_wait_for_it() {
    let rig = Rig::sqlite().await;
    let new = stored(&rig).await;
    let host = Host::on(&rig);
    assert_eq!(host.rewards(new.system_id).await, 0);
    let ids: Vec<String> = (0..20).map(|i| format!("r{i}")).collect();
    let all = futures_util::future::join_all(ids.iter().map(|id| host.report(new.system_id, id))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!((claims(&rig), host.rewards(new.system_id).await), (1, 20));
}

/// A save writes the row under the stay's epoch, as an append writes the log.
#[tokio::test]
async fn a_stay_that_is_only_saved_claims_too() {
    let rig = Rig::sqlite().await;
    let new = new_system();
    let first = Host::on(&rig);
    create(&*first.engine, &new).await;
    first.report(new.system_id, "r").await.unwrap();
    drop(first.engine);
    let second = Host::with(&rig, first.log, &lazy());
    assert_eq!(second.rewards(new.system_id).await, 1);
    assert!(second.engine.figures().unsaved_events > 0);
    second.engine.shutdown().await.unwrap();
    assert_eq!((claims(&rig), second.engine.figures().unsaved_events), (1, 0));
}

/// A row's epoch runs ahead of what it names, when lives end before they save: their own events are theirs all the same.
#[tokio::test]
async fn lives_that_claim_and_never_save_lose_nothing() {
    for format in [Format::Binary, Format::Document] {
        let rig = Rig::sqlite().await;
        let log = HandLog::at(Level::Disk).open_wide();
        let mut options = lazy();
        options.actor.format = format;
        let new = new_system();
        create(&*Host::with(&rig, Arc::clone(&log), &options).engine, &new).await;
        for life in 0..4 {
            let host = Host::with(&rig, Arc::clone(&log), &options);
            assert_eq!(host.rewards(new.system_id).await, life, "{format:?}");
            host.report(new.system_id, &format!("r{life}")).await.unwrap();
        }
        let epochs = log.epochs(new.system_id);
        assert!(epochs.windows(2).all(|pair| pair[0] < pair[1]), "{format:?}: {epochs:?}");
    }
}

#[tokio::test]
async fn a_save_that_waits_for_its_turn_stores_what_came_meanwhile() {
    let rig = Rig::sqlite().await;
    let mut options = lazy();
    options.actor.save_events_max = 1;
    let host = Host::with(&rig, HandLog::at(Level::Disk).open_wide(), &options);
    let systems: Vec<_> = (0..40).map(|_| new_system()).collect();
    for new in &systems {
        create(&*host.engine, new).await;
    }
    rig.objects.set_hold_puts(true);
    for rollout in ["r0", "r1"] {
        for new in &systems {
            host.report(new.system_id, rollout).await.unwrap();
        }
        reaches(&rig.objects.held_puts, 32).await;
    }
    rig.objects.set_hold_puts(false);
    host.engine.shutdown().await.unwrap();
    let figures = host.engine.figures();
    assert_eq!((figures.unsaved_events, figures.saves), (0, 2 * 32 + 8), "eight had not been copied yet");
}

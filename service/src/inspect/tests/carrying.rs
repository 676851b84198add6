//! Out of one place and into another.

use std::path::PathBuf;

use super::site::{Site, flip, id, refusal};
use crate::inspect::replay::state_hash;
use crate::inspect::{ExportAsked, Exported, ImportAsked, Imported, InspectError, Inspector, Place, Point};
use crate::system::State;

async fn export(
    site: &Site,
    at: Option<Point>,
    with_history: bool,
) -> Result<(PathBuf, Exported), InspectError> {
    let out = site.dir.path().join(format!("{}.mipro", uuid::Uuid::new_v4()));
    let asked = ExportAsked { system: id(1), out: out.clone(), at, with_history };
    site.inspector().await.export(&asked).await.map(|exported| (out, exported))
}

async fn import(site: &Site, asked: ImportAsked) -> Result<Imported, InspectError> {
    Inspector::make(&site.options).await.unwrap().import(&asked).await
}

fn plainly(file: PathBuf) -> ImportAsked {
    ImportAsked { file, new_id: None, replace: false }
}

fn fold(site: &Site, seq: u64) -> State {
    State::fold(&site.lives[&id(1)].history[..usize::try_from(seq).unwrap()]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_arrives_as_it_left_with_its_history() {
    let site = Site::grown().await;
    let (file, exported) = export(&site, None, true).await.unwrap();
    let whole = site.state(1);
    assert_eq!((exported.header.seq, exported.events), (whole.version, whole.version));
    let fresh = Site::new().await;
    let imported = import(&fresh, plainly(file)).await.unwrap();
    assert_eq!(imported.state_hash, state_hash(whole));
    let inspector = fresh.inspector().await;
    let shown = inspector.show(id(1)).await.unwrap();
    assert_eq!(shown.state, *whole);
    assert!(shown.row.epoch > exported.header.epoch);
    let events = inspector.events(id(1), 0, 10_000).await.unwrap();
    assert_eq!(events, site.lives[&id(1)].history);
    let report = inspector.verify(id(1)).await.unwrap();
    assert_eq!((report.problems.as_slice(), &report.refold_hash), (&[][..], &report.state_hash));
    let (archive, problems) = inspector.verify_archive().await.unwrap();
    assert_eq!((archive.segments, problems), (1, vec![]));
    // And an archived segment that is damaged is named, by archive and by system.
    let found = inspector.archive.sources(id(1), None, true).await.unwrap();
    let about = found[0].about;
    let key = crate::snapshot::archive::segment_key(about.log_id, about.segment, about.suffix);
    flip(&fresh.object(&key), 30);
    let inspector = fresh.inspector().await;
    assert_eq!(inspector.verify_archive().await.unwrap().1.len(), 1);
    let report = inspector.verify(id(1)).await.unwrap();
    assert_eq!(report.problems[0].place, Place::History);
    assert!(report.state_hash.is_some(), "the state is whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_beside_the_original_has_its_own_id_everywhere() {
    let site = Site::grown().await;
    let (file, _) = export(&site, None, true).await.unwrap();
    let asked = ImportAsked { new_id: Some(id(77)), ..plainly(file) };
    import(&site, asked).await.unwrap();
    let inspector = site.inspector().await;
    let copy = inspector.show(id(77)).await.unwrap();
    assert_eq!(copy.state, State { system_id: id(77), ..site.state(1).clone() });
    let report = inspector.verify(id(77)).await.unwrap();
    assert_eq!((report.problems.as_slice(), &report.refold_hash), (&[][..], &report.state_hash));
}

#[tokio::test(flavor = "multi_thread")]
async fn any_point_of_the_history_can_be_exported() {
    let site = Site::grown().await;
    let last = site.state(1).version;
    for seq in (1..=last).step_by(5) {
        let (_, exported) = export(&site, Some(Point::Seq(seq)), false).await.unwrap();
        assert_eq!(exported.header.state_hash, state_hash(&fold(&site, seq)), "event {seq}");
    }
    for event in site.lives[&id(1)].history.iter().step_by(7) {
        let then = site.lives[&id(1)].history.iter().rfind(|other| other.at_us <= event.at_us).unwrap();
        let (_, exported) = export(&site, Some(Point::Time(event.at_us)), false).await.unwrap();
        assert_eq!(exported.header.seq, then.seq);
    }
    let beyond = refusal(export(&site, Some(Point::Seq(last + 1)), false).await);
    assert!(beyond.contains(&format!("the system is at event {last}")), "{beyond}");
    let before = refusal(export(&site, Some(Point::Time(1)), false).await);
    assert!(before.contains("did not exist yet"), "{before}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_does_not_reach_that_far_is_told() {
    let site = Site::grown().await;
    let (file, _) = export(&site, Some(Point::Seq(9)), false).await.unwrap();
    let fresh = Site::new().await;
    import(&fresh, plainly(file)).await.unwrap();
    let refused = refusal(export(&fresh, Some(Point::Seq(5)), false).await);
    assert!(refused.contains("nothing of its history is left"), "{refused}");
    assert!(refusal(export(&fresh, None, true).await).contains("can't be read"));
}

#[tokio::test(flavor = "multi_thread")]
async fn going_back_replaces_the_state_and_fences_off_what_came_after() {
    let mut site = Site::grown().await;
    let (file, _) = export(&site, Some(Point::Seq(8)), true).await.unwrap();
    assert!(refusal(import(&site, plainly(file.clone())).await).contains("--replace"));
    let asked = ImportAsked { replace: true, ..plainly(file) };
    site.open().unwrap();
    assert!(refusal(import(&site, asked.clone()).await).contains("stop it first"));
    site.close();
    let imported = import(&site, asked).await.unwrap();
    assert_eq!(imported.seq, 8);
    assert!(imported.set_aside.is_some(), "the log held later events");
    let then = fold(&site, 8);
    assert_eq!(site.inspector().await.show(id(1)).await.unwrap().state, then);
    assert_eq!(site.inspector().await.show(id(2)).await.unwrap().state, *site.state(2));
    // And life goes on from there.
    let epoch = site.inspector().await.show(id(1)).await.unwrap().next_epoch;
    site.epoch = epoch;
    let life = site.lives.get_mut(&id(1)).unwrap();
    life.history.truncate(8);
    life.state = then;
    site.open().unwrap();
    site.reward(id(1), "after");
    site.close();
    let report = &site.verify().await[0];
    assert_eq!(report.problems, []);
    assert_eq!(report.state_hash, Some(state_hash(site.state(1))));
    assert_eq!(report.refold_hash, report.state_hash);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_changes_nothing() {
    let site = Site::grown().await;
    let (file, _) = export(&site, None, true).await.unwrap();
    let whole = std::fs::read(&file).unwrap();
    let fresh = Site::new().await;
    for at in (0..whole.len()).step_by(211) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        assert!(import(&fresh, plainly(file.clone())).await.is_err(), "byte {at}");
    }
    assert_eq!(fresh.inspector().await.list(None, 10).await.unwrap(), []);
    let objects: Vec<_> = std::fs::read_dir(fresh.object("")).unwrap().collect();
    assert!(objects.is_empty(), "{objects:?}");
}

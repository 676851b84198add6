//! Planted damage is named, and nothing else is called damage.

use super::site::{Site, flip, id};
use crate::inspect::replay::state_hash;
use crate::inspect::{LogDir, Place};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_whole_is_called_whole_and_folds_to_the_same_state() {
    let site = Site::grown().await;
    let (log, problems) = site.inspector().await.verify_log().await.unwrap();
    assert_eq!(problems, []);
    assert!(log.segments > 3, "the scene needs several segments: {log:?}");
    assert_eq!((log.systems, log.torn_bytes, Some(log.last_lsn)), (3, 0, log.durable_lsn));
    for report in site.verify().await {
        let hash = state_hash(&site.lives[&report.system].state);
        assert_eq!(report.problems, []);
        assert_eq!((report.state_hash.as_ref(), report.refold_hash.as_ref()), (Some(&hash), Some(&hash)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_being_written_is_whole() {
    let mut site = Site::grown().await;
    site.open().unwrap();
    for round in 0..40 {
        site.reward(id(1), &format!("live{round}"));
        let scan = LogDir::at(site.log_dir()).scan(&mut |_| {}).unwrap();
        assert_eq!(scan.problems, [], "round {round}");
    }
    site.sync().await;
    assert!(site.verify().await.iter().all(|report| report.problems.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_and_a_start_agree_on_what_is_damage() {
    let site = Site::grown().await;
    let segments = site.files(".seg");
    let mut damaged = 0;
    for (i, path) in segments.iter().enumerate() {
        let whole = std::fs::read(path).unwrap();
        for at in (i * 7..whole.len()).step_by(293) {
            flip(path, at);
            let scan = LogDir::at(site.log_dir()).scan(&mut |_| {}).unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert_eq!(scan.problems.is_empty(), site.starts(), "{name}, byte {at}: {:?}", scan.problems);
            for problem in &scan.problems {
                let Place::File { file, offset } = &problem.place else { panic!("{problem:?}") };
                assert_eq!(*file, name, "byte {at}: {problem:?}");
                assert!(*offset <= at as u64, "byte {at}: {problem:?}");
            }
            damaged += usize::from(!scan.problems.is_empty());
            std::fs::write(path, &whole).unwrap();
        }
    }
    assert!(damaged > 30, "only {damaged} flips were damage");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_files_and_cut_ends_are_named() {
    for what in ["first", "middle", "last", "control", "cut"] {
        let site = Site::grown().await;
        let segments = site.files(".seg");
        match what {
            "first" => std::fs::remove_file(&segments[0]).unwrap(),
            "middle" => std::fs::remove_file(&segments[1]).unwrap(),
            "last" => std::fs::remove_file(segments.last().unwrap()).unwrap(),
            "control" => std::fs::remove_file(site.log_dir().join("control")).unwrap(),
            _ => {
                // Synced records are gone from the end, as if they had never been written.
                let last = segments.last().unwrap();
                let bytes = std::fs::read(last).unwrap();
                std::fs::write(last, [&bytes[..64], &vec![0; bytes.len() - 64]].concat()).unwrap();
            }
        }
        let scan = LogDir::at(site.log_dir()).scan(&mut |_| {}).unwrap();
        assert_ne!(scan.problems, [], "{what}");
        assert!(!site.starts(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_states_are_named_by_object_and_the_one_before_is_taken() {
    for what in ["deleted", "flipped", "swapped", "checksum"] {
        let site = Site::grown().await;
        let row = site.row(1).await;
        let newest = site.object(row.state_ref.as_ref().unwrap());
        match what {
            "deleted" => std::fs::remove_file(&newest).unwrap(),
            "flipped" => flip(&newest, 80),
            "swapped" => {
                let other = site.object(site.row(2).await.state_ref.as_ref().unwrap());
                let bytes = std::fs::read(&other).unwrap();
                std::fs::rename(&newest, &other).unwrap();
                std::fs::write(&newest, bytes).unwrap();
            }
            _ => {
                let wrong = crate::store::SystemRow { state_checksum: Some([7; 32]), ..row.clone() };
                let rule = crate::store::WriteRule::Overwrite;
                site.stores.table.upsert(&wrong, rule, &crate::inspect::ledger()).await.unwrap();
            }
        }
        let reports = site.verify().await;
        let problems = &reports[0].problems;
        assert_eq!(problems[0].place, Place::object(row.state_ref.as_ref().unwrap()), "{what}");
        assert_eq!(reports[1].problems.is_empty(), what != "swapped", "{what}");
        assert_eq!(reports[2].problems, [], "{what}");
        // An overwritten row names no state before it.
        let recovered = (what != "checksum").then(|| state_hash(site.state(1)));
        assert_eq!(reports[0].state_hash, recovered, "{what}: {problems:?}");
    }
}

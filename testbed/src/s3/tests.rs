use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::StatusCode;
use proptest::prelude::*;
use s3s::dto::{ChecksumAlgorithm, ETag, ETagCondition};

use super::checksum::{Sums, verify};
use super::faults::{FaultRule, Faults, FaultsError, Outcome};
use super::listing::{Mark, Query, page, url_encode};
use super::objects::{Condition, Meta, Object, Objects, StoreError};
use crate::httpd::Verb;

fn object(text: &str) -> Object {
    let body = Bytes::copy_from_slice(text.as_bytes());
    let meta = Meta { bytes: body.len() as u64, etag: format!("tag-{text}"), ..Meta::default() };
    Object { meta: Arc::new(meta), body }
}

fn matching(tag: &str) -> Condition {
    Condition { matches: Some(ETagCondition::ETag(ETag::Strong(tag.to_owned()))), ..Condition::default() }
}

const CREATE: Condition = Condition { absent: true, matches: None };

#[test]
fn known_checksums_are_accepted_and_returned() {
    // The CRC32, CRC32C and SHA-1 of "123456789" stand in their definitions; its MD5 is well known.
    let sent = Sums {
        crc32: Some(BASE64.encode(0xCBF4_3926_u32.to_be_bytes())),
        crc32c: Some(BASE64.encode(0xE306_9283_u32.to_be_bytes())),
        ..Sums::default()
    };
    let algorithm = ChecksumAlgorithm::from_static(ChecksumAlgorithm::SHA1);
    let verified = verify(b"123456789", &sent, Some(&algorithm), Some("JfnnlDI7RTiF9RgfG2JNCw==")).unwrap();
    assert_eq!(verified.sums.crc32, sent.crc32);
    assert_eq!(verified.sums.crc32c, sent.crc32c);
    assert_eq!(verified.sums.sha1.as_deref(), Some("98O8HYCOBHMq32eZZczDTKeuNEE="));
    assert_eq!(verified.sums.sha256, None, "nobody asked for it");
    assert_eq!(super::checksum::hex(&verified.md5), "25f9e794323b453885f5181f1b624d0b");
}

#[test]
fn each_wrong_checksum_is_refused() {
    let wrong = || Some("AAAAAA==".to_owned());
    let cases = [
        Sums { crc32: wrong(), ..Sums::default() },
        Sums { crc32c: wrong(), ..Sums::default() },
        Sums { crc64nvme: wrong(), ..Sums::default() },
        Sums { sha1: wrong(), ..Sums::default() },
        Sums { sha256: wrong(), ..Sums::default() },
    ];
    for sent in cases {
        let error = verify(b"body", &sent, None, None).err().unwrap();
        assert_eq!(error.code().as_str(), "BadDigest", "{sent:?}");
    }
    let error = verify(b"body", &Sums::default(), None, Some("JfnnlDI7RTiF9RgfG2JNCw==")).err().unwrap();
    assert_eq!(error.code().as_str(), "BadDigest");
    let error = verify(b"body", &Sums::default(), None, Some("AAAA")).err().unwrap();
    assert_eq!(error.code().as_str(), "InvalidDigest");
}

#[test]
fn conditions_hold_on_both_backends() {
    let directory = tempfile::tempdir().unwrap();
    let on_disk = Objects::in_directory(directory.path(), true).unwrap();
    for objects in [Objects::in_memory(), on_disk] {
        objects.create_bucket("b").unwrap();
        let put = |text: &str, condition: &Condition| objects.put("b", "k", object(text), condition);
        assert!(matches!(put("1", &matching("tag-0")), Err(StoreError::NoSuchKey)));
        put("1", &CREATE).unwrap();
        assert!(matches!(put("2", &CREATE), Err(StoreError::PreconditionFailed)));
        assert!(matches!(put("2", &matching("tag-0")), Err(StoreError::PreconditionFailed)));
        assert_eq!(objects.get("b", "k").unwrap().body, "1", "a refused write leaves no trace");
        put("2", &matching("tag-1")).unwrap();
        put("3", &Condition { matches: Some(ETagCondition::Any), ..Condition::default() }).unwrap();
        assert_eq!(objects.get("b", "k").unwrap().body, "3");
        assert!(matches!(objects.delete("b", "k", &matching("tag-1")), Err(StoreError::PreconditionFailed)));
        objects.delete("b", "k", &matching("tag-3")).unwrap();
        objects.delete("b", "k", &Condition::default()).unwrap();
        assert!(matches!(objects.head("b", "k"), Err(StoreError::NoSuchKey)));
        assert!(matches!(objects.put("c", "k", object("1"), &CREATE), Err(StoreError::NoSuchBucket)));
    }
    assert_eq!(std::fs::read_dir(directory.path().join("staging")).unwrap().count(), 0);
}

#[test]
fn of_eight_concurrent_creates_exactly_one_wins_on_both_backends() {
    let directory = tempfile::tempdir().unwrap();
    let on_disk = Objects::in_directory(directory.path(), false).unwrap();
    for objects in [Objects::in_memory(), on_disk] {
        objects.create_bucket("b").unwrap();
        let start = std::sync::Barrier::new(8);
        let writer = |writer: usize| {
            let body = object(&writer.to_string());
            let won = |round: &usize| {
                // All eight leave the barrier together; without it the first is done before the last has begun.
                start.wait();
                objects.put("b", &format!("round-{round}"), body.clone(), &CREATE).is_ok()
            };
            (0..100).filter(won).collect::<BTreeSet<_>>()
        };
        let won: Vec<BTreeSet<usize>> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..8).map(|number| scope.spawn(move || writer(number))).collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        for round in 0..100 {
            let winners: Vec<_> = (0..8).filter(|writer| won[*writer].contains(&round)).collect();
            assert_eq!(winners.len(), 1, "round {round}: {winners:?} won");
            assert_eq!(objects.get("b", &format!("round-{round}")).unwrap().body, winners[0].to_string());
        }
    }
}

#[test]
fn a_directory_is_served_again_and_a_damaged_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Objects::in_directory(directory.path(), true);
    let awkward = format!("../a b/ü?#%{}", "x".repeat(900));
    {
        let objects = open().unwrap();
        objects.create_bucket("b").unwrap();
        objects.create_bucket("empty").unwrap();
        objects.put("b", &awkward, object("kept"), &CREATE).unwrap();
        objects.put("b", "gone", object("x"), &CREATE).unwrap();
        objects.delete("b", "gone", &Condition::default()).unwrap();
    }
    std::fs::write(directory.path().join("staging/left-over"), "half a write").unwrap();
    let objects = open().unwrap();
    assert_eq!(objects.bucket_names(), ["b", "empty"]);
    let kept = objects.get("b", &awkward).unwrap();
    assert_eq!((kept.body, kept.meta), (Bytes::from("kept"), object("kept").meta));
    assert!(matches!(objects.create_bucket("b"), Err(StoreError::BucketExists)));
    assert!(matches!(objects.delete_bucket("b"), Err(StoreError::BucketNotEmpty)));
    objects.delete_bucket("empty").unwrap();
    drop(objects);
    assert_eq!(std::fs::read_dir(directory.path().join("staging")).unwrap().count(), 0);

    let file = std::fs::read_dir(directory.path().join("buckets/b")).unwrap().next().unwrap().unwrap().path();
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    let error = open().err().unwrap().to_string();
    assert!(error.contains(&*file.to_string_lossy()), "{error}");
}

/// The whole listing, by the definition instead of by an ordered walk.
fn naive(keys: &BTreeSet<String>, prefix: &str, delimiter: &str, start_after: &str) -> Vec<String> {
    let mut items = BTreeSet::new();
    for key in keys.iter().filter(|key| key.starts_with(prefix) && key.as_str() > start_after) {
        match key[prefix.len()..].find(delimiter).filter(|_| !delimiter.is_empty()) {
            Some(at) => items.insert(format!("{}*", &key[..prefix.len() + at + delimiter.len()])),
            None => items.insert(key.clone()),
        };
    }
    items.into_iter().collect()
}

proptest! {
    #[test]
    fn pages_of_any_size_join_to_the_whole_listing(
        keys in proptest::collection::btree_set("[ab/]{1,6}", 0..40),
        prefix in "[ab/]{0,2}",
        delimiter in prop_oneof![Just(""), Just("/"), Just("ab")],
        start_after in prop_oneof![Just(String::new()), "[ab/]{0,4}"],
        items_max in 1_usize..8,
    ) {
        let map: BTreeMap<String, ()> = keys.iter().map(|key| (key.clone(), ())).collect();
        let mut found = BTreeSet::new();
        let mut items = 0;
        let mut after: Option<Mark> = None;
        loop {
            let query = Query { prefix: &prefix, delimiter, start_after: &start_after, after: after.as_ref(), items_max };
            let page = page(&map, query, |()| ());
            let count = page.objects.len() + page.prefixes.len();
            prop_assert!(count <= items_max && (count == items_max || page.next.is_none()));
            items += count;
            found.extend(page.objects.into_iter().map(|(key, ())| key));
            found.extend(page.prefixes.into_iter().map(|prefix| format!("{prefix}*")));
            match page.next {
                // Through the token, as a client does.
                Some(mark) => after = Some(Mark::from_token(&mark.to_token()).unwrap()),
                None => break,
            }
        }
        prop_assert_eq!(items, found.len(), "an item was listed twice");
        let found: Vec<_> = found.into_iter().collect();
        prop_assert_eq!(found, naive(&keys, &prefix, delimiter, &start_after));
    }

    #[test]
    fn no_text_breaks_the_token_reader(text in ".{0,40}") {
        let _ = Mark::from_token(&text);
    }
}

#[test]
fn url_encoding_keeps_slashes_and_nothing_that_xml_or_urls_mind() {
    assert_eq!(url_encode("a/b c&ü\u{1}"), "a/b%20c%26%C3%BC%01");
}

#[test]
fn a_requests_fate_depends_on_seed_verb_and_number_only() {
    let faults = Faults {
        down: false,
        rules: vec![
            FaultRule { verb: Some(Verb::Put), error_rate: 0.3, stall_rate: 0.1, ..FaultRule::default() },
            FaultRule { delay_ms: 5, delay_jitter_ms: 10, ..FaultRule::default() },
        ],
    };
    let plans = |seed, verb| (0..1000).map(|n| faults.plan(seed, verb, n)).collect::<Vec<_>>();
    assert_eq!(plans(1, Verb::Put), plans(1, Verb::Put));
    assert_ne!(plans(1, Verb::Put), plans(2, Verb::Put));
    let share = |wanted: fn(&Outcome) -> bool| {
        plans(1, Verb::Put).iter().filter(|plan| wanted(&plan.outcome)).count()
    };
    // 1000 draws: five standard deviations are 72 and 48 around 270 and 100.
    assert!((198..=342).contains(&share(|outcome| matches!(outcome, Outcome::Fail { .. }))));
    assert!((52..=148).contains(&share(|outcome| matches!(outcome, Outcome::Stall { .. }))));
    for plan in plans(1, Verb::Get) {
        assert_eq!(plan.outcome, Outcome::Serve, "the second rule has no errors");
        assert!(
            plan.delay >= Duration::from_millis(5) && plan.delay <= Duration::from_millis(15),
            "{plan:?}"
        );
    }
    let down = Faults { down: true, ..faults };
    let refused = Outcome::Fail { status: StatusCode::SERVICE_UNAVAILABLE, applied: false };
    assert_eq!(down.plan(1, Verb::Get, 7).outcome, refused);
}

#[test]
fn senseless_faults_are_refused() {
    let faults = |rule| Faults { down: false, rules: vec![rule] };
    let rate = |error_rate| faults(FaultRule { error_rate, ..FaultRule::default() }).check();
    assert!(rate(1.0).is_ok());
    assert!(matches!(rate(1.5), Err(FaultsError::Rate { name: "error_rate", .. })));
    assert!(rate(f64::NAN).is_err());
    let status = faults(FaultRule { error_status: 200, ..FaultRule::default() }).check();
    assert_eq!(status, Err(FaultsError::Status(200)));
    serde_json::from_str::<Faults>(r#"{"rulez":[]}"#).unwrap_err();
}

#[test]
fn the_secret_is_not_in_the_debug_text() {
    let options = super::Options { secret_key: "s3cr3t-value".to_owned(), ..super::Options::default() };
    assert!(!format!("{options:?}").contains("s3cr3t-value"));
}

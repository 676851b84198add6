//! The S3 server as `object_store` sees it, which is how the service does.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use mipro_telemetry::clock;
use mipro_testbed::s3::{Backend, FaultRule, Faults, Options, Verb};
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions,
    PutOptions, PutPayload, UpdateVersion,
};

use crate::support::Server;

fn path(text: &str) -> Path {
    Path::from(text)
}

fn create() -> PutOptions {
    PutOptions::from(PutMode::Create)
}

/// Both backends must behave alike; the directory is kept for as long as the server.
async fn servers() -> (tempfile::TempDir, [Server; 2]) {
    let directory = tempfile::tempdir().unwrap();
    let dir = Options { backend: Backend::Dir(directory.path().into()), fsync: true, ..Options::default() };
    (directory, [Server::start(Options::default()).await, Server::start(dir).await])
}

#[tokio::test]
async fn objects_are_written_read_listed_and_deleted() {
    let (_directory, servers) = servers().await;
    for server in &servers {
        let store = server.client();
        let body = Bytes::from_static(b"0123456789");
        let put = store.put(&path("a/one"), body.clone().into()).await.unwrap();
        let read = store.get(&path("a/one")).await.unwrap();
        assert_eq!(read.meta.e_tag, put.e_tag);
        assert_eq!(read.bytes().await.unwrap(), body);
        assert_eq!(store.get_range(&path("a/one"), 2..5).await.unwrap(), "234");
        let tail = GetOptions { range: Some(GetRange::Suffix(3)), ..GetOptions::default() };
        assert_eq!(store.get_opts(&path("a/one"), tail).await.unwrap().bytes().await.unwrap(), "789");
        assert_eq!(store.head(&path("a/one")).await.unwrap().size, 10);

        let unchanged = GetOptions { if_none_match: put.e_tag.clone(), ..GetOptions::default() };
        assert!(matches!(store.get_opts(&path("a/one"), unchanged).await, Err(Error::NotModified { .. })));
        let other = GetOptions { if_match: Some("\"other\"".to_owned()), ..GetOptions::default() };
        assert!(matches!(store.get_opts(&path("a/one"), other).await, Err(Error::Precondition { .. })));

        store.put(&path("a/b/two"), PutPayload::new()).await.unwrap();
        store.put(&path("c"), "x".into()).await.unwrap();
        let all: Vec<_> =
            store.list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
        assert_eq!(all, ["a/b/two", "a/one", "c"]);
        let under = store.list_with_delimiter(Some(&path("a"))).await.unwrap();
        assert_eq!(under.objects.len(), 1);
        assert_eq!(under.common_prefixes, [path("a/b")]);

        store.delete(&path("a/one")).await.unwrap();
        assert!(matches!(store.get(&path("a/one")).await, Err(Error::NotFound { .. })));
        let rest = store.list(None).map_ok(|meta| meta.location).boxed();
        let deleted: Vec<_> = store.delete_stream(rest).try_collect().await.unwrap();
        assert_eq!(deleted.len(), 2);
        assert_eq!(store.list(None).count().await, 0);
    }
}

#[tokio::test]
async fn a_listing_longer_than_a_page_is_whole() {
    let server = Server::start(Options::default()).await;
    let store = server.client();
    let keys: BTreeSet<_> = (0..1100).map(|i| format!("many/{i:04}")).collect();
    for key in &keys {
        store.put(&path(key), PutPayload::new()).await.unwrap();
    }
    let listed: Vec<_> =
        store.list(Some(&path("many"))).map_ok(|m| m.location.to_string()).try_collect().await.unwrap();
    assert!(listed.iter().eq(keys.iter()), "listed {} of {}", listed.len(), keys.len());
    assert_eq!(server.admin.counts().await.unwrap().requests.get, 2, "1,000 keys a page");
}

#[tokio::test]
async fn a_multipart_upload_becomes_one_object_and_an_aborted_one_none() {
    let (_directory, servers) = servers().await;
    for server in &servers {
        let store = server.client();
        let part = |byte: u8, bytes| PutPayload::from(vec![byte; bytes]);
        let mut upload =
            store.put_multipart_opts(&path("big"), PutMultipartOptions::default()).await.unwrap();
        upload.put_part(part(1, 5 << 20)).await.unwrap();
        upload.put_part(part(2, 1000)).await.unwrap();
        assert!(
            matches!(store.head(&path("big")).await, Err(Error::NotFound { .. })),
            "not before it is complete"
        );
        upload.complete().await.unwrap();
        let read = store.get(&path("big")).await.unwrap().bytes().await.unwrap();
        assert_eq!(read.len(), (5 << 20) + 1000);
        assert_eq!((read[(5 << 20) - 1], read[5 << 20]), (1, 2));

        let mut small =
            store.put_multipart_opts(&path("small"), PutMultipartOptions::default()).await.unwrap();
        small.put_part(part(1, 1000)).await.unwrap();
        small.put_part(part(2, 1000)).await.unwrap();
        assert!(small.complete().await.is_err(), "all parts but the last have 5 MiB at least");
        small.abort().await.unwrap();
        assert!(matches!(store.head(&path("small")).await, Err(Error::NotFound { .. })));
    }
}

#[tokio::test]
async fn conditional_writes_are_refused_as_s3_refuses_them() {
    let server = Server::start(Options::default()).await;
    let store = server.client();
    let update =
        |e_tag: Option<String>| PutOptions::from(PutMode::Update(UpdateVersion { e_tag, version: None }));
    let none = update(Some("\"0123\"".to_owned()));
    assert!(matches!(store.put_opts(&path("k"), "0".into(), none).await, Err(Error::Precondition { .. })));
    let first = store.put_opts(&path("k"), "1".into(), create()).await.unwrap();
    assert!(matches!(
        store.put_opts(&path("k"), "2".into(), create()).await,
        Err(Error::AlreadyExists { .. })
    ));
    let second = store.put_opts(&path("k"), "2".into(), update(first.e_tag.clone())).await.unwrap();
    let stale = store.put_opts(&path("k"), "3".into(), update(first.e_tag)).await;
    assert!(matches!(stale, Err(Error::Precondition { .. })));
    store.put_opts(&path("k"), "3".into(), update(second.e_tag)).await.unwrap();
    assert_eq!(store.get(&path("k")).await.unwrap().bytes().await.unwrap(), "3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_eight_concurrent_creates_exactly_one_wins() {
    let (_directory, servers) = servers().await;
    for server in &servers {
        let store = server.client();
        for round in 0..100 {
            let key = path(&format!("round/{round}"));
            let writes = (0..8).map(|writer: u8| store.put_opts(&key, vec![writer; 100].into(), create()));
            let outcomes = futures_util::future::join_all(writes).await;
            let mut winners = Vec::new();
            for (writer, outcome) in outcomes.into_iter().enumerate() {
                match outcome {
                    Ok(_) => winners.push(writer),
                    Err(Error::AlreadyExists { .. }) => {}
                    Err(error) => panic!("round {round}: {error}"),
                }
            }
            assert_eq!(winners.len(), 1, "round {round}: {winners:?} won");
            let body = store.get(&key).await.unwrap().bytes().await.unwrap();
            assert!(body.iter().all(|byte| usize::from(*byte) == winners[0]), "the loser's bytes are there");
        }
    }
}

#[tokio::test]
async fn a_directory_is_still_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { backend: Backend::Dir(directory.path().into()), ..Options::default() };
    let server = Server::start(options.clone()).await;
    server.client().put(&path("kept"), "still here".into()).await.unwrap();
    server.stop().await.unwrap();
    let server = Server::start(options).await;
    assert_eq!(server.client().get(&path("kept")).await.unwrap().bytes().await.unwrap(), "still here");
}

#[tokio::test]
async fn wrong_keys_and_large_bodies_are_refused() {
    let server = Server::start(Options { object_bytes_max: 1000, ..Options::default() }).await;
    server.client().put(&path("fits"), vec![0; 1000].into()).await.unwrap();
    server.client().put(&path("large"), vec![0; 1001].into()).await.unwrap_err();
    assert!(matches!(server.client().head(&path("large")).await, Err(Error::NotFound { .. })));

    let stranger = Server::start(Options { secret_key: "another".to_owned(), ..Options::default() }).await;
    let error = stranger.client_at(server.addr).get(&path("fits")).await.unwrap_err();
    assert!(matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. }), "{error}");
}

#[tokio::test]
async fn faults_strike_and_are_taken_back() {
    let server = Server::start(Options::default()).await;
    let (store, admin) = (server.client(), &server.admin);
    let key = path("k");
    let rules = |rule| Faults { down: false, rules: vec![rule] };
    store.put(&key, "1".into()).await.unwrap();

    admin.set_faults(&Faults { down: true, ..Faults::default() }).await.unwrap();
    store.get(&key).await.unwrap_err();

    let lost =
        FaultRule { verb: Some(Verb::Put), error_rate: 1.0, error_status: 500, ..FaultRule::default() };
    admin.set_faults(&rules(lost.clone())).await.unwrap();
    store.put(&key, "2".into()).await.unwrap_err();
    assert_eq!(
        store.get(&key).await.unwrap().bytes().await.unwrap(),
        "1",
        "GET is spared, and the PUT not done"
    );
    admin.set_faults(&rules(FaultRule { applied: true, ..lost })).await.unwrap();
    store.put(&key, "3".into()).await.unwrap_err();
    assert_eq!(store.get(&key).await.unwrap().bytes().await.unwrap(), "3", "it failed, yet it took effect");

    admin.set_faults(&rules(FaultRule { delay_ms: 50, ..FaultRule::default() })).await.unwrap();
    let started = clock::now();
    store.head(&key).await.unwrap();
    assert!(clock::now() - started >= Duration::from_millis(50));

    let none = Faults::default();
    let counts = admin.counts().await.unwrap();
    assert_eq!((counts.faults, counts.errors_5xx, counts.requests.put), (3, 3, 3));
    admin.set_faults(&rules(FaultRule { stall_rate: 1.0, ..FaultRule::default() })).await.unwrap();
    let mut stalled = std::pin::pin!(store.head(&key));
    tokio::select! {
        _ = &mut stalled => panic!("the request should stall"),
        () = until_faults(admin, 4) => {}
    }
    admin.set_faults(&none).await.unwrap();
    stalled.await.unwrap();
    assert_eq!(admin.faults().await.unwrap(), none);

    let bad = Faults { down: false, rules: vec![FaultRule { error_rate: 2.0, ..FaultRule::default() }] };
    let error = admin.set_faults(&bad).await.unwrap_err().to_string();
    assert!(error.ends_with("error_rate is 2: a rate is 0 to 1"), "{error}");
}

async fn until_faults(admin: &mipro_testbed::s3::S3Admin, faults: u64) {
    while admin.counts().await.unwrap().faults < faults {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_stop_lets_a_request_in_flight_finish() {
    let server = Server::start(Options::default()).await;
    let rule = FaultRule { stall_rate: 1.0, ..FaultRule::default() };
    server.admin.set_faults(&Faults { down: false, rules: vec![rule] }).await.unwrap();
    let (store, admin) = (server.client(), server.admin);
    let put = tokio::spawn(async move { store.put(&path("k"), "1".into()).await });
    until_faults(&admin, 1).await;
    server.stop().await.unwrap();
    put.await.unwrap().unwrap();
}

#[tokio::test]
async fn bytes_and_requests_are_counted() {
    let server = Server::start(Options::default()).await;
    let store = server.client();
    store.put(&path("k"), vec![7; 5000].into()).await.unwrap();
    let before = server.admin.counts().await.unwrap();
    assert_eq!((before.requests.put, before.bytes_in), (1, 5000));
    store.get(&path("k")).await.unwrap().bytes().await.unwrap();
    let more = server.admin.counts().await.unwrap().since(&before);
    assert_eq!((more.requests.get, more.requests.total(), more.bytes_in, more.bytes_out), (1, 1, 0, 5000));
}

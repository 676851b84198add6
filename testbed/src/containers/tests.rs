use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::probe::{does_conditions, serves};
use super::s3_client::S3Client;
use super::server::name_and_tag;
use super::settings::Keys;
use super::signature::{ToSign, hmac, sha256_hex};
use super::warden::RunLock;
use super::{Error, Overrides, S3Preset, ServerOverrides, Settings, SettingsError};
use crate::s3;
use crate::secret::Secret;

fn s3_settings(s3: ServerOverrides) -> Result<Settings, SettingsError> {
    Settings::new(&Overrides { s3, ..Overrides::default() })
}

#[test]
fn presets_are_good_and_told_by_the_images_name() {
    let image = |name: &str| {
        let settings =
            s3_settings(ServerOverrides { image: Some(name.to_owned()), ..ServerOverrides::default() });
        settings.unwrap()
    };
    for preset in S3Preset::ALL {
        assert_eq!(preset.name().parse::<S3Preset>().unwrap(), preset);
        let settings = Settings::new(&Overrides { s3_preset: Some(preset), ..Overrides::default() }).unwrap();
        assert_eq!(
            settings.s3.port,
            image(settings.s3_image()).s3.port,
            "its own image names {}",
            preset.name()
        );
    }
    assert_eq!(Settings::default().postgres_image(), "postgres:17");
    assert!(Settings::default().s3_image().starts_with("minio/minio:"));
    assert_eq!(image("reg:5000/me/seaweedfs-x:1").s3.port, 8333);
    assert_eq!(image("rustfs/other:1").s3.env[0].0, "MINIO_ROOT_USER", "a user's name says nothing");
    assert_eq!(image("local/mipro-s3:dev").s3_access_key.as_deref(), Some("mipro-testbed"));
}

#[test]
fn what_is_said_replaces_what_the_preset_has() {
    let settings = s3_settings(ServerOverrides {
        image: Some("some/server:1".to_owned()),
        command: Some("serve  --bucket {bucket}".to_owned()),
        env: Some("KEY={access_key} SECRET={secret_key} URL=http://h?a=b".to_owned()),
        port: Some(1234),
        ready_text: Some("ready now".to_owned()),
    })
    .unwrap();
    assert_eq!(settings.s3.command, ["serve", "--bucket", "{bucket}"]);
    assert_eq!(settings.s3.env[2], ("URL".to_owned(), "http://h?a=b".to_owned()));
    assert_eq!((settings.s3.port, settings.s3.ready_text.as_deref()), (1234, Some("ready now")));
    let keys = Keys { access_key: "AK".to_owned(), secret_key: Secret::new("SK") };
    assert_eq!(keys.fill("{bucket}/{access_key}:{secret_key}@{user}"), "mipro/AK:SK@mipro");
}

#[test]
fn what_cannot_be_meant_is_refused_without_secrets() {
    let refused = |s3: ServerOverrides| s3_settings(s3).unwrap_err().to_string();
    let blank = ServerOverrides { image: Some("a b".to_owned()), ..ServerOverrides::default() };
    insta::assert_snapshot!(refused(blank), @r#""a b" is no name of an image: use name:tag, without blanks"#);
    let told =
        ServerOverrides { command: Some("s --key {secret_key}".to_owned()), ..ServerOverrides::default() };
    insta::assert_snapshot!(refused(told), @"{secret_key} may not stand in a container's command, which every user can read: put it into its environment");
    let env = ServerOverrides { env: Some("A=b =hush".to_owned()), ..ServerOverrides::default() };
    assert!(!refused(env).contains("hush"));
    insta::assert_snapshot!("ceph".parse::<S3Preset>().unwrap_err(), @r#"unknown S3 preset "ceph": use minio, seaweedfs, rustfs or mipro"#);
    let hush = ServerOverrides { env: Some("A=hush".to_owned()), ..ServerOverrides::default() };
    assert!(!format!("{hush:?} {:?}", s3_settings(hush.clone()).unwrap()).contains("hush"));
}

#[test]
fn keys_are_new_for_each_run_unless_given() {
    let (one, other) = (Keys::s3(&Settings::default()), Keys::s3(&Settings::default()));
    assert_ne!(one.secret_key, other.secret_key);
    assert_ne!(one.access_key, other.access_key);
    assert_eq!(one.access_key.len(), 20);
    assert!(one.access_key.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()));
    assert_ne!(Keys::postgres().secret_key, Keys::postgres().secret_key);
    let given = Some(("AK".to_owned(), Secret::new("SK")));
    let given = Settings::new(&Overrides { s3_keys: given, ..Overrides::default() }).unwrap();
    assert_eq!(
        (Keys::s3(&given).access_key, Keys::s3(&given).secret_key),
        ("AK".to_owned(), Secret::new("SK"))
    );
}

#[test]
fn images_are_split_at_the_tag() {
    assert_eq!(name_and_tag("postgres:17"), ("postgres", "17"));
    assert_eq!(name_and_tag("reg:5000/postgres"), ("reg:5000/postgres", "latest"));
    assert_eq!(name_and_tag("reg:5000/a/b:1"), ("reg:5000/a/b", "1"));
}

#[test]
fn hmac_is_that_of_rfc_4231() {
    let hex = |bytes: [u8; 32]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(
        hex(hmac(b"Jefe", b"what do ya want for nothing?")),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
    let long = hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First");
    assert_eq!(hex(long), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

#[test]
fn the_authorization_names_what_was_signed() {
    let sign = |path: &str| {
        let to_sign = ToSign {
            method: "GET",
            path,
            host: "127.0.0.1:9000",
            timestamp: "20261121T130000Z",
            region: "us-east-1",
            body_sha256: &sha256_hex(b""),
        };
        to_sign.authorization("AK", "SK")
    };
    assert!(sign("/a").starts_with("AWS4-HMAC-SHA256 Credential=AK/20261121/us-east-1/s3/aws4_request, "));
    assert_ne!(sign("/a"), sign("/b"));
}

#[test]
fn a_run_is_dead_when_its_lock_is_free_and_to_be_seen() {
    let dir = tempfile::tempdir().unwrap();
    let run = Uuid::new_v4();
    assert!(RunLock::of_dead(dir.path(), run).is_none(), "a run of another machine");
    let lock = RunLock::create(dir.path(), run).unwrap();
    assert!(RunLock::of_dead(dir.path(), run).is_none(), "a living run");
    assert!(RunLock::create(dir.path(), Uuid::new_v4()).is_ok(), "and others beside it");
    let path = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    drop(lock);
    assert!(!path.exists());
    std::fs::write(&path, "").unwrap();
    let dead = RunLock::of_dead(dir.path(), run).unwrap();
    assert!(RunLock::of_dead(dir.path(), run).is_none(), "two sweepers don't meet");
    drop(dead);
    assert!(!path.exists());
}

/// Our own S3 server, which checks signatures with another implementation than ours.
async fn own_server() -> (S3Client, DropGuard) {
    let stop = CancellationToken::new();
    let (send, ready) = oneshot::channel();
    let options = s3::Options { bucket: "another".to_owned(), ..s3::Options::default() };
    let keys =
        Keys { access_key: options.access_key.clone(), secret_key: Secret::new(options.secret_key.clone()) };
    tokio::spawn(s3::run(options, |ready| send.send(ready.addr).unwrap(), stop.clone()));
    (S3Client { addr: ready.await.unwrap(), keys }, stop.drop_guard())
}

#[tokio::test]
async fn a_good_server_passes_and_its_bucket_is_made() {
    let (client, _stop) = own_server().await;
    serves(&client).await.unwrap();
    serves(&client).await.unwrap();
    does_conditions(&client, "local/x:1").await.unwrap();
}

#[tokio::test]
async fn wrong_keys_are_told_by_the_servers_own_code() {
    let (mut client, _stop) = own_server().await;
    client.keys.secret_key = Secret::new("another");
    insta::assert_snapshot!(serves(&client).await.unwrap_err(), @"making the bucket: 403 SignatureDoesNotMatch");
}

/// What a server does with `If-None-Match: *`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Conditions {
    Ignored,
    /// Looked at, and forgotten by the time of writing.
    Raced,
    Unknown,
}

async fn fake_server(conditions: Conditions) -> (S3Client, DropGuard) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr: SocketAddr = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let objects = Arc::new(Mutex::new(HashSet::new()));
    let service = service_fn(move |request: Request<Incoming>| {
        let objects = Arc::clone(&objects);
        async move {
            let conditional = request.headers().contains_key(header::IF_NONE_MATCH);
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let is_there = objects.lock().unwrap().contains(&path);
            // Others come in here, and see what we saw.
            request.into_body().collect().await?;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            let status = match (conditional, conditions) {
                (true, Conditions::Unknown) => 501,
                (true, Conditions::Raced) if is_there => 412,
                _ => 200,
            };
            if method == Method::PUT && status == 200 {
                objects.lock().unwrap().insert(path);
            }
            Ok::<_, hyper::Error>(
                Response::builder()
                    .status(status)
                    .body(Full::new(Bytes::new()))
                    .expect("a status and no body"),
            )
        }
    });
    let stopped = stop.clone();
    tokio::spawn(crate::httpd::serve(listener, service, stopped, std::time::Duration::ZERO));
    let keys = Keys { access_key: "AK".to_owned(), secret_key: Secret::new("SK") };
    (S3Client { addr, keys }, stop.drop_guard())
}

#[tokio::test]
async fn a_server_that_ignores_conditions_is_refused() {
    let mut refusals = Vec::new();
    for conditions in [Conditions::Ignored, Conditions::Raced, Conditions::Unknown] {
        let (client, _stop) = fake_server(conditions).await;
        let refused = does_conditions(&client, "some/server:1").await.unwrap_err();
        assert!(matches!(refused, Error::NoConditions { .. }), "{conditions:?}: {refused}");
        refusals.push(refused.to_string());
    }
    insta::assert_snapshot!(refusals.join("\n"), @r"
    the S3 server (some/server:1) does not do conditional writes: a PUT with If-None-Match: * over an existing key was answered 200 OK; two writers could overwrite each other's snapshots unnoticed, so no measurement is made on it
    the S3 server (some/server:1) does not do conditional writes: of 8 writers at once with If-None-Match: *, 8 succeeded; two writers could overwrite each other's snapshots unnoticed, so no measurement is made on it
    the S3 server (some/server:1) does not do conditional writes: a conditional PUT of a new key was answered 501 Not Implemented; two writers could overwrite each other's snapshots unnoticed, so no measurement is made on it
    ");
}

#[test]
fn a_missing_image_names_the_script_that_builds_one() {
    let error = Error::NoImage { image: "postgres:17".to_owned(), reason: "no such host".to_owned() };
    insta::assert_snapshot!(error, @"the image postgres:17 is not here and cannot be pulled (no such host); where there is no registry, scripts/build-images builds images and says how to name them (MIPRO_POSTGRES_IMAGE, MIPRO_S3_IMAGE)");
}

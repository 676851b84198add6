use super::*;
use crate::ladder::RungName;

const PLACES: Places<'static> =
    Places { database_url: "postgres://u@h/d", blobs_url: "s3://b/p", upstream: "http://m/v1" };

#[test]
fn the_before_turns_everything_off() {
    insta::assert_snapshot!(text(&RungName::Blob.plan(), PLACES).unwrap(), @r#"
    listen = "127.0.0.1:0"
    engine = "blob"
    server_timing = true
    upstream = "http://m/v1"

    [database]
    url = "postgres://u@h/d"
    pool = false

    [blobs]
    url = "s3://b/p"
    keep_alive = false
    "#);
}

#[test]
fn write_back_says_how_long_it_may_wait() {
    insta::assert_snapshot!(text(&RungName::WriteBack.plan(), PLACES).unwrap(), @r#"
    listen = "127.0.0.1:0"
    engine = "cache"
    server_timing = true
    upstream = "http://m/v1"

    [database]
    url = "postgres://u@h/d"
    pool = true

    [blobs]
    url = "s3://b/p"
    keep_alive = true

    [cache]
    save = "back"
    save_events_max = 500
    save_delay_ms_max = 30000
    "#);
}

#[test]
fn the_logged_rungs_name_their_level_and_their_snapshots() {
    insta::assert_snapshot!(text(&RungName::Logged.plan(), PLACES).unwrap(), @r#"
    listen = "127.0.0.1:0"
    engine = "actor"
    durability = "disk"
    server_timing = true
    upstream = "http://m/v1"

    [database]
    url = "postgres://u@h/d"
    pool = true

    [blobs]
    url = "s3://b/p"
    keep_alive = true

    [snapshot]
    format = "json"
    "#);
    let logged = text(&RungName::Logged.plan(), PLACES).unwrap();
    let bounded = text(&RungName::Bounded.plan(), PLACES).unwrap();
    assert_eq!(bounded, logged.replace("json", "binary"));
    assert_eq!(text(&RungName::Parallel.plan(), PLACES).unwrap(), bounded, "the later rungs stand on it");
}

#[test]
fn the_floor_has_no_service() {
    assert_eq!(text(&RungName::Direct.plan(), PLACES), None);
}

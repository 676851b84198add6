use url::Url;

use super::external::{may_be_encrypted, with_endpoint};
use super::kind::resolve_with;
use super::parts::with_address;
use super::{Error, Plan, Request, StackKind, WireCounts};
use crate::postgres;
use crate::secret::Secret;

fn request(kind: StackKind) -> Request {
    Request { kind, ..Request::default() }
}

fn found() -> Result<(), postgres::Error> {
    Ok(())
}

fn not_found() -> Result<(), postgres::Error> {
    Err(postgres::Error::NotFound { looked_in: vec!["PATH".to_owned()] })
}

fn incomplete() -> Result<(), postgres::Error> {
    Err(postgres::Error::Incomplete { dir: "/pg".into(), source_name: "PG_BIN", missing: "initdb" })
}

#[test]
fn names_parse_to_what_they_display() {
    for kind in StackKind::ALL {
        assert_eq!(kind.to_string().parse::<StackKind>().unwrap(), kind);
    }
    insta::assert_snapshot!("docker".parse::<StackKind>().unwrap_err(), @r#"unknown stack "docker": use auto, embedded, native, containers or external"#);
}

#[test]
fn auto_takes_postgres_where_it_is_and_sqlite_where_not() {
    let auto = request(StackKind::Auto);
    assert_eq!(resolve_with(&auto, found).unwrap(), Plan::Native { fetch_postgres: false });
    assert_eq!(resolve_with(&auto, not_found).unwrap(), Plan::Embedded);
    let fetching = Request { fetch_postgres: true, ..auto };
    assert_eq!(resolve_with(&fetching, not_found).unwrap(), Plan::Native { fetch_postgres: true });
}

#[test]
fn a_directory_that_was_named_and_is_wrong_is_an_error() {
    for kind in [StackKind::Auto, StackKind::Native] {
        let error = resolve_with(&request(kind), incomplete).unwrap_err();
        assert!(matches!(&error, Error::Postgres(postgres::Error::Incomplete { .. })), "{error}");
    }
}

#[test]
fn native_without_postgres_says_where_it_looked() {
    let error = resolve_with(&request(StackKind::Native), not_found).unwrap_err();
    assert!(error.to_string().starts_with("found no Postgres; looked for"), "{error}");
}

#[test]
fn what_cannot_be_had_is_said() {
    let no = |request: &Request| resolve_with(request, found).unwrap_err().to_string();
    insta::assert_snapshot!(no(&request(StackKind::External)), @"--stack external needs the URLs of your servers: --database postgres://… and --blobs s3://bucket/prefix?endpoint=…");
    let urls = Some(("postgres://h/d".to_owned(), "memory:".to_owned()));
    let native = Request { external: urls.clone(), ..request(StackKind::Native) };
    insta::assert_snapshot!(no(&native), @"--stack native starts servers of its own; --database and --blobs go with --stack external");
    let auto = Request { external: urls, ..request(StackKind::Auto) };
    assert_eq!(resolve_with(&auto, found).unwrap().kind(), StackKind::External);
}

#[test]
fn urls_are_moved_to_the_links_address() {
    let link = "127.0.0.1:5555".parse().unwrap();
    assert_eq!(
        with_address("postgres://postgres@127.0.0.1:5433/mipro?sslmode=disable", link).unwrap(),
        "postgres://postgres@127.0.0.1:5555/mipro?sslmode=disable"
    );
    assert_eq!(with_address("postgres://u:p@db.example/x", link).unwrap(), "postgres://u:p@127.0.0.1:5555/x");
    let blobs = Url::parse("s3://bucket/prefix?endpoint=http://10.0.0.1:9000&region=eu-west-1").unwrap();
    let moved = Url::parse(&with_endpoint(&blobs, link)).unwrap();
    let pairs: Vec<_> = moved.query_pairs().collect();
    assert_eq!(
        pairs,
        [("region".into(), "eu-west-1".into()), ("endpoint".into(), "http://127.0.0.1:5555".into())]
    );
    assert_eq!(moved.path(), "/prefix");
}

#[test]
fn a_link_is_only_put_where_it_can_read() {
    for (url, encrypted) in [
        ("postgres://h/d", true),
        ("postgres://h/d?sslmode=require", true),
        ("postgres://h/d?sslmode=disable", false),
        ("postgres://localhost/d", false),
        ("postgres://127.0.0.1:5433/d", false),
        ("postgres://[::1]:5433/d", false),
    ] {
        assert_eq!(may_be_encrypted(&Url::parse(url).unwrap()), encrypted, "{url}");
    }
}

#[test]
fn secrets_and_urls_are_not_shown() {
    assert_eq!(format!("{:?}", Secret("hush".to_owned())), "***");
    let plan = Plan::External { database_url: "postgres://u:hush@h/d".into(), blobs_url: "memory:".into() };
    assert_eq!(format!("{plan:?}"), "Plan(external)");
}

#[test]
fn wire_counts_are_subtracted_field_by_field() {
    let one = WireCounts {
        db_round_trips: 1,
        db_statements: 2,
        db_connections: 3,
        db_bytes: 4,
        s3_get: 5,
        s3_put: 6,
        s3_other: 7,
        s3_bytes: 8,
        s3_connections: 9,
    };
    assert_eq!(one.since(&WireCounts::default()), one);
    assert_eq!(one.since(&one), WireCounts::default());
}

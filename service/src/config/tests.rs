use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{
    DurabilityLevel, EngineKind, Error, Flags, OnLogFailure, Options, ProxyAuth, Save, Secret, SnapshotFormat,
};

fn load(file: &str, environment: &[(&str, &str)], flags: Flags) -> Result<Options, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mipro.toml");
    std::fs::write(&path, file).unwrap();
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Options::load_with(&Flags { config: Some(path), ..flags }, &environment)
}

/// The message, with the temporary directory cut off.
fn refusal(file: &str, environment: &[(&str, &str)], flags: Flags) -> String {
    let message = load(file, environment, flags).expect_err("this configuration must be refused").to_string();
    match (message.find("configuration file /"), message.find("mipro.toml")) {
        (Some(0), Some(at)) => message[at..].to_owned(),
        _ => message,
    }
}

#[test]
fn nothing_given_serves_from_a_data_directory() {
    let options = Options::load_with(&Flags::default(), &BTreeMap::new()).unwrap();
    assert_eq!(options.engine, EngineKind::Actor);
    let data_dir = std::path::absolute("./mipro-data").unwrap();
    assert_eq!(options.database.url.expose(), format!("sqlite:{}/mipro.db", data_dir.display()));
    assert_eq!(options.blobs.url.expose(), format!("file://{}/blobs", data_dir.display()));
    assert_eq!(options.providers["openai"].base_url, "https://api.openai.com/v1");
    assert_eq!(options.proxy_auth, ProxyAuth::Open);
    assert!(!options.server_timing);
}

#[test]
fn the_example_file_is_the_defaults_and_names_every_key() {
    let example = include_str!("../../../docs/mipro.toml");
    let defaults = Options::load_with(&Flags::default(), &BTreeMap::new()).unwrap();
    assert_eq!(load(example, &[], Flags::default()).unwrap(), defaults);
    // What stands commented out is good as well.
    let is_setting = |line: &str| line.contains(" = ") || line.starts_with('[');
    let uncomment = |line: &str| match line.strip_prefix("# ") {
        Some(rest) if is_setting(rest) && !rest.contains("Lower") => rest.to_owned(),
        _ => line.to_owned(),
    };
    let all: String = example.lines().map(|line| uncomment(line) + "\n").collect();
    load(&all, &[], Flags::default()).unwrap();
    for (_, key, _) in super::load::VARIABLES {
        let (section, key) = key.rsplit_once('.').unwrap_or(("", key));
        assert!(all.contains(&format!("\n{key} = ")), "`{section}.{key}` does not stand in docs/mipro.toml");
    }
}

#[test]
fn later_layers_win() {
    let file = "engine = \"blob\"\nlisten = \"127.0.0.1:1\"\n[database]\npool = false\npool_size_max = 3\n";
    let environment =
        [("MIPRO_ENGINE", "cache"), ("MIPRO_DATABASE_POOL", "on"), ("MIPRO_CACHE_SAVE", "through")];
    let flags = Flags { engine: Some("actor".into()), server_timing: true, ..Flags::default() };
    let options = load(file, &environment, flags).unwrap();
    assert_eq!(options.engine, EngineKind::Actor, "flag over variable over file");
    assert!(options.database.pool, "variable over file");
    assert_eq!(options.database.pool_size_max, 3, "the file's neighbours stay");
    assert_eq!(options.cache.save, Save::Through);
    assert_eq!(options.listen, "127.0.0.1:1");
    assert!(options.server_timing);
}

#[test]
fn keys_come_from_the_environment() {
    let file = "upstream = \"http://127.0.0.1:9/v1/\"\n[providers.mine]\nbase_url = \"http://h/v1\"\napi_key_env = \"MY_KEY\"\n";
    let environment = [("MY_KEY", "sk-mine"), ("MIPRO_UPSTREAM_API_KEY", "sk-up"), ("MIPRO_API_KEYS", "a,b")];
    let options = load(file, &environment, Flags::default()).unwrap();
    assert_eq!(options.providers["mine"].api_key, Some(Secret::new("sk-mine")));
    assert_eq!(options.providers["openai"].api_key, None);
    assert_eq!(options.auth.upstream_api_key, Some(Secret::new("sk-up")));
    assert_eq!(options.upstream.as_deref(), Some("http://127.0.0.1:9/v1"));
    let shown = format!("{options:?}");
    assert!(!shown.contains("sk-") && !shown.contains("mipro.db"), "secrets in {shown}");
}

#[test]
fn unknown_keys_are_refused_by_name() {
    insta::assert_snapshot!(
        refusal("engine = \"actor\"\n\n[database]\npol = true\n", &[], Flags::default()),
        @"mipro.toml, line 4 (`pol`): unknown field `pol`, expected one of `url`, `pool`, `pool_size_max`, `connect_timeout_ms`, `query_timeout_ms`"
    );
}

#[test]
fn wrong_types_name_the_key_and_never_quote_the_line() {
    let message = refusal("[database]\nurl = 7 # pg://u:hunter2@h\n", &[], Flags::default());
    insta::assert_snapshot!(message, @"mipro.toml, line 2 (`url`): invalid type: integer `7`, expected a string");
    let broken = refusal("[database\nurl = 'postgres://u:hunter2@h'", &[], Flags::default());
    assert!(!broken.contains("hunter2"), "{broken}");
}

#[test]
fn bad_values_say_what_is_allowed() {
    insta::assert_snapshot!(
        refusal("", &[("MIPRO_ENGINE", "fast")], Flags::default()),
        @"environment variable MIPRO_ENGINE: unknown variant `fast`, expected one of `blob`, `cache`, `actor`"
    );
    insta::assert_snapshot!(
        refusal("", &[("MIPRO_LIMITS_CONNECTIONS_MAX", "many")], Flags::default()),
        @"environment variable MIPRO_LIMITS_CONNECTIONS_MAX: must be a whole number, 0 or more"
    );
    insta::assert_snapshot!(
        refusal("[limits]\nconnections_max = 0\n", &[], Flags::default()),
        @"`limits.connections_max` must be 1 or more"
    );
    let flags = Flags { database: Some("mysql://u:hunter2@h/x".into()), ..Flags::default() };
    insta::assert_snapshot!(refusal("", &[], flags), @"`database.url` must be sqlite:PATH or postgres://…");
    let flags = Flags { upstream: Some("localhost:8088".into()), ..Flags::default() };
    insta::assert_snapshot!(
        refusal("", &[], flags),
        @"`upstream` must be an http:// or https:// URL without a query"
    );
}

fn durability(name: &str) -> Flags {
    Flags { durability: Some(name.into()), ..Flags::default() }
}

#[test]
fn a_level_that_cant_be_given_is_refused_and_never_softened() {
    for (name, level) in [("postgres", "postgres"), ("d3", "postgres"), ("D4", "object")] {
        let message = refusal("", &[], durability(name));
        assert!(
            message.starts_with(&format!("--durability: this build can't give `{level}`: ")),
            "{message}"
        );
    }
    insta::assert_snapshot!(
        refusal("durability = \"eternal\"", &[], Flags::default()),
        @"mipro.toml, line 1 (`durability`): `eternal` is not a durability level; allowed: memory, os, disk (or D0 … D2)"
    );
    let given = [
        ("D0", DurabilityLevel::Memory),
        ("os", DurabilityLevel::Os),
        ("D1", DurabilityLevel::Os),
        ("Disk", DurabilityLevel::Disk),
    ];
    for (name, level) in given {
        assert_eq!(load("", &[], durability(name)).unwrap().durability, Some(level));
    }
    assert_eq!(load("", &[], Flags::default()).unwrap().durability, Some(DurabilityLevel::Disk), "unsaid");
}

#[test]
fn engines_without_a_log_refuse_its_levels_and_have_none_of_their_own_to_say() {
    for engine in ["blob", "cache"] {
        for level in ["os", "disk"] {
            let flags = Flags { engine: Some(engine.into()), ..durability(level) };
            let message = refusal("", &[], flags);
            let says =
                format!("`durability` can't be given by the engine `{engine}`, which has no event log");
            assert!(message.starts_with(&says), "{message}");
        }
        let unsaid = Flags { engine: Some(engine.into()), ..Flags::default() };
        assert_eq!(load("", &[], unsaid).unwrap().durability, None);
        let memory = Flags { engine: Some(engine.into()), ..durability("memory") };
        assert!(load("", &[], memory).is_ok(), "no more than they give");
    }
}

#[test]
fn the_log_lies_in_the_data_directory_and_its_sizes_are_checked() {
    let options = load("data_dir = \"/d\"", &[], Flags::default()).unwrap();
    assert_eq!(options.log.dir, Some(PathBuf::from("/d/log")));
    let options = load("[log]\ndir = \"/fast\"", &[], Flags::default()).unwrap();
    assert_eq!(options.log.dir, Some(PathBuf::from("/fast")));
    let environment = [("MIPRO_ON_LOG_FAILURE", "serve-unrecorded"), ("MIPRO_SNAPSHOT_FORMAT", "json")];
    let options = load("", &environment, Flags::default()).unwrap();
    assert_eq!(options.on_log_failure, OnLogFailure::ServeUnrecorded);
    assert_eq!(options.snapshot.format, SnapshotFormat::Json);
    insta::assert_snapshot!(
        refusal("[log]\nqueue_bytes_max = 1\n", &[], Flags::default()),
        @"`log.queue_bytes_max` must be 65536 or more"
    );
    insta::assert_snapshot!(
        refusal("[log]\nkept_bytes_max = 70000000\n", &[], Flags::default()),
        @"`log.kept_bytes_max` must be 134217728 or more"
    );
    insta::assert_snapshot!(
        refusal("gate_wait_ms_max = 0\n", &[], Flags::default()),
        @"`gate_wait_ms_max` must be 1 or more"
    );
    insta::assert_snapshot!(
        refusal("on_log_failure = \"ignore\"\n", &[], Flags::default()),
        @"mipro.toml, line 1 (`on_log_failure`): unknown variant `ignore`, expected `refuse` or `serve-unrecorded`"
    );
}

#[test]
fn variables_that_mean_nothing_are_told() {
    let options = load("", &[("MIPRO_ENGIN", "blob"), ("MIPRO_API_KEY", "x")], Flags::default()).unwrap();
    assert_eq!(options.unknown_variables, ["MIPRO_ENGIN"]);
}

#[test]
fn a_missing_file_is_named() {
    let flags = Flags { config: Some(PathBuf::from("/no/such/mipro.toml")), ..Flags::default() };
    let message = Options::load_with(&flags, &BTreeMap::new()).unwrap_err().to_string();
    assert!(message.starts_with("can't read configuration file /no/such/mipro.toml: "), "{message}");
}

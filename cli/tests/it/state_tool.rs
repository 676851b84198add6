//! `mipro state`: looked at, checked, carried and repaired, on what a real service leaves behind.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::common::*;

/// A service's data directory, with two systems in it.
struct Left {
    world: World,
    first: Job,
    second: Job,
}

impl Left {
    fn data(&self) -> PathBuf {
        self.world.dir.path().join("data")
    }

    /// `mipro state …` on it: exit code, stdout, stderr.
    fn state(&self, args: &[&str]) -> (Option<i32>, String, String) {
        state(&self.data(), args)
    }

    fn json(&self, args: &[&str]) -> (Option<i32>, Value) {
        let (code, stdout, stderr) = self.state(&[args, &["--format", "json"]].concat());
        let value = serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stdout} {stderr}"));
        (code, value)
    }

    /// Without ids, hashes, sizes and times.
    fn redact(&self, text: &str) -> String {
        let text = text.replace(&self.first.system_id, "FIRST").replace(&self.second.system_id, "SECOND");
        let text = text.replace(self.world.dir.path().to_str().unwrap(), "DIR");
        text.lines().map(redact_line).collect::<Vec<_>>().join("\n")
    }

    fn segment(&self) -> PathBuf {
        let files = std::fs::read_dir(self.data().join("log")).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|ext| ext == "seg")).max().unwrap()
    }

    /// The object that a system's row names.
    fn object(&self, job: &Job) -> PathBuf {
        let (_, shown) = self.json(&["show", &job.system_id]);
        self.data().join("blobs").join(shown["row"]["state_ref"].as_str().unwrap())
    }
}

fn state(data: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let (status, stdout, stderr) =
        run(&[&["state"], args, &["--data-dir", data.to_str().unwrap()]].concat(), &[]);
    (status.code(), stdout, stderr)
}

/// Long hexadecimal words and numbers with more digits than any count of these scenes has.
fn redact_line(line: &str) -> String {
    let word = |word: &str| {
        let core = word.trim_end_matches([',', ';', ':', '.', ')']);
        let rest = &word[core.len()..];
        let hex = core.len() >= 12 && core.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        let time = core.len() >= 20 && core.ends_with('Z') && core.contains('T');
        let many = core.len() >= 3 && core.bytes().all(|b| b.is_ascii_digit());
        let key = core.starts_with("systems/");
        match (hex, time, many, key) {
            (true, ..) => format!("HASH{rest}"),
            (_, true, ..) => format!("TIME{rest}"),
            (_, _, true, _) => format!("N{rest}"),
            (.., true) => format!("KEY{rest}"),
            _ => word.to_owned(),
        }
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

async fn live(rewards: u32) -> Left {
    let world = World::new();
    let (first, second) = (world.client.small_job().await, world.client.small_job().await);
    for index in 0..rewards {
        for job in [&first, &second] {
            let report = json!({"rollout_id": format!("r{index}"), "status": "reward_done",
                                "reward": 0.5, "candidate_id": "baseline"});
            assert_eq!(world.client.status(job, report).await.0, 200);
        }
    }
    Left { world, first, second }
}

/// A service that was killed: what it acknowledged is in its log.
async fn killed(rewards: u32) -> Left {
    let mut left = live(rewards).await;
    kill(&mut left);
    left
}

fn kill(left: &mut Left) {
    left.world.service.child.kill().unwrap();
    left.world.service.child.wait().unwrap();
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x20;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_service_acknowledged_is_whole_and_shown() {
    let left = killed(3).await;
    let (code, report) = left.json(&["verify"]);
    assert_eq!(
        (code, &report["whole"], &report["problems"]),
        (Some(0), &json!(true), &json!([])),
        "{report}"
    );
    for system in report["systems"].as_array().unwrap() {
        assert_eq!(system["state_hash"], system["refold_hash"], "{system}");
        assert!(system["version"].as_u64() > Some(6) && system["problems"] == json!([]), "{system}");
    }
    let (code, shown) = left.json(&["show", &left.first.system_id]);
    assert_eq!((code, &shown["state"]["reward_count"]), (Some(0), &json!(3)));
    let (code, page) =
        left.json(&["show", &left.first.system_id, "--events", "--since", "2", "--limit", "2"]);
    let items = page["items"].as_array().unwrap();
    assert_eq!((code, items.len(), &items[0]["seq"], &page["next_seq"]), (Some(0), 2, &json!(3), &json!(4)));
    let (code, list) = left.json(&["list"]);
    assert_eq!((code, list["systems"].as_array().unwrap().len()), (Some(0), 2));
    assert!(list["systems"][0]["log_events"].as_u64() > Some(0), "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_disturbs_no_running_service() {
    let left = live(2).await;
    for args in [&["verify"][..], &["list"], &["show", &left.first.system_id]] {
        let (code, stdout, stderr) = left.state(args);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{args:?}: {stdout}");
    }
    let report =
        json!({"rollout_id": "after", "status": "reward_done", "reward": 1.0, "candidate_id": "baseline"});
    assert_eq!(left.world.client.status(&left.first, report).await.0, 200);
    let (code, _, stderr) = left.state(&["repair", "--apply"]);
    assert_eq!(code, Some(0), "nothing to do, nothing in the way: {stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_named_and_the_way_out_leads_back_to_service() {
    let mut left = killed(3).await;
    let segment = left.segment();
    // In the third record's payload: behind it stand records that prove it had been synced.
    let at = 64 + 64 + 2_500;
    flip(&segment, at);
    let (code, stdout, stderr) = left.state(&["verify"]);
    assert_eq!((code, stderr.as_str()), (Some(1), ""));
    assert!(stdout.contains("DAMAGED 0000000000000001.seg, byte "), "{stdout}");
    assert!(stdout.contains("mipro state repair"), "{stdout}");
    let (code, plan, stderr) = left.state(&["repair"]);
    assert_eq!(code, Some(1), "{plan}");
    assert!(stderr.contains("nothing was changed"), "{stderr}");
    let (code, _, stderr) = left.state(&["repair", "--apply"]);
    assert_eq!(code, Some(1), "a loss is not taken without being asked: {stderr}");
    assert!(stderr.contains("--accept-loss"), "{stderr}");
    let (code, done, stderr) = left.state(&["repair", "--apply", "--accept-loss"]);
    assert_eq!(code, Some(0), "{done} {stderr}");
    let (code, stdout, _) = left.state(&["verify"]);
    assert_eq!(code, Some(0), "{stdout}");
    left.world.restart();
    let report =
        json!({"rollout_id": "after", "status": "reward_done", "reward": 1.0, "candidate_id": "baseline"});
    for job in [&left.first, &left.second] {
        assert_eq!(left.world.client.status(job, report.clone()).await.0, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_and_missing_objects_are_named_and_folded_again() {
    let left = killed(3).await;
    let (first, second) = (left.object(&left.first), left.object(&left.second));
    let bytes = std::fs::read(&first).unwrap();
    std::fs::copy(&second, &first).unwrap();
    std::fs::write(&second, bytes).unwrap();
    let (code, report) = left.json(&["verify"]);
    assert_eq!(code, Some(1));
    for system in report["systems"].as_array().unwrap() {
        assert_eq!(system["problems"][0]["place"]["kind"], "object", "{system}");
    }
    std::fs::remove_file(&second).unwrap();
    let (code, plan) = left.json(&["repair"]);
    assert_eq!((code, &plan["loses"]), (Some(1), &json!(false)), "{plan}");
    let (code, done, stderr) = left.state(&["repair", "--apply"]);
    assert_eq!(code, Some(0), "the whole history is in the log: {done} {stderr}");
    assert_eq!(left.json(&["verify"]).0, Some(0));
    let (_, shown) = left.json(&["show", &left.second.system_id]);
    assert_eq!(shown["state"]["reward_count"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_moves_to_fresh_stores_with_its_history() {
    let left = killed(3).await;
    let file = left.world.dir.path().join("system.mipro");
    let file = file.to_str().unwrap();
    let (code, said, stderr) = left.state(&["export", &left.first.system_id, "-o", file, "--with-history"]);
    assert_eq!(code, Some(0), "{said} {stderr}");
    let elsewhere = left.world.dir.path().join("elsewhere");
    let (code, said, stderr) = state(&elsewhere, &["import", file]);
    assert_eq!(code, Some(0), "{said} {stderr}");
    let hash = |data: &Path| {
        let (_, stdout, _) = state(data, &["show", &left.first.system_id, "--format", "json"]);
        serde_json::from_str::<Value>(&stdout).unwrap()["state_hash"].clone()
    };
    assert_eq!(hash(&elsewhere), hash(&left.data()));
    let events = |data: &Path| state(data, &["show", &left.first.system_id, "--events"]).1;
    assert_eq!(events(&elsewhere), events(&left.data()));
    assert!(events(&elsewhere).contains("mipro.reward.received"));
    let (code, _, stderr) = state(&elsewhere, &["import", file]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("--as new") && stderr.contains("--replace"), "{stderr}");
    assert_eq!(state(&elsewhere, &["import", file, "--as", "new"]).0, Some(0));
    assert_eq!(state(&elsewhere, &["import", file, "--replace"]).0, Some(0));
    assert_eq!(state(&elsewhere, &["verify"]).0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn going_back_in_time_stands_after_a_restart() {
    let mut left = killed(3).await;
    let file = left.world.dir.path().join("then.mipro");
    let file = file.to_str().unwrap();
    // Two events at its creation, then four for each reward.
    let (_, page) = left.json(&["show", &left.first.system_id, "--events"]);
    let items = page["items"].as_array().unwrap();
    let second = items.iter().filter(|item| item["type"] == "mipro.rollout.done").nth(1).unwrap();
    let at = second["seq"].to_string();
    assert_eq!(left.state(&["export", &left.first.system_id, "-o", file, "--at", &at]).0, Some(0));
    let (code, said, stderr) = left.state(&["import", file, "--replace"]);
    assert_eq!(code, Some(0), "{said} {stderr}");
    assert!(said.contains("set aside"), "{said}");
    left.world.restart();
    assert_eq!(left.world.client.state(&left.first).await["reward_count"], 2);
    assert_eq!(left.world.client.state(&left.second).await["reward_count"], 3);
    let (code, _, stderr) = left.state(&["import", file, "--replace"]);
    assert_eq!(code, Some(1), "never under a running service");
    assert!(stderr.contains("stop it first"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_told_in_words_and_makes_nothing() {
    let left = killed(1).await;
    let dir = left.world.dir.path();
    let text = dir.join("a.txt");
    std::fs::write(&text, "not an export at all, only a text").unwrap();
    let text = text.to_str().unwrap();
    let nobody = "00000000-0000-4000-8000-000000000000";
    let out = dir.join("out.mipro");
    let out = out.to_str().unwrap();
    for (args, expected) in [
        (&["show", nobody][..], "no such system"),
        (&["show", nobody, "--events"], "no such system"),
        (&["verify", nobody], "no such system"),
        (&["export", nobody, "-o", out], "no such system"),
        (&["export", &left.first.system_id, "-o", text], "exists"),
        (&["export", &left.first.system_id, "-o", out, "--at", "99999"], "there is no event 99999 yet"),
        (&["export", &left.first.system_id, "-o", out, "--at", "1971-01-01T00:00:00Z"], "did not exist yet"),
        (&["import", text], "no export"),
        (&["import", "/no/such/file"], "/no/such/file"),
    ] {
        let (code, stdout, stderr) = left.state(args);
        assert_eq!(code, Some(1), "{args:?}: {stdout} {stderr}");
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
        assert!(!stderr.contains(&left.first.system_id), "{stderr}");
    }
    assert!(!Path::new(out).exists(), "half a file is worse than none");
    for args in
        [&["show", "not-an-id"][..], &["export", nobody, "-o", out, "--at", "yesterday"], &["fly"], &["show"]]
    {
        assert_eq!(left.state(args).0, Some(2), "{args:?}");
    }
    let nowhere = dir.join("nowhere");
    for args in [&["list"][..], &["verify"], &["repair"], &["import", text]] {
        let (code, _, stderr) = state(&nowhere, args);
        assert_eq!(code, Some(1), "{args:?}: {stderr}");
        assert!(!nowhere.exists(), "{args:?} made a data directory");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_export_is_refused() {
    let left = killed(1).await;
    let file = left.world.dir.path().join("newer.mipro");
    let path = file.to_str().unwrap();
    assert_eq!(left.state(&["export", &left.first.system_id, "-o", path]).0, Some(0));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[10] = 9;
    std::fs::write(&file, bytes).unwrap();
    let (code, _, stderr) = left.state(&["import", path, "--as", "new"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("a newer version wrote it"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_read() {
    let left = killed(2).await;
    let first = left.first.system_id.as_str();
    insta::assert_snapshot!("show", left.redact(&left.state(&["show", first]).1));
    insta::assert_snapshot!(
        "events",
        left.redact(&left.state(&["show", first, "--events", "--limit", "4"]).1)
    );
    let systems = |text: String| left.redact(&text).replace("SECOND", "FIRST");
    insta::assert_snapshot!("list", systems(left.state(&["list"]).1));
    insta::assert_snapshot!("verify", systems(left.state(&["verify"]).1));
    insta::assert_snapshot!("repair_nothing", left.redact(&left.state(&["repair"]).1));
    std::fs::remove_file(left.object(&left.first)).unwrap();
    insta::assert_snapshot!("verify_one_damaged", left.redact(&left.state(&["verify", first]).1));
    insta::assert_snapshot!("repair_plan", left.redact(&left.state(&["repair"]).1));
}

#[test]
fn helps() {
    for command in ["list", "show", "verify", "export", "import", "repair"] {
        let (status, stdout, _) = run(&["state", command, "--help"], &[("COLUMNS", "100")]);
        assert!(status.success());
        insta::assert_snapshot!(format!("help_{command}"), stdout);
    }
}

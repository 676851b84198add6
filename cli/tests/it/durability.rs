//! The contract of the levels, on the running binary: what was acknowledged is there after SIGKILL.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::common::*;

fn report(rollout: &str) -> Value {
    json!({"rollout_id": rollout, "status": "reward_done", "reward": 1.0, "candidate_id": "baseline"})
}

fn kill(world: &mut World) {
    world.service.child.kill().unwrap();
    world.service.child.wait().unwrap();
}

/// Many at once, so that groups are written together.
async fn acknowledged(world: &World, job: &Job, from: usize, to: usize) -> usize {
    let mut running = JoinSet::new();
    for index in from..to {
        let (client, job) = (world.client.clone(), job.clone());
        running.spawn(async move { client.status(&job, report(&format!("r{index}"))).await.0.as_u16() });
    }
    running.join_all().await.into_iter().filter(|code| *code == 200).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_rewards_survive_a_kill_at_disk_and_os() {
    for (level, format) in [("disk", "binary"), ("os", "binary"), ("disk", "json")] {
        let config =
            format!("[snapshot]\nformat = \"{format}\"\nevents_max = 100\n[log]\nsegment_bytes = 65536\n");
        let mut world = World::with("actor", &["--durability", level], &config);
        let (job, idle) = (world.client.small_job().await, world.client.small_job().await);
        assert_eq!(world.client.ask(&job, "p").await.status(), 200);
        let mut sure = 0;
        for round in 0..3 {
            sure += acknowledged(&world, &job, round * 100, (round + 1) * 100).await;
            let before = world.client.state(&job).await;
            assert_eq!(before["reward_count"], sure, "{level} {format}");
            kill(&mut world);
            world.restart();
            assert_eq!(world.client.state(&job).await, before, "{level} {format}: after kill {round}");
        }
        assert_eq!(sure, 300, "{level} {format}: nothing was refused");
        let version = world.client.state(&job).await["version"].clone();
        let (status, again) = world.client.status(&job, report("r0")).await;
        assert_eq!((status.as_u16(), &again["version"]), (200, &version), "a duplicate changes nothing");
        assert_eq!(again["durability"], level);
        let (status, late) =
            world.client.status(&job, json!({"rollout_id": "p", "status": "done", "reward": 0.5})).await;
        assert_eq!(status, 200, "{level} {format}: the open rollout is known: {late}");
        let (status, events) =
            world.client.get(&Client::system_path(&job, "events?since_seq=0&limit=5000")).await;
        assert_eq!(status, 200, "{events}");
        let seqs: Vec<_> =
            events["items"].as_array().unwrap().iter().map(|e| e["seq"].as_u64().unwrap()).collect();
        let last = late["version"].as_u64().unwrap();
        assert_eq!(seqs, (1..=last).collect::<Vec<_>>(), "{level} {format}: the history has no hole");
        assert_eq!(world.client.state(&idle).await["reward_count"], 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_level_os_a_caller_may_ask_for_disk() {
    let world = World::with("actor", &["--durability", "os"], "");
    let job = world.client.small_job().await;
    for (asked, given) in [("disk", "disk"), ("memory", "os")] {
        let request = world
            .client
            .request(Method::POST, &Client::system_path(&job, "status"))
            .header("Mipro-Durability", asked)
            .json(&report(asked));
        let response = request.send().await.unwrap();
        let header = response.headers()["mipro-durability"].to_str().unwrap().to_owned();
        assert_eq!(response.status(), 200);
        assert!(header.starts_with(&format!("{given}; seq=")) && header.ends_with("; epoch=1"), "{header}");
    }
    let request = world.client.request(Method::GET, &Client::system_path(&job, "state"));
    let (status, body) = answer(request.header("Mipro-Durability", "postgres")).await;
    assert_eq!((status.as_u16(), body["error"]["code"].as_str()), (412, Some("durability_unavailable")));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_has_the_log_and_memory_does_not_pass_it_by() {
    let mut world = World::new();
    let job = world.client.small_job().await;
    assert_eq!(world.client.status(&job, report("r")).await.0, 200);
    let data = world.dir.path().join("data");
    let args = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()];
    let (status, _, stderr) = run(&args, &[]);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("another process uses the log"), "{stderr}");
    kill(&mut world);
    let (status, _, stderr) = run(&[&args[..], &["--durability", "memory"]].concat(), &[]);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("durability \"memory\" would not read"), "{stderr}");
    world.restart();
    assert_eq!(world.client.state(&job).await["reward_count"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_step_loses_nothing_that_was_acknowledged() {
    for point in ["received", "applied", "log.written", "log.synced", "replied"] {
        let mut world = World::with("actor", &[], "");
        let job = world.client.small_job().await;
        kill(&mut world);
        // The steps of the calls after the start; a read passes none of the first four for nothing.
        world.restart_with(&[("MIPRO_CRASH_AT", &format!("{point}:3"))]);
        let mut sure = Vec::new();
        for index in 0..20 {
            let sent = world.client.request(Method::POST, &Client::system_path(&job, "status"));
            match sent.json(&report(&format!("r{index}"))).send().await {
                Ok(response) if response.status() == 200 => sure.push(index),
                Ok(response) => panic!("{point}: {}", response.status()),
                Err(_) => break,
            }
        }
        assert!(!sure.is_empty() && sure.len() < 20, "{point}: it crashed in mid-run: {sure:?}");
        world.service.child.wait().unwrap();
        world.restart();
        let kept = world.client.state(&job).await["reward_count"].as_u64().unwrap();
        let sent = sure.len() as u64;
        assert!((sent..=sent + 1).contains(&kept), "{point}: {kept} kept of {sent} acknowledged");
        for index in &sure {
            assert_eq!(world.client.status(&job, report(&format!("r{index}"))).await.0, 200);
        }
        assert_eq!(
            world.client.state(&job).await["reward_count"],
            kept,
            "{point}: all of them were duplicates"
        );
    }
}

//! The page of a profile: the pictures that `mipro profile` draws, embedded in their order and told apart.

use mipro_bench_reports::flame::views::{View, differences, single};
use mipro_bench_reports::flame::{Heading, Scale, Unit, difference, svg};
use mipro_bench_reports::html::{Flamegraph, render_with};
use mipro_telemetry::Folded;

use crate::fixture;

fn pictures() -> Vec<Flamegraph> {
    let folded = |text: &str| Folded::parse(text).unwrap();
    let (blob, bounded) = (
        folded(
            "start_rollout;load;db.query;[await] 900000000\nstart_rollout;load;db.query;[poll] 100000000\n",
        ),
        folded(
            "start_rollout;llm.first_byte;[await] 100000000\nstart_rollout;load;db.query;[await] 10000000\n",
        ),
    );
    let heading = Heading { title: "t", note: "n", unit: Unit::Nanoseconds { rollouts: 10 } };
    let of = |name: String, svg: String| Flamegraph { name, svg };
    let [there, back] = differences(View::Wall, "blob", "bounded");
    vec![
        of(single(View::Busy, "blob"), svg(&blob, &heading)),
        of(
            single(View::Cpu, "blob"),
            svg(&folded("tokio;a;b 3\n"), &Heading { unit: Unit::Samples, ..heading }),
        ),
        of(there, difference(&blob, &bounded, Scale::Absolute, &heading)),
        of(back, difference(&bounded, &blob, Scale::Absolute, &heading)),
        of(single(View::Wall, "blob"), svg(&blob, &heading)),
        of(single(View::Wall, "bounded"), svg(&bounded, &heading)),
    ]
}

/// The flamegraphs' names in the page's order, with whether each is open, and its markup.
fn shown(html: &str) -> Vec<(String, bool, &str)> {
    let parts = html.split("<details class=\"flame\"").skip(1);
    parts
        .map(|part| {
            let name = part.split("<strong>").nth(1).unwrap().split("</strong>").next().unwrap();
            (name.to_owned(), part.starts_with(" open"), part)
        })
        .collect()
}

#[test]
fn both_sides_clocks_stand_first_and_open_and_each_picture_says_what_it_shows() {
    let html = render_with(&fixture::profiled(), &pictures());
    let shown = shown(&html);
    let order: Vec<(&str, bool)> = shown.iter().map(|(name, open, _)| (name.as_str(), *open)).collect();
    assert_eq!(
        order,
        [
            ("wall-blob", true),
            ("wall-bounded", true),
            ("wall-blob-to-bounded", false),
            ("wall-blob-to-bounded-back", false),
            ("cpu-blob", false),
            ("busy-blob", false),
        ]
    );
    assert!(shown[0].2.contains("(100 ms a rollout; 6 frames)"), "the whole is said: {}", shown[0].2);
    assert!(shown[5].2.contains("awaits are not in it"));
    // Waiting has a class of its own, except where colours stand for a change.
    assert!(shown[0].2.contains("class=\"await\"") && !shown[2].2.contains("class=\"await\""));
    assert!(
        html.contains("% of 2,442 ms, 1,700 ms of it DB; http://10.0.0.7:8090 spends 104 ms, 101 ms of it LLM. CPU a rollout: 17.8 ms in blob."),
        "{}",
        &html[..3_000]
    );
    assert!(html.contains("already can&#39;t be profiled from here"), "notes are on the page");
    assert!(html.contains("<title>mipro profile · "));
    assert!(!html.contains("id=\"ladder\""), "no rung ran, so there is no ladder");
}

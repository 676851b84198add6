use proptest::prelude::*;

use super::views::{View, differences, file_label, is_difference, note, place, single};
use super::waits::{Waits, of_rollouts};
use super::*;
use crate::html::flame::read::{Frame, frames};

fn folded(text: &str) -> Folded {
    Folded::parse(text).unwrap()
}

const NS: Heading<'_> =
    Heading { title: "wall clock: blob", note: "how to read it", unit: Unit::Nanoseconds { rollouts: 10 } };
const SAMPLES: Heading<'_> = Heading { title: "CPU: blob", note: "how to read it", unit: Unit::Samples };

const WALL: &str = "start_rollout;load;db.query;[await] 2000000000\nstart_rollout;load;db.query;[poll] 10000000\n\
                    status_done;s3.put;[cancelled];[await] 500000000\n";

/// Title, row, share of the width and colour of each frame, as the page reads them.
fn seen(svg: &str) -> Vec<(String, u32, f64, [u8; 3])> {
    let round = |width: f64| (width * 100.0).round() / 100.0;
    let all = frames(svg).into_iter();
    all.map(|Frame { title, depth, width, fill, .. }| (title, depth, round(width), fill.unwrap())).collect()
}

fn colour_of(svg: &str, name: &str) -> [u8; 3] {
    let starts = format!("{name} (");
    seen(svg).into_iter().find(|(title, ..)| title.starts_with(&starts)).unwrap().3
}

#[test]
fn the_page_reads_back_what_is_drawn() {
    let svg = svg(&folded(WALL), &NS);
    let lines: Vec<String> = seen(&svg)
        .into_iter()
        .map(|(title, depth, width, _)| format!("{depth} {width:>6} {title}"))
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    0    100 all (251 ms a rollout, 100.00%)
    1  80.08 start_rollout (201 ms a rollout, 80.08%)
    2  80.08 load (201 ms a rollout, 80.08%)
    3  80.08 db.query (201 ms a rollout, 80.08%)
    4  79.68 [await] (200 ms a rollout, 79.68%)
    4    0.4 [poll] (1.00 ms a rollout, 0.40%)
    1  19.92 status_done (50.0 ms a rollout, 19.92%)
    2  19.92 s3.put (50.0 ms a rollout, 19.92%)
    3  19.92 [cancelled] (50.0 ms a rollout, 19.92%)
    4  19.92 [await] (50.0 ms a rollout, 19.92%)
    ");
}

#[test]
fn the_file_stands_alone_and_is_the_same_each_time() {
    let one = svg(&folded("a;[await] 60\na;b 40\n"), &SAMPLES);
    assert_eq!(one, svg(&folded("a;b 40\na;[await] 60\n"), &SAMPLES));
    for foreign in ["href", "http://", "https://", "url(", "@import"] {
        let own = one.replace("http://www.w3.org/2000/svg", "");
        assert!(!own.contains(foreign), "{foreign}");
    }
    insta::assert_snapshot!(one);
}

#[test]
fn waiting_looks_like_nothing_else() {
    let svg = svg(
        &folded(
            "op;stage;[await] 50\nop;stage;[poll] 30\nop;stage;[failed];[poll] 20\nop;do_syscall_[k] 7\n",
        ),
        &SAMPLES,
    );
    let waits = colour_of(&svg, "[await]");
    for name in ["[poll]", "[failed]", "op", "stage", "do_syscall_[k]"] {
        let other = colour_of(&svg, name);
        assert!(waits[2] > waits[0], "{waits:?} is bluish");
        assert!(other[0] > other[2], "{name} {other:?} is not");
    }
}

#[test]
fn a_difference_has_the_second_s_widths_and_says_what_changed() {
    let (blob, bounded) =
        (folded("r;db 900\nr;llm 100\nr;gone 50\n"), folded("r;db 10\nr;llm 100\nr;new 40\n"));
    let there = difference(&blob, &bounded, Scale::Absolute, &SAMPLES);
    let titles: Vec<String> = seen(&there).into_iter().map(|(title, ..)| title).collect();
    assert_eq!(
        titles,
        [
            "all (150 samples, 100.00%; 900 samples less)",
            "r (150 samples, 100.00%; 900 samples less)",
            "db (10 samples, 6.67%; 890 samples less)",
            "llm (100 samples, 66.67%; 0 samples more)",
            "new (40 samples, 26.67%; 40 samples more)",
        ]
    );
    let [less, same, more] = ["db", "llm", "new"].map(|name| colour_of(&there, name));
    assert!(less[2] > less[0] && more[0] > more[2], "{less:?} {more:?}");
    assert!(same.iter().all(|channel| *channel > 225), "{same:?}");
    // What is gone has no width there; the other way shows it.
    let back = difference(&bounded, &blob, Scale::Absolute, &SAMPLES);
    assert!(!there.contains("gone") && back.contains("gone (50 samples, 4.76%; 50 samples more)"));
    assert!(!back.contains(">new ("));
}

#[test]
fn samples_are_scaled_to_the_same_total_and_times_are_not() {
    let (few, many) = (folded("r;a 10\nr;b 10\n"), folded("r;a 100\nr;b 100\n"));
    let scaled = difference(&few, &many, Scale::Normalised, &SAMPLES);
    assert!(scaled.contains("a (100 samples, 50.00%; 0 samples more)"), "{scaled}");
    let absolute = difference(&few, &many, Scale::Absolute, &SAMPLES);
    assert!(absolute.contains("a (100 samples, 50.00%; 90 samples more)"), "{absolute}");
}

#[test]
fn nothing_recorded_is_said() {
    let empty = Folded::default();
    for picture in [svg(&empty, &SAMPLES), difference(&folded("a 1\n"), &empty, Scale::Normalised, &SAMPLES)]
    {
        assert!(picture.contains("no stack was recorded"));
        assert_eq!(frames(&picture), []);
    }
    assert!(
        difference(&empty, &folded("a 1\n"), Scale::Normalised, &SAMPLES)
            .contains("a (1 samples, 100.00%; 1 samples more)")
    );
}

#[test]
fn what_is_too_narrow_is_counted() {
    let svg = svg(&folded("wide 1000000\nnarrow;deep 1\nthin 1\n"), &SAMPLES);
    assert_eq!(frames(&svg).len(), 2);
    assert!(svg.contains("2 frames are too narrow to draw."), "{svg}");
}

#[test]
fn views_know_their_files() {
    assert_eq!(single(View::Wall, "blob"), "wall-blob");
    assert_eq!(differences(View::Cpu, "blob", "HEAD~1"), ["cpu-blob-to-HEAD-1", "cpu-blob-to-HEAD-1-back"]);
    for (label, file) in [
        ("../../etc/passwd", "etc-passwd"),
        ("http://127.0.0.1:8090", "http-127.0.0.1-8090"),
        ("back-to-basics", "back_to_basics"),
        ("…", "side"),
        ("pooled@db=12ms,s3=40ms", "pooled-db-12ms-s3-40ms"),
    ] {
        assert_eq!(file_label(label), file);
    }
    let mut names = [
        "other",
        "busy-blob",
        "cpu-blob-to-bounded",
        "wall-blob-to-bounded",
        "wall-bounded",
        "cpu-blob",
        "wall-blob",
    ];
    names.sort_by_key(|name| place(name));
    assert_eq!(
        names,
        [
            "wall-blob",
            "wall-bounded",
            "wall-blob-to-bounded",
            "cpu-blob",
            "cpu-blob-to-bounded",
            "busy-blob",
            "other"
        ]
    );
    assert!(!is_difference(&single(View::Wall, "back-to-basics")) && !is_difference("other-to-x"));
    assert!(note("busy-blob").contains("awaits are not in it"));
    assert!(note("wall-blob-to-bounded-back").contains("the widths of blob: red takes more than in bounded"));
    assert!(note("wall-blob-to-bounded").contains("the widths of bounded: red takes more than in blob"));
    assert_eq!(note("theirs"), "");
}

#[test]
fn waits_are_summed_by_the_innermost_stage() {
    let all = folded(&format!(
        "{WALL}create_job;db.query;[await] 7\nbackground;log.sync;[poll] 9\nstatus_done;[poll] 5\nstart_rollout;db.query;db.acquire;[await] 11\n"
    ));
    let waits = Waits::of(&of_rollouts(&all));
    assert_eq!((waits.total_ns, waits.await_ns), (2_510_000_016, 2_500_000_011));
    let stages: Vec<(&str, u64)> = waits.stages.iter().map(|(stage, ns)| (stage.as_str(), *ns)).collect();
    assert_eq!(
        stages,
        [("db.query", 2_010_000_000), ("s3.put", 500_000_000), ("db.acquire", 11), ("other", 5)]
    );
}

proptest! {
    /// Whatever the frames are called: the page reads each back, in its place, and no name breaks out of the file.
    #[test]
    fn any_name_survives_the_round_trip(
        stacks in proptest::collection::vec((proptest::collection::vec("[ -~]{1,12}", 1..4), 1_u64..1000), 1..8),
    ) {
        let mut folded = Folded::default();
        for (frames, count) in &stacks {
            folded.add(frames.iter().map(String::as_str), *count);
        }
        let svg = svg(&folded, &SAMPLES);
        let (mut expected, root) = (Vec::new(), Node::of(&folded));
        root.walk(&mut |placed| {
            if placed.width >= WIDTH_MIN {
                expected.push((format!("{} ({} samples, {})", placed.name, thousands(placed.node.after), share(placed.node.after, root.after)), placed.depth));
            }
            placed.width >= WIDTH_MIN
        });
        let read: Vec<(String, usize)> = frames(&svg).into_iter().map(|frame| (frame.title, frame.depth as usize)).collect();
        prop_assert_eq!(read, expected);
    }
}

use std::fs;
use std::path::Path;

use mipro_bench_reports::Validity;
use mipro_bench_reports::html::{render, render_with};

use crate::fixture;

/// Elements without an end tag.
const VOID: [&str; 3] = ["meta", "link", "input"];

/// Every tag as (name, attributes); panics where they don't nest. Drawings within a drawing are named `svg svg`.
fn tags(html: &str) -> Vec<(String, String)> {
    let (mut open, mut found): (Vec<String>, Vec<(String, String)>) = (Vec::new(), Vec::new());
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        let end = rest[at..].find('>').expect("a tag ends") + at;
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if tag.starts_with('!') {
            continue;
        }
        if let Some(name) = tag.strip_prefix('/') {
            let expected = open.pop();
            assert_eq!(expected.as_deref(), Some(name), "closed out of order");
            continue;
        }
        let empty = tag.ends_with('/');
        let tag = tag.trim_end_matches('/');
        let (name, attributes) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
        let inner = name == "svg" && open.iter().any(|outer| outer == "svg");
        found.push((if inner { "svg svg" } else { name }.to_owned(), attributes.to_owned()));
        if matches!(name, "style" | "script") {
            let close = format!("</{name}>");
            rest = &rest[rest.find(&close).expect("closed") + close.len()..];
        } else if !empty && !VOID.contains(&name) {
            open.push(name.to_owned());
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
    found
}

/// Attribute values are quoted and their quotes escaped: whatever is outside of quotes is ours.
fn outside_quotes(attributes: &str) -> String {
    attributes.split('"').step_by(2).collect()
}

fn pages() -> [String; 3] {
    [
        render_with(&fixture::report(), &[fixture::flamegraph()]),
        render_with(&fixture::hostile(), &[fixture::hostile_flamegraph()]),
        render(&fixture::empty()),
    ]
}

#[test]
fn a_page_to_look_at_is_left_in_the_target_folder() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (name, html) in ["report", "report-hostile", "report-empty"].iter().zip(pages()) {
        fs::write(dir.join(format!("{name}.html")), html).unwrap();
    }
}

#[test]
fn tags_nest_whatever_the_report() {
    for html in pages() {
        assert!(tags(&html).len() > 20);
    }
}

#[test]
fn the_same_report_gives_the_same_bytes() {
    assert_eq!(pages(), pages());
}

#[test]
fn nothing_is_loaded_from_anywhere() {
    for html in pages() {
        let html = html.replace("url(#hatch)", "").replace("href=\"data:,\"", "");
        // The name of the namespace of SVG, of which nothing is fetched.
        let html = html.replace("\"http://www.w3.org/2000/svg\"", "");
        for loader in ["http://", "https://", "url(", "@import", " href="] {
            assert!(!html.contains(loader), "{loader}");
        }
        let loads = |(name, attributes): &(String, String)| {
            matches!(name.as_str(), "img" | "iframe" | "object" | "embed" | "base" | "image" | "use")
                || outside_quotes(attributes).contains("src=")
        };
        assert!(!tags(&html).iter().any(loads));
        assert!(html.contains("default-src 'none'"));
    }
}

#[test]
fn hostile_texts_stay_texts() {
    let [_, html, _] = pages();
    assert_eq!(html.matches("<script").count(), 1);
    assert_eq!(html.matches("</script").count(), 1);
    assert!(html.contains("&lt;script&gt;alert(1)"));
    assert!(html.chars().all(|c| c == '\n' || !c.is_control()));
    for (name, attributes) in tags(&html) {
        let outside = outside_quotes(&attributes);
        assert!(!outside.contains("onload") && !outside.contains("onerror"), "<{name} {attributes}>");
    }
}

#[test]
fn drawings_and_tables_speak() {
    for html in pages() {
        let tags = tags(&html);
        let count = |name: &str| tags.iter().filter(|(tag, _)| tag == name).count();
        assert_eq!(count("table"), count("caption"));
        for (name, attributes) in &tags {
            match name.as_str() {
                "svg" => assert!(
                    attributes.contains("aria-hidden") || attributes.contains("role=\"img\" aria-label=\""),
                    "<svg {attributes}>"
                ),
                "th" => assert!(attributes.contains("scope="), "<th {attributes}>"),
                "section" => assert!(attributes.contains("aria-labelledby=")),
                _ => {}
            }
        }
        assert!(html.contains("<html lang=\"en\">") && html.contains("name=\"viewport\""));
    }
}

#[test]
fn every_part_is_there() {
    let report = fixture::report();
    let html = render_with(&report, &[fixture::flamegraph()]);
    for id in [
        "stages",
        "ladder",
        "forest",
        "ablation",
        "comparisons",
        "resources",
        "flames",
        "percentiles",
        "seed",
        "counts",
        "attribution",
        "database",
        "growth",
        "makespan",
        "processes",
        "accounting",
        "checks",
    ] {
        assert!(html.contains(&format!("<section id=\"{id}\"")), "no {id}");
    }
    for rung in &report.rungs {
        assert!(html.contains(&format!("<span class=\"who\">{}</span>", rung.name)));
    }
    // Each rung through the service shows what no stage claims, and one curve in both charts.
    let measured = report.rungs.iter().filter(|rung| rung.overhead.count > 0).count();
    assert!(html.matches("class=\"g-other\" x=").count() >= measured);
    assert_eq!(html.matches("class=\"endlabel").count(), measured + report.rungs.len() + 2 * measured + 2);
    assert!(html.contains("they sum to 3,060–9,039 ms"));
}

#[test]
fn a_rung_not_to_be_believed_is_marked() {
    assert!(!render(&fixture::report()).contains("invalid: see Accounting"));
    let mut report = fixture::report();
    report.rungs[2].validity = Validity { ok: false, reasons: vec!["client CPU 93 %".to_owned()] };
    let html = render(&report);
    assert!(html.contains("invalid: see Accounting") && html.contains("invalid: client CPU 93 %"));
    assert!(html.contains("<strong>9 of 10</strong>"));
}

#[test]
fn an_unreadable_histogram_costs_its_curve_only() {
    let mut report = fixture::report();
    report.rungs[1].overhead.hdr = "broken".to_owned();
    let html = render(&report);
    // One of its two curves, and its lines of CPU, of memory and over distance.
    assert_eq!(html.matches("class=\"endlabel h1\"").count(), 4);
}

/// A section's markup.
fn section<'a>(html: &'a str, id: &str) -> &'a str {
    let from = html.find(&format!("<section id=\"{id}\"")).unwrap();
    &html[from..from + html[from..].find("</section>").unwrap()]
}

/// What stands between two pieces of markup, wherever they occur, with tags taken out.
fn between(html: &str, from: &str, to: &str) -> Vec<String> {
    let plain = |text: &str| {
        text.split('<').map(|part| part.split_once('>').map_or(part, |(_, rest)| rest)).collect()
    };
    html.split(from).skip(1).map(|part| plain(part.split(to).next().unwrap())).collect()
}

#[test]
fn what_the_drawings_say() {
    let html = render_with(&fixture::report(), &[fixture::flamegraph()]);
    let stages = section(&html, "stages");
    let mut said = between(stages, "<p class=\"answer\">", "</p>");
    said.extend(between(stages, "<summary>", "</summary>"));
    said.extend(between(stages.split("</details>").next().unwrap(), "<title>", "</title>"));
    said.extend(between(section(&html, "forest"), "<title>", "</title>"));
    said.extend(between(section(&html, "flames"), "<title>", "</title>"));
    insta::assert_snapshot!(said.join("\n"));
}

/// A comparison of two rungs takes the place of what their own histograms say, for the endpoints that it has.
#[test]
fn intervals_come_from_comparisons_where_there_are_some() {
    let of = |report: &mipro_bench_reports::Report| {
        let html = render(report);
        let lines = between(section(&html, "forest"), "<title>pooled against blob, ", "</title>");
        [lines.iter().filter(|line| line.ends_with("p50 of a paired comparison")).count(), lines.len()]
    };
    let mut report = fixture::report();
    assert_eq!(
        of(&report),
        [8, 10],
        "both against the rung before and against the first; the LLM is not compared"
    );
    report.comparisons.clear();
    assert_eq!(of(&report), [0, 10]);
}

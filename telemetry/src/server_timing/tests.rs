use proptest::prelude::*;

use super::{Metric, breakdown_from, number, parse, write};
use crate::ledger::{Breakdown, StageEntry};
use crate::stage::{Operation, Phase, Stage};

type Wanted<'a> = (&'a str, &'a [(&'a str, &'a str)]);

fn metric(name: &str, params: &[(&str, &str)]) -> Metric {
    let params = params.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    Metric { name: name.to_owned(), params }
}

#[test]
fn books_are_written_with_what_is_not_zero() {
    let entry = StageEntry {
        stage: Stage::DbQuery,
        phase: Some(Phase::Load),
        exclusive_ns: 12_410_000,
        overlap_ns: 1_500_001,
        count: 3,
        bytes: 8192,
        round_trips: 4,
        cancelled: 1,
    };
    let plain = StageEntry {
        stage: Stage::PolicySuggest,
        phase: None,
        exclusive_ns: 0,
        overlap_ns: 0,
        count: 1,
        bytes: 0,
        round_trips: 0,
        cancelled: 0,
    };
    let books = Breakdown {
        operation: Operation::StartRollout,
        total_ns: 13_000_000,
        other_ns: 590_000,
        entries: vec![entry, plain],
    };
    insta::assert_snapshot!(write(&books), @"db.query;dur=12.41;n=3;bytes=8192;rt=4;phase=load;ov=1.500001;cancelled=1, policy.suggest;dur=0;n=1, other;dur=0.59, total;dur=13;op=start_rollout");
}

#[test]
fn the_standards_odd_cases_are_read_as_it_says() {
    let cases: &[(&str, &[Wanted])] = &[
        ("", &[]),
        (" , ,,", &[]),
        ("a", &[("a", &[])]),
        ("a;dur=1, b;dur=2", &[("a", &[("dur", "1")]), ("b", &[("dur", "2")])]),
        ("a,b", &[("a", &[]), ("b", &[])]),
        ("\ta \t; \tdur\t = 1.5 \t;desc = x ", &[("a", &[("dur", "1.5"), ("desc", "x")])]),
        (r#"a;desc="x, y; z";dur=1"#, &[("a", &[("desc", "x, y; z"), ("dur", "1")])]),
        (r#"a;desc="q\"uo\\te""#, &[("a", &[("desc", r#"q"uo\te"#)])]),
        (r#"a;desc="x"junk;dur=1"#, &[("a", &[("desc", "x"), ("dur", "1")])]),
        (r#"a;desc="open;dur=1, b"#, &[("a", &[("desc", "open;dur=1, b")])]),
        (r#"a;desc="open\"#, &[("a", &[("desc", "open\\")])]),
        ("a;dur=1;dur=2;DUR=3", &[("a", &[("dur", "1")])]),
        ("a;dur;desc=x", &[("a", &[("dur", ""), ("desc", "x")])]),
        ("a;;=1;dur=2", &[("a", &[("dur", "2")])]),
        ("a;unknown=7;dur=2", &[("a", &[("unknown", "7"), ("dur", "2")])]),
        (";dur=1, b", &[("b", &[])]),
        ("a;dur=1=2", &[("a", &[("dur", "1=2")])]),
    ];
    for (header, wanted) in cases {
        let wanted: Vec<Metric> = wanted.iter().map(|(n, p)| metric(n, p)).collect();
        assert_eq!(parse(header), wanted, "{header:?}");
    }
}

#[test]
fn a_duration_that_is_no_number_is_zero() {
    for (text, wanted) in [
        ("12.5", 12.5),
        ("-3", -3.0),
        ("+.5", 0.5),
        ("1e3", 1000.0),
        ("1e", 1.0),
        ("1e+", 1.0),
        ("7ms", 7.0),
        ("3.", 3.0),
        (" 4", 4.0),
        ("1e999", 0.0),
        ("", 0.0),
        (".", 0.0),
        ("-", 0.0),
        ("inf", 0.0),
        ("NaN", 0.0),
        ("ms7", 0.0),
    ] {
        assert_eq!(number(text), wanted, "{text:?}");
    }
    assert_eq!(metric("a", &[]).dur_ms(), 0.0);
    let negative = [metric("total", &[("dur", "-5")]), metric("other", &[("dur", "x")])];
    let books = breakdown_from(&negative).unwrap();
    assert_eq!((books.total_ns, books.other_ns, books.operation), (0, 0, Operation::Unknown));
}

#[test]
fn what_others_add_does_not_disturb() {
    let header =
        "cdn;dur=5, total;dur=3;op=status_done;x=1, db.query;dur=1;n=x;phase=unload, other;dur=2, edge";
    let books = breakdown_from(&parse(header)).unwrap();
    assert_eq!(
        (books.operation, books.total_ns, books.other_ns),
        (Operation::StatusDone, 3_000_000, 2_000_000)
    );
    assert_eq!(books.entries.len(), 1);
    assert_eq!(
        (books.entries[0].stage, books.entries[0].phase, books.entries[0].count),
        (Stage::DbQuery, None, 0)
    );
    assert!(breakdown_from(&parse("db.query;dur=1")).is_none());
}

fn books() -> impl Strategy<Value = Breakdown> {
    let stages: Vec<Stage> = Stage::ALL.iter().copied().filter(|s| *s != Stage::Other).collect();
    let small = 0..1_000_000u64;
    let entry = (
        prop::sample::select(stages),
        prop::sample::select(vec![None, Some(Phase::Load), Some(Phase::Save)]),
        (0..3_600_000_000_000u64, prop_oneof![Just(0), 1..10_000_000_000u64]),
        (small.clone(), small.clone(), small, 0..9u64),
    );
    let entry = entry.prop_map(|(stage, phase, (exclusive_ns, overlap_ns), counts)| {
        let (count, bytes, round_trips, cancelled) = counts;
        StageEntry { stage, phase, exclusive_ns, overlap_ns, count, bytes, round_trips, cancelled }
    });
    let operations = prop::sample::select(Operation::ALL.to_vec());
    (operations, prop::collection::vec(entry, 0..12), 0..10_000_000_000u64).prop_map(
        |(operation, entries, other_ns)| {
            let stages: u64 = entries.iter().map(|e| e.exclusive_ns).sum();
            Breakdown { operation, total_ns: stages + other_ns, other_ns, entries }
        },
    )
}

/// A header made from the grammar, with what it means.
fn grammatical() -> impl Strategy<Value = (String, Vec<Metric>)> {
    let token = "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,8}";
    let blanks = "[ \t]{0,2}";
    let quoted = "[\t !-~é]{0,8}";
    let value = prop_oneof![
        token.prop_map(|t| (t.clone(), t)),
        quoted.prop_map(|q| {
            let escaped = q.replace('\\', "\\\\").replace('"', "\\\"");
            (format!("\"{escaped}\""), q)
        }),
    ];
    let param = (blanks, blanks, token, blanks, blanks, value)
        .prop_map(|(a, b, name, c, d, (raw, value))| (format!("{a};{b}{name}{c}={d}{raw}"), name, value));
    let entry = (token, prop::collection::vec(param, 0..4)).prop_map(|(name, params)| {
        let mut metric = metric(&name, &[]);
        let mut text = name;
        for (raw, name, value) in params {
            text.push_str(&raw);
            let name = name.to_ascii_lowercase();
            if metric.param(&name).is_none() {
                metric.params.push((name, value));
            }
        }
        (text, metric)
    });
    (prop::collection::vec(entry, 0..5), blanks, blanks).prop_map(|(entries, before, after)| {
        let (texts, metrics): (Vec<String>, Vec<Metric>) = entries.into_iter().unzip();
        (texts.join(&format!("{before},{after}")), metrics)
    })
}

proptest! {
    #[test]
    fn what_was_written_is_read_back(books in books()) {
        let text = write(&books);
        prop_assert!(text.bytes().all(|b| (0x20..0x7f).contains(&b)), "{}", text);
        let read = breakdown_from(&parse(&text)).unwrap();
        let sum: u64 = read.entries.iter().map(|e| e.exclusive_ns).sum();
        prop_assert_eq!(sum + read.other_ns, read.total_ns);
        prop_assert_eq!(read, books);
    }

    #[test]
    fn the_grammar_is_accepted((text, metrics) in grammatical()) {
        prop_assert_eq!(parse(&text), metrics);
    }

    #[test]
    fn nothing_makes_the_parser_panic(
        text in prop_oneof![any::<String>(), "[a-z;=,\"\\\\ .0-9é]{0,40}"],
    ) {
        for metric in parse(&text) {
            prop_assert!(metric.dur_ms().is_finite());
        }
        let _ = breakdown_from(&parse(&text));
    }
}

use std::collections::HashSet;
use std::io::Write;

use super::*;

/// The real files, or `None` where they are absent (which is an error in CI).
fn real() -> Option<Dataset> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/banking77");
    let dir = std::env::var_os("MIPRO_BANKING77").map_or(beside, PathBuf::from);
    if dir.join("train.csv").exists() {
        return Some(Dataset::load(&dir).unwrap());
    }
    let line =
        "skipped: no Banking77 files (point MIPRO_BANKING77 at a directory with train.csv and test.csv)";
    assert!(std::env::var_os("CI").is_none(), "{line}");
    writeln!(std::io::stderr(), "{line}").unwrap();
    None
}

fn written(train: &[u8], test: &[u8]) -> Result<Dataset, String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("train.csv"), train).unwrap();
    std::fs::write(dir.path().join("test.csv"), test).unwrap();
    Dataset::load(dir.path()).map_err(|e| e.to_string().replace(&dir.path().display().to_string(), "DIR"))
}

const GOOD: &[u8] = b"text,category\nhello there,greeting\n";

#[test]
fn the_real_files_have_all_their_rows() {
    let Some(real) = real() else { return };
    assert_eq!((real.train().len(), real.test().len(), real.labels().len()), (10_003, 3_080, 77));
    assert!(real.train().iter().any(|example| example.text.contains('\n')), "quoted texts span lines");
}

#[test]
fn the_built_in_set_covers_the_real_labels_in_other_words() {
    let Some(real) = real() else { return };
    let builtin = Dataset::builtin();
    assert_eq!(builtin.labels(), real.labels());
    let known = QueryIndex::new(&real);
    for example in builtin.train().iter().chain(builtin.test()) {
        assert!(known.exact(&example.text).is_none(), "{:?} is a real query", example.text);
    }
}

#[test]
fn the_built_in_set_has_enough_of_every_intent() {
    let set = Dataset::builtin();
    assert_eq!(set.labels().len(), 77);
    for (label, name) in set.labels().iter().enumerate() {
        let of = |split: &[Example]| split.iter().filter(|example| example.label == label).count();
        assert!(of(set.train()) >= 2 && of(set.test()) >= 1, "{name} has too few queries");
    }
    let texts: HashSet<&str> =
        set.train().iter().chain(set.test()).map(|example| example.text.as_str()).collect();
    assert_eq!(texts.len(), set.train().len() + set.test().len(), "a query stands twice");
}

#[test]
fn quoted_lines_marks_and_foreign_columns_are_read() {
    let set = written(
        b"\xef\xbb\xbfid,category,text\r\n1,b,\"two\nlines, \"\"quoted\"\"\"\r\n2,a,  plain  \r\n",
        b"text,category\nx,b\n",
    )
    .unwrap();
    assert_eq!(set.labels(), ["a", "b"]);
    assert_eq!(set.train()[0], Example { text: "two\nlines, \"quoted\"".to_owned(), label: 1 });
    assert_eq!(set.label_of(&set.train()[1]), "a");
    assert_eq!(set.train()[1].text, "plain");
}

#[test]
fn errors_name_file_line_and_remedy() {
    let error = |train: &[u8], test: &[u8]| written(train, test).unwrap_err();
    insta::assert_snapshot!(error(b"text,label\nx,y\n", GOOD), @"DIR/train.csv has no column `category`: its first line must name text and category (found: text, label)");
    insta::assert_snapshot!(error(b"", GOOD), @"DIR/train.csv has no column `text`: its first line must name text and category (found: )");
    insta::assert_snapshot!(error(b"text,category\n", GOOD), @"DIR/train.csv has no rows below its first line");
    insta::assert_snapshot!(error(b"text,category\nx,\n", GOOD), @"DIR/train.csv line 2: the category is empty");
    insta::assert_snapshot!(error(b"text,category\n\"a\nb\",z\n \t,z\n", GOOD), @"DIR/train.csv line 4: the text is empty");
    insta::assert_snapshot!(error(b"text,category\nx,y,z\n", GOOD), @"in DIR/train.csv: CSV error: record 1 (line: 2, byte: 14): found record with 3 fields, but the previous record has 2 fields");
    insta::assert_snapshot!(error(b"text,category\n\xff,z\n", GOOD), @"in DIR/train.csv: CSV parse error: record 1 (line 2, field: 0, byte: 14): invalid utf-8: invalid UTF-8 in field 0 near byte index 0");
    insta::assert_snapshot!(error(GOOD, b"text,category\nx,farewell\n"), @"DIR/test.csv line 2: label `farewell` does not occur in train.csv");
}

#[test]
fn a_missing_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("train.csv"), GOOD).unwrap();
    let error = Dataset::load(dir.path()).unwrap_err().to_string();
    insta::assert_snapshot!(error.replace(&dir.path().display().to_string(), "DIR"), @"can't read DIR/test.csv: entity not found; a data set is a directory with train.csv and test.csv");
}

#[test]
fn a_seed_picks_its_row_modulo_the_rows() {
    let set = Dataset::builtin();
    let rows = set.test().len() as i128;
    assert_eq!(row_of(7, set.test()), 7);
    assert_eq!(row_of(rows + 7, set.test()), 7);
    assert_eq!(row_of(-1, set.test()), set.test().len() - 1);
    assert_eq!(row_of(i128::from(u64::MAX), set.test()), (i128::from(u64::MAX) % rows) as usize);
}

#[test]
fn the_index_finds_the_longest_query_at_word_edges() {
    let set = written(
        b"text,category\nlost card,a\nI have a lost card at home,b\nhi,c\n\"over\ntwo lines\",d\n",
        b"text,category\nx,a\n",
    )
    .unwrap();
    let index = QueryIndex::new(&set);
    let within = |text: &str| index.within(text).map(|found| set.labels()[found.label].as_str());
    assert_eq!(within("Query: I have a lost card at home. Labels follow"), Some("b"));
    assert_eq!(within("my lost card"), Some("a"));
    assert_eq!(within("my lost cards"), None);
    assert_eq!(within("say \u{201c}hi\u{201d}"), Some("c"));
    assert_eq!(within("this"), None);
    assert_eq!(within("> over\ntwo lines <"), Some("d"));
    assert_eq!(within("é"), None);
    assert_eq!(index.exact(" lost card\n").map(|found| found.label), Some(0));
    assert_eq!(index.exact("lost"), None);
}

//! The queries and their right labels: Banking77 from files, or a small built-in set over the same 77 intents.
//!
//! Files are `DIR/train.csv` and `DIR/test.csv` with the columns `text` and `category` (RFC 4180: a quoted text may
//! span lines). White space around a text is no part of the query and is dropped.

mod index;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

pub(crate) use index::{Found, QueryIndex};

const BUILTIN_TRAIN: &str = include_str!("builtin/train.csv");
const BUILTIN_TEST: &str = include_str!("builtin/test.csv");
const BUILTIN_NAME: &str = "built-in set";
const COLUMNS: [&str; 2] = ["text", "category"];

/// Why a data set can't be used. Every message names the file, and the line where there is one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read.
    #[error("can't read {file}: {}; a data set is a directory with train.csv and test.csv", .source.kind())]
    Read {
        /// Which file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file isn't CSV, or isn't UTF-8.
    #[error("in {file}: {reason}")]
    Csv {
        /// Which file.
        file: String,
        /// What is wrong with it.
        reason: csv::Error,
    },
    /// A column is missing.
    #[error("{file} has no column `{column}`: its first line must name text and category (found: {found})")]
    Column {
        /// Which file.
        file: String,
        /// Which column.
        column: &'static str,
        /// The columns that are there.
        found: String,
    },
    /// A field is empty.
    #[error("{file} line {line}: the {column} is empty")]
    EmptyField {
        /// Which file.
        file: String,
        /// Where the row begins, counted from 1.
        line: u64,
        /// Which column.
        column: &'static str,
    },
    /// A file has no rows.
    #[error("{file} has no rows below its first line")]
    Empty {
        /// Which file.
        file: String,
    },
    /// A test row has a label that training never saw.
    #[error("{file} line {line}: label `{label}` does not occur in train.csv")]
    UnknownLabel {
        /// Which file.
        file: String,
        /// Where the row begins, counted from 1.
        line: u64,
        /// The label.
        label: String,
    },
}

/// One query and its right label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// What the customer wrote.
    pub text: String,
    /// The label's place in [`Dataset::labels`].
    pub label: usize,
}

/// A data set: its labels and its two splits. Neither split is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    name: String,
    labels: Vec<String>,
    train: Vec<Example>,
    test: Vec<Example>,
}

impl Dataset {
    /// Reads `DIR/train.csv` and `DIR/test.csv`, or takes the built-in set where there is no directory.
    ///
    /// # Errors
    /// As [`Dataset::load`].
    pub fn load_or_builtin(dir: Option<&Path>) -> Result<Self, Error> {
        dir.map_or_else(|| Ok(Self::builtin()), Self::load)
    }

    /// Reads `DIR/train.csv` and `DIR/test.csv`. Blocks on the file system.
    ///
    /// # Errors
    /// A file, a column, a field or every row is missing, the CSV is broken, or test has a label that train hasn't.
    pub fn load(dir: &Path) -> Result<Self, Error> {
        let read = |name: &str| {
            let path: PathBuf = dir.join(name);
            let file = path.display().to_string();
            match std::fs::read(&path) {
                Ok(bytes) => parse(&file, &bytes).map(|rows| (file, rows)),
                Err(source) => Err(Error::Read { file, source }),
            }
        };
        let (_, train) = read("train.csv")?;
        let (test_file, test) = read("test.csv")?;
        Self::assemble(dir.display().to_string(), train, &test_file, test)
    }

    /// The built-in set: every intent of Banking77 in this project's own words, three queries to train on and one to
    /// test for each.
    #[must_use]
    pub fn builtin() -> Self {
        let rows = |bytes: &str| {
            parse(BUILTIN_NAME, bytes.as_bytes()).expect("the built-in set is valid, see tests")
        };
        Self::assemble(BUILTIN_NAME.to_owned(), rows(BUILTIN_TRAIN), BUILTIN_NAME, rows(BUILTIN_TEST))
            .expect("the built-in set is complete, see tests")
    }

    fn assemble(name: String, train: Vec<Row>, test_file: &str, test: Vec<Row>) -> Result<Self, Error> {
        let mut labels: Vec<String> = train.iter().map(|row| row.category.clone()).collect();
        labels.sort_unstable_by_key(|label| (label.to_lowercase(), label.clone()));
        labels.dedup();
        let place: HashMap<&str, usize> =
            labels.iter().enumerate().map(|(i, label)| (label.as_str(), i)).collect();
        let numbered = |rows: Vec<Row>, file: &str| {
            rows.into_iter()
                .map(|row| match place.get(row.category.as_str()) {
                    Some(label) => Ok(Example { text: row.text, label: *label }),
                    None => Err(Error::UnknownLabel {
                        file: file.to_owned(),
                        line: row.line,
                        label: row.category,
                    }),
                })
                .collect::<Result<Vec<Example>, Error>>()
        };
        let train = numbered(train, "train.csv")?;
        let test = numbered(test, test_file)?;
        Ok(Self { name, labels, train, test })
    }

    /// Where it comes from, for people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every label, in alphabetical order.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The label of an example of this data set.
    ///
    /// # Panics
    /// Where the example comes from a data set with more labels.
    #[must_use]
    pub fn label_of(&self, example: &Example) -> &str {
        &self.labels[example.label]
    }

    /// The split called `train` or `test`; `None` for any other name.
    #[must_use]
    pub fn split(&self, name: &str) -> Option<&[Example]> {
        match name {
            "train" => Some(&self.train),
            "test" => Some(&self.test),
            _ => None,
        }
    }

    /// The training examples.
    #[must_use]
    pub fn train(&self) -> &[Example] {
        &self.train
    }

    /// The test examples.
    #[must_use]
    pub fn test(&self) -> &[Example] {
        &self.test
    }
}

/// The row that a seed picks: `seed mod rows`, never negative.
#[must_use]
pub(crate) fn row_of(seed: i128, split: &[Example]) -> usize {
    // A row number fits: it is below the length of a slice.
    seed.rem_euclid(split.len().max(1) as i128) as usize
}

struct Row {
    line: u64,
    text: String,
    category: String,
}

fn parse(file: &str, bytes: &[u8]) -> Result<Vec<Row>, Error> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let broken = |reason| Error::Csv { file: file.to_owned(), reason };
    let mut reader = csv::ReaderBuilder::new().from_reader(bytes);
    let header = reader.headers().map_err(broken)?.clone();
    let mut places = [0; COLUMNS.len()];
    for (place, column) in places.iter_mut().zip(COLUMNS) {
        *place = header.iter().position(|name| name.trim() == column).ok_or_else(|| Error::Column {
            file: file.to_owned(),
            column,
            found: header.iter().collect::<Vec<_>>().join(", "),
        })?;
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(broken)?;
        let line = record.position().map_or(0, csv::Position::line);
        let mut fields =
            places.iter().zip(COLUMNS).map(|(place, column)| match record.get(*place).map(str::trim) {
                Some(field) if !field.is_empty() => Ok(field.to_owned()),
                _ => Err(Error::EmptyField { file: file.to_owned(), line, column }),
            });
        let (Some(text), Some(category)) = (fields.next(), fields.next()) else { continue };
        rows.push(Row { line, text: text?, category: category? });
    }
    if rows.is_empty() { Err(Error::Empty { file: file.to_owned() }) } else { Ok(rows) }
}

#[cfg(test)]
mod tests;

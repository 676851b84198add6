//! Finds a known query inside a longer text.

use std::collections::HashMap;

use super::Dataset;

/// Texts are filed under their first bytes; shorter texts are tried one by one.
const PREFIX_BYTES: usize = 8;

/// A known query that was found in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    /// The query.
    pub(crate) text: &'a str,
    /// Its right label's place among the labels.
    pub(crate) label: usize,
}

/// Every query of a data set, ready to be looked up.
#[derive(Debug)]
pub(crate) struct QueryIndex {
    exact: HashMap<String, usize>,
    by_prefix: HashMap<[u8; PREFIX_BYTES], Vec<(String, usize)>>,
    short: Vec<(String, usize)>,
}

impl QueryIndex {
    /// Files every query of both splits. Where a text stands twice, its first label counts.
    pub(crate) fn new(dataset: &Dataset) -> Self {
        let mut index = Self { exact: HashMap::new(), by_prefix: HashMap::new(), short: Vec::new() };
        for example in dataset.train().iter().chain(dataset.test()) {
            if index.exact.contains_key(&example.text) {
                continue;
            }
            index.exact.insert(example.text.clone(), example.label);
            match prefix(example.text.as_bytes()) {
                Some(key) => {
                    index.by_prefix.entry(key).or_default().push((example.text.clone(), example.label));
                }
                None => index.short.push((example.text.clone(), example.label)),
            }
        }
        index
    }

    /// The query that is the whole text, but for white space around it.
    pub(crate) fn exact(&self, text: &str) -> Option<Found<'_>> {
        self.exact.get_key_value(text.trim()).map(|(text, label)| Found { text, label: *label })
    }

    /// The longest query that stands somewhere in the text, whole words only. Takes one lookup a byte of text.
    pub(crate) fn within(&self, text: &str) -> Option<Found<'_>> {
        let mut best: Option<Found<'_>> = None;
        for (at, _) in text.char_indices().filter(|(at, _)| is_edge(text, *at)) {
            let rest = &text[at..];
            let filed = prefix(rest.as_bytes()).and_then(|key| self.by_prefix.get(&key));
            for (known, label) in filed.into_iter().flatten().chain(&self.short) {
                let longer = best.is_none_or(|best| known.len() > best.text.len());
                if longer && rest.starts_with(known) && is_edge(text, at + known.len()) {
                    best = Some(Found { text: known, label: *label });
                }
            }
        }
        best
    }
}

fn prefix(bytes: &[u8]) -> Option<[u8; PREFIX_BYTES]> {
    bytes.first_chunk().copied()
}

/// Whether no word runs across this place.
fn is_edge(text: &str, at: usize) -> bool {
    let before = text[..at].chars().next_back();
    let after = text[at..].chars().next();
    !(before.is_some_and(char::is_alphanumeric) && after.is_some_and(char::is_alphanumeric))
}

//! ListObjectsV2 over an ordered map of keys: prefix, delimiter, paging.

use std::collections::BTreeMap;
use std::ops::Bound;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

/// What to list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Query<'a> {
    /// Only keys that start with it.
    pub(super) prefix: &'a str,
    /// Keys with it after the prefix are rolled up into one common prefix; empty means none.
    pub(super) delimiter: &'a str,
    /// Only keys after it; a continuation token overrides it.
    pub(super) start_after: &'a str,
    /// Where the page before this one ended.
    pub(super) after: Option<&'a Mark>,
    /// Keys and common prefixes a page holds at most.
    pub(super) items_max: usize,
}

/// The last item of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// An object's key.
    Key(String),
    /// A common prefix: every key under it has been listed.
    Prefix(String),
}

impl Mark {
    /// The opaque token that clients give back.
    pub(super) fn to_token(&self) -> String {
        let (kind, text) = match self {
            Self::Key(key) => ('k', key),
            Self::Prefix(prefix) => ('p', prefix),
        };
        BASE64.encode(format!("{kind}{text}"))
    }

    /// Reads a token; `None` when it is none of ours.
    pub(super) fn from_token(token: &str) -> Option<Self> {
        let text = String::from_utf8(BASE64.decode(token).ok()?).ok()?;
        match text.split_at_checked(1)? {
            ("k", key) => Some(Self::Key(key.to_owned())),
            ("p", prefix) => Some(Self::Prefix(prefix.to_owned())),
            _ => None,
        }
    }
}

/// One page of a listing.
#[derive(Debug)]
pub(super) struct Page<T> {
    /// Objects, by key.
    pub(super) objects: Vec<(String, T)>,
    /// Common prefixes, in order.
    pub(super) prefixes: Vec<String>,
    /// Where the next page starts; `None` on the last.
    pub(super) next: Option<Mark>,
}

/// One page of the keys that the query selects. `T` is cloned, so let it be cheap.
pub(super) fn page<E, T>(keys: &BTreeMap<String, E>, query: Query<'_>, read: impl Fn(&E) -> T) -> Page<T> {
    let mut page = Page { objects: Vec::new(), prefixes: Vec::new(), next: None };
    if query.items_max == 0 {
        return page;
    }
    let (after_key, done_prefix) = match query.after {
        Some(Mark::Key(key)) => (key.as_str(), None),
        Some(Mark::Prefix(prefix)) => (prefix.as_str(), Some(prefix.as_str())),
        None => (query.start_after, None),
    };
    // Keys under the finished prefix are skipped one by one below: they follow it directly.
    let from =
        if query.prefix > after_key { Bound::Included(query.prefix) } else { Bound::Excluded(after_key) };
    let mut last = None;
    for (key, entry) in keys.range::<str, _>((from, Bound::Unbounded)) {
        let Some(rest) = key.strip_prefix(query.prefix) else { break };
        if done_prefix.is_some_and(|prefix| key.starts_with(prefix)) {
            continue;
        }
        let common = common_prefix(key, rest, query.delimiter);
        if common.is_some_and(|prefix| page.prefixes.last().is_some_and(|last| last == prefix)) {
            continue;
        }
        if page.objects.len() + page.prefixes.len() == query.items_max {
            page.next = last;
            break;
        }
        match common {
            Some(prefix) => {
                page.prefixes.push(prefix.to_owned());
                last = Some(Mark::Prefix(prefix.to_owned()));
            }
            None => {
                page.objects.push((key.clone(), read(entry)));
                last = Some(Mark::Key(key.clone()));
            }
        }
    }
    page
}

/// The part of the key up to and including the first delimiter after the prefix.
fn common_prefix<'a>(key: &'a str, rest: &str, delimiter: &str) -> Option<&'a str> {
    if delimiter.is_empty() {
        return None;
    }
    let at = rest.find(delimiter)?;
    key.get(..key.len() - rest.len() + at + delimiter.len())
}

/// Percent-encodes a key for a listing with `encoding-type=url`, as clients ask for that must survive XML.
pub(super) fn url_encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/' | b'*') {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

//! API keys: who a caller is.
//!
//! Keys are kept as BLAKE3 hashes only, and a presented key is compared with all of them in constant time, so that neither
//! memory dumps nor clocks tell a key. Keys are long random texts, not passwords: a slow hash would buy nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use uuid::Uuid;

use crate::config::AuthOptions;
use crate::engine::Access;
use crate::system::OrgId;

#[cfg(test)]
mod tests;

/// The org of keys that name none, and of everybody in open mode.
pub const DEFAULT_ORG: OrgId = Uuid::from_u128(0x0de0_fa17_0000_4000_8000_0000_0000_0001);

/// Why the keys can't be used. Names places, never keys.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error("can't read API keys from {path}: {source}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file holds no key: open mode must be asked for by naming no file.
    #[error("{path} holds no API key; name no file to serve without keys", path = path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// A line or entry can't be read.
    #[error("{place}: {problem}")]
    Malformed {
        /// Which line of which file, or which entry of which variable.
        place: String,
        /// What is wrong.
        problem: &'static str,
    },
}

/// A caller whose key is missing or wrong. What exactly is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a valid API key is needed: send `Authorization: Bearer <key>`")]
pub struct Denied;

/// Known keys, hashed. Empty: open mode.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    entries: Vec<([u8; 32], OrgId)>,
}

impl Keyring {
    /// Reads all configured keys.
    ///
    /// # Errors
    /// When the file can't be read or is empty, an entry is malformed, or one key stands for two orgs.
    pub fn load(options: &AuthOptions) -> Result<Self, Error> {
        let mut keys = BTreeMap::new();
        if let Some(text) = &options.keys {
            for (index, entry) in text.expose().split(',').enumerate() {
                add(&mut keys, entry, || format!("MIPRO_API_KEYS, entry {}", index + 1))?;
            }
            if keys.is_empty() {
                let (place, problem) =
                    ("MIPRO_API_KEYS".to_owned(), "holds no key; unset it to serve without keys");
                return Err(Error::Malformed { place, problem });
            }
        }
        if let Some(path) = &options.keys_file {
            let text =
                std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.clone(), source })?;
            let before = keys.len();
            for (index, line) in text.lines().enumerate() {
                let entry = line.split('#').next().unwrap_or("");
                add(&mut keys, entry, || format!("{}, line {}", path.display(), index + 1))?;
            }
            if keys.len() == before && before == 0 {
                return Err(Error::Empty { path: path.clone() });
            }
        }
        Ok(Self { entries: keys.into_iter().collect() })
    }

    /// Whether there are no keys, so that everybody is let in as [`DEFAULT_ORG`].
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// As [`Keyring::is_open`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The org of a key. Takes the same time for every key of that length.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<OrgId> {
        let hash = hash(key);
        let (mut found, mut org) = (Choice::from(0), 0_u128);
        for (known, owner) in &self.entries {
            let same = known.ct_eq(&hash);
            org.conditional_assign(&owner.as_u128(), same);
            found |= same;
        }
        bool::from(found).then(|| Uuid::from_u128(org))
    }

    /// The org of a caller of the API, by its Bearer header.
    ///
    /// # Errors
    /// [`Denied`] unless the key is known or the service is open.
    pub fn admit(&self, headers: &HeaderMap) -> Result<OrgId, Denied> {
        if self.is_open() {
            return Ok(DEFAULT_ORG);
        }
        bearer(headers).and_then(|key| self.find(key)).ok_or(Denied)
    }

    /// Lets a caller of the proxy in by `X-API-Key` or, where that is none of ours, by Bearer.
    ///
    /// # Errors
    /// [`Denied`] unless one of both is known or the service is open.
    pub fn admit_to_proxy(&self, headers: &HeaderMap) -> Result<Admitted, Denied> {
        if self.is_open() {
            return Ok(Admitted { access: Access::Capability, own_bearer: false });
        }
        let by_bearer = bearer(headers).and_then(|key| self.find(key));
        let named = headers.get("x-api-key").and_then(|value| value.to_str().ok());
        let org = named.and_then(|key| self.find(key.trim())).or(by_bearer).ok_or(Denied)?;
        Ok(Admitted { access: Access::Org(org), own_bearer: by_bearer.is_some() })
    }
}

/// A caller of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// Which systems it may call.
    pub access: Access,
    /// Its Bearer is one of our keys, and must not be passed on to an LLM.
    pub own_bearer: bool,
}

/// The token of `Authorization: Bearer <token>`; the scheme's case does not matter.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn hash(key: &str) -> [u8; 32] {
    blake3::derive_key("mipro api key 2025-11", key.as_bytes())
}

fn add(keys: &mut BTreeMap<[u8; 32], OrgId>, entry: &str, place: impl Fn() -> String) -> Result<(), Error> {
    let entry = entry.trim();
    if entry.is_empty() {
        return Ok(());
    }
    let malformed = |problem| Error::Malformed { place: place(), problem };
    let (key, org) = match entry.rsplit_once(':') {
        None => (entry, DEFAULT_ORG),
        Some((key, org)) => {
            let org = org
                .trim()
                .parse()
                .map_err(|_| malformed("what follows the last `:` must be the org's UUID"))?;
            (key.trim(), org)
        }
    };
    if key.is_empty() || key.contains(char::is_whitespace) {
        return Err(malformed("the key before `:` must be a text without blanks"));
    }
    match keys.insert(hash(key), org) {
        Some(other) if other != org => Err(malformed("this key is listed before, with another org")),
        _ => Ok(()),
    }
}

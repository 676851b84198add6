//! The ready line: the one thing a role prints on stdout.

/// Where a role listens, as it said itself: `listening on URL`, or `listening on URL admin URL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The address of what the role serves (`http://`, `tcp://` or `postgres://`).
    pub url: String,
    /// The address of the role's own controls and counters, if it has any.
    pub admin_url: Option<String>,
}

impl Ready {
    /// Reads a ready line; `None` if the line is anything else.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.trim().strip_prefix("listening on ")?.split_ascii_whitespace();
        let url = words.next().filter(|word| is_url(word))?;
        let admin_url = match (words.next(), words.next()) {
            (None, _) => None,
            (Some("admin"), Some(admin)) if is_url(admin) => Some(admin.to_owned()),
            _ => return None,
        };
        if words.next().is_some() {
            return None;
        }
        Some(Self { url: url.to_owned(), admin_url })
    }

    /// `host:port` of [`Ready::url`], without user, path and query.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        authority(&self.url)
    }
}

/// `host:port` of a URL; `None` if it has no authority or no port.
pub(crate) fn authority(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?', '#']).next()?;
    let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
    let port = address.rsplit_once(':')?.1;
    port.parse::<u16>().is_ok().then_some(address)
}

fn is_url(word: &str) -> bool {
    authority(word).is_some()
}

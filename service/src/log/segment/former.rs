//! The ids of the logs that this one was built from (`mipro state repair`, `import`): rows name the log that claimed a system
//! last, and what that log had is here now. A file `former-ids` beside the segments, one id a line, oldest first; it is written
//! before the new log takes the old one's place, and never changes. A log that was not built from another one has none.

use std::io;

use uuid::Uuid;

use super::super::disk::{Dir, read_all};

/// Its name.
pub(crate) const NAME: &str = "former-ids";

/// As the file has them.
pub(crate) fn encode(ids: &[Uuid]) -> String {
    ids.iter().map(|id| format!("{id}\n")).collect()
}

/// Reads them back; `None` for what was never written so.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<Uuid>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let ids: Option<Vec<Uuid>> = text.lines().map(|line| line.parse().ok()).collect();
    ids.filter(|ids| encode(ids) == text)
}

/// Those of the log in a directory; none where there is no such file.
///
/// # Errors
/// The file can't be read, or ([`io::ErrorKind::InvalidData`]) is not what was written.
pub(crate) fn read(dir: &dyn Dir) -> io::Result<Vec<Uuid>> {
    let file = match dir.open(NAME) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    decode(&read_all(&*file)?).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it holds no ids"))
}

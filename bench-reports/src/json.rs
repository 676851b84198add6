//! `report.json`: read and written whole; a reader never sees half a file, nor a file of another schema as if it were ours.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::schema::{Report, SCHEMA};

#[cfg(test)]
mod tests;

/// Why a report could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system said no.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Not JSON at all (cut off, or another file).
    #[error("{} is not JSON", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where it stops being JSON.
        source: serde_json::Error,
    },
    /// JSON without the field that says what it is.
    #[error("{} is not a report: it has no \"schema\" (this build reads \"{SCHEMA}\")", path.display())]
    NoSchema {
        /// The file.
        path: PathBuf,
    },
    /// A report of another version.
    #[error("{} has schema \"{found}\"; this build reads \"{SCHEMA}\": use the build that wrote it", path.display())]
    OtherSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: String,
    },
    /// The right schema, but a field is missing or of the wrong type.
    #[error("{} says it is \"{SCHEMA}\" but does not keep to it", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// Which field.
        source: serde_json::Error,
    },
}

#[derive(Deserialize)]
struct Probe {
    schema: Option<serde_json::Value>,
}

/// Reads a report.
///
/// # Errors
/// When the file cannot be read, is not JSON, or is not of schema [`SCHEMA`].
pub fn read(path: &Path) -> Result<Report, Error> {
    let bytes =
        fs::read(path).map_err(|source| Error::Io { action: "read", path: path.to_owned(), source })?;
    let probe: Probe =
        serde_json::from_slice(&bytes).map_err(|source| Error::Syntax { path: path.to_owned(), source })?;
    match probe.schema {
        Some(serde_json::Value::String(schema)) if schema == SCHEMA => {}
        Some(serde_json::Value::String(found)) => {
            return Err(Error::OtherSchema { path: path.to_owned(), found });
        }
        _ => return Err(Error::NoSchema { path: path.to_owned() }),
    }
    serde_json::from_slice(&bytes).map_err(|source| Error::Shape { path: path.to_owned(), source })
}

/// Writes a report: to a temporary file beside it, synced, then renamed over it.
///
/// # Errors
/// When the file cannot be written; what was there before is still there.
pub fn write(path: &Path, report: &Report) -> Result<(), Error> {
    write_atomically(path, to_text(report).as_bytes())
}

/// The report as indented JSON, ended by a newline.
///
/// # Panics
/// Never: a report has no maps with keys that JSON doesn't know; numbers that aren't finite become null.
#[must_use]
pub fn to_text(report: &Report) -> String {
    let mut text = serde_json::to_string_pretty(report).expect("a report's maps have text keys");
    text.push('\n');
    text
}

/// Replaces `path` by `content`, so that a reader sees the old or the new, whole.
///
/// # Errors
/// When the directory is missing or not writable, or the disk is full.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> Result<(), Error> {
    let name = path.file_name().map_or_else(|| "file".into(), |name| name.to_string_lossy());
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let fail = |action| move |source| Error::Io { action, path: path.to_owned(), source };
    let written = write_synced(&temporary, content).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one that matters.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(fail("write"))
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

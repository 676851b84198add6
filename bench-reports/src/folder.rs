//! A run's folder: `bench-reports/runs/<UTC time>-<commit>/`, and `bench-reports/runs/latest` → the last one written.
//!
//! It holds `report.json`, `report.html`, the configuration used, flamegraphs (`*.svg`) where there was profiling, and
//! HdrHistogram interval logs (values in nanoseconds): `rollout.hlog`, `overhead.hlog` and one `stage.<name>.hlog` a stage,
//! each with one line a rung, tagged by its name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};

use crate::hlog;
use crate::html;
use crate::json::{self, Error, write_atomically};
use crate::schema::Report;

/// Name of the report in a run's folder.
pub const REPORT_JSON: &str = "report.json";
/// Name of the page in a run's folder.
pub const REPORT_HTML: &str = "report.html";
/// Name of the configuration in a run's folder.
pub const CONFIG: &str = "config.toml";
/// Folders of one second and commit that may exist beside each other.
const SAME_NAME_MAX: u32 = 100;

/// A folder that a run's files go to.
#[derive(Debug, Clone)]
pub struct RunFolder {
    dir: PathBuf,
    /// `runs/`, when `latest` in it should point here.
    runs: Option<PathBuf>,
}

/// `<UTC time>-<commit>`: sorts by time, and is a file name everywhere.
#[must_use]
pub fn run_id(started_unix_us: u64, commit: &str) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(started_unix_us) * 1000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
        .to_offset(UtcOffset::UTC);
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let time = at.format(format).unwrap_or_else(|_| "unknown-time".to_owned());
    let commit: String = commit.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
    format!("{time}-{}", if commit.is_empty() { "unknown" } else { &commit })
}

/// A wall time as RFC 3339 in UTC with milliseconds, as [`crate::Run`] has it.
#[must_use]
pub fn rfc3339(unix_us: u64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_us / 1000) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    at.format(&Rfc3339).unwrap_or_else(|_| "1970-01-01T00:00:00Z".to_owned())
}

/// The report that `run` names: a `report.json`, a folder that has one, or the name of a run (or `latest`) under
/// `reports/runs/`.
///
/// # Errors
/// When there is none: the error names the last place looked at.
pub fn find_report(reports: &Path, run: &str) -> Result<PathBuf, Error> {
    let given = Path::new(run);
    let candidates =
        [given.to_owned(), given.join(REPORT_JSON), reports.join("runs").join(run).join(REPORT_JSON)];
    if let Some(found) = candidates.iter().find(|path| path.is_file()) {
        return Ok(found.clone());
    }
    let [.., last] = candidates;
    Err(Error::Io { action: "find", path: last, source: io::ErrorKind::NotFound.into() })
}

impl RunFolder {
    /// Makes `reports/runs/<id>/`, with `-2` and so on where that is taken; [`RunFolder::id`] says which it was.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(reports: &Path, id: &str) -> Result<Self, Error> {
        let runs = reports.join("runs");
        fs::create_dir_all(&runs).map_err(|source| io_error("create", &runs, source))?;
        for attempt in 1..=SAME_NAME_MAX {
            let name = if attempt == 1 { id.to_owned() } else { format!("{id}-{attempt}") };
            let dir = runs.join(name);
            match fs::create_dir(&dir) {
                Ok(()) => return Ok(Self { dir, runs: Some(runs) }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io_error("create", &dir, error)),
            }
        }
        Err(io_error("create", &runs.join(id), io::ErrorKind::AlreadyExists.into()))
    }

    /// Uses `dir` (`--out`), made if missing; other files in it are left alone, and `latest` is not moved.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn at(dir: &Path) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(|source| io_error("create", dir, source))?;
        Ok(Self { dir: dir.to_owned(), runs: None })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Its name, which is the run's id.
    #[must_use]
    pub fn id(&self) -> String {
        self.dir.file_name().map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    /// Writes everything, `report.json` last, then moves `latest`. Flamegraphs (`*.svg`) that are in the folder by then are drawn
    /// into the page. May be called again with a fuller report.
    ///
    /// # Errors
    /// When a file cannot be written; those already written stay.
    pub fn write(&self, report: &Report, config: &str) -> Result<(), Error> {
        write_atomically(&self.dir.join(CONFIG), config.as_bytes())?;
        let page = html::render_with(report, &html::flamegraphs(&self.dir));
        write_atomically(&self.dir.join(REPORT_HTML), page.as_bytes())?;
        for (name, log) in hlog::of_report(report) {
            write_atomically(&self.dir.join(format!("{name}.hlog")), log.as_bytes())?;
        }
        json::write(&self.dir.join(REPORT_JSON), report)?;
        self.runs.as_deref().map_or(Ok(()), |runs| self.point_latest(runs))
    }

    /// The link is relative, so that the whole folder may be moved; it is replaced in one step.
    fn point_latest(&self, runs: &Path) -> Result<(), Error> {
        let latest = runs.join("latest");
        let temporary = runs.join(format!(".latest.{}.tmp", std::process::id()));
        let linked = remove_if_there(&temporary)
            .and_then(|()| std::os::unix::fs::symlink(self.id(), &temporary))
            .and_then(|()| fs::rename(&temporary, &latest));
        if linked.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        linked.map_err(|source| io_error("link", &latest, source))
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io { action, path: path.to_owned(), source }
}

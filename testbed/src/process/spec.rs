//! What is to be started, and what it takes to end it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

/// How long a child may take to print its ready line unless its [`Spec`] says otherwise.
pub(crate) const READY_DEADLINE: Duration = Duration::from_secs(30);

/// A program to start as a child, with all that the supervisor must know about it.
#[derive(Clone)]
pub struct Spec {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) envs: Vec<(OsString, OsString)>,
    pub(crate) dir: Option<PathBuf>,
    pub(crate) ids: Option<(u32, u32)>,
    pub(crate) ready_deadline: Option<Duration>,
    pub(crate) stop_signals: Vec<Signal>,
    pub(crate) drop_signal: Signal,
}

impl Spec {
    /// A child called `name` in logs and errors. It is not waited for: see [`Spec::wait_for_ready_line`].
    #[must_use]
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            envs: Vec::new(),
            dir: None,
            ids: None,
            ready_deadline: None,
            stop_signals: vec![Signal::TERM],
            drop_signal: Signal::TERM,
        }
    }

    /// A role of our own binary: it dies with its stdin, and is ready when it says so.
    #[must_use]
    pub fn role(name: impl Into<String>, mipro_exe: &Path) -> Self {
        Self::new(name, mipro_exe).wait_for_ready_line(READY_DEADLINE)
    }

    /// Adds one argument. Command lines can be read by every user of the machine: a secret goes into [`Spec::env`].
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable, beside those the child inherits.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.envs.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets environment variables, beside those the child inherits.
    #[must_use]
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(self, envs: impl IntoIterator<Item = (K, V)>) -> Self {
        envs.into_iter().fold(self, |spec, (key, value)| spec.env(key, value))
    }

    /// Sets the child's working directory; without it the child has ours.
    #[must_use]
    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Makes the start wait until the child prints `listening on URL` on stdout, at most for `deadline`.
    #[must_use]
    pub fn wait_for_ready_line(mut self, deadline: Duration) -> Self {
        self.ready_deadline = Some(deadline);
        self
    }

    /// Runs the child as another user and group, without supplementary groups. Only root may.
    #[must_use]
    pub(crate) fn ids(mut self, uid: u32, gid: u32) -> Self {
        self.ids = Some((uid, gid));
        self
    }

    /// The polite signals to end it with, in order (each is given its time), and the one that a drop sends.
    #[must_use]
    pub(crate) fn stop_signals(mut self, signals: Vec<Signal>, at_drop: Signal) -> Self {
        self.stop_signals = signals;
        self.drop_signal = at_drop;
        self
    }

    pub(crate) fn command(&self) -> Command {
        use std::os::unix::process::CommandExt as _;

        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.envs.iter().map(|(key, value)| (key, value))).process_group(0);
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        if let Some((uid, gid)) = self.ids {
            // The standard library clears the supplementary groups itself when root sets another uid.
            command.uid(uid).gid(gid);
        }
        command
    }
}

/// Values of the environment are left out: secrets travel there.
impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let env_names: Vec<_> = self.envs.iter().map(|(key, _)| key).collect();
        f.debug_struct("Spec")
            .field("name", &self.name)
            .field("program", &self.program)
            .field("args", &self.args)
            .field("env_names", &env_names)
            .finish_non_exhaustive()
    }
}

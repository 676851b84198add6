//! One supervised child process.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::sync::{oneshot, watch};

use super::usage;
use super::{Error, Ready, Spec, Usage};

/// How long a drop waits after its polite signal before it kills.
const DROP_GRACE: Duration = Duration::from_secs(5);
/// How long anything waits for a process that got SIGKILL; only one stuck in the kernel takes longer.
const KILL_GRACE: Duration = Duration::from_secs(10);
/// How long each polite signal after the first is given.
const NEXT_SIGNAL_GRACE: Duration = Duration::from_secs(5);
/// How much of the end of a child's output goes into an error.
const TAIL_LINES_MAX: usize = 12;
const TAIL_BYTES_MAX: u64 = 8 * 1024;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exit {
    /// Its exit code or the signal that ended it.
    pub status: ExitStatus,
    /// The CPU time it had used, its own and that of the children it had waited for; memory is not known any more.
    pub usage: Option<Usage>,
}

/// How a child came to its end when asked to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stopped {
    /// How it ended; `None` if it still had not, long after SIGKILL.
    pub exit: Option<Exit>,
    /// Whether it took SIGKILL, because it had not ended within the deadline.
    pub forced: bool,
}

/// A handle of a running (or ended) child. Clones are the same child; when the last one is dropped, the child is asked
/// to end and, 5 seconds later, killed with its whole process group. That drop blocks until the child is gone.
#[derive(Debug, Clone)]
pub struct Child {
    owner: Arc<Owner>,
}

impl Child {
    /// Starts a child, with its output appended to a file of its own in `log_dir`, and waits for its ready line if the
    /// spec asks for one.
    ///
    /// Dropping the future ends the child as dropping its handle would.
    ///
    /// # Errors
    /// See [`Error`]. A child that is not ready in time has been ended when this returns.
    pub async fn start(spec: Spec, log_dir: &Path) -> Result<Self, Error> {
        Self::start_with_pulse(spec, log_dir, None).await
    }

    pub(super) async fn start_with_pulse(
        spec: Spec,
        log_dir: &Path,
        pulse: Option<Pulse>,
    ) -> Result<Self, Error> {
        let deadline = spec.ready_deadline;
        let (child, ready_line) = spawn(spec, log_dir, pulse)?;
        if let Some(deadline) = deadline {
            child.wait_until_ready(ready_line, deadline).await?;
        }
        Ok(child)
    }

    async fn wait_until_ready(
        &self,
        line: oneshot::Receiver<Ready>,
        deadline: Duration,
    ) -> Result<(), Error> {
        // A stdout that is closed without a ready line is followed by the end of the child or by the deadline.
        let ready = async {
            match line.await {
                Ok(ready) => ready,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            ready = ready => {
                *lock(&self.shared().ready) = Some(ready);
                Ok(())
            }
            exit = self.wait() => Err(Error::Died {
                name: self.name().to_owned(),
                status: exit.status.to_string(),
                stderr_tail: self.output_tail(),
            }),
            () = tokio::time::sleep(deadline) => {
                let tail = self.output_tail();
                self.terminate(Duration::from_secs(1)).await;
                Err(Error::NotReady {
                    name: self.name().to_owned(),
                    deadline_ms: deadline.as_millis(),
                    stderr_tail: tail,
                })
            }
        }
    }

    /// The name it has in logs and errors.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared().name
    }

    /// Its process id, which is its process group's as well.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.shared().pid.as_raw_pid()
    }

    /// What its ready line said; `None` if it was not waited for.
    #[must_use]
    pub fn ready(&self) -> Option<Ready> {
        lock(&self.shared().ready).clone()
    }

    /// The file that takes all it writes on stderr, and on stdout.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.shared().log_path
    }

    /// How it ended; `None` while it runs.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        *self.shared().exit.borrow()
    }

    /// Waits until it has ended. May be dropped and called again.
    pub async fn wait(&self) -> Exit {
        let mut exit = self.shared().exit.subscribe();
        loop {
            if let Some(exit) = *exit.borrow_and_update() {
                return exit;
            }
            // The sender is in `shared`, which we hold: it can't be gone.
            if exit.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Asks it to end (SIGTERM, and end-of-file on its stdin), waits for `deadline` at most, then kills its group. From
    /// here on its end counts as expected. Dropping the future leaves it asked, but not killed.
    pub async fn terminate(&self, deadline: Duration) -> Stopped {
        self.expect_end();
        self.close_stdin();
        let signals = self.owner.stop_signals.clone();
        for (index, signal) in signals.into_iter().enumerate() {
            let grace = if index == 0 { deadline } else { NEXT_SIGNAL_GRACE };
            self.signal(signal);
            // A stopped process acts on no signal until it is continued.
            self.signal(Signal::CONT);
            if let Ok(exit) = tokio::time::timeout(grace, self.wait()).await {
                return Stopped { exit: Some(exit), forced: false };
            }
        }
        tracing::warn!(child = self.name(), "did not end within its deadline; killing it");
        self.signal(Signal::KILL);
        Stopped { exit: tokio::time::timeout(KILL_GRACE, self.wait()).await.ok(), forced: true }
    }

    /// Kills it and its process group at once with SIGKILL, as a crash would. Its end counts as expected; await it
    /// with [`Child::wait`].
    pub fn kill_now(&self) {
        self.expect_end();
        self.signal(Signal::KILL);
    }

    /// Stops its process group (SIGSTOP), as a hung machine would, until [`Child::resume`].
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a paused child go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends SIGUSR1, which ends a process that does not expect it.
    pub fn signal_user1(&self) {
        self.signal(Signal::USR1);
    }

    /// What the process itself has used so far; `None` once it has ended, or where there is no `/proc`.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        let running = lock(&self.shared().running);
        if *running { usage::of_process(self.pid()) } else { None }
    }

    /// What the process and all its descendants have used so far: for a keeper, the server it keeps.
    #[must_use]
    pub fn usage_tree(&self) -> Option<Usage> {
        let running = lock(&self.shared().running);
        if *running { usage::of_tree(self.pid()) } else { None }
    }

    /// The last lines that it wrote; empty if it wrote none.
    #[must_use]
    pub fn output_tail(&self) -> String {
        output_tail(self.log_path()).unwrap_or_default()
    }

    /// Ends its stdin, as the end of the parent would.
    pub fn close_stdin(&self) {
        drop(lock(&self.shared().stdin).take());
    }

    pub(super) fn is_expected_to_end(&self) -> bool {
        self.shared().end_expected.load(Ordering::SeqCst)
    }

    pub(super) fn expect_end(&self) {
        self.shared().end_expected.store(true, Ordering::SeqCst);
    }

    /// Asks without waiting: the first half of a blocking drop.
    pub(super) fn ask_at_drop(&self) {
        self.owner.ask_at_drop();
    }

    /// The second half: blocks until the child is gone, killing it after `grace`.
    pub(super) fn end_at_drop(&self, grace: Duration) {
        self.shared().end_blocking(grace);
    }

    fn signal(&self, signal: Signal) {
        self.shared().signal(signal);
    }

    fn shared(&self) -> &Shared {
        &self.owner.shared
    }
}

/// What the handles share: when it is dropped, nobody can end the child any more, so it does.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    stop_signals: Vec<Signal>,
    drop_signal: Signal,
}

impl Owner {
    fn ask_at_drop(&self) {
        self.shared.end_expected.store(true, Ordering::SeqCst);
        drop(lock(&self.shared.stdin).take());
        self.shared.signal(self.drop_signal);
        self.shared.signal(Signal::CONT);
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if *lock(&self.shared.running) {
            self.ask_at_drop();
            self.shared.end_blocking(DROP_GRACE);
        }
    }
}

/// What the handles and the supervising thread share.
#[derive(Debug)]
struct Shared {
    name: String,
    pid: Pid,
    log_path: PathBuf,
    ready: Mutex<Option<Ready>>,
    stdin: Mutex<Option<ChildStdin>>,
    end_expected: AtomicBool,
    /// Held while a signal is sent and while the child is reaped, so that no signal can reach a stranger who was given
    /// the same process id.
    running: Mutex<bool>,
    ended: Condvar,
    exit: watch::Sender<Option<Exit>>,
}

impl Shared {
    fn signal(&self, signal: Signal) {
        let running = lock(&self.running);
        if !*running {
            return;
        }
        if let Err(error) = kill_process_group(self.pid, signal) {
            // The whole group may have ended already and wait to be reaped, which some systems report as an error.
            tracing::debug!(child = self.name, ?signal, %error, "could not send a signal");
        }
    }

    fn end_blocking(&self, grace: Duration) {
        if !self.wait_blocking(grace) {
            self.signal(Signal::KILL);
            if !self.wait_blocking(KILL_GRACE) {
                tracing::error!(child = self.name, pid = self.pid.as_raw_pid(), "did not end after SIGKILL");
            }
        }
    }

    fn wait_blocking(&self, deadline: Duration) -> bool {
        let running = lock(&self.running);
        let waited = self.ended.wait_timeout_while(running, deadline, |running| *running);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Tells a fleet that one of its children has ended.
pub(super) type Pulse = Arc<watch::Sender<()>>;

/// What the supervising thread hands over once the child runs.
type Spawned = io::Result<(Arc<Shared>, ChildStdout)>;

fn spawn(
    spec: Spec,
    log_dir: &Path,
    pulse: Option<Pulse>,
) -> Result<(Child, oneshot::Receiver<Ready>), Error> {
    let log_error =
        |source, path: &Path| Error::Log { name: spec.name.clone(), path: path.to_owned(), source };
    let (log_path, log) = create_log(log_dir, &spec.name).map_err(|error| log_error(error, log_dir))?;
    let stderr = log.try_clone().map_err(|error| log_error(error, &log_path))?;
    let mut command = spec.command();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);

    let spawn_error =
        |source| Error::Spawn { name: spec.name.clone(), program: spec.program.clone(), source };
    let (started, running) = sync_channel::<Spawned>(1);
    let name = spec.name.clone();
    let supervisor = thread::Builder::new().name(format!("wait-{name}"));
    supervisor.spawn(move || supervise(name, log_path, command, &started, pulse)).map_err(spawn_error)?;
    // The wait is for a fork and an exec, which the standard library does while blocking as well.
    let (shared, stdout) = running
        .recv()
        .unwrap_or_else(|_| Err(io::Error::other("the supervising thread ended")))
        .map_err(spawn_error)?;
    let owner = Owner { shared, stop_signals: spec.stop_signals, drop_signal: spec.drop_signal };
    let child = Child { owner: Arc::new(owner) };

    let (found, ready_line) = oneshot::channel();
    let reader = thread::Builder::new().name(format!("stdout-{}", child.name()));
    // Without a reader the child could block on a full pipe for ever; failing to start one is failing to start it.
    if let Err(source) = reader.spawn(move || read_stdout(stdout, log, found)) {
        return Err(Error::Spawn { name: child.name().to_owned(), program: spec.program, source });
    }
    Ok((child, ready_line))
}

/// The life of the supervising thread: start the child, wait for its end, clear up after it.
fn supervise(
    name: String,
    log_path: PathBuf,
    mut command: Command,
    started: &SyncSender<Spawned>,
    pulse: Option<Pulse>,
) {
    let mut process = match command.spawn() {
        Ok(process) => process,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    // The command holds our end of the log file's descriptors.
    drop(command);
    let pid = Pid::from_child(&process);
    let stdout = process.stdout.take().expect("stdout was asked for as a pipe");
    let shared = Arc::new(Shared {
        name,
        pid,
        log_path,
        ready: Mutex::new(None),
        stdin: Mutex::new(process.stdin.take()),
        end_expected: AtomicBool::new(false),
        running: Mutex::new(true),
        ended: Condvar::new(),
        exit: watch::Sender::new(None),
    });
    // The receiver waits for this message, unconditionally.
    let _ = started.send(Ok((Arc::clone(&shared), stdout)));

    // Learn of the end without reaping: until then the process id and the group's can't be given to anyone else.
    while let Err(rustix::io::Errno::INTR) =
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
    {}
    let usage = usage::of_tree(pid.as_raw_pid());
    let mut running = lock(&shared.running);
    // Whatever the child left in its group must not outlive it.
    let _ = kill_process_group(pid, Signal::KILL);
    let status = process.wait().unwrap_or_default();
    *running = false;
    drop(running);
    shared.exit.send_replace(Some(Exit { status, usage }));
    shared.ended.notify_all();
    if let Some(pulse) = pulse {
        pulse.send_replace(());
    }
}

/// Looks for the ready line, and keeps the pipe empty for as long as anyone writes to it.
fn read_stdout(stdout: ChildStdout, mut log: File, found: oneshot::Sender<Ready>) {
    let mut found = Some(found);
    let mut reader = BufReader::new(stdout);
    let mut line = Vec::new();
    loop {
        line.clear();
        // A program that writes no line ends must not fill our memory.
        match reader.by_ref().take(TAIL_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if let Some(ready) = Ready::parse(&String::from_utf8_lossy(&line))
            && let Some(found) = found.take()
        {
            // Nobody may be waiting for it.
            let _ = found.send(ready);
        }
        // A full disk must not stop the child.
        let _ = log.write_all(&line);
    }
}

/// A new file `<name>.log`, or `<name>-2.log` and so on when a child of that name ran before.
fn create_log(dir: &Path, name: &str) -> io::Result<(PathBuf, File)> {
    let stem: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    for number in 1..10_000_u32 {
        let file = if number == 1 { format!("{stem}.log") } else { format!("{stem}-{number}.log") };
        let path = dir.join(file);
        match OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(file) => return Ok((path, file)),
        }
    }
    Err(io::Error::other("there are 10,000 logs of that name already"))
}

fn output_tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let first = lines.len().saturating_sub(TAIL_LINES_MAX);
    Ok(lines[first..].join("\n"))
}

/// No code panics while it holds one of these locks, and the values would be sound if it did.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

"""Processes that end with the script, however it ends, and what they cost."""
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

CLIENT_CORE, SERVER_CORE = "0", "1"
PR_SET_PDEATHSIG = 1
LOG_TAIL_LINES = 12


class Failed(Exception):
    """Something that was started did not do what it is for. The message may have several lines."""


def end_on_signals():
    """SIGTERM and SIGHUP end the script as Ctrl-C does: by unwinding, so that everything started is stopped."""

    def end(number, _frame):
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


def pinned(core, command):
    """The command on one core, where this machine has two or more and taskset."""
    if (os.cpu_count() or 1) < 2 or not shutil.which("taskset"):
        return list(command)
    return ["taskset", "-c", core, *command]


def pinning():
    """A sentence about it."""
    cores = os.cpu_count() or 1
    if cores < 2 or not shutil.which("taskset"):
        return f"not pinned ({cores} core(s), taskset {'found' if shutil.which('taskset') else 'missing'})"
    return f"client on core {CLIENT_CORE}, every server on core {SERVER_CORE}, of {cores}"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(home, **more):
    """No proxies and no keys of whoever runs this: only what a server needs to start."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ}
    return {**kept, "HOME": str(home), "PYTHONUNBUFFERED": "1", **more}


def _die_with_parent():
    # Where this script is killed outright, nothing else would end its children.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """A server in a process group of its own, with its output in a file."""

    def __init__(self, name, command, log_path, env, core=SERVER_CORE):
        self.name, self.log_path = name, log_path
        self._log = open(log_path, "wb")  # closed in stop()
        self.process = subprocess.Popen(
            pinned(core, command), stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT,
            env=env, start_new_session=True, preexec_fn=_die_with_parent,
        )

    def check(self):
        """Raises where it has ended."""
        code = self.process.poll()
        if code is not None:
            raise Failed(f"{self.name} ended with {code}; its log ends:\n{self.log_tail()}")

    def log_text(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def log_tail(self):
        lines = self.log_text().splitlines()[-LOG_TAIL_LINES:]
        return "\n".join(f"    {line[:300]}" for line in lines) or "    (nothing)"

    def wait_for(self, ready, seconds):
        """What `ready` gives as soon as that is true of anything; raises when the child ends or time is up."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check()
            if found := ready():
                return found
            time.sleep(0.02)
        raise Failed(f"{self.name} was not ready within {seconds} s; its log ends:\n{self.log_tail()}")

    def signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def processes(self):
        """Ids of its group."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError):
                    if os.getpgid(int(entry)) == self.process.pid:
                        found.append(int(entry))
        return found

    def rss_bytes(self):
        """Resident memory of its group."""
        return sum(status_kib(pid, "VmRSS") for pid in self.processes()) * 1024

    def stop(self):
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.signal(signal.SIGKILL)
                self.process.wait()
        self._log.close()


def status_kib(pid, field):
    """A field of a process's status, KiB; 0 where there is none any more."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1])
    return 0


@contextlib.contextmanager
def started(name, command, log_path, env, core=SERVER_CORE):
    child = Child(name, command, log_path, env, core)
    try:
        yield child
    finally:
        child.stop()


def listening(child):
    """The URL that one of our own servers says it listens on."""
    for line in child.log_text().splitlines():
        if line.startswith("listening on "):
            return line.split()[2]
    return None


def answers(url, data=None, headers=None, seconds=5):
    """The body of an answer 200; None where there is no such answer."""
    request = urllib.request.Request(url, data, headers or {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=seconds) as answer:
            return answer.read() or b" "
    except (urllib.error.URLError, OSError):
        return None


def connections(port):
    """Established connections to a port of this machine, seen from the server."""
    count = 0
    with open("/proc/net/tcp", encoding="ascii") as table:
        for line in list(table)[1:]:
            fields = line.split()
            count += fields[3] == "01" and int(fields[1].rsplit(":", 1)[1], 16) == port
    return count


NGINX_HEAD = """daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/nginx-error.log;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
"""


@contextlib.contextmanager
def nginx(folder, name, server):
    """An nginx of one process; `server` is what stands in http {}, with {port} for its port. Gives the child and the port."""
    folder = os.path.join(folder, name)
    os.makedirs(folder, exist_ok=True)
    port = free_port()
    config = os.path.join(folder, "nginx.conf")
    with open(config, "w", encoding="utf-8") as file:
        file.write(NGINX_HEAD.format(dir=folder) + server.replace("{port}", str(port)) + "\n}\n")
    command = [shutil.which("nginx") or "/usr/sbin/nginx", "-c", config, "-e", f"{folder}/nginx-error.log"]
    with started(name, command, f"{folder}/out.log", environment(folder)) as child:
        child.wait_for(lambda: can_connect(port), 10)
        yield child, port


def can_connect(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def load_average():
    return " ".join(f"{value:.1f}" for value in os.getloadavg())

"""Load generators as child processes: command lines, and what they print, read."""
import json
import os
import re
import signal
import subprocess
import tempfile
from dataclasses import dataclass, field

from peers.children import CLIENT_CORE, Failed, pinned

UNITS_US = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6}


@dataclass
class Ran:
    """A client that ended: what it printed, and what it cost."""

    code: int
    out: str
    err: str
    cpu_seconds: float
    rss_bytes: int


@dataclass
class Seen:
    """What a client says of a run. Times in microseconds; None: not said."""

    ok: int = 0
    failed: int = 0
    intended: int | None = None
    accounted: int = 0
    p50_us: float | None = None
    p99_us: float | None = None
    max_us: float | None = None
    remark: str = ""
    more: dict = field(default_factory=dict)


def run(command, seconds, on_start=None, api_key=""):
    """Runs a client on its core. `seconds` is when it is given up; `on_start` is called when it runs, with its pid. The key is for
    `mipro load`, which takes it from the environment: command lines can be read by everyone."""
    env = {**{name: value for name, value in os.environ.items() if name != "MIPRO_API_KEY"}, **({"MIPRO_API_KEY": api_key} if api_key else {})}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(pinned(CLIENT_CORE, command), stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env)
        signal.signal(signal.SIGALRM, lambda *_: child.kill())
        signal.alarm(int(seconds) + 1)
        try:
            if on_start:
                on_start(child.pid)
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            child.wait()
            raise
        finally:
            signal.alarm(0)
        child.returncode = code = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        texts = (stream.read().decode("utf-8", "replace") for stream in (out, err))
        return Ran(code, *texts, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def mipro_command(mipro, url, body, *flags):
    return [mipro, "load", "--url", url, "--body", body, "--format", "json", "--quiet", *map(str, flags)]


def mipro_rung(ran):
    """The rung of `mipro load`'s report. Exit codes 125 and 99 come with one, too, unless a preflight refused."""
    try:
        return json.loads(ran.out)["rungs"][0]
    except (ValueError, LookupError):
        raise Failed(f"mipro load exited with {ran.code}: {ran.err.strip()[-400:] or 'without a word'}") from None


def read_mipro(ran, view="response"):
    rung = mipro_rung(ran)
    books, dist = rung["accounting"], rung["rollout"][view]
    accounted = sum(value for name, value in books.items() if name != "intended")
    lost = {name: books[name] for name in ("unsent", "in_flight_at_end", "timeout") if books[name]}
    return Seen(
        ok=books["ok"], failed=accounted - books["ok"], intended=books["intended"], accounted=accounted,
        p50_us=dist["p50_us"], p99_us=dist["p99_us"], max_us=dist["max_us"],
        remark=", ".join(f"{count} {name.replace('_', ' ')}" for name, count in lost.items()),
        more={"invalid": rung["validity"]["reasons"], "hdr": dist["hdr"], "mean_us": dist["mean_us"]},
    )


def read_oha(ran):
    """oha's JSON: times in seconds; a percentile of nothing is null."""
    try:
        report = json.loads(ran.out)
    except ValueError:
        raise Failed(f"oha exited with {ran.code}: {ran.err.strip()[-400:]}") from None
    answered = report.get("statusCodeDistribution") or {}
    errors = report.get("errorDistribution") or {}
    ok = sum(count for status, count in answered.items() if status.startswith("2"))
    percentiles = report.get("latencyPercentiles") or {}
    us = lambda value: None if value is None else value * 1e6
    return Seen(
        ok=ok, failed=sum(answered.values()) - ok + sum(errors.values()),
        accounted=sum(answered.values()) + sum(errors.values()),
        p50_us=us(percentiles.get("p50")), p99_us=us(percentiles.get("p99")), max_us=us(report["summary"].get("slowest")),
        remark=", ".join(f"{count} {why}" for why, count in errors.items()),
    )


def read_wrk(ran):
    """wrk's text, with --latency."""
    requests = re.search(r"(\d+) requests in", ran.out)
    if not requests:
        raise Failed(f"wrk exited with {ran.code}: {(ran.out + ran.err).strip()[-400:]}")
    percentiles = dict(re.findall(r"^\s+(\d+)%\s+([\d.]+[a-z]+)\s*$", ran.out, re.MULTILINE))
    latency = re.search(r"^\s+Latency\s+\S+\s+\S+\s+(\S+)", ran.out, re.MULTILINE)
    errors = re.search(r"Socket errors: (.+)", ran.out)
    not_2xx = re.search(r"Non-2xx or 3xx responses: (\d+)", ran.out)
    counts = [int(number) for number in re.findall(r"\d+", errors[1])] if errors else []
    failed = int(not_2xx[1]) if not_2xx else 0
    count = int(requests[1])
    return Seen(
        ok=count - failed, failed=failed, accounted=count,
        p50_us=wrk_us(percentiles.get("50")), p99_us=wrk_us(percentiles.get("99")), max_us=wrk_us(latency and latency[1]),
        remark=f"socket errors: {errors[1]}" if any(counts) else "",
    )


def wrk_us(text):
    """`1.23ms` in microseconds."""
    match = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text or "")
    return float(match[1]) * UNITS_US[match[2]] if match else None


def version(command):
    """The first line that a program prints of its version; empty where it prints none."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = done.stdout.strip().splitlines()
    return lines[0].strip() if lines else ""

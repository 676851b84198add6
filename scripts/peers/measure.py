"""What is asked of each target: one request at a time in interleaved rounds, then its frontier. Pure of printing."""
import contextlib
import signal
import statistics
from collections import Counter
from dataclasses import dataclass, field

from peers import clients, frontier, hdr
from peers.children import Failed
from peers.targets import Target

LIMITS_MS = (1, 5, 10, 50)
#: So that a p99 rests on more than ten samples beyond it.
SAMPLES_MIN = 1_100
WARM_UP = "300ms"
STAGE_SECONDS_MAX = 25.0
#: How `mipro load` exits where a measurement would not be valid.
INVALID = 125
#: In flight at most; what waits for one waits in the response time.
SLOTS = 256


@dataclass
class Round:
    """One slice at c=1, microseconds."""

    p50_us: float
    mean_us: float
    p99_us: float | None
    count: int


@dataclass
class Figures:
    """Everything found of a target."""

    target: Target
    rss_idle_bytes: int = 0
    rss_bytes: int = 0
    rounds: list[Round] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)
    #: Limit in milliseconds → found.
    frontier: dict = field(default_factory=dict)
    stages: list[dict] = field(default_factory=list)
    failed: str = ""

    def p50_us(self):
        return statistics.median(r.p50_us for r in self.rounds) if self.rounds else None

    def p99_us(self):
        """Of all rounds together."""
        return hdr.quantile_us(self.counts, 0.99)


@contextlib.contextmanager
def only(figures, chosen):
    """Stops (SIGSTOP) every peer but the chosen one, so that what idles on their core is not measured with it."""
    others = {child for f in figures if not f.failed for child in f.target.children} - set(chosen.target.children)
    for child in others:
        child.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for child in others:
            child.signal(signal.SIGCONT)


def called(mipro, target, flags, seconds):
    """A run of `mipro load` against the target."""
    command = clients.mipro_command(mipro, target.fresh_url(), target.body, *flags)
    return clients.run(command, seconds + 60, api_key=target.api_key)


def closed_slice(mipro, target, seconds):
    """One at a time for so long."""
    flags = ["-c", 1, "-d", f"{seconds:.3f}s", "-w", WARM_UP]
    seen = clients.read_mipro(called(mipro, target, flags, seconds), "service")
    if seen.failed or not seen.ok:
        raise Failed(f"{target.name}: {seen.failed} of {seen.accounted} calls failed at c=1 ({seen.remark or 'see its log'})")
    return seen


def one_at_a_time(mipro, figures, rounds, seconds, say):
    """ABBA: every other round goes backwards, so that a drift of the machine falls on all alike."""
    lengths = {}
    for number in range(rounds):
        order = figures if number % 2 == 0 else figures[::-1]
        for one in order:
            if one.failed:
                continue
            with caught(one), only(figures, one):
                if one.target.name not in lengths:
                    lengths[one.target.name] = slice_seconds(mipro, one.target, rounds, seconds)
                seen = closed_slice(mipro, one.target, lengths[one.target.name])
                one.counts += hdr.decode(seen.more["hdr"])
                one.rounds.append(Round(seen.p50_us, seen.more["mean_us"], seen.p99_us, seen.ok))
        say(f"c=1, round {number + 1} of {rounds}")


def slice_seconds(mipro, target, rounds, seconds):
    """Long enough that all rounds together have a p99; found by a slice that is not reported."""
    mean_us = closed_slice(mipro, target, 0.5).more["mean_us"]
    # With some to spare: the probe may have met a quick moment.
    return max(seconds, 1.3 * SAMPLES_MIN * mean_us / 1e6 / rounds)


def frontiers(mipro, figures, seconds, say):
    """Open model, evenly spaced arrivals, response time from the intended start."""
    for one in figures:
        if one.failed or not one.rounds:
            continue
        with caught(one), only(figures, one):
            alone_us = statistics.median(r.mean_us for r in one.rounds)
            search = frontier.Frontier(lambda step, one=one: stage(mipro, one, step, seconds))
            begin = frontier.step_at(0.5e6 / alone_us)
            for limit_ms in reversed(LIMITS_MS):
                if one.p50_us() >= limit_ms * 1000:
                    one.frontier[limit_ms] = frontier.Found(None, "slower with nothing else to do")
                    continue
                found = one.frontier[limit_ms] = search.find(limit_ms * 1000, begin)
                # A harder limit holds no higher.
                begin = begin if found.step is None else found.step
        say(f"frontier of {one.target.name}")


def stage(mipro, one, step, seconds):
    rate = frontier.rate(step)
    seconds = min(max(seconds, SAMPLES_MIN / rate), STAGE_SECONDS_MAX)
    flags = ["-q", f"{rate:.3f}", "-d", f"{seconds:.3f}s", "-c", SLOTS, "-w", WARM_UP, "--drain", "2s", "--timeout", "10s"]
    ran = called(mipro, one.target, flags, seconds)
    one.target.check()
    try:
        seen = clients.read_mipro(ran)
    except Failed as error:
        if ran.code != INVALID:
            raise
        # Refused before it was measured: the warm-up said that the slots would not do.
        one.stages.append({"rate": rate, "refused": str(error)})
        return frontier.Stage(None, failed=1)
    limits = [reason for reason in seen.more["invalid"] if reason.startswith(("the generator", "the wall clock"))]
    result = frontier.Stage(seen.p99_us, seen.failed, "; ".join(limits) if not seen.failed else "")
    one.stages.append({"rate": rate, "p99_us": seen.p99_us, "failed": seen.failed, "generator": result.generator})
    return result


@contextlib.contextmanager
def caught(one):
    """A target that fails is told as failed; the others' figures, and its own so far, stay."""
    try:
        yield
        one.target.check()
    except Failed as error:
        parts = [str(error)]
        for child in one.target.children:
            code = child.process.poll()
            if "log ends" not in str(error):
                parts.append(f"{child.name} {'runs on' if code is None else f'ended with {code}'}; its log ends:\n{child.log_tail()}")
        one.failed = "\n".join(parts)


def against(one, base):
    """Per round: what was added to the base's p50, and the ratio, where both have a round."""
    pairs = list(zip(one.rounds, base.rounds))
    added = [a.p50_us - b.p50_us for a, b in pairs]
    ratios = [a.p50_us / b.p50_us for a, b in pairs]
    return added, ratios

"""The highest rate at which a limit holds, for several limits from the same stages. Pure: stages are somebody else's."""
from dataclasses import dataclass

#: Neighbouring rates are a fourth of a doubling apart: 19 %.
STEPS_PER_DOUBLING = 4
FIRST_RATE = 25.0
#: 25/s to 51,200/s.
LAST_STEP = 44


def rate(step):
    """Of a step on the grid, per second."""
    return FIRST_RATE * 2 ** (step / STEPS_PER_DOUBLING)


def step_at(per_second):
    """The highest step that is no faster, within the grid."""
    step = 0
    while step < LAST_STEP and rate(step + 1) <= per_second:
        step += 1
    return step


@dataclass(frozen=True)
class Stage:
    """How a stretch at one rate went. `p99_us` counts from the intended start; None: too few samples, or refused."""

    p99_us: float | None
    failed: int = 0
    #: Why the generator, and not what it drove, gave out; empty: it did not.
    generator: str = ""

    def holds(self, limit_us):
        return not self.failed and not self.generator and self.p99_us is not None and self.p99_us < limit_us


@dataclass(frozen=True)
class Found:
    """`step` None: not even the lowest step held. `bound`: "" or why more was not tried."""

    step: int | None
    bound: str = ""


class Frontier:
    """Searches with `stage(step)`, which is asked for each step once, and once more where it did not hold: a burst of this
    machine's neighbours is no limit of a gateway."""

    def __init__(self, stage):
        self._stage, self._seen = stage, {}

    def find(self, limit_us, begin):
        """Doubles from `begin` (or halves, where that does not hold), then halves the interval down to one step."""
        held, broke = None, None
        step = begin
        while held is None or broke is None:
            if self._holds(step, limit_us):
                held = step
                if step == LAST_STEP:
                    return Found(step, "the grid ends")
                step = min(step + STEPS_PER_DOUBLING, LAST_STEP) if broke is None else step
            else:
                broke = step
                if step == 0:
                    return Found(None)
                step = max(step - STEPS_PER_DOUBLING, 0) if held is None else step
        while broke - held > 1:
            middle = (held + broke) // 2
            if self._holds(middle, limit_us):
                held = middle
            else:
                broke = middle
        by = {stage.generator for stage in self._seen[broke]}
        return Found(held, "the generator gave out" if "" not in by else "")

    def _holds(self, step, limit_us):
        seen = self._seen.setdefault(step, [])
        for attempt in range(2):
            if len(seen) == attempt:
                seen.append(self._stage(step))
            if seen[attempt].holds(limit_us):
                return True
        return False

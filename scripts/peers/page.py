"""The figures as Markdown and as JSON."""
import datetime
import statistics

from peers import frontier, measure

CAVEATS = [
    "“Added” is a target's p50 (or p99) less the direct call's; of p50 the median over the rounds with the least and the most, "
    "each round against the direct call of the same round. p99 is of all rounds together, so it has no spread.",
    "The frontier is the highest rate of a grid (a fourth of a doubling) at which p99 from the intended start stayed under the limit "
    "and nothing failed; a rate that did not hold got a second chance. `≥`: the generator on its one core, or the grid, gave out first.",
    "**mipro does more for a call than its neighbours here**: it picks a candidate, renders it into the messages and logs the rollout "
    "(at `disk`: synced before the answer leaves). nginx picks, parses and keeps nothing; LiteLLM and TensorZero run without their databases.",
    "**“TensorZero's wheel” is not TensorZero's performance**: it is the gateway that the PyPI wheel embeds, another build on another "
    "machine than the one its makers publish figures of.",
    "The mock shares a core with every target, so a frontier is that of both; within a tenth of the direct call's it says nothing about the "
    "target (marked `*`).",
]


def microseconds(value):
    if value is None:
        return "–"
    return f"{value:,.0f} µs" if value < 9_950 else f"{value / 1000:,.1f} ms"


def mib(value):
    return f"{value / 2**20:,.0f}" if value else "–"


def spread(values, form):
    if not values:
        return "–"
    return f"{form(statistics.median(values))} ({form(min(values))} to {form(max(values))})"


def rate_cell(found, direct):
    if found is None:
        return "–"
    if found.step is None:
        return "none" if found.bound else f"< {frontier.rate(0):.0f}"
    rate = frontier.rate(found.step)
    near = direct is not None and direct.step is not None and rate >= 0.9 * frontier.rate(direct.step)
    return f"{'≥ ' if found.bound else ''}{rate:,.0f}{'*' if near else ''}"


def table(figures):
    limits = measure.LIMITS_MS
    head = ["target", "c=1 p50", "added p50", "× direct", "c=1 p99", "added p99", *(f"/s, p99 < {ms} ms" for ms in limits), "RSS MiB idle, after"]
    rows = [head, ["---"] + ["--:"] * (len(head) - 1)]
    base = next((one for one in figures if one.target.name == "direct"), None)
    for one in figures:
        added, ratios, p99 = [], [], None
        if base and one is not base:
            added, ratios = measure.against(one, base)
            ours, theirs = one.p99_us(), base.p99_us()
            p99 = ours - theirs if ours is not None and theirs is not None else None
        cells = [rate_cell(one.frontier.get(ms), base.frontier.get(ms) if base and one is not base else None) for ms in limits]
        rss = f"{mib(one.rss_idle_bytes)}, {mib(one.rss_bytes)}" if one.target.children else "–"
        rows.append([
            f"{one.target.name}{' **failed**' if one.failed else ''}", microseconds(one.p50_us()), spread(added, microseconds),
            spread(ratios, lambda ratio: f"{ratio:.2f}"), microseconds(one.p99_us()), microseconds(p99), *cells, rss,
        ])
    return ["| " + " | ".join(row) + " |" for row in rows]


def markdown(run, figures, skipped):
    lines = [f"## Peers on one mock, {run['date']}", ""]
    lines += [f"`{run['command']}`", "", f"{run['machine']}; load average {run['load_before']} before, {run['load_after']} after; "
              f"{run['pinning']}. Those not measured were stopped (SIGSTOP) meanwhile.", ""]
    lines += table(figures) + [""]
    for one in figures:
        version = f" {one.target.version}" if one.target.version else ""
        samples = sum(r.count for r in one.rounds)
        lines.append(f"- **{one.target.name}**{version}: {one.target.about}; {samples:,} calls at c=1 in {len(one.rounds)} rounds.")
    for name, why in skipped.items():
        first, _, rest = why.partition("\n")
        lines += [f"- **{name}** was skipped: {first}", *(["", "```", rest, "```"] if rest else [])]
    for one in figures:
        if one.failed:
            lines += ["", f"**{one.target.name} failed**; its figures are those from before:", "", "```", one.failed, "```"]
    return "\n".join(lines + [""] + [f"- {caveat}" for caveat in CAVEATS]) + "\n"


def as_json(run, figures, skipped):
    """Everything, for machines."""
    return {"schema": "mipro.peers/1", **run, "skipped": skipped, "targets": [{
        "name": one.target.name, "about": one.target.about, "version": one.target.version, "failed": one.failed,
        "rss_idle_bytes": one.rss_idle_bytes, "rss_bytes": one.rss_bytes,
        "one_at_a_time": {"p50_us": one.p50_us(), "p99_us": one.p99_us(), "rounds": [vars(r) for r in one.rounds]},
        "frontier": {f"p99_below_{ms}_ms": None if found.step is None else {"per_second": frontier.rate(found.step), "bound": found.bound}
                     for ms, found in sorted(one.frontier.items())},
        "stages": one.stages,
    } for one in figures]}


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")

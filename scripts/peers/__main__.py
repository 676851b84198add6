#!/usr/bin/env python3
"""Our service beside other gateways, before one mock LLM, in one run: what each adds to a call, and how far each goes.

Measures the mock itself, nginx as a bare proxy, `mipro serve` (durability disk and memory), LiteLLM and the gateway in TensorZero's
wheel: first one call at a time, in interleaved rounds, then the highest rates at which p99 stays under 1, 5, 10 and 50 ms. Peers are
installed into a throw-away folder, and skipped loudly where they can't be. Prints Markdown; judges nothing.
"""
import argparse
import contextlib
import json
import os
import platform
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from peers import measure, page  # noqa: E402
from peers.children import Failed, end_on_signals, load_average, pinning  # noqa: E402
from peers.targets import PEERS, Absent, Ground, mock_llm  # noqa: E402

EXAMPLES = """examples:
  just peers
  scripts/peers/__main__.py --only direct,nginx,memory --rounds 4
  scripts/peers/__main__.py --keep ~/.cache/mipro-peers --out peers.json      (environments are made once)
"""


def arguments():
    parser = argparse.ArgumentParser(prog="peers", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mipro", default=os.environ.get("MIPRO", "target/release/mipro"), help="the binary [default: %(default)s]")
    parser.add_argument("--only", metavar="A,B", help=f"some of {','.join(PEERS)}; direct is always among them")
    parser.add_argument("--rounds", type=int, default=6, help="at c=1, each over all targets [default: %(default)s]")
    parser.add_argument("--slice", type=float, default=2.0, metavar="S", help="seconds of a slice at c=1, at least [default: %(default)s]")
    parser.add_argument("--stage", type=float, default=2.0, metavar="S", help="seconds at each rate, at least [default: %(default)s]")
    parser.add_argument("--no-frontier", action="store_true", help="c=1 only")
    parser.add_argument("--keep", metavar="DIR", help="keeps the peers' environments here for the next run")
    parser.add_argument("--dir", metavar="DIR", help="where data lies, whose disk is measured with `disk` [default: the temporary folder]")
    parser.add_argument("--out", metavar="FILE", help="the figures as JSON, and beside them as Markdown")
    args = parser.parse_args()
    args.only = (args.only or ",".join(PEERS)).split(",")
    unknown = [name for name in args.only if name not in PEERS]
    if unknown:
        parser.error(f"no peer is called {', '.join(unknown)}: there are {', '.join(PEERS)}")
    if args.rounds < 1 or args.slice <= 0 or args.stage <= 0:
        parser.error("--rounds, --slice and --stage must be above 0")
    if not os.access(args.mipro, os.X_OK):
        parser.error(f"{args.mipro} is not there: cargo build --release, or name the binary with --mipro")
    args.mipro = os.path.abspath(args.mipro)
    return args


def say(text):
    print(f"{text}, load {load_average()}", file=sys.stderr, flush=True)


def start_all(args, ground, stack):
    """Figures of what could be started, and why the rest could not."""
    mock, ground.mock = stack.enter_context(mock_llm(ground))
    figures, skipped = [], {}
    for name in [name for name in PEERS if name == "direct" or name in args.only]:
        try:
            targets = stack.enter_context(PEERS[name](ground))
        except (Absent, Failed) as error:
            # Loudly, and again in the result.
            print(f"SKIPPED: {name}: {error}", file=sys.stderr, flush=True)
            skipped[name] = str(error)
            continue
        for target in targets:
            figures.append(measure.Figures(target, rss_idle_bytes=target.rss_bytes()))
        say(f"{name} is up")
    mock.check()
    return figures, skipped


def main():
    args = arguments()
    end_on_signals()
    run = {"date": page.now(), "command": " ".join(["scripts/peers", *shown(sys.argv[1:])]), "machine": machine(),
           "load_before": load_average(), "pinning": pinning()}
    with tempfile.TemporaryDirectory(prefix="mipro-peers-", dir=args.dir) as folder, contextlib.ExitStack() as stack:
        ground = Ground(args.mipro, folder, os.path.abspath(args.keep) if args.keep else os.path.join(folder, "keep"))
        os.makedirs(ground.keep, exist_ok=True)
        figures, skipped = start_all(args, ground, stack)
        measure.one_at_a_time(args.mipro, figures, args.rounds, args.slice, say)
        if not args.no_frontier:
            measure.frontiers(args.mipro, figures, args.stage, say)
        for one in figures:
            one.rss_bytes = one.target.rss_bytes()
    run["load_after"] = load_average()
    text = page.markdown(run, figures, skipped)
    print(text)
    if args.out:
        with open(args.out, "w", encoding="utf-8") as file:
            json.dump(page.as_json(run, figures, skipped), file, indent=1)
        with open(os.path.splitext(args.out)[0] + ".md", "w", encoding="utf-8") as file:
            file.write(text)
    failed = [one.target.name for one in figures if one.failed]
    return f"failed: {', '.join(failed)}" if failed else 0


def shown(words):
    """The command without this machine's paths."""
    return [os.path.basename(word) if os.sep in word else word for word in words]


def machine():
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8") if line.startswith("model name")), "")
    return f"{os.cpu_count()} cores{f' ({model})' if model else ''}, {platform.system()} {platform.release()}"


if __name__ == "__main__":
    sys.exit(main())

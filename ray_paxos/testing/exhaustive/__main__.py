"""The command line: `python -m ray_paxos.testing.exhaustive --model prepare`.

Prints for each model the states and transitions that it visited, how deep, in how many seconds,
and whether that was all there is. A broken rule ends the run: the shortest way to it is printed,
and the status is 1. Wrong arguments: a message, and status 2.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from ray_paxos.testing.exhaustive.explore import Result, Search
from ray_paxos.testing.exhaustive.model import Model
from ray_paxos.testing.exhaustive.models import MODELS

STATES_MAX = 500_000
DEPTH_MAX = 1_000
SECOND_NS = 1_000_000_000


def _parse_count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 1000000000")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ray_paxos.testing.exhaustive",
        description="Visit every state of small models that run the real core.",
    )
    parser.add_argument(
        "--model", choices=sorted(MODELS), required=True, help="which family of models"
    )
    parser.add_argument("--only", help="one model of the family, by its name")
    parser.add_argument(
        "--states", type=_parse_count, default=STATES_MAX, help=f"of one model ({STATES_MAX})"
    )
    parser.add_argument(
        "--depth", type=_parse_count, default=DEPTH_MAX, help="moves from the first state"
    )
    parser.add_argument("--json", type=Path, help="write what was visited to this file")
    parser.add_argument("-v", "--verbose", action="store_true", help="print a line for each depth")
    return parser


def _print(model: Model, result: Result, seconds: float) -> None:
    bound = "exhausted" if result.exhausted else "not exhausted"
    rate = result.states / seconds if seconds else 0.0
    print(f"{model.name}: {model.purpose}")
    print(
        f"  {result.states} states, {result.transitions} transitions, depth {result.depth}, "
        f"{seconds:.1f} s ({rate:.0f} states/s), {bound}"
    )
    print("  made of " + ", ".join(f"{n} {what}" for what, n in result.counts.items()))


def _print_depth(result: Result) -> None:
    print(f"  depth {result.depth}: {result.states} states, {result.transitions} transitions")


def _report_violation(result: Result) -> None:
    print(f"violation in {result.model}: {result.violation}", file=sys.stderr)
    for number, line in enumerate(result.path, 1):
        print(f"{number:4}. {line}", file=sys.stderr)


def main(
    arguments: Sequence[str] | None = None,
    *,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> int:
    """Run the command line; returns the exit status.

    Args:
        arguments: Instead of the process's own.
        clock_ns: Measures how long a search takes.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.json is not None and not options.json.absolute().parent.is_dir():
        parser.error(f"--json {options.json}: its folder does not exist")
    models = [m for m in MODELS[options.model] if options.only in (None, m.name)]
    if not models:
        names = ", ".join(m.name for m in MODELS[options.model])
        parser.error(f"--only {options.only}: --model {options.model} has {names}")
    visited: list[dict[str, object]] = []
    broken = False
    for model in models:
        begun_ns = clock_ns()
        search = Search(model, states_max=options.states, depth_max=options.depth)
        result = search.run(_print_depth if options.verbose else None)
        seconds = (clock_ns() - begun_ns) / SECOND_NS
        _print(model, result, seconds)
        visited.append({"purpose": model.purpose, **asdict(result), "seconds": round(seconds, 3)})
        if result.violation:
            _report_violation(result)
            broken = True
            break
    print(f"violations: {int(broken)}")
    if options.json is not None:
        document = {"model": options.model, "violations": int(broken), "visited": visited}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

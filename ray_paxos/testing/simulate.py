"""Runs seeds of the simulator: `python -m ray_paxos.testing.simulate --seeds 0:200`.

Prints what it ran: seeds, simulated hours, faults by kind, commands checked, situations seen and
violations. On the first violation it prints the seed, the step, what was broken and a command that
replays it, and exits with status 1; a run whose seeds never met the situations that they must meet
fails, too, unless `--always` changes how often faults are drawn. Wrong arguments: a message, and
status 2.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shlex
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ray_paxos.testing.coverage import (
    RECIPE_SITUATIONS,
    SITUATIONS,
    SeedCoverage,
    Situation,
    missing_shares,
    seen_share,
)
from ray_paxos.testing.options import FAULT_KINDS, SECOND_NS
from ray_paxos.testing.recipe_machines import RECIPE_TITLES
from ray_paxos.testing.violation import Violation
from ray_paxos.testing.walk import SeedResult, Walk

JOBS = 2
MEMBERS_ALLOWED = (3, 5)


def run_seed(
    seed: int,
    members: int,
    line: Callable[[str], None] | None = None,
    *,
    always: Collection[str] = (),
    recipes: Collection[str] | None = None,
) -> SeedResult:
    """Walk one seed.

    Args:
        seed: Which.
        members: How many members its cluster has.
        line: Takes readable lines of everything that happens; None for none.
        always: Kinds of faults that are played whatever the seed draws.
        recipes: What clients play beside: these, or with none of them what the seed draws; None
            for nothing.

    Returns:
        What came of it; a broken rule, and any exception in the code under test, is in it.
    """
    walk = Walk(seed, members=members, line=line, always=always, recipes=recipes)
    try:
        return walk.run()
    except Violation as violation:
        return walk.result(str(violation))
    except Exception:
        # Whatever the code under test raises is a finding, to be reported with its seed.
        return walk.result(f"exception: {traceback.format_exc()}")


def run_seeds(
    seeds: Sequence[int],
    members: int,
    jobs: int = 1,
    *,
    always: Collection[str] = (),
    recipes: Collection[str] | None = None,
) -> Iterator[SeedResult]:
    """Walk seeds, in their order, on so many processes; arguments as of `run_seed`."""
    run = partial(run_seed, members=members, always=tuple(always), recipes=recipes)
    if jobs == 1:
        yield from map(run, seeds)
        return
    # Not forked: the caller may have threads, and each seed is to start from nothing but itself.
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield from pool.map(run, seeds)
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass
class Summary:
    """What a run of seeds did.

    Attributes:
        members: Of each seed's cluster.
        results: In the order of the seeds, up to the first violation.
        always: Kinds of faults that each seed plays, whatever it draws.
        recipes: What clients play beside: these, or with none of them what the seed draws; None
            for nothing.
    """

    members: int
    results: list[SeedResult]
    always: Collection[str] = ()
    recipes: Collection[str] | None = None

    @property
    def coverages(self) -> list[SeedCoverage]:
        """Of all seeds."""
        return [result.coverage for result in self.results]

    @property
    def violation(self) -> SeedResult | None:
        """The seed that broke a rule."""
        return next((result for result in self.results if result.violation), None)

    @property
    def missing(self) -> list[str]:
        """Situations that too few seeds saw; how many have to is set for what seeds draw freely."""
        if self.always:
            return []
        missing = missing_shares(self.coverages)
        if self.draws_recipes:
            missing += missing_shares(self.coverages, RECIPE_SITUATIONS)
        return missing

    @property
    def draws_recipes(self) -> bool:
        """Whether each seed draws which recipes are played."""
        return self.recipes is not None and not self.recipes

    def document(self) -> dict[str, object]:
        """For `--json`."""
        violation = self.violation
        faults = sum((c.faults for c in self.coverages), Counter[str]())
        messages = sum((c.messages for c in self.coverages), Counter[str]())
        return {
            "members": self.members,
            "seeds": len(self.results),
            "simulated_hours": round(self._hours(), 4),
            "steps": sum(result.steps for result in self.results),
            "deliveries": sum(c.deliveries for c in self.coverages),
            "commands_checked": sum(c.commands for c in self.coverages),
            "linearizability_operations": sum(c.recorded for c in self.coverages),
            "faults": dict(sorted(faults.items())),
            "messages": dict(sorted(messages.items())),
            "situations": {
                s.name: round(seen_share(self.coverages, s.name), 4) for s in self._situations
            },
            "missing_situations": self.missing,
            "violations": 1 if violation is not None else 0,
            "violation": _document_of(violation) if violation is not None else None,
        }

    @property
    def _situations(self) -> Sequence[Situation]:
        return (*SITUATIONS, *(() if self.recipes is None else RECIPE_SITUATIONS))

    def _hours(self) -> float:
        return sum(c.virtual_ns for c in self.coverages) / (3_600 * SECOND_NS)

    def print(self) -> None:
        """For a person."""
        document = self.document()
        print(
            f"{document['seeds']} seeds of {self.members} members: "
            f"{self._hours():.2f} simulated hours, {document['deliveries']} deliveries, "
            f"{document['commands_checked']} commands checked, "
            f"{document['linearizability_operations']} operations in linearizable histories"
        )
        faults = sum((c.faults for c in self.coverages), Counter[str]())
        messages = sum((c.messages for c in self.coverages), Counter[str]())
        print(f"{sum(faults.values())} faults injected: {_listed(faults)}")
        print(f"network: {_listed(messages)}")
        print("seeds that saw:")
        for situation in self._situations:
            share = seen_share(self.coverages, situation.name)
            is_demanded = not self.always and (
                self.draws_recipes or situation not in RECIPE_SITUATIONS
            )
            demanded = f" (at least {situation.share:.0%})" if is_demanded else ""
            print(f"  {share:6.1%} {situation.name}{demanded}")
        print(f"violations: {document['violations']}")


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))


def report_violation(
    result: SeedResult,
    members: int,
    always: Collection[str] = (),
    recipes: Collection[str] | None = None,
) -> None:
    """Print a broken rule, and how to see it again; arguments as of `run_seed`."""
    print(f"SEED={result.seed} members={members} step={result.steps}", file=sys.stderr)
    print(f"options: {result.options}", file=sys.stderr)
    print(f"violation: {result.violation}", file=sys.stderr)
    replay = f"python -m ray_paxos.testing.simulate --seeds {result.seed} --members {members}"
    replay += "".join(f" {word}" for word in ("--recipes", *recipes)) if recipes is not None else ""
    replay += "".join(f" --always {shlex.quote(kind)}" for kind in always)
    print(f"replay: {replay} --trace", file=sys.stderr)


def parse_seeds(text: str) -> range:
    """Seeds `FIRST:END` (the end is not run), or one seed.

    Raises:
        argparse.ArgumentTypeError: Neither; says what is allowed.
    """
    first, colon, end = text.partition(":")
    try:
        seeds = range(int(first), int(end)) if colon else range(int(first), int(first) + 1)
    except ValueError:
        seeds = range(0)
    if not seeds or seeds.start < 0:
        raise argparse.ArgumentTypeError(
            f"{text!r} names no seeds; give one such as 7, or FIRST:END with 0 <= FIRST < END"
        )
    return seeds


def _parse_jobs(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes from 1 to 64")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ray_paxos.testing.simulate",
        description="Run seeds of the deterministic simulator.",
    )
    parser.add_argument(
        "--seeds", type=parse_seeds, default=range(200), help="FIRST:END, or one seed (0:200)"
    )
    parser.add_argument(
        "--members", type=int, choices=MEMBERS_ALLOWED, default=3, help="of each cluster (3)"
    )
    parser.add_argument(
        "--always",
        action="append",
        choices=FAULT_KINDS,
        default=[],
        metavar="KIND",
        help=f"play this kind of fault in each seed; may be repeated: {', '.join(FAULT_KINDS)}",
    )
    parser.add_argument(
        "--recipes",
        nargs="*",
        choices=RECIPE_TITLES,
        metavar="RECIPE",
        help="let further clients play these recipes, or without names two or three that each seed "
        "draws; all else that a seed draws stays as it is, but its faults fall elsewhere: "
        f"{', '.join(RECIPE_TITLES)}",
    )
    parser.add_argument("--json", type=Path, help="write what was run to this file")
    parser.add_argument("--jobs", type=_parse_jobs, default=JOBS, help=f"processes ({JOBS})")
    parser.add_argument("-v", "--verbose", action="store_true", help="print a line for each seed")
    parser.add_argument(
        "--trace", action="store_true", help="print everything that happens in one seed"
    )
    return parser


def _document_of(result: SeedResult) -> dict[str, object]:
    """What it takes to play a seed again."""
    return {
        "seed": result.seed,
        "step": result.steps,
        "options": result.options,
        "violation": result.violation,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.json is not None and not options.json.absolute().parent.is_dir():
        parser.error(f"--json {options.json}: its folder does not exist")
    summary = Summary(options.members, [], options.always, options.recipes)
    if options.trace:
        if len(options.seeds) != 1:
            parser.error("--trace shows one seed: give it with --seeds N")
        summary.results.append(
            run_seed(
                options.seeds[0],
                options.members,
                print,
                always=options.always,
                recipes=options.recipes,
            )
        )
    else:
        for result in run_seeds(
            options.seeds,
            options.members,
            options.jobs,
            always=options.always,
            recipes=options.recipes,
        ):
            summary.results.append(result)
            if options.verbose:
                print(f"seed {result.seed}: {result.digest} {result.options}")
            if result.violation:
                break
    summary.print()
    if options.json is not None:
        options.json.write_text(json.dumps(summary.document(), indent=1) + "\n")
    if summary.violation is not None:
        report_violation(summary.violation, options.members, options.always, options.recipes)
        return 1
    for missing in summary.missing:
        print(f"too rarely seen: {missing}", file=sys.stderr)
    return 1 if summary.missing else 0


if __name__ == "__main__":
    sys.exit(main())

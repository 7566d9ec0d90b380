"""Compares the logs of all members of a running cluster, and their states.

    python jobs/verify_log.py --cluster demo --json out.json

Attaches to the cluster, has everything sealed, and reads each member's log and checkpoints on its
own node, no faster than `--bytes-per-s`, so that the members are held up little. Every checksum and
chain is verified, the chains over values and over results are compared at common instances, and
the digests of the machines at one instance. Of a difference the first instance is told, with what
each member has there.

The JSON document: by group, `members` (`first`, `last`, `checkpoints`, `problems`), `points`
(instances at which members were compared; each covers all before it), `through` (the last one at
which all agree), `digests`, `problems`; and `held`. Exit statuses: `job_exit.py`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import log_reading
import ray_paxos
from job_console import JobConsole
from job_exit import GOOD, NOT_HELD, run_to_status
from job_files import check_output, write_json
from log_comparison import Comparison, Difference, LogScan, compare, first_difference
from ray_paxos.errors import ClusterError, ConfigurationError, PaxosError

if TYPE_CHECKING:
    from ray_paxos import Cluster

POINTS = 5_000
"""About so many chains of one log are compared; more are read only around a difference."""
SCAN_S = 24 * 3_600.0
ASK_S = 60.0


@dataclass(frozen=True)
class Options:
    """The command line, as `--help` describes it."""

    cluster: str
    group: int | None
    bytes_per_s: int
    address: str | None
    json: str | None


class Readers:
    """An actor on each member's node, which reads its log."""

    def __init__(self, cluster: Cluster, bytes_per_s: int) -> None:
        """Start them, for all members whose learner answers."""
        # Nodes of a cluster need not have this folder. (Ray's copy of cloudpickle has no types.)
        ray.cloudpickle.register_pickle_by_value(log_reading)  # type: ignore[no-untyped-call]
        remote: Any = ray.remote
        self._actors: dict[str, Any] = {}
        self.silent: dict[str, str] = {}
        for member in cluster.status().members:
            learner = member.roles["learner"]
            if learner.phase != "serving":
                self.silent[member.name] = f"its learner does not serve: {learner.reason}"
                continue
            folder = Path(cluster.log_dir(member.name)).parent.parent
            placed = NodeAffinitySchedulingStrategy(learner.node_id, soft=False)
            actor = remote(num_cpus=0, max_restarts=0, scheduling_strategy=placed)
            self._actors[member.name] = actor(log_reading.LogReading).remote(
                str(folder), bytes_per_s
            )

    def call(self, method: str, timeout_s: float, *arguments: Any) -> dict[str, Any]:
        """Call all of them at once; what each answers, by member.

        Raises:
            ClusterError: One of them failed.
        """
        references = {
            name: getattr(actor, method).remote(*arguments) for name, actor in self._actors.items()
        }
        deadline = time.monotonic() + timeout_s
        answers = {}
        for name, reference in references.items():
            try:
                answers[name] = ray.get(reference, timeout=max(deadline - time.monotonic(), 0.1))
            except RayError as error:
                raise ClusterError(f"reading the log of {name}: {error}") from error
        return answers

    def close(self) -> None:
        """End them."""
        for actor in self._actors.values():
            ray.kill(actor)


@contextmanager
def reading(cluster: Cluster, bytes_per_s: int) -> Iterator[Readers]:
    """Readers, for as long as they are needed."""
    readers = Readers(cluster, bytes_per_s)
    try:
        yield readers
    finally:
        readers.close()


def verify_group(cluster: Cluster, group: int, readers: Readers) -> dict[str, Any]:
    """Compare one group; returns its part of the JSON document."""
    cluster.flush(group)
    (status,) = (each for each in cluster.status().groups if each.group == group)
    through = max((p.durable_through for p in status.positions.values()), default=0)
    lowest = min((p.log_floor for p in status.positions.values()), default=1)
    stride = max(1, (through - lowest + 1) // POINTS)
    found = readers.call("scan", SCAN_S, group, through, stride)
    scans = {
        name: LogScan(
            scan["first"],
            scan["last"],
            tuple(map(tuple, scan["chains"])),
            tuple(map(tuple, scan["checkpoints"])),
            tuple(scan["problems"]),
        )
        for name, scan in found.items()
    }
    comparison = compare(scans)
    problems = [f"{name}: {why}" for name, why in readers.silent.items()]
    problems += [f"{name}: {text}" for name, scan in scans.items() for text in scan.problems]
    if comparison.difference is not None:
        problems.append(_pin_down(comparison.difference, group, readers))
    if through:
        problems += [f"{name}: has nothing in common with others" for name in comparison.alone]
    digests, digest_problem = _digests(cluster, group)
    problems += [digest_problem] if digest_problem else []
    return _document(scans, comparison, digests, problems)


def _document(
    scans: Mapping[str, LogScan],
    comparison: Comparison,
    digests: Mapping[str, Any],
    problems: list[str],
) -> dict[str, Any]:
    return {
        "members": {
            name: {
                "first": scan.first,
                "last": scan.last,
                "checkpoints": [chains[0] for chains in scan.checkpoints],
                "problems": list(scan.problems),
            }
            for name, scan in scans.items()
        },
        "points": comparison.points,
        "through": comparison.through,
        "digests": digests,
        "problems": problems,
    }


def _pin_down(difference: Difference, group: int, readers: Readers) -> str:
    """The difference, with the very first instance and what the members have there."""
    text = difference.text()
    try:
        chains = readers.call("chains", ASK_S, group, difference.after + 1, difference.instance_id)
        first = first_difference(chains, difference.of)
        if first is None:
            return text
        instance_id, at = first
        described = readers.call("describe", ASK_S, group, instance_id)
    except PaxosError as error:
        return f"{text} (where exactly could not be found out: {error})"
    listed = ", ".join(f"{name} has {chain} ({described[name]})" for name, chain in at.items())
    return f"the {difference.of} differ first at instance {instance_id}: {listed}"


def _digests(cluster: Cluster, group: int) -> tuple[dict[str, Any], str]:
    try:
        found = cluster.member_digests(group)
    except ClusterError as error:
        return {}, str(error)
    listed = {
        name: {"applied_instance_id": each.applied_instance_id, "state_digest": each.digest}
        for name, each in found.items()
    }
    if len(set(found.values())) == 1:
        return listed, ""
    text = ", ".join(f"{name} {each.digest}" for name, each in found.items())
    return listed, f"the states differ: {text}"


def run(options: Options, console: JobConsole) -> int:
    """The job."""
    check_output(options.json, "--json")
    cluster = ray_paxos.connect(options.cluster, address=options.address)
    groups = [each.group for each in cluster.status().groups]
    if options.group is not None:
        if options.group not in groups:
            known = ", ".join(map(str, groups))
            raise ConfigurationError(f"--group: found {options.group}; allowed: {known}")
        groups = [options.group]
    document: dict[str, Any] = {"cluster": cluster.name, "groups": {}}
    with reading(cluster, options.bytes_per_s) as readers:
        for group in groups:
            document["groups"][str(group)] = verify_group(cluster, group, readers)
            tell(group, document["groups"][str(group)], console)
    document["held"] = not any(part["problems"] for part in document["groups"].values())
    if options.json is not None:
        write_json(options.json, document)
    return GOOD if document["held"] else NOT_HELD


def tell(group: int, part: Mapping[str, Any], console: JobConsole) -> None:
    """What was compared, and what was found."""
    console.say(f"group {group}")
    for name, scan in part["members"].items():
        held = (
            f"instances {scan['first']:,} to {scan['last']:,}" if scan["last"] else "no instances"
        )
        made = ", ".join(f"{each:,}" for each in scan["checkpoints"])
        console.say(f"  {name}  {held}" + (f", checkpoints {made}" if made else ""))
    if part["points"]:
        console.say(
            f"  compared at {part['points']:,} instances; all agree through {part['through']:,}"
        )
    for name, digest in part["digests"].items():
        applied = digest["applied_instance_id"]
        console.say(f"  {name}  state after {applied:,}: {digest['state_digest']}")
    for problem in part["problems"]:
        console.error(problem)


@click.command(help=__doc__.splitlines()[0] if __doc__ else None)
@click.option("--cluster", default="demo", show_default=True, help="Its name.")
@click.option("--group", type=int, metavar="N", help="Only this group; default: all.")
@click.option(
    "--bytes-per-s",
    default=20_000_000,
    show_default=True,
    type=click.IntRange(min=10_000),
    help="So fast each member's disk is read.",
)
@click.option("--address", metavar="ADDRESS", help="Of the Ray cluster: HOST:PORT or auto.")
@click.option("--json", metavar="FILE", help="Write what was found as one JSON document.")
def main(**arguments: Any) -> None:
    """The command line."""
    console = JobConsole()
    sys.exit(run_to_status(lambda: run(Options(**arguments), console), console))


if __name__ == "__main__":
    main()

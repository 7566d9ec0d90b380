"""Measures what reads of each consistency cost, beside a bare call to a Ray actor.

    python jobs/read_latency.py --reads 500 --json out.json

Starts a cluster of its own for each lease length asked for (by default 2,000 ms, and 0: none), in a
folder that it removes, writes one key, and reads it: one read at a time, in several turns of each
kind, in which each turn measures a call to an actor that does nothing, too. Prints the median of
each kind in milliseconds, its ratio to the bare call of the same turns, and which rounds the
linearizable reads took that no lease covered: of acceptors, or of a master's heartbeats.

The JSON document: `reads` (of each kind), and by lease length (`lease_ms`): `bare_ms`, and by
consistency `p50_ms`, `p99_ms`, `ratio`; `linearizable_reads` (with those to warm up),
`acceptor_answers` (to reads by a quorum) and `quorum_rounds` (a majority of answers each);
`read_indexes` (given by masters) and `index_rounds` (of heartbeats, begun for them). Exit statuses:
`job_exit.py`.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import ray
import yaml

import ray_paxos
from job_console import JobConsole
from job_exit import GOOD, run_to_status
from job_files import check_output, write_json
from job_numbers import nearest_rank
from ray_paxos.cluster import MemberStatus
from ray_paxos.config import ClusterConfiguration, load_configuration, parse_configuration
from ray_paxos.core.quorum import majority
from ray_paxos.errors import ConfigurationError
from ray_paxos.machines import kv

ROOT = Path(__file__).resolve().parent.parent
TURNS = 5
WARM_UP = 30
KEY = "key"
KINDS = ("linearizable", "lease", "follower", "stale")


class BareActor:
    """Does nothing with its argument."""

    def take(self, data: bytes) -> bytes:
        """Give it back."""
        return data


@dataclass
class Measured:
    """Durations of one kind of call, in milliseconds."""

    turns: list[list[float]] = field(default_factory=list)

    @property
    def p50_ms(self) -> float:
        """The median over all turns."""
        return statistics.median(duration for turn in self.turns for duration in turn)

    @property
    def p99_ms(self) -> float:
        """The 99th percentile over all turns."""
        return nearest_rank(sorted(d for turn in self.turns for d in turn), 0.99)


def measure(calls: dict[str, Callable[[], object]], reads: int) -> dict[str, Measured]:
    """Make every kind of call, turn by turn, one call at a time.

    Args:
        calls: By name.
        reads: Of each kind, over all turns.
    """
    measured = {name: Measured() for name in calls}
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    for _ in range(TURNS):
        for name, call in calls.items():
            turn: list[float] = []
            for _ in range(max(1, reads // TURNS)):
                started = time.perf_counter()
                call()
                turn.append((time.perf_counter() - started) * 1e3)
            measured[name].turns.append(turn)
    return measured


def measure_cluster(configuration: ClusterConfiguration, reads: int) -> dict[str, Any]:
    """Start a cluster, measure it, and end it with its data."""
    cluster = ray_paxos.start(configuration)
    try:
        remote: Any = ray.remote
        actor = remote(num_cpus=0, enable_task_events=False)(BareActor).remote()
        request = kv.encode_get(KEY)
        with cluster.client(label="read_latency") as client:
            client.propose(kv.encode_put(KEY, b"value"), machine="kv")

            def query(kind: str) -> Callable[[], object]:
                return lambda: client.query(request, machine="kv", consistency=kind)

            calls: dict[str, Callable[[], object]] = {
                "bare": lambda: ray.get(actor.take.remote(request))
            }
            has_lease = configuration.proposer.lease_ms > 0
            calls.update({kind: query(kind) for kind in KINDS if has_lease or kind != "lease"})
            measured = measure(calls, reads)
        return _report(measured, cluster, WARM_UP + TURNS * max(1, reads // TURNS))
    finally:
        cluster.stop(delete_data=True)


def _report(
    measured: dict[str, Measured], cluster: ray_paxos.Cluster, reads: int
) -> dict[str, Any]:
    bare_ms = measured.pop("bare").p50_ms
    members = cluster.status().members
    answers = _count(members, "acceptor", "quorum_reads")
    return {
        "bare_ms": round(bare_ms, 4),
        **{
            name: {
                "p50_ms": round(kind.p50_ms, 4),
                "p99_ms": round(kind.p99_ms, 4),
                "ratio": round(kind.p50_ms / bare_ms, 3),
            }
            for name, kind in measured.items()
        },
        "linearizable_reads": reads,
        "acceptor_answers": answers,
        "quorum_rounds": answers // majority(len(members)),
        "read_indexes": _count(members, "proposer", "reads"),
        "index_rounds": _count(members, "proposer", "read_rounds"),
    }


def _count(members: Sequence[MemberStatus], role: str, name: str) -> int:
    """The sum of one count over all members and groups but the system's."""
    return sum(
        group[name]
        for member in members
        for number, group in (member.roles[role].groups or {}).items()
        if number != 0
    )


def _leases(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigurationError(
            f"--lease-ms: found {text!r}; allowed: milliseconds, separated by commas"
        ) from None


def run(config: str, reads: int, lease_ms: str, json: str | None, console: JobConsole) -> int:
    """The job."""
    check_output(json, "--json")
    leases = _leases(lease_ms)
    base = load_configuration(config).model_dump(mode="json")
    document: dict[str, Any] = {"reads": reads, "lease_ms": {}}
    for lease in leases:
        with tempfile.TemporaryDirectory(prefix="ray_paxos-read-latency-") as folder:
            base["cluster"] = f"read-latency-{lease}"
            base["data_dir"] = folder
            base["proposer"]["lease_ms"] = lease
            configuration = parse_configuration(yaml.safe_dump(base), f"--lease-ms {lease}")
            found = measure_cluster(configuration, reads)
        document["lease_ms"][str(lease)] = found
        console.say(f"lease {lease} ms: a bare call {found['bare_ms']:.3f} ms")
        for kind in KINDS:
            if kind in found:
                part = found[kind]
                console.say(
                    f"  {kind:<13} p50 {part['p50_ms']:.3f} ms ({part['ratio']:.2f} bare calls), "
                    f"p99 {part['p99_ms']:.3f} ms"
                )
        console.say(
            f"  {found['linearizable_reads']:,} linearizable reads: "
            f"{found['quorum_rounds']:,} rounds of acceptors; "
            f"{found['read_indexes']:,} read indexes in {found['index_rounds']:,} rounds of masters"
        )
    if json is not None:
        write_json(json, document)
    return GOOD


@click.command(help=__doc__.splitlines()[0] if __doc__ else None)
@click.option(
    "--config",
    default=str(ROOT / "configs" / "local.yaml"),
    show_default="configs/local.yaml",
    metavar="FILE",
    help="Members, times and limits; its name, folder and lease are not used.",
)
@click.option(
    "--reads", default=500, show_default=True, type=click.IntRange(min=50), help="Of each kind."
)
@click.option(
    "--lease-ms", default="2000,0", show_default=True, help="Lease lengths, one cluster each."
)
@click.option("--json", metavar="FILE", help="Write what was measured as one JSON document.")
def main(config: str, reads: int, lease_ms: str, json: str | None) -> None:
    """The command line."""
    console = JobConsole()
    sys.exit(run_to_status(lambda: run(config, reads, lease_ms, json, console), console))


if __name__ == "__main__":
    main()

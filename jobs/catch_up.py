"""Measures how a member comes back that was away for longer than the others' logs reach.

    python jobs/catch_up.py --commands 300000 --json out.json

Starts a cluster of its own, in a folder that it removes. One member goes away: its four actors are
ended, or its processes are stopped (`--away pause`). The others take so many commands at full
speed, in calls as large as the load's, which is their capacity, and clean their logs beyond the
member. An open load at a share of that capacity then goes on while the member comes back: it has to
be in step within a limit, with the load at its full rate, and its p99 at most twice what it is with
all members. What it was with the member away, which then has no share in it, is told beside it.

The JSON document: `commands`, `capacity_per_s`, `load_per_s`, of the open load `before` (the member
is away), `meanwhile` and `after` (it is in step), each with `p50_ms`, `p99_ms`, `max_ms`,
`commands_per_s`, `failed` and `seconds`, `in_step_s`, `received_bytes` (of the checkpoint),
`log_floor` (the others' lowest instance when it came back) and `learned_through` (the member's last
one when it went away), `problems`. Exit statuses: `job_exit.py`.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import ray

import ray_paxos
from job_console import JobConsole
from job_exit import GOOD, NOT_HELD, run_to_status
from job_files import check_output, write_json
from job_roles import ask_for_state, find_role
from open_load import Latencies, OpenLoad
from own_cluster import own_cluster
from ray_paxos.actors.administration import ask_all
from ray_paxos.actors.names import ROLE_NAMES
from ray_paxos.config import ClusterConfiguration
from ray_paxos.core.messages import RoleName
from ray_paxos.errors import ClusterError
from ray_paxos.machines import kv

if TYPE_CHECKING:
    from ray_paxos import Client, Cluster

ROOT = Path(__file__).resolve().parent.parent
SECTIONS: dict[str, dict[str, Any]] = {
    # Logs far shorter than what passes meanwhile; checkpoints as often as that asks for.
    "learner": {"hold_count": 0},
    "checkpointer": {"checkpoint_instances": 1_000},
}
VALUE_BYTES = 100
CHUNK = 300
"""So many commands in a call: about what the load has in one (`open_load.TICK_S`)."""
CHUNKS_OPEN = 8
WAIT_S = 120.0
POLL_S = 0.1
ASK_S = 2.0
FULL_RATE = 0.97
"""So much of the load has to be acknowledged to count as its full rate."""
P99_TIMES = 2.0


@dataclass(frozen=True)
class Options:
    """The command line, as `--help` describes it."""

    config: str
    commands: int
    keys: int
    load_percent: float
    around_s: float
    limit_s: float
    away: str
    json: str | None


class CatchUp:
    """The job, on a cluster that is started."""

    def __init__(
        self,
        cluster: Cluster,
        configuration: ClusterConfiguration,
        options: Options,
        console: JobConsole,
    ) -> None:
        """Nothing happens yet."""
        self._cluster = cluster
        self._configuration = configuration
        self._options = options
        self._console = console
        self._group = min(group.group for group in configuration.groups)
        self._away = ""
        self._paused: list[int] = []

    def run(self) -> dict[str, Any]:
        """All of it; returns the JSON document."""
        say = self._console.say
        with self._cluster.client(self._group, label="catch_up") as client:
            client.propose(self._command(0))
            self._cluster.member_digests(self._group)
            master = self._cluster.wait_for_master(self._group)
            if master is None:
                raise ClusterError("no member leads")
            self._away = next(name for name in self._cluster.members if name != master.member)
            learned = self._positions()[self._away].learned_through
            self._go_away()
            capacity = self._submit(client, self._options.commands)
            say(f"{self._away} is away; the others take {capacity:,.0f} commands/s")
            floor = self._wait_until_cleaned(client, learned)
            say(f"their logs begin at instance {floor:,}; it has {learned:,}")
            rate = capacity * self._options.load_percent / 100
            load = OpenLoad(client, "kv", rate, self._command)
            try:
                time.sleep(1.0)
                since = time.monotonic()
                time.sleep(self._options.around_s)
                before = load.between(since, time.monotonic())
                say(f"before:    {before.text()}")
                since = time.monotonic()
                in_step_s = self._come_back()
                meanwhile = load.between(since, time.monotonic())
                since = time.monotonic()
                time.sleep(self._options.around_s)
                after = load.between(since, time.monotonic())
            finally:
                load.stop()
            say(f"meanwhile: {meanwhile.text()}")
            say(f"after:     {after.text()}")
            say(f"in step after {in_step_s:.1f} s")
            received = self._received_bytes()
            problems = self._problems(rate, before, meanwhile, after, in_step_s)
            problems += self._compare()
        return {
            "commands": self._options.commands,
            "capacity_per_s": round(capacity, 1),
            "load_per_s": round(rate, 1),
            "before": before.document(),
            "meanwhile": meanwhile.document(),
            "after": after.document(),
            "in_step_s": round(in_step_s, 2),
            "received_bytes": received,
            "log_floor": floor,
            "learned_through": learned,
            "problems": problems,
        }

    def _compare(self) -> list[str]:
        """What is wrong with the members' states, and what status tells if something is."""
        try:
            digests = self._cluster.member_digests(self._group)
        except ClusterError as error:
            return [str(error), *self._cluster.status().alarms]
        if len(digests) < len(self._cluster.members) or len(set(digests.values())) != 1:
            return [f"the members' states differ: {digests}", *self._cluster.status().alarms]
        return []

    def _problems(
        self,
        rate: float,
        before: Latencies,
        meanwhile: Latencies,
        after: Latencies,
        in_step_s: float,
    ) -> list[str]:
        found = []
        if in_step_s > self._options.limit_s:
            found.append(f"in step after {in_step_s:.1f} s; allowed: {self._options.limit_s:g} s")
        for name, measured in (("before", before), ("meanwhile", meanwhile), ("after", after)):
            if measured.failed or measured.rate < FULL_RATE * rate:
                found.append(
                    f"{name}: {measured.rate:,.0f} of {rate:,.0f} commands/s, "
                    f"{measured.failed:,} failed"
                )
        times = meanwhile.percentile_ms(0.99) / after.percentile_ms(0.99)
        if times > P99_TIMES:
            found.append(
                f"p99 is {times:.2f} times what it is with all members; allowed: {P99_TIMES:g}"
            )
        return found

    def _command(self, number: int) -> bytes:
        return kv.encode_put(f"key{number % self._options.keys}", b"x" * VALUE_BYTES)

    def _submit(self, client: Client, count: int) -> float:
        """Submit so many commands at full speed; returns how many a second were acknowledged."""
        started = time.monotonic()
        in_flight: deque[Future[Any]] = deque()
        for first in range(0, count, CHUNK):
            commands = [self._command(n) for n in range(first, min(first + CHUNK, count))]
            if len(in_flight) == CHUNKS_OPEN:
                in_flight.popleft().result()
            in_flight.append(client.propose_many_async(commands, "kv", timeout_s=WAIT_S))
        for future in in_flight:
            future.result()
        return count / (time.monotonic() - started)

    def _wait_until_cleaned(self, client: Client, learned: int) -> int:
        """Until the others' logs begin beyond it; returns where the lower one begins."""
        deadline = time.monotonic() + WAIT_S
        while True:
            # Logs are kept above the older of the last checkpoints: a few more commands, and one.
            client.propose(self._command(0))
            self._cluster.checkpoint(self._group)
            positions = self._positions()
            floor = min(p.log_floor for name, p in positions.items() if name != self._away)
            if floor > learned + 1:
                return int(floor)
            if time.monotonic() > deadline:
                raise ClusterError(f"the others' logs still begin at instance {floor}")
            time.sleep(POLL_S)

    def _positions(self) -> dict[str, Any]:
        groups = self._cluster.status().groups
        (found,) = (group for group in groups if group.group == self._group)
        return found.positions

    # The member.

    def _go_away(self) -> None:
        if self._options.away == "pause":
            (member,) = (m for m in self._cluster.status().members if m.name == self._away)
            self._paused = list({role.pid for role in member.roles.values()})
            for pid in self._paused:
                os.kill(pid, signal.SIGSTOP)
            return
        # Found before the first one ends: with fused roles all four are one.
        for actor in {find_role(self._cluster, self._away, role) for role in ROLE_NAMES}:
            ray.kill(actor, no_restart=True)

    def _come_back(self) -> float:
        """Bring it back; returns after how many seconds it was in step."""
        started = time.monotonic()
        aim = max(self._applied().values())
        if self._paused:
            self.resume()
        else:
            threading.Thread(target=ray_paxos.start, args=(self._configuration,)).start()
        while time.monotonic() - started < max(WAIT_S, self._options.limit_s):
            applied = self._applied()
            there = applied.get(self._away, 0)
            lag = max(applied.values()) - there
            if there >= aim and lag <= self._configuration.proposer.window_max:
                return time.monotonic() - started
            time.sleep(POLL_S)
        return math.inf

    def _applied(self) -> dict[str, int]:
        """What each learner that answers has applied: asked for often, so nothing else is."""
        calls = {name: partial(self._ask_learner, name) for name in self._cluster.members}
        applied = {}
        for name, state in ask_all(calls, ASK_S).items():
            if not isinstance(state, Exception) and self._group in state["groups"]:
                applied[name] = int(state["groups"][self._group]["applied_through"])
        return applied

    def _ask_learner(self, member: str) -> Any:
        return ask_for_state(self._cluster, member, RoleName.LEARNER)

    def resume(self) -> None:
        """Let its processes go on, if they were stopped."""
        for pid in self._paused:
            os.kill(pid, signal.SIGCONT)
        self._paused = []

    def _received_bytes(self) -> int:
        (member,) = (m for m in self._cluster.status().members if m.name == self._away)
        groups = member.roles["checkpointer"].groups or {}
        return int(groups.get(self._group, {}).get("received_bytes", 0))


def run(options: Options, console: JobConsole) -> int:
    """The job."""
    check_output(options.json, "--json")
    with own_cluster(options.config, "catch-up", SECTIONS) as (cluster, configuration, _):
        job = CatchUp(cluster, configuration, options, console)
        try:
            document = job.run()
        finally:
            job.resume()
    for problem in document["problems"]:
        console.error(problem)
    if options.json is not None:
        write_json(options.json, document)
    return NOT_HELD if document["problems"] else GOOD


@click.command(help=__doc__.splitlines()[0] if __doc__ else None)
@click.option(
    "--config",
    default=str(ROOT / "configs" / "local.yaml"),
    show_default="configs/local.yaml",
    metavar="FILE",
    help="Members, times and limits; its name, folder, hold_count and checkpoint_instances are "
    "not used.",
)
@click.option(
    "--commands",
    default=300_000,
    show_default=True,
    type=click.IntRange(min=10_000),
    help="That pass while the member is away.",
)
@click.option(
    "--keys", default=100_000, show_default=True, type=click.IntRange(min=1), help="Written to."
)
@click.option(
    "--load-percent",
    default=30.0,
    show_default=True,
    type=click.FloatRange(min=1, max=100),
    help="Of the capacity, as the open load.",
)
@click.option(
    "--around-s",
    default=20.0,
    show_default=True,
    type=click.FloatRange(min=1),
    help="How long the load is measured before the member comes back, and afterwards.",
)
@click.option(
    "--limit-s", default=30.0, show_default=True, type=float, help="In step within this time."
)
@click.option(
    "--away",
    default="end",
    show_default=True,
    type=click.Choice(["end", "pause"]),
    help="End the member's actors and make them anew, or stop its processes and continue them.",
)
@click.option("--json", metavar="FILE", help="Write what was measured as one JSON document.")
def main(**arguments: Any) -> None:
    """The command line."""
    console = JobConsole()
    sys.exit(run_to_status(lambda: run(Options(**arguments), console), console))


if __name__ == "__main__":
    main()

"""Runs clients against a cluster while it injects faults, heals it, and checks what came of it.

    python jobs/chaos.py --seconds 120 --clients 8 --seed 7 --json out.json
    python jobs/chaos.py --nodes 5 --config configs/five_nodes.yaml --groups --timeline run.html \
        --faults kill-node,kill-gcs,kill-member,move-group,rolling-restart --seconds 300

Starts the cluster that the configuration describes, or attaches to it where it runs. **Its
processes are killed and stopped for real**: do not run it against a cluster that serves anybody.
Nothing but role processes of that one cluster is ever signalled, on whatever node they are, and
with `--nodes` the processes of a Ray cluster that the job starts for itself.

Faults (`--faults`, by default the first five):

| kind | what happens |
|---|---|
| `kill-role` | SIGKILL of one role's process |
| `kill-member` | SIGKILL of all four of a member |
| `pause-member` | SIGSTOP of all four of a member, SIGCONT after 0.5 to 6 s |
| `drop-master` | the master is told to give up the lead, or to hand it to another member |
| `restart-all` | SIGKILL of every process of every member at once; Ray starts them again |
| `pause-role` | as pause-member, of one role's process |
| `rolling-restart` | each member hands over, is closed and started again, the next once it serves |
| `add-member` | a group is given to a member that has it not, which then votes |
| `remove-member` | a group is taken from one of its voters |
| `move-group` | a member that has not a group takes a voter's place |
| `wipe-member` | SIGKILL of a member and its folder deleted; the others remove it from its groups |
| `kill-node` | SIGKILL of a member's raylet and all its workers; started again after 0.5 to 6 s |
| `kill-gcs` | SIGKILL of Ray's GCS, started again after 2 to 24 s |
| `slow-disk` | a member's file system is frozen for 0.1 to 2 s at a time, over 1 to 12 s |
| `full-disk` | a member's file system has no room, for 1 to 12 s |

They are drawn by the seed and aimed half of the time at the master. Of each group's voters no more
than a minority is harmed at a time (faults may overlap on one member), but for `restart-all`,
after which nothing more happens until all members serve. `chaos_plan.py` has the rules. Where
groups are given to members, each first leaves one if all have it. The last four kinds need
`--nodes`, and disks need root besides: `chaos_nodes.py`, `chaos_disks.py`.

`--groups` puts clients on all groups of the cluster (on each at least two) and checks each; without
it, on one.

What has to hold, by its name in `checks`:

- `linearizable`: puts, deletes, compare-and-sets and gets of the kv machine, the gets as commands
  and as reads of kind `linearizable` and `lease`, and a last read of every key. A verdict that the
  checker did not reach within `--check-limit-s` is no pass.
- `exactly_once`: ids appended to the log machine: every acknowledged one is there once, where it
  was acknowledged; none is there twice; each client's are in its order.
- `follower_reads`: reads at any member are as fresh as promised: a client's own writes, `at_least`,
  `max_staleness_ms`.
- `digests_equal`: all members that have the group have the same state in the end.
- `logs_equal`: they have the same chosen log in Parquet, row by row, under its checksums and chain;
  every acknowledged command stands in it where its result said.
- `gap`, `restart_all_gap`: the longest time without an acknowledged command is within its limit,
  outside and within the times of `restart-all` (from the kill until all members serve, and on to
  the next acknowledgement); in every group.
- `healed`: all roles serve again. `clients`: no client met what must not happen. `stays_out` (with
  `wipe-member`): a member whose folder was deleted never votes again, and says why.

The JSON document: `cluster`, `group` (null with `--groups`), `members`, `seed`, `clients`,
`seconds`, `elapsed_s`, `lease_ms`; `faults` and `refused` (such as a transfer, or a change of
members) by kind; `injected` (each with `kind`, `what`, `start_s`, `end_s`: all it hit served
again); `operations` by kind and outcome (`ok`, `failed`: certainly without effect, `unknown`);
`errors` by class; `acknowledged` commands and `acknowledged_per_s`; `longest_gap_s`,
`longest_gap_restart_all_s` (null without a `restart-all`), their limits, and the ten longest `gaps`
with what was going on; `linearizability` (`verdict`, `operations`, `keys`,
`operations_per_key_max`, `seconds`, `slowest_keys`, each with `key`, `operations`, `seconds`);
`checked`, `checks`, `violations`, `held`; `load_average` of this machine. With `--groups` all of
these are of all groups, gaps the longest of any one; `overall_longest_gap_s` and
`overall_longest_gap_restart_all_s` are times without an acknowledgement in any group, and `groups`
has each by itself.

`--history FILE` is written as it happens (with `--groups` one file a group, its number before the
ending); `python -m ray_paxos.testing.check FILE --model kv` checks it again. `--timeline FILE` is
one page that shows faults, commands a second and latencies over time. Exit status 0 only if all
holds; otherwise as in `job_exit.py`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

import ray_paxos
from chaos_disks import check_disks
from chaos_group import ChaosCluster, GroupPlan, WorkLimits
from chaos_nodes import NODES_MAX, own_nodes, pinned_configuration
from chaos_plan import (
    DEFAULT_KINDS,
    OF_DISKS,
    FaultKind,
    check_members,
    check_nodes,
    parse_kinds,
)
from chaos_run import ChaosPlan, ChaosRun, Environment
from chaos_timeline import check_timeline
from job_console import JobConsole
from job_exit import run_to_status
from job_files import STANDARD_OUTPUT, check_output
from job_groups import choose_group, machine_of_kind
from ray_paxos.config import ClusterConfiguration, load_configuration
from ray_paxos.errors import ConfigurationError

if TYPE_CHECKING:
    from chaos_cluster import Members, Nodes
    from ray_paxos import Cluster

ROOT = Path(__file__).resolve().parent.parent
GAP_LIMIT_S = 6.0
RESTART_GAP_LIMIT_S = 12.0
LEASE_S = 2.0
"""The lease that these two limits are for; by what a lease is longer they are higher."""
CLIENTS_MIN = 2
"""On each of many groups: a read that takes its time is to be no silence of the group."""
POSITIVE = click.FloatRange(min=0, min_open=True)


@dataclass(frozen=True)
class Options:
    """The command line, as `--help` describes it."""

    config: str
    faults: str
    seconds: float
    clients: int
    seed: int
    json: str | None
    history: str | None
    timeline: str | None
    group: int | None
    groups: bool
    nodes: int | None
    keep: bool
    address: str | None
    rate: float
    fault_interval_s: float
    gap_limit_s: float | None
    restart_gap_limit_s: float | None
    command_timeout_s: float
    read_timeout_s: float
    check_limit_s: float


def make_plan(options: Options, console: JobConsole) -> ChaosPlan:
    """Check everything that can be checked before a cluster is started.

    Raises:
        ConfigurationError: Something is wrong; nothing has happened.
    """
    configuration = load_configuration(options.config)
    for warning in configuration.warnings:
        console.warn(f"{options.config}: {warning}")
    kinds = parse_kinds(options.faults)
    check_members(kinds, len(configuration.members))
    check_nodes(kinds, options.nodes)
    _check_options(options, kinds, configuration)
    if options.nodes is not None:
        configuration = pinned_configuration(configuration)
    gap_limit_s, restart_limit_s = options.gap_limit_s, options.restart_gap_limit_s
    more_s = max(configuration.proposer.lease_ms / 1_000 - LEASE_S, 0.0)
    if more_s and (gap_limit_s is None or restart_limit_s is None):
        console.say(f"the lease is {more_s:g} s longer than {LEASE_S:g} s: so are limits of gaps")
    return ChaosPlan(
        configuration=configuration,
        groups=_plan_groups(options, configuration),
        is_of_many=options.groups,
        kinds=kinds,
        seconds=options.seconds,
        interval_s=options.fault_interval_s,
        limits=WorkLimits(
            options.rate, options.command_timeout_s, options.read_timeout_s, options.seed
        ),
        gap_limit_s=GAP_LIMIT_S + more_s if gap_limit_s is None else gap_limit_s,
        restart_gap_limit_s=RESTART_GAP_LIMIT_S + more_s
        if restart_limit_s is None
        else restart_limit_s,
        check_s=options.check_limit_s,
        address=options.address,
        nodes=options.nodes,
        keep=options.keep,
        json=options.json,
        history=options.history,
        timeline=options.timeline,
    )


def _check_options(
    options: Options, kinds: Collection[FaultKind], configuration: ClusterConfiguration
) -> None:
    for name, number in vars(options).items():
        if isinstance(number, float) and not math.isfinite(number):
            raise ConfigurationError(f"--{name.replace('_', '-')}: found {number}")
    check_output(options.json, "--json")
    check_output(options.history, "--history")
    check_output(options.timeline, "--timeline")
    check_timeline(options.timeline)
    if options.history == STANDARD_OUTPUT:
        raise ConfigurationError("--history: a file is needed")
    if options.groups and options.group is not None:
        raise ConfigurationError("--groups and --group: give one of them")
    if options.nodes is None:
        return
    if options.address is not None or options.keep:
        raise ConfigurationError(
            "--nodes: that Ray cluster is the job's own and ends with it; allowed: neither "
            "--address nor --keep"
        )
    members = len(configuration.members)
    if not members <= options.nodes <= NODES_MAX:
        raise ConfigurationError(
            f"--nodes: found {options.nodes}; allowed: one for each of the {members} members, to "
            f"{NODES_MAX}"
        )
    if OF_DISKS & set(kinds):
        check_disks()


def _plan_groups(options: Options, configuration: ClusterConfiguration) -> tuple[GroupPlan, ...]:
    """What is done with each group: clients are dealt to them, and each has at least two."""
    groups = [choose_group(configuration, options.group)]
    if options.groups:
        groups = sorted(configuration.groups, key=lambda group: group.group)
    plans = []
    first = 1
    for number, group in enumerate(groups):
        share = (options.clients - number + len(groups) - 1) // len(groups)
        clients = max(share, CLIENTS_MIN) if options.groups else share
        kv = machine_of_kind(group, "kv", "a chaos run")
        log = machine_of_kind(group, "log", "a chaos run")
        plans.append(GroupPlan(group.group, kv, log, clients, first))
        first += clients
    return tuple(plans)


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.option(
    "--config",
    default=str(ROOT / "configs" / "local.yaml"),
    show_default="configs/local.yaml",
    metavar="FILE",
    help="The cluster's configuration.",
)
@click.option(
    "--faults",
    default=",".join(kind.value for kind in DEFAULT_KINDS),
    show_default=True,
    metavar="KIND,...|none",
    help="Which faults; this file's docstring has all kinds.",
)
@click.option(
    "--seconds",
    type=POSITIVE,
    default=60.0,
    show_default=True,
    metavar="N",
    help="For how long faults are injected.",
)
@click.option(
    "--clients",
    type=click.IntRange(min=1, max=1_000),
    default=8,
    show_default=True,
    metavar="N",
    help="How many clients work at a time; with --groups at least two for each group.",
)
@click.option(
    "--seed", type=int, default=1, show_default=True, metavar="N", help="Of faults and operations."
)
@click.option("--json", metavar="FILE", help="Write what happened as one JSON document.")
@click.option("--history", metavar="FILE", help="Write the history of the kv machine.")
@click.option(
    "--timeline", metavar="FILE.html", help="Write faults, commands and latencies over time."
)
@click.option("--group", type=int, metavar="N", help="The group; default: the lowest number.")
@click.option("--groups", is_flag=True, help="Work on all groups of the cluster.")
@click.option(
    "--nodes",
    type=click.IntRange(min=1),
    metavar="N",
    help="Start a Ray cluster of so many nodes on this machine, at least one for each member.",
)
@click.option("--keep", is_flag=True, help="Leave the cluster running.")
@click.option("--address", metavar="ADDRESS", help="Of the Ray cluster: HOST:PORT, auto or local.")
@click.option(
    "--rate",
    type=POSITIVE,
    default=25.0,
    show_default=True,
    metavar="N",
    help="Operations of one client in a second, at most.",
)
@click.option(
    "--fault-interval-s",
    type=POSITIVE,
    default=4.0,
    show_default=True,
    metavar="S",
    help="From one fault to the next, on average.",
)
@click.option(
    "--gap-limit-s",
    type=POSITIVE,
    metavar="S",
    help="Longest time without an acknowledged command that is allowed; default: 6, and by what "
    "the lease is longer than 2 s.",
)
@click.option(
    "--restart-gap-limit-s",
    type=POSITIVE,
    metavar="S",
    help="The same around a restart-all; default: 12, and likewise.",
)
@click.option(
    "--command-timeout-s",
    type=POSITIVE,
    default=10.0,
    show_default=True,
    metavar="S",
    help="How long a command may stay without an outcome.",
)
@click.option(
    "--read-timeout-s",
    type=POSITIVE,
    default=3.0,
    show_default=True,
    metavar="S",
    help="How long a read is tried.",
)
@click.option(
    "--check-limit-s",
    type=POSITIVE,
    default=300.0,
    show_default=True,
    metavar="S",
    help="How long the linearizability checker may take.",
)
@click.pass_obj
def command_line(environment: Environment, /, **arguments: object) -> None:
    """The command line; `--help` has its own text.

    Args:
        environment: `RayEnvironment`, or what stands for it in a test.
        arguments: As click has read and converted them.
    """
    console = JobConsole()
    options = Options(**arguments)  # type: ignore[arg-type]  # the options above have its names

    def job() -> int:
        return ChaosRun(make_plan(options, console), console).run(environment)

    sys.exit(run_to_status(job, console))


class RayEnvironment:
    """Clusters on Ray; it is imported only when everything else was found in order."""

    def start(
        self, configuration: ClusterConfiguration, *, address: str | None, keep: bool
    ) -> ChaosCluster:
        """`ray_paxos.start`."""
        return ray_paxos.start(configuration, address=address, keep=keep)

    def members(self, cluster: ChaosCluster, groups: Sequence[int]) -> Members:
        """The members' processes."""
        from chaos_members import RayMembers

        return RayMembers(cast("Cluster", cluster), groups)

    def nodes(
        self, configuration: ClusterConfiguration, count: int, kinds: Collection[FaultKind]
    ) -> AbstractContextManager[Nodes]:
        """Raylets on this machine."""
        return own_nodes(configuration, count, kinds)


if __name__ == "__main__":
    command_line(obj=RayEnvironment())

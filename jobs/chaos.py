"""Runs clients against a cluster while it injects faults, heals it, and checks what came of it.

    python jobs/chaos.py --seconds 120 --clients 8 --seed 7 --json out.json
    python jobs/chaos.py --nodes 5 --config configs/five_nodes.yaml --groups --report run.html \
        --faults kill-node,kill-gcs,kill-member,move-group,rolling-restart --seconds 300
    python jobs/chaos.py --hosts --config configs/five_nodes.yaml --faults partition,one-way,partial
    python jobs/chaos.py --workload lock --faults kill-role,kill-member,drop-master

Starts the cluster that the configuration describes, or attaches to it where it runs. **Its
processes are killed and stopped for real**: do not run it against a cluster that serves anybody.
Nothing but that one cluster's processes is ever signalled, on whatever node they are, and
with `--nodes` or `--hosts` the processes of a Ray cluster that the job starts for itself.

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
| `partition` | hosts of a minority are cut off from all others; half the time from the head, too |
| `one-way` | what a host sends to some others is lost, or what they send to it |
| `partial` | links of some pairs of hosts are cut; in each group somebody reaches a quorum |
| `kill-controller` | SIGKILL of the controller, with `replace-member` half the time in the middle |
| `replace-member` | a new member takes over all that another one has, which ends; its folder goes |

They are drawn by the seed and aimed half of the time at the master. Of each group's voters no more
than a minority is harmed at a time (faults may overlap on one member), but for `restart-all`,
after which nothing more happens until all members serve. `chaos_plan.py` has the rules. Where
groups are given to members, each first leaves one if all have it.

Faults of nodes, disks and the GCS need `--nodes` or `--hosts`, and disks need root besides:
`chaos_nodes.py`, `chaos_disks.py`. `partition`, `one-way` and `partial` need `--hosts`: a network
namespace with a Ray node for each member, and one for the head, where this job and its clients are
(`chaos_hosts.py`; root, and the tools of iproute2 and iptables). Their links are cut for 0.5 to 6
lease times, for 15 s at most, and a member counts as harmed until it has caught up. The shapes of
`partial` are those of the OmniPaxos paper, and a bridge (`chaos_cuts.py`).

`kill-controller` starts the cluster with a controller. It, and the reconciler that carries out
`replace-member`, bring groups back to what is wanted; so with either kind, or a controller that the
configuration has, changes of members are ordered of it, and it spreads nothing and takes nobody for
lost. Both kinds need a cluster that the job starts. A new member is named r1, r2, ... and lives on
the node of the one that it replaces.

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
- `events` (where the job starts the cluster): by the events that members write, at most one began
  to serve at each ballot, versions rise with ballots, and no error of this run (an event of level
  `ERROR`) is without a fault that explains it.

The JSON document: `cluster`, `group` (null with `--groups`), `members` in the end, `seed`,
`clients`, `seconds`, `elapsed_s`, `lease_ms`; `faults` and `refused` (such as a transfer, or a
change of members) by kind; `injected` (each with `kind`, `what`, `start_s`, `end_s`: all it hit
served again); `operations` by kind and outcome (`ok`, `failed`: certainly without effect,
`unknown`);
`errors` by class; `acknowledged` commands and `acknowledged_per_s`; `longest_gap_s`,
`longest_gap_restart_all_s` (null without a `restart-all`), their limits, and the ten longest `gaps`
with what was going on; `linearizability` (`verdict`, `operations`, `keys`,
`operations_per_key_max`, `seconds`, `slowest_keys`, each with `key`, `operations`, `seconds`);
`checked`, `checks`, `violations`, `held`; `load_average` of this machine. With `--groups` all of
these are of all groups, gaps the longest of any one; `overall_longest_gap_s` and
`overall_longest_gap_restart_all_s` are times without an acknowledgement in any group, and `groups`
has each by itself.

`--workload` has clients use a recipe instead: `lock`, `rw-lock`, `semaphore`, `election`, `queue`,
`ledger`, `counter`, `barrier`, `kv-txn`, `watch` or `object`; `chaos_workloads.py` says what each
does and what has to hold of it. They are checked by `clients`, `digests_equal`, `logs_equal`,
`gap`, `restart_all_gap` and `healed`, too, and by `read_at_the_end`; an operation is then one call
of a recipe. The document has besides: `workload`, and `figures`: counts of what was granted, lost,
handed out and the like; times as `p50`, `p99` and `longest` in ms: `hand_over_ms` (of locks: from a
release until who waited has it; of queues: from a put until the item is handed out),
`told_after_ms` (of watches: after the write was acknowledged), and `latency_ms` by operation.
They are of one group, so not with `--groups`; `linearizability` is null where there is no model of
the recipe; `--history` is for `kv` and `kv-txn`, of which the model is `chaos_judge_keys.Bank`.

`--history FILE` is written as it happens (with `--groups` one file a group, its number before the
ending); `python -m ray_paxos.testing.check FILE --model kv` checks it again. `--report FILE.html`
is one page that needs nothing else: verdict, faults, commands a second and latencies over time,
what faults of each kind did, groups, states, configuration and machine; `--figures FOLDER` has its
charts as SVG files. Exit status 0 only if all holds; otherwise as in `job_exit.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

import ray_paxos
from chaos_hosts import own_hosts
from chaos_nodes import own_nodes
from chaos_options import Options, make_plan
from chaos_plan import DEFAULT_KINDS, FaultKind
from chaos_run import ChaosRun
from chaos_workloads import WorkloadKind
from job_console import JobConsole
from job_exit import run_to_status
from ray_paxos.config import ClusterConfiguration

if TYPE_CHECKING:
    from chaos_cluster import Members, Nodes
    from chaos_group import ChaosCluster
    from chaos_settings import Environment
    from ray_paxos import Cluster

ROOT = Path(__file__).resolve().parent.parent
POSITIVE = click.FloatRange(min=0, min_open=True)


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
    help="For how long faults are injected; up to 60 s more until each kind has come once.",
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
@click.option("--report", metavar="FILE.html", help="Write what happened as one page.")
@click.option("--figures", metavar="FOLDER", help="Write the page's charts there as SVG files.")
@click.option(
    "--workload",
    type=click.Choice([kind.value for kind in WorkloadKind]),
    default=WorkloadKind.KV.value,
    show_default=True,
    metavar="NAME",
    help=f"What clients do: {', '.join(kind.value for kind in WorkloadKind)}.",
)
@click.option("--group", type=int, metavar="N", help="The group; default: the lowest number.")
@click.option("--groups", is_flag=True, help="Work on all groups of the cluster.")
@click.option(
    "--nodes",
    type=click.IntRange(min=1),
    metavar="N",
    help="Start a Ray cluster of so many nodes on this machine, at least one for each member.",
)
@click.option(
    "--hosts",
    is_flag=True,
    help="Make a host (a network namespace with a Ray node) for each member; takes root.",
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

    def hosts(
        self, configuration: ClusterConfiguration, kinds: Collection[FaultKind]
    ) -> AbstractContextManager[Nodes]:
        """Network namespaces with a Ray node each."""
        return own_hosts(configuration, kinds)


if __name__ == "__main__":
    command_line(obj=RayEnvironment())

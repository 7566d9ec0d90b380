"""Runs clients against a cluster while it injects faults, heals it, and checks what came of it.

    python jobs/chaos.py --seconds 120 --clients 8 --seed 7 --json out.json

Starts the cluster that the configuration describes, or attaches to it where it runs. **Its
processes are killed and stopped for real**: do not run it against a cluster that serves anybody.
Nothing but role processes of that one cluster is ever signalled, on whatever node they are.

Faults (`--faults`, by default the first five):

| kind | what happens |
|---|---|
| `kill-role` | SIGKILL of one role's process |
| `kill-member` | SIGKILL of all four of a member |
| `pause-member` | SIGSTOP of all four of a member, SIGCONT after 0.5 to 6 s |
| `drop-master` | the master is told to give up the lead, or to hand it to another member |
| `restart-all` | SIGKILL of every process of every member at once; Ray starts them again |
| `pause-role` | as pause-member, of one role's process |
| `none` | nothing, for comparison |

They are drawn by the seed and aimed half of the time at the master. No more than a minority of the
members is harmed at a time (faults may overlap on one member), but for `restart-all`, after which
nothing more happens until all members serve. `chaos_plan.py` has the rules.

What has to hold, by its name in `checks`:

- `linearizable`: puts, deletes, compare-and-sets and gets of the kv machine, the gets as commands
  and as reads of kind `linearizable` and `lease`, and a last read of every key. A verdict that the
  checker did not reach within `--check-limit-s` is no pass.
- `exactly_once`: ids appended to the log machine: every acknowledged one is there once, where it
  was acknowledged; none is there twice; each client's are in its order.
- `follower_reads`: reads at any member are as fresh as promised: a client's own writes, `at_least`,
  `max_staleness_ms`.
- `digests_equal`: all members have the same state in the end.
- `logs_equal`: all members have the same chosen log in Parquet, row by row, under its checksums and
  chain; every acknowledged command stands in it where its result said.
- `gap`, `restart_all_gap`: the longest time without an acknowledged command is within its limit,
  outside and within the times of `restart-all` (from the kill until all members serve, and on to
  the next acknowledgement).
- `healed`: all roles serve again. `clients`: no client met what must not happen.

The JSON document: `cluster`, `group`, `members`, `seed`, `clients`, `seconds`, `elapsed_s`,
`lease_ms`; `faults` and `refused` (a transfer that was refused) by kind; `injected` (each with
`kind`, `what`, `start_s`, `end_s`: all it hit served again); `operations` by kind and outcome
(`ok`, `failed`: certainly without effect, `unknown`); `errors` by class; `acknowledged` commands
and `acknowledged_per_s`; `longest_gap_s`, `longest_gap_restart_all_s` (null without a
`restart-all`), their limits, and the ten longest `gaps` with what was going on; `linearizability`
(`verdict`, `operations`, `keys`, `operations_per_key_max`, `seconds`, `slowest_keys`, each with
`key`, `operations`, `seconds`); `checked`, `checks`,
`violations`, `held`; `load_average` of this machine.

`--history FILE` is written as it happens; `python -m ray_paxos.testing.check FILE --model kv`
checks it again. Exit status 0 only if all holds; otherwise as in `job_exit.py`.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

import ray_paxos
from chaos_plan import DEFAULT_KINDS, check_members, parse_kinds
from chaos_run import ChaosCluster, ChaosPlan, ChaosRun, Environment
from job_console import JobConsole
from job_exit import run_to_status
from job_files import STANDARD_OUTPUT, check_output
from job_groups import choose_group, machine_of_kind
from ray_paxos.config import ClusterConfiguration, load_configuration
from ray_paxos.errors import ConfigurationError

if TYPE_CHECKING:
    from chaos_cluster import Members
    from ray_paxos import Cluster

ROOT = Path(__file__).resolve().parent.parent
GAP_LIMIT_S = 6.0
RESTART_GAP_LIMIT_S = 12.0
LEASE_S = 2.0
"""The lease that these two limits are for; by what a lease is longer they are higher."""
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
    group: int | None
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
    group = choose_group(configuration, options.group)
    kinds = parse_kinds(options.faults)
    check_members(kinds, len(configuration.members))
    for name, number in vars(options).items():
        if isinstance(number, float) and not math.isfinite(number):
            raise ConfigurationError(f"--{name.replace('_', '-')}: found {number}")
    check_output(options.json, "--json")
    check_output(options.history, "--history")
    if options.history == STANDARD_OUTPUT:
        raise ConfigurationError("--history: a file is needed")
    gap_limit_s, restart_limit_s = options.gap_limit_s, options.restart_gap_limit_s
    more_s = max(configuration.proposer.lease_ms / 1_000 - LEASE_S, 0.0)
    if more_s and (gap_limit_s is None or restart_limit_s is None):
        console.say(f"the lease is {more_s:g} s longer than {LEASE_S:g} s: so are limits of gaps")
    return ChaosPlan(
        configuration=configuration,
        group=group.group,
        kv=machine_of_kind(group, "kv", "a chaos run"),
        log=machine_of_kind(group, "log", "a chaos run"),
        kinds=kinds,
        seconds=options.seconds,
        interval_s=options.fault_interval_s,
        clients=options.clients,
        rate=options.rate,
        command_s=options.command_timeout_s,
        read_s=options.read_timeout_s,
        seed=options.seed,
        gap_limit_s=GAP_LIMIT_S + more_s if gap_limit_s is None else gap_limit_s,
        restart_gap_limit_s=RESTART_GAP_LIMIT_S + more_s
        if restart_limit_s is None
        else restart_limit_s,
        check_s=options.check_limit_s,
        address=options.address,
        keep=options.keep,
        json=options.json,
        history=options.history,
    )


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
    help="Which faults; pause-role is another.",
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
    help="How many clients work at a time.",
)
@click.option(
    "--seed", type=int, default=1, show_default=True, metavar="N", help="Of faults and operations."
)
@click.option("--json", metavar="FILE", help="Write what happened as one JSON document.")
@click.option("--history", metavar="FILE", help="Write the history of the kv machine.")
@click.option("--group", type=int, metavar="N", help="The group; default: the lowest number.")
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

    def members(self, cluster: ChaosCluster, group: int) -> Members:
        """The members' processes."""
        from chaos_members import RayMembers

        return RayMembers(cast("Cluster", cluster), group)


if __name__ == "__main__":
    command_line(obj=RayEnvironment())

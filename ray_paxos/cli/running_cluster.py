"""What commands that ask a running cluster share, and `ray-paxos checkpoint`.

Ray takes a second to import, which only these commands need: it is imported in them.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from ray_paxos.cli.help_text import CLUSTER_FAILED, epilog
from ray_paxos.cli.statuses import statuses

if TYPE_CHECKING:
    from ray_paxos.cluster import Cluster
    from ray_paxos.observability.cluster_view import ClusterView

COMPARED_S = 1.0

address_option = click.option("--address", metavar="ADDRESS", help="Of the Ray cluster: HOST:PORT.")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document.")


@click.command(
    epilog=epilog("checkpoint demo", "checkpoint demo --group 2 --json", failed=CLUSTER_FAILED)
)
@click.argument("cluster")
@click.option("--group", type=int, help="Which group; by default the lowest above 0.")
@click.option(
    "--timeout-s",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="How long to wait.",
)
@json_option
@address_option
def checkpoint(
    cluster: str, group: int | None, timeout_s: float, as_json: bool, address: str | None
) -> None:
    """Make a checkpoint of a group on all members of a running cluster that answer.

    Exit status 0 once each of them has it on its disk.
    """
    with statuses():
        running = connect_to(cluster, address)
        made = running.checkpoint(group, timeout_s=timeout_s)
        if as_json:
            click.echo(json.dumps(made, indent=1))
            return
        for name in running.members:
            through = f"instance {made[name]:,}" if name in made else "does not answer"
            click.echo(f"{name}  {through}")


def connect_to(cluster: str, address: str | None) -> Cluster:
    """The running cluster of that name; raises as `ray_paxos.connect`."""
    import ray_paxos

    # Ray says on standard error what it connects to; only what is wrong matters here.
    logging.getLogger("ray").setLevel(logging.WARNING)
    return ray_paxos.connect(cluster, address=address)


def open_to_watch(cluster: str, address: str | None) -> Cluster:
    """The running cluster of that name, also where it has no majority, to be asked how it is.

    Raises:
        ClusterNotFoundError: No cluster of that name runs.
        ClusterError: There is no Ray cluster, or the cluster does not answer.
    """
    from ray_paxos.actors.watching import watched_cluster

    logging.getLogger("ray").setLevel(logging.WARNING)
    return watched_cluster(cluster, address=address)


def view_of(cluster: Cluster, *, is_compared: bool = False) -> ClusterView:
    """A look at it.

    Args:
        cluster: Which.
        is_compared: Whether it is compared with one a second before, which gives rates of groups.

    Raises:
        ClusterError: It is gone.
    """
    from ray_paxos.actors.watching import Watching

    watching = Watching(cluster)
    view = watching.look()
    if is_compared:
        time.sleep(COMPARED_S)
        view = watching.look()
    return view


def parsed_pairs(given: Iterable[str], form: str, option: str) -> dict[str, str]:
    """What an option that may be repeated says, each time as NAME=VALUE.

    Args:
        given: What was typed.
        form: How it is to be typed, for the message.
        option: Its name, likewise.

    Raises:
        click.BadParameter: One of them is not of that form.
    """
    parsed = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{each!r} is no {form}", param_hint=option)
        parsed[key] = value
    return parsed

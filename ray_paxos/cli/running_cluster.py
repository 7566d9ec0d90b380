"""`ray-paxos status` and `ray-paxos checkpoint`: ask a running cluster, by its name.

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
from ray_paxos.cli.tables import is_terminal, show_table

if TYPE_CHECKING:
    from ray_paxos.cluster import Cluster, ClusterStatus
    from ray_paxos.observability.cluster_view import ClusterView

COMPARED_S = 1.0

address_option = click.option("--address", metavar="ADDRESS", help="Of the Ray cluster: HOST:PORT.")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document.")


@click.command(
    epilog=epilog(
        "status demo", "status demo --json", "status demo --group 1", failed=CLUSTER_FAILED
    )
)
@click.argument("cluster")
@click.option("--group", type=int, help="One group's detail only.")
@json_option
@address_option
def status(cluster: str, group: int | None, as_json: bool, address: str | None) -> None:
    """Show the members of a running cluster, its groups, and what is wrong with it.

    `ray-paxos top` shows it again and again.
    """
    with statuses():
        running = open_to_watch(cluster, address)
        view = view_of(running, is_compared=group is not None)
        if group is not None:
            _show_group(view, group, as_json)
            return
        from ray_paxos.cli.status_view import document_of

        found = running.status()
        if as_json:
            click.echo(json.dumps(document_of(found, view), indent=1))
        elif is_terminal():
            _show(found, view)
        else:
            for line in status_lines(found, view):
                click.echo(line)


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


def status_lines(found: ClusterStatus, view: ClusterView) -> list[str]:
    """A cluster's status for a person, what is wrong first."""
    from ray_paxos.cli.status_view import other_alarms, rates_line, risk_lines

    lines = [f"cluster {found.cluster} ({found.cluster_id})"]
    lines += [f"  ! {line}" for line in risk_lines(view)]
    lines += [f"  ! {alarm}" for alarm in other_alarms(found, view)]
    lines.append(rates_line(view))
    for member in found.members:
        phases = ", ".join(f"{name} {role.phase}" for name, role in member.roles.items())
        lines.append(f"member {member.name}: {phases}")
    for group in found.groups:
        lines.append(f"group {group.group}, master {group.master or 'none'}")
        for name, position in group.positions.items():
            lines.append(
                f"  {name}  applied {position.applied_through:,} (lag {position.lag:,}), "
                f"on disk {position.durable_through:,}, log from {position.log_floor:,}, "
                f"checkpoint {position.checkpoint:,}"
            )
    return lines


def _show_group(view: ClusterView, number: int, as_json: bool) -> None:
    """One group; raises ConfigurationError where there is none of that number."""
    from ray_paxos.cli.top import picture
    from ray_paxos.cli.top_options import TopOptions, group_of

    group_of(view, number)
    if as_json:
        plain = next(each for each in view.to_dict()["groups"] if each["group"] == number)
        click.echo(json.dumps(plain, indent=1))
    else:
        click.echo(picture(view, TopOptions(group=number)), nl=False, color=True)


def _show(found: ClusterStatus, view: ClusterView) -> None:
    """The same as tables."""
    from ray_paxos.cli.status_view import other_alarms, rates_line, risk_lines

    click.echo(f"cluster {found.cluster} ({found.cluster_id})")
    for alarm in (*risk_lines(view), *other_alarms(found, view)):
        click.secho(f"  ! {alarm}", fg="red")
    click.echo(rates_line(view))
    click.echo()
    roles = sorted({name for member in found.members for name in member.roles})
    rows = [
        (member.name, *(member.roles[role].phase if role in member.roles else "" for role in roles))
        for member in found.members
    ]
    show_table(("member", *roles), rows, styles={"serving": "green", "stopped": "bold red"})
    click.echo()
    columns = ("group", "master", "member", "applied", "lag", "on disk", "log from", "checkpoint")
    show_table(
        columns,
        [
            (
                group.group,
                group.master or "none",
                name,
                *(f"{position.applied_through:,}", f"{position.lag:,}"),
                *(f"{position.durable_through:,}", f"{position.log_floor:,}"),
                f"{position.checkpoint:,}",
            )
            for group in found.groups
            for name, position in group.positions.items()
        ],
        styles={"none": "bold red"},
    )


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

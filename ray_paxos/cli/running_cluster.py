"""`ray-paxos status` and `ray-paxos checkpoint`: ask a running cluster, by its name.

Ray takes a second to import, which only these commands need: it is imported in them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from ray_paxos.cli.help_text import CLUSTER_FAILED, epilog
from ray_paxos.cli.statuses import statuses
from ray_paxos.cli.tables import is_terminal, show_table

if TYPE_CHECKING:
    from ray_paxos.cluster import Cluster, ClusterStatus

address_option = click.option("--address", metavar="ADDRESS", help="Of the Ray cluster: HOST:PORT.")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document.")


@click.command(epilog=epilog("status demo", "status demo --json", failed=CLUSTER_FAILED))
@click.argument("cluster")
@json_option
@address_option
def status(cluster: str, as_json: bool, address: str | None) -> None:
    """Show the members of a running cluster, its groups, and what is wrong with it."""
    with statuses():
        found = connect_to(cluster, address).status()
        if as_json:
            click.echo(json.dumps(found.to_dict(), indent=1))
        elif is_terminal():
            _show(found)
        else:
            for line in status_lines(found):
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


def status_lines(found: ClusterStatus) -> list[str]:
    """A cluster's status for a person, what is wrong first."""
    lines = [f"cluster {found.cluster} ({found.cluster_id})"]
    lines += [f"  ! {alarm}" for alarm in found.alarms]
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


def _show(found: ClusterStatus) -> None:
    """The same as tables."""
    click.echo(f"cluster {found.cluster} ({found.cluster_id})")
    for alarm in found.alarms:
        click.secho(f"  ! {alarm}", fg="red")
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

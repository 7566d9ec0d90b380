"""`ray-paxos status`: how a running cluster is: positions, rates, who is down, what is at risk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from ray_paxos.cli import running_cluster
from ray_paxos.cli.help_text import CLUSTER_FAILED, epilog
from ray_paxos.cli.running_cluster import address_option, json_option
from ray_paxos.cli.statuses import statuses
from ray_paxos.cli.tables import is_terminal, show_table
from ray_paxos.observability.cluster_view import ClusterView
from ray_paxos.observability.group_health import risks
from ray_paxos.observability.text import (
    duration_text,
    groups_text,
    milliseconds_text,
    printable,
    rate_text,
)

if TYPE_CHECKING:
    from ray_paxos.cluster import ClusterStatus

OF_ALL = ("at_ms", "commands_per_s", "p50_ms", "p99_ms", "history", "events")


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
        running = running_cluster.open_to_watch(cluster, address)
        view = running_cluster.view_of(running, is_compared=group is not None)
        if group is not None:
            _show_group(view, group, as_json)
            return
        found = running.status()
        if as_json:
            click.echo(json.dumps(document_of(found, view), indent=1))
        elif is_terminal():
            _show(found, view)
        else:
            for line in status_lines(found, view):
                click.echo(line)


def status_lines(found: ClusterStatus, view: ClusterView) -> list[str]:
    """A cluster's status for a person, what is wrong first."""
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


# Parts of it.


def rates_line(view: ClusterView) -> str:
    """What the cluster did in the last seconds that are over."""
    if not view.history:
        return "no command was answered in the last 15 minutes, as far as anybody tells"
    last = view.history[-1]
    seconds = duration_text(view.at_ms - last.end_ms + round(last.seconds * 1_000))
    return (
        f"{rate_text(last.commands_per_s)} commands/s, p50 {milliseconds_text(last.p50_ms)}, "
        f"p99 {milliseconds_text(last.p99_ms)} (measured within the last {seconds})"
    )


def risk_lines(view: ClusterView) -> Iterator[str]:
    """Which members are down, and what that means for the groups, the gravest first."""
    from ray_paxos.cli.top_tables import down_text

    for member in view.members:
        if not member.is_up:
            yield printable(down_text(view, member))
    for health, risk, groups, _ in risks(view.groups):
        yield printable(f"{groups_text(groups)} {health.value}: {risk}")


def other_alarms(found: ClusterStatus, view: ClusterView) -> Iterator[str]:
    """What `cluster.status()` warns of beside that.

    Of a member of which no role answers `risk_lines` says so once; that each of its roles does not
    is left out.
    """
    silent = [
        f"{member.name}: the {name} does not answer: "
        for member in view.members
        if all(role.phase == "gone" for role in member.roles.values())
        for name in member.roles
    ]
    for alarm in found.alarms:
        if not alarm.startswith(tuple(silent)):
            yield printable(alarm)


def document_of(found: ClusterStatus, view: ClusterView) -> dict[str, Any]:
    """Both as one document: what `cluster.status()` has, and under further names what a view has.

    Where both have a name, it is what `cluster.status()` says.
    """
    document, plain = found.to_dict(), view.to_dict()
    document |= {name: plain[name] for name in OF_ALL}
    if view.commands_per_s is None and view.history:
        last = plain["history"][-1]
        document |= {name: last[name] for name in ("commands_per_s", "p50_ms", "p99_ms")}
    document["members"] = _merged(document["members"], plain["members"], "name")
    document["groups"] = _merged(document["groups"], plain["groups"], "group")
    return document


def _merged(
    first: list[dict[str, Any]], second: list[dict[str, Any]], key: str
) -> list[dict[str, Any]]:
    """Entries of the same key as one; those of the second alone come last."""
    others = {each[key]: each for each in second}
    merged = [_both(each, others.pop(each[key], {})) for each in first]
    return [*merged, *others.values()]


def _both(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    both = {**second, **first}
    if "positions" in first and "positions" in second:
        # Members that tell nothing are left out, as they always were; `voters_down` has them.
        both["positions"] = {
            name: {**second["positions"].get(name, {}), **position}
            for name, position in first["positions"].items()
        }
    return both

"""`ray-paxos groups ...`: who has which group of a running cluster, and changing it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ray_paxos.cli.help_text import CLUSTER_FAILED, epilog
from ray_paxos.cli.running_cluster import (
    address_option,
    connect_to,
    json_option,
    parsed_pairs,
)
from ray_paxos.cli.statuses import statuses
from ray_paxos.cli.tables import show_rows

if TYPE_CHECKING:
    from ray_paxos.actors.memberships import GroupMembers
    from ray_paxos.group import Group

timeout_option = click.option(
    "--timeout-s",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="How long to try.",
)


@click.group(epilog=epilog("groups list demo", "groups move demo 1 m1 m4", failed=CLUSTER_FAILED))
def groups() -> None:
    """Show and change which members have a group, and which of them vote."""


@groups.command(
    "list", epilog=epilog("groups list demo", "groups list demo --json", failed=CLUSTER_FAILED)
)
@click.argument("cluster")
@json_option
@address_option
def list_groups(cluster: str, as_json: bool, address: str | None) -> None:
    """List the groups of a running cluster: master, voters, followers."""
    with statuses():
        running = connect_to(cluster, address)
        masters = {each.group: each.master for each in running.status().groups}
        found = {number: running.group(number).members() for number in masters}
        if as_json:
            document = [
                {"group": number, "master": masters[number], **asdict(members)}
                for number, members in found.items()
            ]
            click.echo(json.dumps(document, indent=1))
            return
        show_rows(
            ("group", "master", "voters", "followers", "since instance"),
            [
                (
                    number,
                    masters[number] or "none",
                    ", ".join(members.voters),
                    ", ".join(members.followers),
                    f"{members.version:,}",
                )
                for number, members in found.items()
            ],
            [
                f"group {number}, master {masters[number] or 'none'}: {_words(members)}"
                for number, members in found.items()
            ],
        )


@groups.command(epilog=epilog("groups move demo 1 m1 m4", failed=CLUSTER_FAILED))
@click.argument("cluster")
@click.argument("group", type=int)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@timeout_option
@json_option
@address_option
def move(
    cluster: str,
    group: int,
    source: str,
    target: str,
    timeout_s: float,
    as_json: bool,
    address: str | None,
) -> None:
    """Have member TO take the place of member FROM in a group.

    It joins, catches up, and votes; then FROM leaves. Where it broke off, the same command goes on.
    """
    with statuses():
        of = connect_to(cluster, address).group(group)
        _tell(of, of.move(source, target, timeout_s=timeout_s), as_json)


@groups.command(
    epilog=epilog(
        "groups create demo 9",
        "groups create demo 10 --voters 5 --machine ledger=kv",
        failed=CLUSTER_FAILED,
    )
)
@click.argument("cluster")
@click.argument("group", type=int)
@click.option(
    "--voters",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="How many members vote in it.",
)
@click.option(
    "--machine",
    "machines",
    multiple=True,
    metavar="NAME=KIND",
    callback=lambda context, parameter, machines: parsed_pairs(machines, "NAME=KIND", "--machine"),
    help="A state machine of the group; by default kv=kv and log=log. May be repeated.",
)
@timeout_option
@json_option
@address_option
def create(
    cluster: str,
    group: int,
    voters: int,
    machines: dict[str, str],
    timeout_s: float,
    as_json: bool,
    address: str | None,
) -> None:
    """Make a new group, under a number that no group of the cluster ever had."""
    with statuses():
        running = connect_to(cluster, address)
        running.operations.create_group(
            group, voters=voters, machines=machines or None, timeout_s=timeout_s
        )
        of = running.group(group)
        _tell(of, of.members(), as_json)


@groups.command(epilog=epilog("groups drop demo 9", failed=CLUSTER_FAILED))
@click.argument("cluster")
@click.argument("group", type=int)
@timeout_option
@json_option
@address_option
def drop(cluster: str, group: int, timeout_s: float, as_json: bool, address: str | None) -> None:
    """Take a group from all members, with all its data, for ever."""
    with statuses():
        connect_to(cluster, address).operations.drop_group(group, timeout_s=timeout_s)
        if as_json:
            click.echo(json.dumps({"group": group, "dropped": True}))
        else:
            click.echo(f"group {group}: dropped")


@groups.command(
    epilog=epilog("groups place demo 1 m1 m2 m3", "groups place demo 1", failed=CLUSTER_FAILED)
)
@click.argument("cluster")
@click.argument("group", type=int)
@click.argument("placed", metavar="[MEMBER]...", nargs=-1)
@timeout_option
@json_option
@address_option
def place(
    cluster: str,
    group: int,
    placed: tuple[str, ...],
    timeout_s: float,
    as_json: bool,
    address: str | None,
) -> None:
    """Have just these members vote in a group, and keep it so.

    Without a member: whoever spreads the groups may choose, from here on.
    """
    with statuses():
        running = connect_to(cluster, address)
        running.operations.place_group(group, placed, timeout_s=timeout_s)
        of = running.group(group)
        _tell(of, of.members(), as_json)


@groups.command("spread", epilog=epilog("groups spread demo", failed=CLUSTER_FAILED))
@click.argument("cluster")
@timeout_option
@json_option
@address_option
def spread_groups(cluster: str, timeout_s: float, as_json: bool, address: str | None) -> None:
    """Move groups until all members have equally many, to within one."""
    with statuses():
        changes = connect_to(cluster, address).operations.spread(timeout_s=timeout_s)
        if as_json:
            click.echo(json.dumps({"cluster": cluster, "changes": changes}))
        else:
            click.echo(f"spread, by {changes} changes" if changes else "spread already")


def _change(name: str, summary: str) -> None:
    """Make one of the commands that change what one member is in one group."""

    @groups.command(
        name, help=summary, epilog=epilog(f"groups {name} demo 1 m4", failed=CLUSTER_FAILED)
    )
    @click.argument("cluster")
    @click.argument("group", type=int)
    @click.argument("member")
    @timeout_option
    @json_option
    @address_option
    def command(
        cluster: str,
        group: int,
        member: str,
        timeout_s: float,
        as_json: bool,
        address: str | None,
    ) -> None:
        with statuses():
            of = connect_to(cluster, address).group(group)
            change: Callable[..., GroupMembers] = getattr(of, name)
            _tell(of, change(member, timeout_s=timeout_s), as_json)


_change("add", "Give a group to a member, as a follower: it learns, and does not vote.")
_change("promote", "Let a follower that has caught up vote.")
_change("demote", "Make a voter a follower; a master hands over first.")
_change("remove", "Take a group from a member, which deletes what it has of it.")


def _tell(group: Group, members: GroupMembers, as_json: bool) -> None:
    if as_json:
        document: dict[str, Any] = {"group": group.number, **asdict(members)}
        click.echo(json.dumps(document, indent=1))
    else:
        click.echo(f"group {group.number}: {_words(members)}")


def _words(members: GroupMembers) -> str:
    followers = f"; followers {', '.join(members.followers)}" if members.followers else ""
    since = f", since instance {members.version:,}" if members.version else ""
    return f"voters {', '.join(members.voters)}{followers}{since}"

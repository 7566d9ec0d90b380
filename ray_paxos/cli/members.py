"""`ray-paxos members ...`: the members of a running cluster, and changing who they are."""

from __future__ import annotations

import json
from collections.abc import Callable
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
    from ray_paxos.cluster import Cluster
    from ray_paxos.core.wanted import WantedMember

timeout_option = click.option(
    "--timeout-s",
    type=click.FloatRange(min=0, min_open=True),
    default=180.0,
    show_default=True,
    help="How long to wait until it is done.",
)
_NODE_OPTIONS = (
    click.option(
        "--node", default="", metavar="NODE_ID", help="Ray's id of its node, or the beginning."
    ),
    click.option(
        "--label",
        "labels",
        multiple=True,
        metavar="KEY=VALUE",
        callback=lambda context, parameter, labels: parsed_pairs(labels, "KEY=VALUE", "--label"),
        help="Label of the Ray node that has its disk: it comes back with it. May be repeated.",
    ),
    click.option("--resource", default="", metavar="NAME", help="Custom resource of that node."),
    timeout_option,
    json_option,
    address_option,
)


def node_options(command: Callable[..., None]) -> Callable[..., None]:
    """Where a new member is to be made, and what all commands take that change something."""
    for option in reversed(_NODE_OPTIONS):
        command = option(command)
    return command


@click.group(
    epilog=epilog("members list demo", "members replace demo m2 m4", failed=CLUSTER_FAILED)
)
def members() -> None:
    """Show the members of a running cluster, add some, and take some away."""


@members.command(
    "list", epilog=epilog("members list demo", "members list demo --json", failed=CLUSTER_FAILED)
)
@click.argument("cluster")
@json_option
@address_option
def list_members(cluster: str, as_json: bool, address: str | None) -> None:
    """List the members: what is wanted of each, whether it serves, and the groups that it has."""
    with statuses():
        running = connect_to(cluster, address)
        document = _described(running)
        if as_json:
            click.echo(json.dumps(document, indent=1))
            return
        rows = [
            (
                each["name"],
                each["state"],
                "serves" if each["serves"] else "does not serve",
                ", ".join(map(str, each["groups"])) or "none",
            )
            for each in document
        ]
        lines = [
            f"{name}  {state}, {serves}; groups {groups}" for name, state, serves, groups in rows
        ]
        show_rows(("member", "wanted", "now", "groups"), rows, lines)


@members.command(
    epilog=epilog(
        "members add demo m4",
        "members add demo m4 --label ray_paxos/member=m4",
        failed=CLUSTER_FAILED,
    )
)
@click.argument("cluster")
@click.argument("member")
@node_options
def add(
    cluster: str,
    member: str,
    node: str,
    labels: dict[str, str],
    resource: str,
    timeout_s: float,
    as_json: bool,
    address: str | None,
) -> None:
    """Add a new member, which has no group at first.

    Its name is one that no member of the cluster ever had. Without --node, --label and --resource
    it is made on a Ray node that has no member yet, where there is one.
    """
    with statuses():
        running = connect_to(cluster, address)
        running.operations.add_member(
            member,
            node=node,
            labels=labels,
            resource=resource,
            timeout_s=timeout_s,
        )
        _tell(running, member, as_json)


@members.command(epilog=epilog("members remove demo m4", failed=CLUSTER_FAILED))
@click.argument("cluster")
@click.argument("member")
@timeout_option
@json_option
@address_option
def remove(cluster: str, member: str, timeout_s: float, as_json: bool, address: str | None) -> None:
    """Give a member's groups to others, end it, and delete its folder."""
    with statuses():
        running = connect_to(cluster, address)
        running.operations.remove_member(member, timeout_s=timeout_s)
        _tell(running, member, as_json)


@members.command(
    epilog=epilog(
        "members replace demo m2 m4",
        "members replace demo m2 m4 --resource paxos_disk",
        failed=CLUSTER_FAILED,
    )
)
@click.argument("cluster")
@click.argument("member")
@click.argument("successor")
@node_options
def replace(
    cluster: str,
    member: str,
    successor: str,
    node: str,
    labels: dict[str, str],
    resource: str,
    timeout_s: float,
    as_json: bool,
    address: str | None,
) -> None:
    """Have a new member SUCCESSOR take over what MEMBER has; MEMBER ends.

    MEMBER need not be there any more: this is how a member whose disk is lost is replaced.
    """
    with statuses():
        running = connect_to(cluster, address)
        running.operations.replace_member(
            member,
            successor,
            node=node,
            labels=labels,
            resource=resource,
            timeout_s=timeout_s,
        )
        _tell(running, successor, as_json)


@members.command(epilog=epilog("members drain demo m2", failed=CLUSTER_FAILED))
@click.argument("cluster")
@click.argument("member")
@timeout_option
@json_option
@address_option
def drain(cluster: str, member: str, timeout_s: float, as_json: bool, address: str | None) -> None:
    """Give a member's groups to others; it stays, without a group, until `members keep`."""
    with statuses():
        running = connect_to(cluster, address)
        running.operations.drain_member(member, timeout_s=timeout_s)
        _tell(running, member, as_json)


@members.command(epilog=epilog("members keep demo m2", failed=CLUSTER_FAILED))
@click.argument("cluster")
@click.argument("member")
@json_option
@address_option
def keep(cluster: str, member: str, as_json: bool, address: str | None) -> None:
    """Let a member that was drained, or is leaving, have groups again."""
    with statuses():
        running = connect_to(cluster, address)
        running.operations.keep_member(member)
        _tell(running, member, as_json)


@members.command(epilog=epilog("members restart demo m1 m2 m3", failed=CLUSTER_FAILED))
@click.argument("cluster")
@click.argument("names", metavar="MEMBER...", nargs=-1, required=True)
@timeout_option
@json_option
@address_option
def restart(
    cluster: str, names: tuple[str, ...], timeout_s: float, as_json: bool, address: str | None
) -> None:
    """Restart members, one after the other; each hands over first, and catches up in the end."""
    with statuses():
        upgrades = connect_to(cluster, address).upgrades
        for name in names:
            upgrades.restart_member(name, timeout_s=timeout_s)
            if not as_json:
                click.echo(f"member {name}: restarted")
        if as_json:
            click.echo(json.dumps({"restarted": list(names)}, indent=1))


def _described(running: Cluster) -> list[dict[str, Any]]:
    wanted = running.operations.wanted()
    found = {member.name: member for member in running.status().members}
    document = []
    for name, member in wanted.members.items():
        roles = found[name].roles if name in found else {}
        learner = roles.get("learner")
        document.append(
            {
                **_words_of(member),
                "serves": bool(roles) and all(r.phase == "serving" for r in roles.values()),
                "node_id": learner.node_id if learner is not None else "",
                "groups": sorted((learner.groups or {}) if learner is not None else {}),
            }
        )
    return document


def _words_of(member: WantedMember) -> dict[str, Any]:
    return {
        "name": member.spec.name,
        "member_id": member.spec.member_id,
        "state": member.state.name.lower(),
        "labels": dict(member.labels),
        "resource": member.resource,
    }


def _tell(running: Cluster, name: str, as_json: bool) -> None:
    member = running.operations.wanted().members[name]
    if as_json:
        click.echo(json.dumps(_words_of(member), indent=1))
    else:
        click.echo(f"member {name}: {member.state.name.lower()}")

"""The tables of `ray-paxos top`, and its sentences about what is wrong.

Every state is a word, so that no colour is needed to read it.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from ray_paxos.cli.top_options import TopOptions, state_text
from ray_paxos.observability.cluster_view import ClusterView, GroupView, Health, MemberView
from ray_paxos.observability.group_health import risks
from ray_paxos.observability.text import (
    bytes_text,
    clock_text,
    count_text,
    duration_text,
    groups_text,
    milliseconds_text,
    printable,
    rate_text,
)

WIDE = 120
"""From so many columns on there is room for more of them."""
STYLES = {
    Health.OK: "green",
    Health.DEGRADED: "yellow",
    Health.AT_RISK: "bold yellow",
    Health.NO_MASTER: "bold red",
    Health.NO_MAJORITY: "bold red",
    Health.STOPPED: "bold red",
}
HELP = (
    ("q", "quit"),
    ("s, right, left", "sort by another column"),
    ("/", "show only what contains a text: type it, enter; empty for all"),
    ("u", "show only what is not well"),
    ("up, down", "choose a group"),
    ("enter", "show the group that is chosen"),
    ("esc, backspace", "back"),
    ("h, ?", "this help"),
)


def wrong_lines(view: ClusterView) -> list[tuple[str, str]]:
    """What is wrong, and since when, each with the style of its mark; the gravest first."""
    lines = []
    for member in view.members:
        if not member.is_up:
            lines.append((down_text(view, member), "bold red"))
    for health, risk, groups, since_ms in risks(view.groups):
        since = since_text(view, since_ms)
        text = f"{groups_text(groups)}: {health.value} {since}. {risk}"
        lines.append((text, STYLES[health]))
    for member in view.members:
        if member.is_up:
            lines += [(f"{member.name}: {alarm}", "yellow") for alarm in member.alarms]
    return [(printable(text), style) for text, style in lines]


def down_text(view: ClusterView, member: MemberView) -> str:
    """Since when a member is down, why, and where it votes."""
    since = since_text(view, member.down_since_ms)
    votes = f" It votes in {groups_text(member.votes_in)}." if member.votes_in else ""
    missing = {name: role for name, role in member.roles.items() if role.phase != "serving"}
    reason = next((role.reason for role in missing.values() if role.reason), "")
    if len(missing) < len(member.roles):
        phases = ", ".join(f"{name} {role.phase}" for name, role in missing.items())
        what = f"{member.name} is partly down {since} ({phases})"
    else:
        what = f"{member.name} is down {since}"
    return f"{what}{f': {reason}' if reason else ''}.{votes}"


def since_text(view: ClusterView, since_ms: int | None) -> str:
    """`since 16:02:11 (23 s)`; empty for None."""
    if since_ms is None:
        return ""
    return f"since {clock_text(since_ms, view.at_ms)} ({duration_text(view.at_ms - since_ms)})"


def _table(*columns: str, right: Sequence[str] = ()) -> Table:
    table = Table(
        box=None, pad_edge=False, show_edge=False, header_style="dim", padding=(0, 2, 0, 0)
    )
    for name in columns:
        side = "right" if name in right else "left"
        table.add_column(name, justify=side, no_wrap=True, overflow="ellipsis")  # type: ignore[arg-type]
    return table


def members_table(view: ClusterView, members: Sequence[MemberView], width: int) -> Table:
    """A row for each of these members."""
    numeric = ("leads", "votes in", "commands/s", "fsync p99", "lag", "disk", "free", "follows")
    columns = ["member", "state", "leads", "commands/s", "fsync p99", "lag", "disk"]
    if width >= WIDE:
        columns[2:2] = ["since", "node", "roles"]
        columns[6:6] = ["votes in"]
        columns.append("free")
    table = _table(*columns, right=numeric)
    for member in members:
        cells: dict[str, str | Text] = {
            "member": Text(member.name, "bold"),
            "state": _state_text(member),
            "since": clock_text(member.down_since_ms, view.at_ms),
            "node": member.node_address or member.node_id[:8],
            "roles": _roles_text(member),
            "leads": count_text(len(member.leads)),
            "votes in": count_text(len(member.votes_in)),
            "commands/s": rate_text(member.commands_per_s),
            "fsync p99": milliseconds_text(member.fsync_p99_ms),
            "lag": count_text(member.lag),
            "disk": bytes_text(member.disk_bytes),
            "free": bytes_text(member.disk_free_bytes),
        }
        table.add_row(*(cells[column] for column in columns))
    return table


def _state_text(member: MemberView) -> Text:
    style = ("yellow" if member.alarms else "green") if member.is_up else "bold red"
    return Text(state_text(member), style)


def _roles_text(member: MemberView) -> Text:
    """`PALC`, a letter for each role; a small one where it does not serve, `-` where it is gone."""
    text = Text()
    for name, role in member.roles.items():
        if role.phase == "serving":
            text.append(name[0].upper(), "green")
        else:
            text.append("-" if role.phase == "gone" else name[0], "bold red")
    return text


def groups_table(
    view: ClusterView, groups: Sequence[GroupView], options: TopOptions, width: int
) -> Table:
    """A row for each of these groups."""
    numeric = ("group", "voters up", "commands/s", "lag", "applied", "queued")
    columns = ["group", "health", "master", "voters up", "commands/s", "lag", "applied"]
    if width >= WIDE:
        columns += ["queued", "since", "voters"]
    table = _table("", *columns, right=numeric)
    for group in groups:
        cells: dict[str, str | Text] = {
            "group": str(group.group),
            "health": Text(group.health.value, STYLES[group.health]),
            "master": group.master or Text("none", "bold red"),
            "voters up": f"{group.voters_up} of {len(group.voters)}",
            "commands/s": rate_text(group.commands_per_s),
            "lag": count_text(group.lag),
            "applied": count_text(group.applied),
            "queued": count_text(group.queued_requests),
            "since": clock_text(group.since_ms, view.at_ms),
            "voters": _voters_text(group),
        }
        is_chosen = group.group == options.chosen
        mark = ">" if is_chosen else ("" if group.health is Health.OK else "!")
        style = "reverse" if is_chosen else ""
        table.add_row(mark, *(cells[column] for column in columns), style=style)
    return table


def _voters_text(group: GroupView) -> Text:
    text = Text()
    for name in group.voters:
        is_down = name in group.voters_down
        text.append(f"{name} (down) " if is_down else f"{name} ", "bold red" if is_down else "")
    return text


def positions_table(group: GroupView) -> Table:
    """A row for each member that has the group."""
    numeric = ("applied", "lag", "on disk", "log from", "checkpoint")
    table = _table("member", "part", "state", *numeric, right=numeric)
    for name, position in group.positions.items():
        part = "voter" if position.is_voter else "follower"
        is_down = name in group.voters_down or not position.is_up
        state = Text("DOWN", "bold red") if is_down else Text("up", "green")
        table.add_row(
            Text(name, "bold"),
            f"{part}, master" if name == group.master else part,
            Text("STOPPED", "bold red") if position.stopped else state,
            count_text(position.applied),
            count_text(position.lag),
            count_text(position.durable),
            count_text(position.log_floor),
            count_text(position.checkpoint),
        )
    return table


def help_table() -> Table:
    """What the keys do."""
    table = _table("key", "what it does")
    for key, what in HELP:
        table.add_row(key, what)
    return table

"""What `ray-paxos top` shows of a cluster, and in which order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from ray_paxos.errors import ConfigurationError
from ray_paxos.observability.cluster_view import ClusterView, GroupView, Health, MemberView
from ray_paxos.observability.event_record import EventRecord
from ray_paxos.observability.text import numbers

SORTS = ("group", "lag", "commands", "master", "disk")
"""Groups have no order by `disk`, members none by `group` and `master`: they are sorted by number,
and by name, then."""


@dataclass(frozen=True, slots=True)
class TopOptions:
    """What is shown, and how.

    Attributes:
        sort: One of `SORTS`; what is not well comes first in any case.
        filter: Members, groups and events that contain this text; empty for all.
        is_unhealthy_only: Whether groups and members that are well are left out.
        group: The one whose detail is shown; None for all.
        chosen: The one that is marked; None for none.
        typed: The filter while it is typed; None where it is not.
        is_help: Whether the keys are explained.
        has_keys: Whether there is somebody to press them.
        is_ascii: Whether only ASCII can be shown.
    """

    sort: str = "group"
    filter: str = ""
    is_unhealthy_only: bool = False
    group: int | None = None
    chosen: int | None = None
    typed: str | None = None
    is_help: bool = False
    has_keys: bool = False
    is_ascii: bool = False


def group_of(view: ClusterView, number: int) -> GroupView:
    """One group; raises ConfigurationError where there is none of that number."""
    for group in view.groups:
        if group.group == number:
            return group
    allowed = numbers(group.group for group in view.groups) or "none answers yet"
    raise ConfigurationError(f"group: found {number}; allowed: {allowed}")


def group_order(options: TopOptions) -> str:
    """By what groups are sorted; by their numbers where that is an order of members only."""
    return options.sort if options.sort in _GROUP_ORDERS else "group"


def member_order(options: TopOptions) -> str:
    """By what members are sorted; by their names where that is an order of groups only."""
    return options.sort if options.sort in _MEMBER_ORDERS else "name"


def shown_groups(view: ClusterView, options: TopOptions) -> list[GroupView]:
    """Those that are to be seen, in order: the gravest first, then as they are sorted."""
    text = options.filter.lower()
    found = [
        group
        for group in view.groups
        if not (options.is_unhealthy_only and group.health is Health.OK)
        and text in _group_words(group)
    ]
    order = _GROUP_ORDERS[group_order(options)]
    return sorted(found, key=lambda group: (-group.health.rank, order(group), group.group))


def shown_members(view: ClusterView, options: TopOptions) -> list[MemberView]:
    """Likewise: those that are down first."""
    text = options.filter.lower()
    found = [
        member
        for member in view.members
        if not (options.is_unhealthy_only and member.is_up and not member.alarms)
        and text in _member_words(member)
    ]
    order = _MEMBER_ORDERS[member_order(options)]
    return sorted(found, key=lambda each: (each.is_up, order(each), _in_order(each.name)))


def shown_events(view: ClusterView, options: TopOptions) -> Iterator[EventRecord]:
    """Those that are to be seen, the newest first; of one group where its detail is shown."""
    if options.group is not None:
        return (event for event in view.events if event.group == options.group)
    text = options.filter.lower()
    return (event for event in view.events if text in f"{event.member} {event.text}".lower())


def shown_view(view: ClusterView, options: TopOptions) -> ClusterView:
    """A cluster without what is not to be seen, and in order; with one group for its detail.

    Raises:
        ConfigurationError: The group whose detail is wanted is none of the cluster's.
    """
    if options.group is not None:
        groups = [group_of(view, options.group)]
    else:
        groups = shown_groups(view, options)
    return replace(
        view,
        members=tuple(shown_members(view, options)),
        groups=tuple(groups),
        events=tuple(shown_events(view, options)),
    )


def state_text(member: MemberView) -> str:
    """How a member is, in a word or two."""
    phases = {role.phase for role in member.roles.values()}
    if member.is_up:
        return "up, alarm" if member.alarms else "up"
    if phases == {"gone"}:
        return "DOWN"
    return "PARTLY DOWN" if "serving" in phases else "NOT SERVING"


_GROUP_ORDERS: dict[str, Callable[[GroupView], Any]] = {
    "group": lambda group: group.group,
    "master": lambda group: _in_order(group.master or ""),
    "lag": lambda group: -group.lag,
    "commands": lambda group: -(group.commands_per_s or 0.0),
}
_MEMBER_ORDERS: dict[str, Callable[[MemberView], Any]] = {
    "name": lambda member: _in_order(member.name),
    "lag": lambda member: -(member.lag or 0),
    "commands": lambda member: -(member.commands_per_s or 0.0),
    "disk": lambda member: -(member.disk_bytes or 0),
}


def _in_order(name: str) -> list[str | int]:
    """What names are compared by, so that m2 is before m10: text and numbers by turns."""
    parts = re.split(r"(\d+)", name, flags=re.ASCII)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def _group_words(group: GroupView) -> str:
    words = (str(group.group), group.master or "none", *group.voters, *group.followers)
    return " ".join((*words, group.health.value)).lower()


def _member_words(member: MemberView) -> str:
    words = (member.name, member.node_address or member.node_id, state_text(member))
    return " ".join((*words, *member.alarms)).lower()

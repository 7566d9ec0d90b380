"""What `ray-paxos top` shows of a cluster, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray_paxos.errors import ConfigurationError
from ray_paxos.observability.cluster_view import ClusterView, GroupView, Health, MemberView
from ray_paxos.observability.group_health import numbers

SORTS = ("group", "lag", "commands", "name", "disk")


@dataclass(frozen=True, slots=True)
class TopOptions:
    """What is shown, and how.

    Attributes:
        sort: One of `SORTS`; what is not well comes first in any case.
        filter: Groups and events that contain this text; empty for all.
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


def shown_groups(view: ClusterView, options: TopOptions) -> list[GroupView]:
    """Those that are to be seen, in order: the gravest first, then as they are sorted."""
    text = options.filter.lower()
    found = [
        group
        for group in view.groups
        if not (options.is_unhealthy_only and group.health is Health.OK)
        and (not text or text in _group_words(group))
    ]
    order = _GROUP_ORDERS.get(options.sort, _by_number)
    return sorted(found, key=lambda group: (-group.health.rank, *order(group)))


def shown_members(view: ClusterView, options: TopOptions) -> list[MemberView]:
    """Likewise: those that are down first."""
    found = [
        member
        for member in view.members
        if not (options.is_unhealthy_only and member.is_up and not member.alarms)
    ]
    order = _MEMBER_ORDERS.get(options.sort, _as_they_are)
    return sorted(found, key=lambda member: (member.is_up, *order(member)))


def _by_number(group: GroupView) -> tuple[Any, ...]:
    return (group.group,)


def _as_they_are(member: MemberView) -> tuple[Any, ...]:
    return ()


_GROUP_ORDERS: dict[str, Callable[[GroupView], tuple[Any, ...]]] = {
    "lag": lambda group: (-group.lag, group.group),
    "commands": lambda group: (-(group.commands_per_s or 0.0), group.group),
    "name": lambda group: (group.master or "", group.group),
}
_MEMBER_ORDERS: dict[str, Callable[[MemberView], tuple[Any, ...]]] = {
    "lag": lambda member: (-(member.lag or 0),),
    "commands": lambda member: (-(member.commands_per_s or 0.0),),
    "name": lambda member: (member.name,),
    "disk": lambda member: (-(member.disk_bytes or 0),),
}


def _group_words(group: GroupView) -> str:
    words = (str(group.group), group.master or "none", *group.voters, *group.followers)
    return " ".join((*words, group.health.value)).lower()

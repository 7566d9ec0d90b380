"""Since when a member that is silent is down, by what the others tell."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from ray_paxos.observability.event_record import EventRecord
from ray_paxos.observability.report import PROPOSER


def silent_for_ms(member_id: int, states: Iterable[Mapping[str, Any]]) -> int | None:
    """For how long masters have heard nothing of a member; None where none has ever heard of it.

    Args:
        member_id: Whose.
        states: Of all roles that answer.

    Returns:
        What the one says that heard of it last: a duration by that one's own clock.
    """
    told = [
        silent
        for state in states
        if state.get("role") == PROPOSER
        for group in state.get("groups", {}).values()
        if isinstance(silent := group.get("silent_ms", {}).get(member_id), int)
    ]
    return min(told, default=None)


def succeeded_ms(member_id: int, name: str, events: Iterable[EventRecord]) -> int | None:
    """When the last reign of a member was over, by what others have seen; None where nobody has.

    Args:
        member_id: Whose.
        name: Its name; what it told itself does not count.
        events: Of all roles.

    Returns:
        When the first of the others learned of the master that followed it, by that one's wall
        clock; of the last group where that was so. None, too, where it is the last known master of
        some group.
    """
    reigns: dict[int, dict[int, tuple[int, int]]] = {}
    for event in events:
        if event.kind != "MasterChanged" or event.member == name or event.group is None:
            continue
        master, version = event.fields.get("master"), event.fields.get("version")
        if isinstance(master, int) and isinstance(version, int):
            known = reigns.setdefault(event.group, {}).get(version)
            at_ms = min(event.at_ms, known[1]) if known is not None else event.at_ms
            reigns[event.group][version] = (master, at_ms)
    found: int | None = None
    for by_version in reigns.values():
        ordered = [by_version[version] for version in sorted(by_version)]
        if ordered[-1][0] == member_id:
            return None
        for (before, _), (_, at_ms) in itertools.pairwise(ordered):
            if before == member_id:
                found = at_ms if found is None else max(found, at_ms)
    return found

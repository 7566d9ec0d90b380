"""Parts of the sentences about slow commands."""

from __future__ import annotations

from collections.abc import Sequence

from ray_paxos.observability.text import count_text, milliseconds_text, names


def together(members: Sequence[str]) -> str:
    """`m1`, `m1 and m2`, `m1, m2 and m3`."""
    return names(members, last=" and ")


def disks_text(disks: Sequence[tuple[str, float]]) -> str:
    """How long the disks of some members took."""
    whose = together([f"{member}'s" for member, _ in disks])
    times = together([milliseconds_text(taken_ms) for _, taken_ms in disks])
    return f"{whose} {'disk' if len(disks) == 1 else 'disks'} took {times}"


def instances_text(instances: Sequence[tuple[int, int]]) -> str:
    """What a step was for."""
    if not instances:
        return "something else"
    group, instance_id = instances[0]
    first = f"instance {instance_id:,} of group {group}"
    more = len(instances) - 1
    return f"{first} and {count_text(more, 'other')}" if more else first

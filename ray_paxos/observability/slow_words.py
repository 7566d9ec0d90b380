"""Parts of the sentences about slow commands."""

from __future__ import annotations

from collections.abc import Sequence


def ms_text(ms: float) -> str:
    """A time for a person: `0.4 ms`, `48 ms`, `1,250 ms`."""
    return f"{ms:,.1f} ms" if ms < 10 else f"{ms:,.0f} ms"


def names_text(names: Sequence[str]) -> str:
    """`m1`, `m1 and m2`, `m1, m2 and m3`; there is at least one."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def disks_text(disks: Sequence[tuple[str, float]]) -> str:
    """How long the disks of some members took."""
    names = names_text([f"{member}'s" for member, _ in disks])
    times = names_text([ms_text(taken_ms) for _, taken_ms in disks])
    return f"{names} {'disk' if len(disks) == 1 else 'disks'} took {times}"


def count_text(count: int, what: str) -> str:
    """`1 other`, `2 others`."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def instances_text(instances: Sequence[tuple[int, int]]) -> str:
    """What a step was for."""
    if not instances:
        return "something else"
    group, instance_id = instances[0]
    first = f"instance {instance_id:,} of group {group}"
    more = len(instances) - 1
    return f"{first} and {count_text(more, 'other')}" if more else first

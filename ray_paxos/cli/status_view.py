"""What `ray-paxos status` tells beside positions: rates, who is down, and what is at risk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ray_paxos.cli.top_text import (
    duration_text,
    milliseconds_text,
    printable,
    rate_text,
)
from ray_paxos.observability.cluster_view import ClusterView, Health
from ray_paxos.observability.group_health import numbers

if TYPE_CHECKING:
    from ray_paxos.actors.status import ClusterStatus

OF_ALL = ("at_ms", "commands_per_s", "p50_ms", "p99_ms", "history", "events")


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
    """Which members are down, and what that means for the groups."""
    from ray_paxos.cli.top_tables import down_text

    for member in view.members:
        if not member.is_up:
            yield printable(down_text(view, member))
    known: dict[str, list[int]] = {}
    for group in view.groups:
        if group.health is not Health.OK:
            known.setdefault(f"{group.health.value}: {group.risk}", []).append(group.group)
    for text, groups in known.items():
        yield printable(f"group{'s' if len(groups) > 1 else ''} {numbers(groups)} {text}")


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
            yield alarm


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

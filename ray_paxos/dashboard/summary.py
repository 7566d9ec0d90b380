"""How a cluster is, in a few sentences for somebody who has never seen one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ray_paxos.dashboard.collector import Seen
from ray_paxos.observability.cluster_view import ClusterView, GroupView, Health
from ray_paxos.observability.group_health import names, numbers

RISKS_MAX = 2
RANGES_MAX = 3
"""More groups that do not follow each other are counted, not listed."""
UNKNOWN = "Not known yet."
SAFE = "No: most voters of every group have every acknowledged command."
MEANINGS = {
    Health.STOPPED: ("has stopped", "have stopped", " applying commands on some member"),
    Health.NO_MAJORITY: ("does", "do", " not work: too few voters are up"),
    Health.NO_MASTER: ("does", "do", " not work now: no member leads"),
    Health.AT_RISK: ("works, but stops", "work, but stop", " if one more voter is lost"),
    Health.DEGRADED: ("works", "work", ", with some member of it down, silent or stopped"),
    Health.OK: ("works", "work", ""),
}
"""After the number of one group, of several, and then."""
SIGNS = {
    Health.STOPPED: "■",
    Health.NO_MAJORITY: "\u00d7",
    Health.NO_MASTER: "?",
    Health.AT_RISK: "!",
    Health.DEGRADED: "~",
    Health.OK: "",
}
"""Beside the colour, for those who do not tell colours apart."""


@dataclass(frozen=True, slots=True)
class Summary:
    """How it is.

    Attributes:
        level: `ok`, `warning`, `critical`, or `unknown` where nobody answers.
        text: What is so.
        data: Whether what was acknowledged is in danger.
        since_ms: Since when, in milliseconds since 1970; None for unknown, or where all is well.
    """

    level: str
    text: str
    data: str
    since_ms: int | None


def gravest_first() -> list[Health]:
    """All that a group may be, in the order in which they are told."""
    return sorted(Health, key=lambda health: health.rank, reverse=True)


def meaning(health: Health) -> str:
    """What it says of one group, after its number."""
    one, _, what = MEANINGS[health]
    return one + what


def is_served(group: GroupView) -> bool:
    """Whether somebody takes its commands; also where some member applies nothing more."""
    return group.master is not None and group.voters_up >= group.majority


def summarize(seen: Seen) -> Summary:
    """Sum up what was seen."""
    view, problem = seen.view, seen.problem
    if problem is not None:
        then = "; below is how it was before" if view is not None else ""
        text = f"The cluster does not answer: {problem.text.rstrip('.')}."
        return Summary("unknown", text, f"Nobody can say now{then}.", problem.since_ms)
    if view is None:
        return Summary("unknown", "Looking at the cluster for the first time.", UNKNOWN, None)
    down = [member for member in view.members if not member.is_up]
    ill = [group for group in view.groups if group.health is not Health.OK]
    if not down and not ill:
        return _healthy(view)
    sentences = []
    if down:
        verb = "is" if len(down) == 1 else "are"
        of = f"{len(down)} of {_count(len(view.members), 'member')}"
        sentences.append(f"{of} {verb} down: {names([member.name for member in down])}.")
    sentences += _of_groups(ill) if ill else [f"All {_count(len(view.groups), 'group')} work."]
    since = [m.down_since_ms for m in down if m.down_since_ms is not None]
    since += [group.since_ms for group in ill]
    is_critical = any(group.health.rank > Health.AT_RISK.rank for group in ill)
    level = "critical" if is_critical else "warning"
    return Summary(level, " ".join(sentences), _of_data(ill), min(since, default=None))


def _healthy(view: ClusterView) -> Summary:
    if view.alarms:
        return Summary("warning", f"Everything works, but: {view.alarms[0]}", SAFE, None)
    members, groups = _count(len(view.members), "member"), _count(len(view.groups), "group")
    text = f"All is well: {members} up, and {groups} with a master and all voters."
    return Summary("ok", text, SAFE, None)


def _of_groups(ill: Sequence[GroupView]) -> Iterable[str]:
    """A sentence for each kind of illness, the gravest first."""
    for health in gravest_first():
        one, several, what = MEANINGS[health]
        found = [group.group for group in ill if group.health is health]
        if found:
            yield f"{_which(found)} {one if len(found) == 1 else several}{what}."


def _of_data(ill: Iterable[GroupView]) -> str:
    """What is said of groups that are not well, the gravest first, the same sentence once."""
    by_risk: dict[tuple[int, str], list[int]] = {}
    for group in ill:
        if group.risk:
            by_risk.setdefault((-group.health.rank, group.risk), []).append(group.group)
    if not by_risk:
        return SAFE
    told = [f"{_which(which)}: {risk}" for (_, risk), which in sorted(by_risk.items())]
    more = len(told) - RISKS_MAX
    return " ".join(told[:RISKS_MAX]) + (f" And {more:,} more of the kind." if more > 0 else "")


def _which(groups: Sequence[int]) -> str:
    """As they begin a sentence."""
    text = numbers(groups)
    if text.count(",") > RANGES_MAX:
        return _count(len(groups), "group")
    return f"Group{'s' if len(groups) > 1 else ''} {text}"


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"

"""Makes views of a cluster out of what its roles tell, look after look.

```
 answers of all roles ─▶ Look ─┬─▶ groups   who votes, who leads, how far, health (group_views)
                               ├─▶ members  roles, rates, disk, alarms
 what was known before ────────┴─▶ history, events, since when
```

Rules:

1. Who votes in a group is what the log of the member says that has come furthest: of all learners
   that answer the configuration with the highest config_id. It is remembered, so that a group whose
   members are all silent is still shown, as one that does not work.
2. Rates are differences of two looks, within one life of a role (`rates`).
3. Since when something is so is when this watch first saw it. Where others tell that it was so
   before, it is that: a member is silent for as long as the masters that last heard of it say; one
   that led a group, and that another one has succeeded since, was gone by then; a group whose last
   reign ended has had no master from then on.
4. It keeps what the next look needs and no more: counts of each role, the last 1,000 events, 15
   minutes of history, and a few numbers of each group and member.

It asks nobody; see `actors.watching` for that.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from ray_paxos.actors.alarms import member_alarms
from ray_paxos.actors.status import MemberStatus, RoleStatus
from ray_paxos.core.settings import CheckpointerSettings
from ray_paxos.observability import catalogue
from ray_paxos.observability.cluster_view import (
    ClusterView,
    GroupView,
    Health,
    MemberView,
    RoleView,
)
from ray_paxos.observability.event_record import EventRecord
from ray_paxos.observability.group_health import numbers
from ray_paxos.observability.group_views import ROLES, Answer, GroupViews, Look
from ray_paxos.observability.rates import Between, History, quantile_ms, together
from ray_paxos.observability.report import RoleReport

EVENTS_MAX = 1_000
ALARMS_MAX = 20
"""Of one member, and of the groups; what goes beyond is counted."""
HOPS = {
    "queue": ("proposer", catalogue.QUEUE_SECONDS),
    "accept": ("proposer", catalogue.ACCEPT_SECONDS),
    "fsync": ("acceptor", catalogue.FSYNC_SECONDS),
    "chosen": ("proposer", catalogue.CHOSEN_SECONDS),
    "apply": ("learner", catalogue.APPLY_SECONDS),
}


class ClusterWatch:
    """Watches one cluster.

    Not for several threads at once.

    Attributes:
        members: Ids by name, of all that the cluster has; may be replaced before a look.
    """

    def __init__(
        self,
        cluster: str,
        cluster_id: str,
        members: Mapping[str, int],
        *,
        checkpointer: CheckpointerSettings | None = None,
    ) -> None:
        """Know nothing yet.

        Args:
            cluster: Its name.
            cluster_id: Its id.
            members: Ids by name.
            checkpointer: When checkpoints are due; by default as a cluster has it by default.
        """
        self.members: Mapping[str, int] = members
        self._cluster = cluster
        self._cluster_id = cluster_id
        self._settings = checkpointer or CheckpointerSettings()
        self._before: dict[tuple[str, str], RoleReport] = {}
        self._groups = GroupViews()
        self._history = History()
        self._events: tuple[EventRecord, ...] = ()
        self._last_events: dict[tuple[str, str], int] = {}
        self._down_since: dict[str, int] = {}
        self._node_ids: dict[str, str] = {}

    @property
    def last_events(self) -> Mapping[tuple[str, str], int]:
        """By (member, role), the number of the last event that is known: ask for later ones."""
        return self._last_events

    def take(
        self,
        answers: Mapping[tuple[str, str], Answer],
        nodes: Mapping[str, str],
        at_ms: int,
    ) -> ClusterView:
        """See what the roles told.

        Args:
            answers: By (member, role): its state and report, or why there is none.
            nodes: Addresses of the Ray cluster's nodes, by node_id.
            at_ms: The watcher's wall clock, in milliseconds since 1970.

        Returns:
            The cluster as it is now. Rates are since the last call; None at the first.
        """
        look = Look(self.members, answers)
        self._forget_strangers()
        self._take_events(look)
        between = {
            key: Between(self._before.get(key), report) for key, report in look.reports.items()
        }
        by_group = _commands_of_groups(between)
        for name in self.members:
            report = look.reports.get((name, "proposer"))
            self._history.take(name, report.counted.spans if report is not None else ())
        down = self._note_down(look, at_ms)
        groups = self._groups.take(look, by_group, self._events, down, at_ms)
        members = tuple(
            self._member(name, member_id, look, groups, between, nodes)
            for name, member_id in self.members.items()
        )
        latency = together(
            each.histogram(catalogue.COMMAND_SECONDS)
            for (_, role), each in between.items()
            if role == "proposer"
        )
        self._before.update(
            (key, msgspec.structs.replace(report, events=(), slow_instances=(), slow_steps=()))
            for key, report in look.reports.items()
        )
        rates = [each.commands_per_s for each in members if each.commands_per_s is not None]
        return ClusterView(
            at_ms=at_ms,
            cluster=self._cluster,
            cluster_id=self._cluster_id,
            members=members,
            groups=groups,
            commands_per_s=sum(rates) if rates else None,
            p50_ms=quantile_ms(latency, 0.5),
            p99_ms=quantile_ms(latency, 0.99),
            history=self._history.spans(),
            events=self._events,
            alarms=tuple(_alarms(members, groups)),
            hops_p99_ms=_hops(between),
        )

    # What is remembered.

    def _forget_strangers(self) -> None:
        """Keep nothing of those that are no members any more."""
        for known in (self._before, self._last_events):
            for key in [each for each in known if each[0] not in self.members]:
                del known[key]
        for by_name in (self._down_since, self._node_ids):
            for name in [each for each in by_name if each not in self.members]:
                del by_name[name]
        self._history.keep_only(self.members)

    def _take_events(self, look: Look) -> None:
        """Put new events among those that are known; the newest first."""
        new: list[EventRecord] = []
        for key, report in look.reports.items():
            known = self._last_events.get(key, 0)
            if report.last_sequence < known:
                # Another folder than before: its numbers begin anew.
                known = 0
            new += [event for event in report.events if event.sequence > known]
            self._last_events[key] = report.last_sequence
        if new:
            merged = sorted((*self._events, *new), key=_time_of, reverse=True)
            self._events = tuple(merged[:EVENTS_MAX])

    def _note_down(self, look: Look, at_ms: int) -> dict[str, int]:
        """By member that is down, since when it is."""
        for name, member_id in self.members.items():
            if look.is_up(name):
                self._down_since.pop(name, None)
                continue
            is_new = name not in self._down_since
            known = self._down_since.setdefault(name, at_ms)
            if not look.is_silent(name):
                # One of which a role still answers was not gone when others say.
                continue
            silent_ms = silent_for_ms(member_id, look.states.values())
            if silent_ms is None:
                earlier = succeeded_ms(member_id, name, self._events)
                self._down_since[name] = min(known, known if earlier is None else earlier)
            elif is_new:
                # Later it would be the same, but for how long answers take.
                self._down_since[name] = at_ms - silent_ms
        return dict(self._down_since)

    # Members.

    def _member(
        self,
        name: str,
        member_id: int,
        look: Look,
        groups: Sequence[GroupView],
        between: Mapping[tuple[str, str], Between],
        nodes: Mapping[str, str],
    ) -> MemberView:
        states = {role: look.states.get((name, role)) for role in ROLES}
        node_id = next((state["node_id"] for state in states.values() if state), "")
        node_id = node_id or self._node_ids.get(name, "")
        self._node_ids[name] = node_id
        lags = [
            position.lag
            for group in groups
            if (position := group.positions.get(name)) is not None and position.lag is not None
        ]
        acceptor = between.get((name, "acceptor"))
        used, free = _disk(name, look)
        return MemberView(
            name=name,
            member_id=member_id,
            node_id=node_id,
            node_address=nodes.get(node_id, ""),
            is_up=look.is_up(name),
            down_since_ms=self._down_since.get(name),
            roles={role: _role_view(look, name, role) for role in ROLES},
            leads=tuple(group.group for group in groups if group.master == name),
            votes_in=tuple(group.group for group in groups if name in group.voters),
            follows=tuple(group.group for group in groups if name in group.followers),
            commands_per_s=_rate(between.get((name, "proposer"))),
            fsync_p99_ms=quantile_ms(
                acceptor.histogram(catalogue.FSYNC_SECONDS) if acceptor is not None else None, 0.99
            ),
            lag=max(lags, default=None),
            disk_bytes=used,
            disk_free_bytes=free,
            alarms=self._member_alarms(name, member_id, look),
        )

    def _member_alarms(self, name: str, member_id: int, look: Look) -> tuple[str, ...]:
        if look.is_silent(name):
            return (f"none of its roles answers: {look.problem(name)}",)
        roles = {role: _role_status(look, name, role) for role in ROLES}
        alarms = member_alarms(MemberStatus(name, member_id, roles), self._settings)
        return tuple(_first([alarm.text for alarm in alarms]))


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
        if state.get("role") == "proposer"
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


def _time_of(event: EventRecord) -> tuple[int, int]:
    return event.at_ms, event.sequence


def _commands_of_groups(
    between: Mapping[tuple[str, str], Between],
) -> dict[int, float] | None:
    """Commands a second, by group; None at the first look."""
    rates: dict[int, float] = {}
    compared = [
        each
        for (_, role), each in between.items()
        if role == "proposer" and each.seconds is not None
    ]
    for each in compared:
        assert each.seconds is not None
        for group, count in each.by_group(catalogue.COMMANDS).items():
            rates[group] = rates.get(group, 0.0) + count / each.seconds
    return rates if compared else None


def _rate(proposer: Between | None) -> float | None:
    if proposer is None or proposer.seconds is None:
        return None
    return sum(proposer.by_group(catalogue.COMMANDS).values()) / proposer.seconds


def _hops(between: Mapping[tuple[str, str], Between]) -> dict[str, float]:
    found = {}
    for hop, (role, metric) in HOPS.items():
        times = together(each.histogram(metric) for key, each in between.items() if key[1] == role)
        p99_ms = quantile_ms(times, 0.99)
        if p99_ms is not None:
            found[hop] = p99_ms
    return found


def _disk(name: str, look: Look) -> tuple[int | None, int | None]:
    """(bytes of its files, bytes left); each None for unknown."""
    used: dict[str, float] = {}
    free: float | None = None
    for role in ROLES:
        report = look.reports.get((name, role))
        if report is not None:
            used.update(report.gauges.get(catalogue.DISK_BYTES.name, {}))
            free = report.gauges.get(catalogue.DISK_FREE_BYTES.name, {}).get("", free)
    return (
        round(sum(used.values())) if used else None,
        round(free) if free is not None else None,
    )


def _role_view(look: Look, name: str, role: str) -> RoleView:
    state = look.states.get((name, role))
    if state is None:
        return RoleView("gone", look.problems.get((name, role), ""))
    return RoleView(state["phase"], state["reason"])


def _role_status(look: Look, name: str, role: str) -> RoleStatus:
    state: Mapping[str, Any] | None = look.states.get((name, role))
    if state is None:
        return RoleStatus("gone", look.problems.get((name, role), ""))
    return RoleStatus(
        state["phase"],
        state["reason"],
        stopped_groups=state["stopped_groups"],
        groups=state["groups"],
        error=state["error"],
    )


def _alarms(members: Sequence[MemberView], groups: Sequence[GroupView]) -> Iterable[str]:
    """What is wrong with groups, the gravest first, then with members."""
    by_risk: dict[tuple[int, str], list[int]] = {}
    for group in groups:
        if group.health is not Health.OK:
            by_risk.setdefault((-group.health.rank, group.risk), []).append(group.group)
    told = [
        f"{'groups' if len(which) > 1 else 'group'} {numbers(which)}: {risk}"
        for (_, risk), which in sorted(by_risk.items())
    ]
    yield from _first(told)
    for member in members:
        yield from (f"{member.name}: {text}" for text in member.alarms)


def _first(texts: Sequence[str]) -> Iterable[str]:
    yield from texts[:ALARMS_MAX]
    if len(texts) > ALARMS_MAX:
        yield f"and {len(texts) - ALARMS_MAX:,} more of the kind"

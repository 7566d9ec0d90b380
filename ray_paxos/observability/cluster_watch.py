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
   before, it is that: a member is silent for as long as the masters that last heard of it say when
   they first say so, but not since before this watch last saw it up. One that this watch has never
   seen, and of which no master has said so, was gone by when another one succeeded it in the last
   group it led: a guess, since it may have handed over and lived on. A group whose last reign ended
   has had no master from then on.
4. It keeps what the next look needs and no more: counts of each role, the last 1,000 events, 15
   minutes of history, and a few numbers of each group and member.

It asks nobody; see `actors.watching` for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ray_paxos.core.settings import CheckpointerSettings
from ray_paxos.observability import catalogue
from ray_paxos.observability.alarms import member_alarms
from ray_paxos.observability.cluster_view import (
    ClusterView,
    GroupView,
    MemberView,
    RoleView,
)
from ray_paxos.observability.down_since import silent_for_ms, succeeded_ms
from ray_paxos.observability.event_record import EventRecord
from ray_paxos.observability.group_health import risks
from ray_paxos.observability.group_views import GroupViews, Look
from ray_paxos.observability.rates import Between, History, quantile_ms, together
from ray_paxos.observability.report import (
    ACCEPTOR,
    LEARNER,
    PROPOSER,
    ROLES,
    Answers,
    RoleReport,
)
from ray_paxos.observability.status import MemberStatus, RoleStatus
from ray_paxos.observability.text import groups_text

EVENTS_MAX = 1_000
ALARMS_MAX = 20
"""Of one member, and of the groups; what goes beyond is counted."""
HOPS = {
    "queue": (PROPOSER, catalogue.QUEUE_SECONDS),
    "accept": (PROPOSER, catalogue.ACCEPT_SECONDS),
    "fsync": (ACCEPTOR, catalogue.FSYNC_SECONDS),
    "chosen": (PROPOSER, catalogue.CHOSEN_SECONDS),
    "apply": (LEARNER, catalogue.APPLY_SECONDS),
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
        self._seen_down_at: dict[str, int] = {}
        self._up_at: dict[str, int] = {}
        self._is_settled: set[str] = set()
        self._node_ids: dict[str, str] = {}

    @property
    def last_events(self) -> Mapping[tuple[str, str], int]:
        """By (member, role), the number of the last event that is known: ask for later ones."""
        return self._last_events

    def take(
        self,
        answers: Answers,
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
            report = look.reports.get((name, PROPOSER))
            spans = report.counted.spans if report is not None else ()
            self._history.take(name, spans, at_ms)
        down = self._note_down(look, at_ms)
        groups = self._groups.take(look, by_group, self._events, down, at_ms)
        members = tuple(
            self._member(name, member_id, look, groups, between, nodes)
            for name, member_id in self.members.items()
        )
        latency = together(
            each.histogram(catalogue.COMMAND_SECONDS)
            for (_, role), each in between.items()
            if role == PROPOSER
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
            history=self._history.spans(at_ms),
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
        for by_name in (self._down_since, self._seen_down_at, self._up_at, self._node_ids):
            for name in [each for each in by_name if each not in self.members]:
                del by_name[name]
        self._is_settled.intersection_update(self.members)
        self._history.keep_only(self.members)

    def _take_events(self, look: Look) -> None:
        """Put new events among those that are known; the newest first."""
        new: list[EventRecord] = []
        for key, report in look.reports.items():
            known = self._last_events.get(key, 0)
            is_anew = report.last_sequence < known
            if is_anew:
                # Another folder than before: its numbers begin anew, and it was not asked for the
                # first ones. They come at the next look.
                known = 0
            told = [event for event in report.events if event.sequence > known]
            new += self._not_known(told) if known == 0 else told
            self._last_events[key] = 0 if is_anew else report.last_sequence
        if new:
            merged = sorted((*self._events, *new), key=_time_of, reverse=True)
            self._events = tuple(merged[:EVENTS_MAX])

    def _not_known(self, events: Iterable[EventRecord]) -> list[EventRecord]:
        """Those that have not come already, by a role that was asked for all it has."""
        known = {_identity(event) for event in self._events}
        return [event for event in events if _identity(event) not in known]

    def _note_down(self, look: Look, at_ms: int) -> dict[str, int]:
        """By member that is down, since when it is."""
        for name, member_id in self.members.items():
            if look.is_up(name):
                self._down_since.pop(name, None)
                self._seen_down_at.pop(name, None)
                self._is_settled.discard(name)
                self._up_at[name] = at_ms
                continue
            seen_ms = self._seen_down_at.setdefault(name, at_ms)
            known = self._down_since.setdefault(name, seen_ms)
            if name in self._is_settled:
                continue
            if not look.is_silent(name):
                # One of which a role still answers was not gone when others say.
                self._is_settled.add(name)
                continue
            silent_ms = silent_for_ms(member_id, look.states.values())
            if silent_ms is not None:
                # Later it would be the same, but for how long answers take; or nobody says it.
                self._is_settled.add(name)
                earliest = self._up_at.get(name, 0)
                self._down_since[name] = min(max(at_ms - silent_ms, earliest), seen_ms)
            elif name not in self._up_at:
                earlier = succeeded_ms(member_id, name, self._events)
                self._down_since[name] = known if earlier is None else min(known, earlier)
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
        acceptor = between.get((name, ACCEPTOR))
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
            commands_per_s=_rate(between.get((name, PROPOSER))),
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
        roles = {role: RoleStatus.of(look.told(name, role)) for role in ROLES}
        alarms = member_alarms(MemberStatus(name, member_id, roles), self._settings)
        return tuple(_first([alarm.text for alarm in alarms]))


def _identity(event: EventRecord) -> tuple[str, str, int, int]:
    return event.member, event.role, event.sequence, event.at_ms


def _time_of(event: EventRecord) -> tuple[int, int]:
    return event.at_ms, event.sequence


def _commands_of_groups(
    between: Mapping[tuple[str, str], Between],
) -> dict[int, float] | None:
    """Commands a second, by group; None at the first look."""
    rates: dict[int, float] = {}
    compared = [
        each for (_, role), each in between.items() if role == PROPOSER and each.seconds is not None
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
    status = RoleStatus.of(look.told(name, role))
    return RoleView(status.phase, status.reason)


def _alarms(members: Sequence[MemberView], groups: Sequence[GroupView]) -> Iterable[str]:
    """What is wrong with groups, the gravest first, then with members."""
    told = [f"{groups_text(each.groups)}: {each.risk}" for each in risks(groups)]
    yield from _first(told)
    for member in members:
        yield from (f"{member.name}: {text}" for text in member.alarms)


def _first(texts: Sequence[str]) -> Iterable[str]:
    yield from texts[:ALARMS_MAX]
    if len(texts) > ALARMS_MAX:
        yield f"and {len(texts) - ALARMS_MAX:,} more of the kind"

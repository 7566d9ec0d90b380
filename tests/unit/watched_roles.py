"""Answers of roles as a watcher gets them, and a small cluster of them to play with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ray_paxos.observability import catalogue
from ray_paxos.observability.cluster_view import ClusterView, GroupView, MemberView
from ray_paxos.observability.cluster_watch import ClusterWatch
from ray_paxos.observability.event_record import EventRecord
from ray_paxos.observability.histogram import SECONDS, Histogram
from ray_paxos.observability.report import (
    ROLES,
    Answer,
    Counted,
    HistogramCounts,
    RoleReport,
    Span,
)

BEGIN_MS = 1_780_000_000_000
GONE = "no such actor lives in the Ray cluster"


def event(
    member: str, kind: str, at_ms: int, sequence: int = 1, group: int = 1, **fields: Any
) -> EventRecord:
    return EventRecord(
        sequence=sequence,
        at_ms=at_ms,
        cluster="demo",
        member=member,
        role="proposer",
        group=group,
        kind=kind,
        level="INFO",
        text=f"{kind} in group {group}",
        fields=fields,
    )


def histogram(*seconds: float) -> HistogramCounts:
    made = Histogram(SECONDS)
    for each in seconds:
        made.observe(each)
    return HistogramCounts(tuple(made.counts), made.total)


@dataclass
class PlayedMember:
    """What one member's roles tell; tests change it between looks."""

    name: str
    member_id: int
    voters: dict[int, list[int]]
    config_id: int = 0
    followers: list[int] = field(default_factory=list)
    leads: set[int] = field(default_factory=set)
    applied: int = 100
    stopped: dict[int, str] = field(default_factory=dict)
    not_open: dict[int, str] = field(default_factory=dict)
    is_full: bool = False
    silent: set[str] = field(default_factory=set)
    phases: dict[str, tuple[str, str]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    incarnation: int = 1
    commands: dict[int, int] = field(default_factory=dict)
    times: dict[str, HistogramCounts] = field(default_factory=dict)
    spans: tuple[Span, ...] = ()
    events: list[EventRecord] = field(default_factory=list)
    last_sequence: int = 0
    clock_ms: int = 0
    silent_ms: dict[int, int] = field(default_factory=dict)

    def answers(self, at_ms: int) -> dict[tuple[str, str], Answer]:
        return {
            (self.name, role): GONE if role in self.silent else self._answer(role, at_ms)
            for role in ROLES
        }

    def _answer(self, role: str, at_ms: int) -> tuple[dict[str, Any], RoleReport]:
        phase, reason = self.phases.get(role, ("serving", ""))
        not_open = self.not_open if role == "learner" else {}
        groups = {g: self._group(role, g) for g in self.voters if g not in not_open}
        state = {
            "member": self.name,
            "role": role,
            "phase": phase,
            "reason": reason,
            "error": self.errors.get(role, ""),
            "pid": 7,
            "node_id": f"node-of-{self.name}",
            "incarnation": self.incarnation if phase == "serving" else 0,
            "stopped_groups": not_open,
            "groups": groups if phase == "serving" else {},
        }
        proposes = role == "proposer"
        counted = Counted(
            by_group={catalogue.COMMANDS.name: dict(self.commands)} if proposes else {},
            histograms={
                name: times
                for name, times in self.times.items()
                if proposes is (name != catalogue.FSYNC_SECONDS.name)
            }
            if role in ("proposer", "acceptor")
            else {},
            spans=self.spans if proposes else (),
        )
        events = tuple(self.events) if proposes else ()
        report = RoleReport(
            at_ms=at_ms + self.clock_ms,
            incarnation=self.incarnation if phase == "serving" else 0,
            counted=counted,
            events=events,
            last_sequence=max(
                (each.sequence for each in events), default=self.last_sequence if proposes else 0
            ),
            gauges={
                catalogue.DISK_BYTES.name: {role: 1_000.0},
                catalogue.DISK_FREE_BYTES.name: {"": 5e9},
            },
        )
        return state, report

    def _group(self, role: str, group: int) -> dict[str, Any]:
        told: dict[str, dict[str, Any]] = {
            "proposer": {
                "is_serving": group in self.leads,
                "lease_ms": 900,
                "master_id": 0,
                "queued_requests": 3,
                "silent_ms": dict(self.silent_ms) if group in self.leads else {},
            },
            "acceptor": {"floor": 1, "votes": 2, "storage_full": self.is_full},
            "learner": {
                "config_id": self.config_id,
                "voters": self.voters[group],
                "followers": self.followers,
                "learned_through": self.applied,
                "applied_through": self.applied,
                "durable_through": 50,
                "log_floor": 1,
                "stopped": self.stopped.get(group, ""),
                "is_full": False,
                "storage_full": False,
                "overdue_chunks": 0,
                "alarms": [],
                "sessions": 4,
            },
            "checkpointer": {"checkpoints": [40], "sealed_through": 50, "alarms": []},
        }
        return told[role]


class PlayedCluster:
    """Some members that have all groups, and a watch."""

    def __init__(self, count: int = 3, groups: int = 2) -> None:
        ids = [10 + number for number in range(count)]
        self.members = {
            f"m{number + 1}": PlayedMember(
                f"m{number + 1}", ids[number], {group: list(ids) for group in range(groups)}
            )
            for number in range(count)
        }
        self.members["m1"].leads = set(range(groups))
        self.at_ms = BEGIN_MS
        self.watch = self.new_watch()

    def new_watch(self) -> ClusterWatch:
        return ClusterWatch("demo", "abc", {m.name: m.member_id for m in self.members.values()})

    def __getitem__(self, name: str) -> PlayedMember:
        return self.members[name]

    def look(self, after_ms: int = 1_000, *, watch: ClusterWatch | None = None) -> ClusterView:
        self.at_ms += after_ms
        answers: dict[tuple[str, str], Answer] = {}
        for member in self.members.values():
            answers |= member.answers(self.at_ms)
        nodes = {f"node-of-{name}": f"10.0.0.{name[1:]}" for name in self.members}
        return (watch or self.watch).take(answers, nodes, self.at_ms)

    def kill(self, *names: str) -> None:
        for name in names:
            self.members[name].silent = set(ROLES)
            self.members[name].leads = set()


def member_of(view: ClusterView, name: str) -> MemberView:
    (found,) = (member for member in view.members if member.name == name)
    return found


def group_in(view: ClusterView, number: int) -> GroupView:
    (found,) = (group for group in view.groups if group.group == number)
    return found

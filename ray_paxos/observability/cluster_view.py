"""A cluster at a glance: what `ray-paxos top`, `status` and the status page all show.

It is plain data, made by `cluster_watch.ClusterWatch` of what the roles tell.
"""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass, field
from typing import Any

from ray_paxos.observability.event_record import EventRecord


class Health(enum.Enum):
    """How a group is, the gravest last."""

    OK = "ok"
    DEGRADED = "degraded"
    """It works, and some member of it does not."""
    AT_RISK = "at risk"
    """It works, a voter of it does not, and it stops if one more voter is lost."""
    STOPPED = "stopped"
    """A machine failed, or checksums differ: a voter applies nothing more."""
    NO_MASTER = "no master"
    NO_MAJORITY = "no majority"

    @property
    def rank(self) -> int:
        """How grave it is: 0 for what is well."""
        return _RANKS[self]


_RANKS = {health: rank for rank, health in enumerate(Health)}


@dataclass(frozen=True, slots=True)
class RoleView:
    """One role of a member.

    Attributes:
        phase: `serving`, `opening`, `stopped` or `gone`.
        reason: Why it does not serve; empty where it does.
    """

    phase: str
    reason: str


@dataclass(frozen=True, slots=True)
class MemberView:
    """One member.

    Attributes:
        name: Its name.
        member_id: Its id.
        node_id: Ray's id of its node, as last known; empty for unknown.
        node_address: Of that node; empty for unknown.
        is_up: Whether all of its roles serve.
        down_since_ms: Since when that is not so, in milliseconds since 1970: when this watch first
            saw it, or earlier where somebody else has seen it; None while it is up.
        roles: By name.
        leads: Groups of which it is the master.
        votes_in: Groups that it votes in, by their logs.
        follows: Groups that it follows.
        commands_per_s: Answered as master since the look before; None at the first look.
        fsync_p99_ms: Since the look before; None where nothing was written.
        lag: The most instances that it is behind in any group; None where it tells nothing.
        disk_bytes: Of its files; None for unknown.
        disk_free_bytes: Left on its disk; None for unknown.
        alarms: What a person should know, the gravest first.
    """

    name: str
    member_id: int
    node_id: str
    node_address: str
    is_up: bool
    down_since_ms: int | None
    roles: dict[str, RoleView]
    leads: tuple[int, ...]
    votes_in: tuple[int, ...]
    follows: tuple[int, ...]
    commands_per_s: float | None
    fsync_p99_ms: float | None
    lag: int | None
    disk_bytes: int | None
    disk_free_bytes: int | None
    alarms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PositionView:
    """How far one member is in a group.

    Attributes:
        is_voter: Whether it votes there.
        is_up: Whether its learner tells anything.
        applied: The last instance applied; None where it tells nothing.
        durable: Through which instance its disk has the log, in segments or a checkpoint.
        lag: Behind the furthest member; None where it tells nothing.
        stopped: Why applying stopped there; empty where it goes on.
        log_floor: The lowest instance in its log; None where it tells nothing.
        checkpoint: Instance of its newest checkpoint, 0 for none; None where it tells nothing.
    """

    is_voter: bool
    is_up: bool
    applied: int | None
    durable: int | None
    lag: int | None
    stopped: str
    log_floor: int | None = None
    checkpoint: int | None = None


@dataclass(frozen=True, slots=True)
class GroupView:
    """One group.

    Attributes:
        group: Its number.
        master: Name of the member that leads it; None for none.
        voters: Names of those that vote, by its log.
        followers: Names of those that only follow.
        voters_up: How many of the voters' acceptors serve.
        majority: How many are needed.
        health: How it is.
        risk: Whether what was acknowledged, or the service, is in danger; one sentence for a
            person; empty where nothing is.
        applied: The furthest instance applied.
        lag: The most instances that a member that answers is behind.
        commands_per_s: Since the look before; None at the first look.
        positions: By member.
        since_ms: Since when its health is as it is, as far as was seen.
        voters_down: Names of those voters that do not vote now.
        config_id: Instance of the membership entry that made its voters; 0 for the genesis.
        queued_requests: At its master, not answered yet; None where there is none.
        sessions: That are open; None where nobody tells.
    """

    group: int
    master: str | None
    voters: tuple[str, ...]
    followers: tuple[str, ...]
    voters_up: int
    majority: int
    health: Health
    risk: str
    applied: int
    lag: int
    commands_per_s: float | None
    positions: dict[str, PositionView]
    since_ms: int
    voters_down: tuple[str, ...] = ()
    config_id: int = 0
    queued_requests: int | None = None
    sessions: int | None = None


@dataclass(frozen=True, slots=True)
class SpanView:
    """What all members together did within some seconds.

    Attributes:
        end_ms: Their end, in milliseconds since 1970.
        seconds: How many they were.
        commands_per_s: Answered.
        p50_ms: Latency at the masters; None for none.
        p99_ms: Likewise.
    """

    end_ms: int
    seconds: float
    commands_per_s: float
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class ClusterView:
    """All of it.

    Attributes:
        at_ms: When, in milliseconds since 1970, by the watcher's wall clock.
        cluster: Its name.
        cluster_id: Its id.
        members: All of them.
        groups: All of them, by number.
        commands_per_s: Of all groups since the look before; None at the first look.
        p50_ms: Latency at the masters since the look before; None where nothing was answered.
        p99_ms: Likewise.
        history: The last 15 minutes, the oldest first.
        events: The last ones of all roles, the newest first.
        alarms: What is wrong, the gravest first.
        hops_p99_ms: Where the time of a command goes, since the look before: `queue`, `accept`,
            `fsync`, `chosen` and `apply`, as far as there was any.
    """

    at_ms: int
    cluster: str
    cluster_id: str
    members: tuple[MemberView, ...]
    groups: tuple[GroupView, ...]
    commands_per_s: float | None
    p50_ms: float | None
    p99_ms: float | None
    history: tuple[SpanView, ...]
    events: tuple[EventRecord, ...]
    alarms: tuple[str, ...]
    hops_p99_ms: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON."""
        plain = asdict(self)
        for group, view in zip(plain["groups"], self.groups, strict=True):
            group["health"] = view.health.value
        plain["events"] = [_plain_event(event) for event in self.events]
        return plain


def _plain_event(event: EventRecord) -> dict[str, Any]:
    return {field: getattr(event, field) for field in event.__struct_fields__}

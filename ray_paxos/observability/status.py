"""What a running cluster says of itself, as typed records that turn into plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """One role actor.

    Attributes:
        phase: `opening`, `serving`, `stopped`, or `gone` where no actor answers.
        reason: Why it does not serve; empty where it does.
        error: Name of the error's class that keeps it from serving; empty where there is none.
        pid: Of its process; 0 where it is gone.
        node_id: Ray's id of its node; empty where it is gone.
        incarnation: How many times its folder was opened; 0 where it does not serve.
        stopped_groups: Why, of groups that it does not serve.
        groups: What it says of each group.
    """

    phase: str
    reason: str = ""
    pid: int = 0
    node_id: str = ""
    incarnation: int = 0
    stopped_groups: dict[int, str] | None = None
    groups: dict[int, dict[str, Any]] | None = None
    error: str = ""

    @classmethod
    def of(cls, told: Mapping[str, Any] | str) -> RoleStatus:
        """What a role told: its state; or why it told nothing, for a person."""
        if isinstance(told, str):
            return cls("gone", told)
        return cls(
            phase=told["phase"],
            reason=told["reason"],
            pid=told["pid"],
            node_id=told["node_id"],
            incarnation=told["incarnation"],
            stopped_groups=told["stopped_groups"],
            groups=told["groups"],
            error=told["error"],
        )


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One member.

    Attributes:
        name: Its name.
        member_id: Its id.
        roles: Its roles, by name.
        alarms: What a person should know of it, the gravest first.
    """

    name: str
    member_id: int
    roles: dict[str, RoleStatus]
    alarms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MemberPosition:
    """How far a member's learner is in one group.

    Attributes:
        learned_through: Every instance up to it is learned.
        applied_through: Every instance up to it is applied.
        durable_through: Every instance up to it is in a checkpoint or in sealed segments.
        log_floor: The lowest instance in its log; what is below is in its checkpoint only.
        checkpoint: Instance of its newest checkpoint; 0 where there is none.
        lag: Instances that the furthest member has applied and this one has not.
        stopped: Why applying stopped here; empty where it goes on.
    """

    learned_through: int
    applied_through: int
    durable_through: int
    log_floor: int
    checkpoint: int
    lag: int
    stopped: str


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """One group: its master, and how far each member is.

    Attributes:
        group: Its number.
        master: Name of the member that serves as its master; None where none says so.
        positions: By member; those that do not answer are left out.
    """

    group: int
    master: str | None
    positions: dict[str, MemberPosition]


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """A cluster at about one moment; roles are asked one by one.

    Attributes:
        cluster: Its name.
        cluster_id: Its id.
        members: All of its members.
        groups: All of its groups.
        alarms: What a person should know of all of it, the gravest first; those of a member begin
            with its name.
    """

    cluster: str
    cluster_id: str
    members: tuple[MemberStatus, ...]
    groups: tuple[GroupStatus, ...]
    alarms: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class MemberDigest:
    """A member's state of one group: digest (hexadecimal) after an instance."""

    applied_instance_id: int
    digest: str


def group_status(group: int, members: tuple[MemberStatus, ...]) -> GroupStatus:
    """Put together what the members' roles say of a group."""
    names = {member.member_id: member.name for member in members}
    master = None
    found: dict[str, dict[str, Any]] = {}
    checkpoints: dict[str, int] = {}
    for member in members:
        proposer = (member.roles["proposer"].groups or {}).get(group)
        if proposer is not None and proposer["is_serving"]:
            master = names[member.member_id]
        learner = (member.roles["learner"].groups or {}).get(group)
        if learner is not None:
            found[member.name] = learner
        checkpointer = (member.roles["checkpointer"].groups or {}).get(group)
        if checkpointer is not None:
            checkpoints[member.name] = max(checkpointer["checkpoints"], default=0)
    furthest = max((learner["applied_through"] for learner in found.values()), default=0)
    positions = {
        name: MemberPosition(
            learner["learned_through"],
            learner["applied_through"],
            learner["durable_through"],
            learner["log_floor"],
            checkpoints.get(name, 0),
            furthest - learner["applied_through"],
            learner["stopped"],
        )
        for name, learner in found.items()
    }
    return GroupStatus(group, master, positions)

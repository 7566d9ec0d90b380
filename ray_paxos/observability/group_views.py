"""The groups of a cluster, out of what its roles tell at one look and what was known before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ray_paxos.observability.cluster_view import GroupView, Health, PositionView
from ray_paxos.observability.event_record import EventRecord
from ray_paxos.observability.group_health import GroupFacts, health_of, risk_of
from ray_paxos.observability.report import (
    ACCEPTOR,
    CHECKPOINTER,
    LEARNER,
    PROPOSER,
    ROLES,
    Answers,
    RoleReport,
)

SERVING = "serving"
LOST_ERRORS = ("DamageError", "ForeignFolderError")
"""An acceptor that stopped for one of these never votes again under its member's name."""

State: TypeAlias = Mapping[str, Any]


class Look:
    """What all roles told at one time.

    Attributes:
        members: Ids by name.
        states: Of the roles that answered, by (member, role).
        reports: Likewise.
        problems: Why the others did not.
    """

    def __init__(self, members: Mapping[str, int], answers: Answers) -> None:
        """Take answers of members; those of others are passed over."""
        self.members = members
        self.states: dict[tuple[str, str], State] = {}
        self.reports: dict[tuple[str, str], RoleReport] = {}
        self.problems: dict[tuple[str, str], str] = {}
        for key, answer in answers.items():
            if key[0] not in members:
                continue
            if isinstance(answer, str):
                self.problems[key] = answer
            else:
                self.states[key], self.reports[key] = answer
        self._serving = {key: s for key, s in self.states.items() if s["phase"] == SERVING}

    def is_up(self, member: str) -> bool:
        """Whether all of its roles serve."""
        return all((member, role) in self._serving for role in ROLES)

    def is_silent(self, member: str) -> bool:
        """Whether none of its roles answers."""
        return not any((member, role) in self.states for role in ROLES)

    def problem(self, member: str) -> str:
        """Why the first of its roles that does not answer does not."""
        found = (self.problems[member, role] for role in ROLES if (member, role) in self.problems)
        return next(found, "nobody asked it")

    def told(self, member: str, role: str) -> State | str:
        """The state of a role; or why it told nothing."""
        state = self.states.get((member, role))
        return state if state is not None else self.problems.get((member, role), "")

    def serving(self, member: str, role: str) -> State | None:
        """The state of a role that serves; None where it does not."""
        return self._serving.get((member, role))

    def of_group(self, member: str, role: str, group: int) -> State | None:
        """What a role that serves tells of a group; None for nothing."""
        state = self._serving.get((member, role))
        if state is None or group in state["stopped_groups"]:
            return None
        found: State | None = state["groups"].get(group)
        return found

    def stopped(self, member: str, group: int) -> str:
        """Why a learner serves nothing of a group; empty where it does, or tells nothing."""
        state = self._serving.get((member, LEARNER))
        if state is None:
            return ""
        told = str(state["groups"].get(group, {}).get("stopped", ""))
        return self.not_open(member, group) or told

    def not_open(self, member: str, group: int) -> str:
        """Why a learner could not open a group; empty where it could, or tells nothing."""
        state = self._serving.get((member, LEARNER))
        return str(state["stopped_groups"].get(group, "")) if state is not None else ""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is remembered of a group: who has it, by id, and how far it was."""

    config_id: int
    voters: tuple[int, ...]
    followers: tuple[int, ...]
    applied: int


class GroupViews:
    """Of one cluster.

    Invariant: it remembers nothing of groups that the members that had them tell nothing of.
    """

    def __init__(self) -> None:
        """Know none."""
        self._known: dict[int, _Known] = {}
        self._health: dict[int, tuple[Health, int]] = {}

    def take(
        self,
        look: Look,
        commands_per_s: Mapping[int, float] | None,
        events: Iterable[EventRecord],
        down_since: Mapping[str, int],
        at_ms: int,
    ) -> tuple[GroupView, ...]:
        """See what the roles told.

        Args:
            look: That.
            commands_per_s: By group, those that have any; None at the first look.
            events: Of all roles.
            down_since: By member that is down, since when.
            at_ms: The watcher's wall clock.

        Returns:
            All groups, by number.
        """
        names = {member_id: name for name, member_id in look.members.items()}
        self._learn(look)
        self._forget_dropped(look, names)
        self._health = {g: known for g, known in self._health.items() if g in self._known}
        reigns_ended = _reigns_ended(events)
        return tuple(
            self._view(group, look, names, commands_per_s, reigns_ended, down_since, at_ms)
            for group in sorted(self._known)
        )

    # Who has it.

    def _learn(self, look: Look) -> None:
        """Take over who has each group, by the log that has come furthest."""
        for name in look.members:
            learner = look.serving(name, LEARNER)
            if learner is None:
                continue
            for group in learner["stopped_groups"]:
                self._known.setdefault(group, _Known(-1, (), (), 0))
            for group, told in learner["groups"].items():
                known = self._known.get(group)
                config_id = told.get("config_id", 0)
                applied = max(told["applied_through"], known.applied if known else 0)
                if known is None or config_id >= known.config_id:
                    voters = tuple(told.get("voters", ()))
                    followers = tuple(told.get("followers", ()))
                    self._known[group] = _Known(config_id, voters, followers, applied)
                elif applied > known.applied:
                    self._known[group] = _Known(
                        known.config_id, known.voters, known.followers, applied
                    )

    def _forget_dropped(self, look: Look, names: Mapping[int, str]) -> None:
        """Forget the groups that a member which had them serves, and does not have any more."""
        told: set[int] = set()
        serving: set[str] = set()
        for name in look.members:
            learner = look.serving(name, LEARNER)
            if learner is not None:
                serving.add(name)
                told.update(learner["groups"], learner["stopped_groups"])
        for group in [each for each in self._known if each not in told]:
            known = self._known[group]
            if any(names.get(each, "") in serving for each in (*known.voters, *known.followers)):
                del self._known[group]

    # How it is.

    def _view(
        self,
        group: int,
        look: Look,
        names: Mapping[int, str],
        commands_per_s: Mapping[int, float] | None,
        reigns_ended: Mapping[int, int],
        down_since: Mapping[str, int],
        at_ms: int,
    ) -> GroupView:
        known = self._known[group]
        voters = _named(known.voters, names)
        followers = _named(known.followers, names)
        positions = {
            name: _position(look, name, group, known.applied, is_voter=name in voters)
            for name in (*voters, *followers)
        }
        down = {name: why for name in voters if (why := _does_not_vote(look, name, group)) != UP}
        master = _master(look, group)
        facts = GroupFacts(
            voters=voters,
            down=down,
            damaged=frozenset(name for name in down if _is_damaged(look, name)),
            silent=[name for name, p in positions.items() if not p.is_up and name not in down],
            stopped={name: position.stopped for name, position in positions.items()},
            master=master,
            not_open={name: why for name in look.members if (why := look.not_open(name, group))},
        )
        health = health_of(facts)
        since_ms = self._since(group, health, facts, reigns_ended, down_since, at_ms)
        proposer = look.of_group(master, PROPOSER, group) if master is not None else None
        return GroupView(
            group=group,
            master=master,
            voters=voters,
            followers=followers,
            voters_up=facts.up,
            majority=facts.majority,
            health=health,
            risk=risk_of(facts),
            applied=known.applied,
            lag=max((p.lag for p in positions.values() if p.lag is not None), default=0),
            commands_per_s=None if commands_per_s is None else commands_per_s.get(group, 0.0),
            positions=positions,
            since_ms=since_ms,
            voters_down=tuple(down),
            config_id=max(known.config_id, 0),
            queued_requests=proposer.get("queued_requests") if proposer is not None else None,
            sessions=_sessions(look, positions, group),
        )

    def _since(
        self,
        group: int,
        health: Health,
        facts: GroupFacts,
        reigns_ended: Mapping[int, int],
        down_since: Mapping[str, int],
        at_ms: int,
    ) -> int:
        """Since when a group is as it is."""
        before, since_ms = self._health.get(group, (None, at_ms))
        if before is not health:
            since_ms = at_ms
        times = [since_ms]
        if health in (Health.AT_RISK, Health.DEGRADED, Health.NO_MAJORITY):
            # It is so since the last of these went down, where all of them are down altogether.
            went = [down_since.get(name) for name in facts.down]
            told = [each for each in went if each is not None]
            if told and len(told) == len(went):
                times.append(max(told))
        if health in (Health.NO_MASTER, Health.NO_MAJORITY) and group in reigns_ended:
            times.append(reigns_ended[group])
        since_ms = min(times)
        self._health[group] = (health, since_ms)
        return since_ms


def _named(member_ids: Iterable[int], names: Mapping[int, str]) -> tuple[str, ...]:
    """Names of members, sorted; an id where nobody knows the name."""
    return tuple(sorted(names.get(each, str(each)) for each in member_ids))


UP = "up"


def _does_not_vote(look: Look, member: str, group: int) -> str:
    """`UP` where it votes; else why not, in a word or two: nothing where it does not answer."""
    state = look.states.get((member, ACCEPTOR))
    if state is None:
        return ""
    if state["phase"] != SERVING:
        return "votes damaged" if state["error"] in LOST_ERRORS else str(state["phase"])
    if group in state["stopped_groups"]:
        return "stopped"
    told = state["groups"].get(group)
    if told is None:
        return "not open"
    return "disk full" if told.get("storage_full") else UP


def _is_damaged(look: Look, member: str) -> bool:
    state = look.states.get((member, ACCEPTOR))
    return state is not None and state["error"] in LOST_ERRORS


def _master(look: Look, group: int) -> str | None:
    """Who serves as the master; of several, who may for longest: the others do not know yet."""
    leading = {}
    for name in look.members:
        told = look.of_group(name, PROPOSER, group)
        if told is not None and told["is_serving"]:
            leading[name] = told.get("lease_ms", 0)
    return max(leading, key=lambda name: leading[name], default=None)


def _position(
    look: Look, member: str, group: int, furthest: int, *, is_voter: bool
) -> PositionView:
    told = look.of_group(member, LEARNER, group)
    stopped = look.stopped(member, group)
    if told is None:
        return PositionView(is_voter, bool(stopped), None, None, None, stopped)
    checkpointer = look.of_group(member, CHECKPOINTER, group)
    checkpoints = checkpointer["checkpoints"] if checkpointer is not None else None
    return PositionView(
        is_voter=is_voter,
        is_up=True,
        applied=told["applied_through"],
        durable=told["durable_through"],
        lag=furthest - told["applied_through"],
        stopped=stopped,
        log_floor=told["log_floor"],
        checkpoint=max(checkpoints, default=0) if checkpoints is not None else None,
    )


def _sessions(look: Look, members: Iterable[str], group: int) -> int | None:
    told = (look.of_group(name, LEARNER, group) for name in members)
    counts = [each["sessions"] for each in told if each is not None and "sessions" in each]
    return max(counts, default=None)


def _reigns_ended(events: Iterable[EventRecord]) -> dict[int, int]:
    """When the last reign of a group that anybody told of ended; of those that did not, nothing.

    Attempts to lead end, too, while another one leads: only the end of that very ballot counts.
    """
    last: dict[int, tuple[int, Any]] = {}
    ends: dict[int, list[EventRecord]] = {}
    for event in events:
        if event.group is None:
            continue
        if event.kind == "MasterStarted":
            reign = (event.fields.get("instance_id", 0), event.fields.get("ballot"))
            if reign[0] > last.get(event.group, (0, None))[0]:
                last[event.group] = reign
        elif event.kind == "MasterStopped":
            ends.setdefault(event.group, []).append(event)
    return {
        group: end.at_ms
        for group, told in ends.items()
        for end in told
        if group in last and end.fields.get("ballot") == last[group][1]
    }

"""What the roles of a cluster remember of slow commands, by what is looked for in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Set
from typing import Any, TypeAlias

from ray_paxos.observability.report import ACCEPTOR, LEARNER, PROPOSER, Answers, RoleReport
from ray_paxos.observability.slow_commands import APPLY, SlowInstance, SlowStep

ENOUGH = 0.5
"""This share of a hop explains it."""
SHARED_MS_MIN = 1.0
"""What is shorter is within what wall clocks tell."""

StepAt: TypeAlias = tuple[str, SlowStep]
"""A step, and before it the member that it was done at."""


class Told:
    """What the roles told, by what it is looked for.

    Attributes:
        silent: By `member/role`, why it told nothing.
        instances: Those that are remembered, each with its master.
    """

    def __init__(self, members: Mapping[str, int], answers: Answers) -> None:
        """Sort it.

        Args:
            members: Ids by name.
            answers: What the roles told, with what was slow.
        """
        self._names = {member_id: name for name, member_id in members.items()}
        self._reports: dict[tuple[str, str], RoleReport] = {}
        self._voters: dict[int, tuple[int, tuple[int, ...]]] = {}
        self.silent: dict[str, str] = {}
        self.instances: list[tuple[str, SlowInstance]] = []
        self._steps: defaultdict[tuple[str, str], list[SlowStep]] = defaultdict(list)
        for (member, role), answer in answers.items():
            if isinstance(answer, str):
                if role in (PROPOSER, ACCEPTOR, LEARNER):
                    self.silent[f"{member}/{role}"] = answer
                continue
            state, report = answer
            self._reports[member, role] = report
            self.instances += [(member, slow) for slow in report.slow_instances]
            for step in report.slow_steps:
                self._steps[member, step.what].append(step)
            if role == LEARNER:
                self._note_voters(state)

    def _note_voters(self, state: Mapping[str, Any]) -> None:
        """Who votes, by the learner whose log has come furthest."""
        for group, described in state.get("groups", {}).items():
            config_id = described.get("config_id", -1)
            if "voters" in described and config_id >= self._voters.get(group, (-1, ()))[0]:
                self._voters[group] = (config_id, tuple(described["voters"]))

    def loose_steps(self, used: Set[StepAt]) -> list[StepAt]:
        """Steps that belong to no instance that is remembered, and are none of those used."""
        known = {(slow.group, slow.instance_id) for _, slow in self.instances}
        return [
            (member, step)
            for (member, _), steps in self._steps.items()
            for step in steps
            if known.isdisjoint(step.instances) and (member, step) not in used
        ]

    def name(self, member_id: int) -> str:
        """Of a member; an id where nobody knows the name."""
        return self._names.get(member_id, f"member {member_id}")

    def report(self, member: str, role: str) -> RoleReport | None:
        """What a role told; None for nothing."""
        return self._reports.get((member, role))

    def voters(self, group: int) -> tuple[int, ...]:
        """Ids of those that vote in a group; empty for unknown."""
        return self._voters.get(group, (0, ()))[1]

    def own_step(self, member: str, what: str, slow: SlowInstance) -> SlowStep | None:
        """The longest step of a member for an instance."""
        instance = (slow.group, slow.instance_id)
        found = [step for step in self._steps.get((member, what), ()) if instance in step.instances]
        return max(found, key=_duration, default=None)

    def apply_ms(self, slow: SlowInstance) -> dict[str, float]:
        """By member, how long its learner took to apply an instance; where that was slow."""
        found = {}
        for member, what in self._steps:
            own = self.own_step(member, APPLY, slow) if what == APPLY else None
            if own is not None:
                found[member] = own.duration_ms
        return found

    def step_meanwhile(
        self, member: str, what: str, from_ms: float, lasted_ms: float
    ) -> SlowStep | None:
        """The step of a member that took most of a hop, if it took enough of it."""

        def shared_ms(step: SlowStep) -> float:
            began_ms = max(step.at_ms - step.duration_ms, from_ms)
            return min(step.at_ms, from_ms + lasted_ms) - began_ms

        found = max(self._steps.get((member, what), ()), key=shared_ms, default=None)
        if found is None or shared_ms(found) < max(ENOUGH * lasted_ms, SHARED_MS_MIN):
            return None
        return found

    def reign_began(self, master: str, group: int, from_ms: float, until_ms: float) -> float | None:
        """How long after a time the master began to serve; None where it served before."""
        report = self.report(master, PROPOSER)
        for event in report.events if report is not None else ():
            is_its_start = event.kind == "MasterStarted" and event.group == group
            if is_its_start and from_ms < event.at_ms <= until_ms + 1:
                return event.at_ms - from_ms
        return None

    def ahead(self, master: str, slow: SlowInstance, from_ms: float, until_ms: float) -> int:
        """How many instances before one its master had open within a time."""
        return sum(
            other.group == slow.group
            and name == master
            and other.instance_id < slow.instance_id
            and other.at_ms - other.chosen_ms >= from_ms
            and other.at_ms - other.chosen_ms - other.accept_ms <= until_ms
            for name, other in self.instances
        )


def _duration(step: SlowStep) -> float:
    return step.duration_ms

"""The last slow commands of a cluster, hop by hop, and what most probably held each of them up.

```
 master's proposer   queue, accept with each vote, chosen to answered  ─┐
 acceptors           slow writes  ── by (group, instance_id) ───────────┼─▶ SlowCommand, culprit
 learners            slow applies ── by (group, instance_id) ───────────┘
```

Rules:

1. The hops of a command are by its master's clock alone, and the length of a step by its own
   member's, so they can be compared. The longest hop is the one that is explained.
2. A step explains a hop where it is of the same instance, at the member that the hop waited for. A
   client is answered out of its master's own learner, so applies of the others explain nothing.
3. What a role is busy with holds up everything behind it. So a step of another instance explains a
   hop, too, where it was done while the hop lasted. Members' wall clocks may differ by some
   milliseconds: what is found by time alone is said to have been done "meanwhile".
4. A step that explains less than half of its hop is not named.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from ray_paxos.observability.report import RoleReport
from ray_paxos.observability.slow_commands import SlowInstance, SlowStep
from ray_paxos.observability.slow_words import (
    count_text,
    disks_text,
    instances_text,
    ms_text,
    names_text,
)

PROPOSER, ACCEPTOR, LEARNER = "proposer", "acceptor", "learner"
FSYNC, APPLY = "fsync", "apply"
STEPS_SHOWN_MAX = 20
ENOUGH = 0.5
"""This share of a hop explains it."""
SHARED_MS_MIN = 1.0
"""What is shorter is within what wall clocks tell."""

Answer: TypeAlias = tuple[Mapping[str, Any], RoleReport] | str
"""A role's state and report; or why there is none, for a person."""
Answers: TypeAlias = Mapping[tuple[str, str], Answer]
"""By (member, role)."""


@dataclass(frozen=True, slots=True)
class SlowVote:
    """A vote that made an instance chosen.

    Attributes:
        member: Whose.
        vote_ms: How long after the instance was opened it came.
        fsync_ms: How long that member's disk took to write it; None where it was not slow.
        meanwhile_ms: How long another slow write there took meanwhile; None for none.
    """

    member: str
    vote_ms: float
    fsync_ms: float | None
    meanwhile_ms: float | None


@dataclass(frozen=True, slots=True)
class SlowCommand:
    """An instance in which a command took long; times in milliseconds.

    Attributes:
        at_ms: When it was answered, in milliseconds since 1970, by the master's wall clock.
        master: Which member led.
        group: Whose.
        instance_id: Which.
        machine: That the slow command is for; empty where a session was opened.
        commands: How many the instance holds.
        byte_count: Of its value.
        total_ms: From when the slowest request was taken in until it was answered.
        queue_ms: Of that, until the instance was opened.
        accept_ms: Of that, until a majority had accepted it.
        chosen_ms: Of that, until the results were back.
        votes: Those that made it chosen, in the order in which they came.
        not_waited_for: Voters whose vote came later, or never.
        apply_ms: By member, how long its learner took to apply it; where that was slow.
        culprit: What most probably held it up: one sentence for a person.
    """

    at_ms: int
    master: str
    group: int
    instance_id: int
    machine: str
    commands: int
    byte_count: int
    total_ms: float
    queue_ms: float
    accept_ms: float
    chosen_ms: float
    votes: tuple[SlowVote, ...]
    not_waited_for: tuple[str, ...]
    apply_ms: dict[str, float]
    culprit: str


@dataclass(frozen=True, slots=True)
class LooseStep:
    """A slow write or apply that belongs to no remembered command.

    Attributes:
        at_ms: When it was done, in milliseconds since 1970, by the wall clock there.
        member: Where.
        what: `fsync` or `apply`.
        duration_ms: How long it took.
        instances: (group, instance_id) of what it was for; the first few.
    """

    at_ms: int
    member: str
    what: str
    duration_ms: float
    instances: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class SlowReport:
    """What is remembered.

    Attributes:
        commands: The last that were asked for, the newest first.
        steps: Likewise, the last few that belong to no remembered command.
        silent: By `member/role`, why it told nothing.
        is_silent: Whether nobody told anything.
    """

    commands: tuple[SlowCommand, ...]
    steps: tuple[LooseStep, ...]
    silent: dict[str, str]
    is_silent: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON."""
        return asdict(self)


def slow_report(
    members: Mapping[str, int],
    answers: Answers,
    *,
    over_ms: float = 0.0,
    group: int | None = None,
    count: int = 20,
) -> SlowReport:
    """Put together what the roles of a cluster remember.

    Args:
        members: Ids by name.
        answers: What the roles told, with what was slow.
        over_ms: Only what took as long, or longer.
        group: Only of this group; None for all.
        count: At most so many commands.
    """
    told = _Told(members, answers)

    def is_wanted(taken_ms: float, groups: Iterable[int]) -> bool:
        return taken_ms >= over_ms and (group is None or group in groups)

    wanted = [
        (master, slow) for master, slow in told.instances if is_wanted(slow.total_ms, (slow.group,))
    ]
    wanted.sort(key=lambda each: (each[1].at_ms, each[1].instance_id), reverse=True)
    commands = tuple(told.command(master, slow) for master, slow in wanted[:count])
    steps = [
        LooseStep(step.at_ms, member, step.what, step.duration_ms, step.instances)
        for member, step in told.loose_steps()
        if is_wanted(step.duration_ms, (each[0] for each in step.instances))
    ]
    steps.sort(key=lambda each: each.at_ms, reverse=True)
    is_silent = all(isinstance(answer, str) for answer in answers.values())
    return SlowReport(commands, tuple(steps[:STEPS_SHOWN_MAX]), told.silent, is_silent)


class _Told:
    """What the roles told, by what it is looked for."""

    def __init__(self, members: Mapping[str, int], answers: Answers) -> None:
        self._names = {member_id: name for name, member_id in members.items()}
        self._reports: dict[tuple[str, str], RoleReport] = {}
        self._voters: dict[int, tuple[int, tuple[int, ...]]] = {}
        self.silent: dict[str, str] = {}
        self.instances: list[tuple[str, SlowInstance]] = []
        self._steps: defaultdict[tuple[str, str], list[SlowStep]] = defaultdict(list)
        self._explained: set[int] = set()
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
        known = {(slow.group, slow.instance_id) for _, slow in self.instances}
        for steps in self._steps.values():
            for step in steps:
                if not known.isdisjoint(step.instances):
                    self._explained.add(id(step))

    def _note_voters(self, state: Mapping[str, Any]) -> None:
        """Who votes, by the learner whose log has come furthest."""
        for group, described in state.get("groups", {}).items():
            config_id = described.get("config_id", -1)
            if "voters" in described and config_id >= self._voters.get(group, (-1, ()))[0]:
                self._voters[group] = (config_id, tuple(described["voters"]))

    def loose_steps(self) -> list[tuple[str, SlowStep]]:
        """Steps that belong to no instance that is remembered, and explain none that was shown."""
        return [
            (member, step)
            for (member, _), steps in self._steps.items()
            for step in steps
            if id(step) not in self._explained
        ]

    def command(self, master: str, slow: SlowInstance) -> SlowCommand:
        """An instance with all that is known of it."""
        opened_ms = slow.at_ms - slow.chosen_ms - slow.accept_ms
        votes = tuple(
            self._vote(member_id, vote_ms, slow, opened_ms)
            for member_id, vote_ms in sorted(slow.votes_ms.items(), key=lambda each: each[1])
        )
        _, voters = self._voters.get(slow.group, (0, ()))
        others = tuple(self._name(each) for each in voters if each not in slow.votes_ms)
        apply_ms = {}
        for (member, what), _ in self._steps.items():
            own = self._own_step(member, what, slow) if what == APPLY else None
            if own is not None:
                apply_ms[member] = own.duration_ms
        hops = (slow.queue_ms, slow.accept_ms, slow.chosen_ms)
        if slow.accept_ms == max(hops):
            culprit = self._late_votes(votes, others)
        elif slow.chosen_ms == max(hops):
            culprit = self._late_results(master, slow)
        else:
            culprit = self._long_queue(master, slow)
        return SlowCommand(
            at_ms=slow.at_ms,
            master=master,
            group=slow.group,
            instance_id=slow.instance_id,
            machine=slow.machine,
            commands=slow.commands,
            byte_count=slow.byte_count,
            total_ms=slow.total_ms,
            queue_ms=slow.queue_ms,
            accept_ms=slow.accept_ms,
            chosen_ms=slow.chosen_ms,
            votes=votes,
            not_waited_for=others,
            apply_ms=apply_ms,
            culprit=culprit,
        )

    # Joining.

    def _name(self, member_id: int) -> str:
        return self._names.get(member_id, f"member {member_id}")

    def _vote(
        self, member_id: int, vote_ms: float, slow: SlowInstance, opened_ms: float
    ) -> SlowVote:
        name = self._name(member_id)
        own = self._own_step(name, FSYNC, slow)
        own_ms = own.duration_ms if own is not None else None
        other = None
        if vote_ms >= ENOUGH * slow.accept_ms and (own_ms or 0.0) < ENOUGH * vote_ms:
            other = self._step_meanwhile(name, FSYNC, opened_ms, vote_ms)
        return SlowVote(name, vote_ms, own_ms, other.duration_ms if other is not None else None)

    def _own_step(self, member: str, what: str, slow: SlowInstance) -> SlowStep | None:
        """The longest step of a member for an instance."""
        instance = (slow.group, slow.instance_id)
        found = [step for step in self._steps.get((member, what), ()) if instance in step.instances]
        return max(found, key=_duration, default=None)

    def _step_meanwhile(
        self, member: str, what: str, from_ms: float, lasted_ms: float
    ) -> SlowStep | None:
        """The step of a member that took most of a hop, if it took enough of it."""

        def shared_ms(step: SlowStep) -> float:
            began_ms = max(step.at_ms - step.duration_ms, from_ms)
            return min(step.at_ms, from_ms + lasted_ms) - began_ms

        found = max(self._steps.get((member, what), ()), key=shared_ms, default=None)
        if found is None or shared_ms(found) < max(ENOUGH * lasted_ms, SHARED_MS_MIN):
            return None
        self._explained.add(id(found))
        return found

    # Words.

    def _late_votes(self, votes: Sequence[SlowVote], others: Sequence[str]) -> str:
        if not votes:
            return "the votes that made it chosen are not known"
        last_ms = votes[-1].vote_ms
        late = [vote for vote in votes if vote.vote_ms >= ENOUGH * last_ms]
        said = f"{names_text([vote.member for vote in late])} answered after {ms_text(last_ms)}"
        writing = [v for v in late if (v.fsync_ms or 0) >= ENOUGH * v.vote_ms]
        busy = [v for v in late if v.meanwhile_ms is not None]
        if writing:
            said += f"; {disks_text([(v.member, v.fsync_ms or 0) for v in writing])} of them"
        elif busy:
            disks = disks_text([(v.member, v.meanwhile_ms or 0) for v in busy])
            said += f"; {disks} for other writes meanwhile"
        else:
            said += f"; {self._no_write([vote.member for vote in late])}"
        if others:
            said += f"; {names_text(others)} had not answered by then"
        return said

    def _no_write(self, members: Sequence[str]) -> str:
        silent = [each for each in members if (each, ACCEPTOR) not in self._reports]
        if silent:
            return f"what {names_text(silent)} spent it on is not known, since nobody answers there"
        where = "there" if len(members) == 1 else "of theirs"
        return (
            f"no write {where} was slow enough to explain it: the network, or the processes, held "
            "it up"
        )

    def _late_results(self, master: str, slow: SlowInstance) -> str:
        machine = f"the machine {slow.machine}" if slow.machine else "the learner"
        own = self._own_step(master, APPLY, slow)
        if own is not None and own.duration_ms >= ENOUGH * slow.chosen_ms:
            more = len(own.instances) - 1
            others = f", with {count_text(more, 'other instance')} in the same step" if more else ""
            return f"{machine} of {master} took {ms_text(own.duration_ms)} to apply it{others}"
        from_ms = slow.at_ms - slow.chosen_ms
        other = self._step_meanwhile(master, APPLY, from_ms, slow.chosen_ms)
        waited = f"its results came {ms_text(slow.chosen_ms)} after it was chosen"
        if other is not None:
            what = instances_text(other.instances)
            return f"{waited}: {master} applied {what} for {ms_text(other.duration_ms)} meanwhile"
        if (master, LEARNER) not in self._reports:
            return (
                f"{waited}; what the learner of {master} did is not known, since it does not answer"
            )
        return (
            f"{waited}; no apply at {master} was slow enough to explain it: its learner was busy "
            "with something else, or its process stood still"
        )

    def _long_queue(self, master: str, slow: SlowInstance) -> str:
        waited = f"waited {ms_text(slow.queue_ms)} in the queue of the master {master}"
        arrived_ms = slow.at_ms - slow.total_ms
        opened_ms = arrived_ms + slow.queue_ms
        began_ms = self._reign_began(master, slow.group, arrived_ms, opened_ms)
        if began_ms is not None:
            return f"{waited}, which began to serve only {ms_text(began_ms)} after it had come"
        apply = self._step_meanwhile(master, APPLY, arrived_ms, slow.queue_ms)
        if apply is not None:
            what = instances_text(apply.instances)
            took = ms_text(apply.duration_ms)
            return f"{waited}: its learner applied {what} for {took} meanwhile"
        ahead = sum(
            other.group == slow.group
            and name == master
            and other.instance_id < slow.instance_id
            and other.at_ms - other.chosen_ms >= arrived_ms
            and other.at_ms - other.chosen_ms - other.accept_ms <= opened_ms
            for name, other in self.instances
        )
        if ahead:
            were = "was" if ahead == 1 else "were"
            return f"{waited}: {count_text(ahead, 'slow instance')} before it {were} open"
        return f"{waited}; no instance before it is remembered as slow"

    def _reign_began(
        self, master: str, group: int, from_ms: float, until_ms: float
    ) -> float | None:
        """How long after a time the master began to serve; None where it served before."""
        report = self._reports.get((master, PROPOSER))
        for event in report.events if report is not None else ():
            is_its_start = event.kind == "MasterStarted" and event.group == group
            if is_its_start and from_ms < event.at_ms <= until_ms + 1:
                return event.at_ms - from_ms
        return None


def _duration(step: SlowStep) -> float:
    return step.duration_ms

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

from collections.abc import Iterable, Mapping, Sequence

from ray_paxos.observability.report import ACCEPTOR, LEARNER, Answers
from ray_paxos.observability.slow_commands import APPLY, FSYNC, SlowInstance, SlowStep
from ray_paxos.observability.slow_told import ENOUGH, StepAt, Told
from ray_paxos.observability.slow_view import LooseStep, SlowCommand, SlowReport, SlowVote
from ray_paxos.observability.slow_words import disks_text, instances_text, together
from ray_paxos.observability.text import count_text, milliseconds_text

STEPS_SHOWN_MAX = 20


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
    told = Told(members, answers)

    def is_wanted(taken_ms: float, groups: Iterable[int]) -> bool:
        return taken_ms >= over_ms and (group is None or group in groups)

    wanted = [
        (master, slow) for master, slow in told.instances if is_wanted(slow.total_ms, (slow.group,))
    ]
    wanted.sort(key=lambda each: (each[1].at_ms, each[1].instance_id), reverse=True)
    explained = [_explained(told, master, slow) for master, slow in wanted[:count]]
    commands = tuple(command for command, _ in explained)
    used = frozenset(step for _, steps in explained for step in steps)
    steps = [
        LooseStep(step.at_ms, member, step.what, step.duration_ms, step.instances)
        for member, step in told.loose_steps(used)
        if is_wanted(step.duration_ms, (each[0] for each in step.instances))
    ]
    steps.sort(key=lambda each: each.at_ms, reverse=True)
    is_silent = all(isinstance(answer, str) for answer in answers.values())
    return SlowReport(commands, tuple(steps[:STEPS_SHOWN_MAX]), told.silent, is_silent)


def _explained(told: Told, master: str, slow: SlowInstance) -> tuple[SlowCommand, Sequence[StepAt]]:
    """An instance with all that is known of it, and the steps of others that explain its hops."""
    explaining = _Explaining(told, master, slow)
    return explaining.command(), explaining.used


class _Explaining:
    """Of one instance: what held it up.

    Attributes:
        used: The steps of other instances that were found to explain a hop.
    """

    def __init__(self, told: Told, master: str, slow: SlowInstance) -> None:
        self._told = told
        self._master = master
        self._slow = slow
        self.used: list[StepAt] = []

    def command(self) -> SlowCommand:
        slow = self._slow
        votes = tuple(
            self._vote(member_id, vote_ms)
            for member_id, vote_ms in sorted(slow.votes_ms.items(), key=lambda each: each[1])
        )
        others = tuple(
            self._told.name(each)
            for each in self._told.voters(slow.group)
            if each not in slow.votes_ms
        )
        hops = (slow.queue_ms, slow.accept_ms, slow.chosen_ms)
        if slow.accept_ms == max(hops):
            culprit = self._late_votes(votes, others)
        elif slow.chosen_ms == max(hops):
            culprit = self._late_results()
        else:
            culprit = self._long_queue()
        return SlowCommand(
            at_ms=slow.at_ms,
            master=self._master,
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
            apply_ms=self._told.apply_ms(slow),
            culprit=culprit,
        )

    # Joining.

    def _vote(self, member_id: int, vote_ms: float) -> SlowVote:
        slow = self._slow
        name = self._told.name(member_id)
        own = self._told.own_step(name, FSYNC, slow)
        own_ms = own.duration_ms if own is not None else None
        other = None
        if vote_ms >= ENOUGH * slow.accept_ms and (own_ms or 0.0) < ENOUGH * vote_ms:
            opened_ms = slow.at_ms - slow.chosen_ms - slow.accept_ms
            other = self._step_meanwhile(name, FSYNC, opened_ms, vote_ms)
        return SlowVote(name, vote_ms, own_ms, other.duration_ms if other is not None else None)

    def _step_meanwhile(
        self, member: str, what: str, from_ms: float, lasted_ms: float
    ) -> SlowStep | None:
        found = self._told.step_meanwhile(member, what, from_ms, lasted_ms)
        if found is not None:
            self.used.append((member, found))
        return found

    # Words.

    def _late_votes(self, votes: Sequence[SlowVote], others: Sequence[str]) -> str:
        if not votes:
            return "the votes that made it chosen are not known"
        last_ms = votes[-1].vote_ms
        late = [vote for vote in votes if vote.vote_ms >= ENOUGH * last_ms]
        took = milliseconds_text(last_ms)
        said = f"{together([vote.member for vote in late])} answered after {took}"
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
            said += f"; {together(others)} had not answered by then"
        return said

    def _no_write(self, members: Sequence[str]) -> str:
        silent = [each for each in members if self._told.report(each, ACCEPTOR) is None]
        if silent:
            return f"what {together(silent)} spent it on is not known, since nobody answers there"
        where = "there" if len(members) == 1 else "of theirs"
        return (
            f"no write {where} was slow enough to explain it: the network, or the processes, held "
            "it up"
        )

    def _late_results(self) -> str:
        master, slow = self._master, self._slow
        machine = f"the machine {slow.machine}" if slow.machine else "the learner"
        own = self._told.own_step(master, APPLY, slow)
        if own is not None and own.duration_ms >= ENOUGH * slow.chosen_ms:
            more = len(own.instances) - 1
            others = f", with {count_text(more, 'other instance')} in the same step" if more else ""
            took = milliseconds_text(own.duration_ms)
            return f"{machine} of {master} took {took} to apply it{others}"
        from_ms = slow.at_ms - slow.chosen_ms
        other = self._step_meanwhile(master, APPLY, from_ms, slow.chosen_ms)
        waited = f"its results came {milliseconds_text(slow.chosen_ms)} after it was chosen"
        if other is not None:
            what = instances_text(other.instances)
            took = milliseconds_text(other.duration_ms)
            return f"{waited}: {master} applied {what} for {took} meanwhile"
        if self._told.report(master, LEARNER) is None:
            return (
                f"{waited}; what the learner of {master} did is not known, since it does not answer"
            )
        return (
            f"{waited}; no apply at {master} was slow enough to explain it: its learner was busy "
            "with something else, or its process stood still"
        )

    def _long_queue(self) -> str:
        master, slow = self._master, self._slow
        waited = f"waited {milliseconds_text(slow.queue_ms)} in the queue of the master {master}"
        arrived_ms = slow.at_ms - slow.total_ms
        opened_ms = arrived_ms + slow.queue_ms
        began_ms = self._told.reign_began(master, slow.group, arrived_ms, opened_ms)
        if began_ms is not None:
            after = milliseconds_text(began_ms)
            return f"{waited}, which began to serve only {after} after it had come"
        apply = self._step_meanwhile(master, APPLY, arrived_ms, slow.queue_ms)
        if apply is not None:
            what = instances_text(apply.instances)
            took = milliseconds_text(apply.duration_ms)
            return f"{waited}: its learner applied {what} for {took} meanwhile"
        ahead = self._told.ahead(master, slow, arrived_ms, opened_ms)
        if ahead:
            were = "was" if ahead == 1 else "were"
            return f"{waited}: {count_text(ahead, 'slow instance')} before it {were} open"
        return f"{waited}; no instance before it is remembered as slow"

"""The end of a group's log, from a learner's memory, decoded for people.

A learner gives what others miss to whoever asks (`LearnRequest`), and so the log's end, too. It is
asked for a number of instances from the end; where their bytes are too many for one answer, the
first ones are given up, since the last ones are wanted. Nothing is written, and each step is
bounded: in members asked, in questions, in bytes, in lines.

A learner that was started anew holds in memory only what came since: what is older is on its disk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ray_paxos.core.genesis import MachineSpec
from ray_paxos.core.learner_messages import ChosenValue, LearnReply, LearnRequest
from ray_paxos.core.messages import Message
from ray_paxos.core.records import SealedInstance
from ray_paxos.errors import ClusterError
from ray_paxos.storage.log_rows import MachineKinds, describe_row, rows_of

BYTES_MAX = 256_000
QUESTIONS_MAX = 10
LINES_MAX = 200
COUNT_MAX = 500

Ask = Callable[[str, Message], Sequence[Message]]
"""Sends a message of a client's to a member's learner; gives what it answers, if it does."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One row of the log, for people.

    Attributes:
        instance_id: Of which instance.
        index: Its place within it.
        kind: `command`, `noop`, `master`, `session`, `machine`, `membership` or `opaque`.
        ballot: At which it was chosen.
        machine: Name of the machine that it is for; empty for none.
        session: Whose command; empty for none.
        number: Of the command in its session; None for none.
        text: What it says.
    """

    instance_id: int
    index: int
    kind: str
    ballot: str
    machine: str
    session: str
    number: int | None
    text: str


@dataclass(frozen=True, slots=True)
class LogTail:
    """The end of a group's log.

    Attributes:
        group: Whose.
        member: Whose learner gave it.
        learned_through: How far that learner is.
        memory_floor: The lowest instance that it has in memory; what is below is on its disk.
        lines: The newest last.
        left_out: Lines of the instances given that are not among them.
        left_out_of: The same, by instance.
    """

    group: int
    member: str
    learned_through: int
    memory_floor: int
    lines: tuple[LogLine, ...]
    left_out: int
    left_out_of: tuple[tuple[int, int], ...] = ()

    def last(self, count: int) -> LogTail:
        """The same of so many instances from the end only."""
        end = self.lines[-1].instance_id if self.lines else self.learned_through
        first = end - count + 1
        lines = tuple(line for line in self.lines if line.instance_id >= first)
        left_out_of = tuple(each for each in self.left_out_of if each[0] >= first)
        left_out = sum(lines_left for _, lines_left in left_out_of)
        return replace(self, lines=lines, left_out=left_out, left_out_of=left_out_of)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON."""
        plain = asdict(self)
        del plain["left_out_of"]
        return plain


def read_tail(
    group: int, members: Iterable[str], ask: Ask, count: int, kinds: Mapping[str, str]
) -> LogTail:
    """Read the end of a group's log.

    Args:
        group: Which group.
        members: Names of those to ask, one after the other, until one answers.
        ask: Asks one of them.
        count: How many instances.
        kinds: Of the group's machines, by name, as far as known.

    Raises:
        ClusterError: No learner that has the group answers.
    """
    for member in members:
        found = _ask_for_end(member, ask, min(count, COUNT_MAX))
        if found is not None:
            lines = _lines(found.values, kinds)
            shown = lines[-LINES_MAX:]
            left_out = Counter(line.instance_id for line in lines[:-LINES_MAX])
            return LogTail(
                group,
                member,
                found.learned_through,
                found.memory_floor,
                tuple(shown),
                left_out.total(),
                tuple(left_out.items()),
            )
    raise ClusterError(f"no learner answers for the log of group {group}")


def _ask_for_end(member: str, ask: Ask, count: int) -> LearnReply | None:
    """An answer that ends where the member's log does; None where it does not answer."""
    # The first question is for how far it is: beyond the end there are no values.
    reply = _ask_once(member, ask, 1 << 62)
    for _ in range(QUESTIONS_MAX):
        if reply is None:
            return None
        learned = reply.learned_through
        if reply.values and reply.values[-1].instance_id >= learned:
            return reply
        if reply.values:
            # About as many as there was room for, and few enough that this ends.
            count = max(min(len(reply.values), count // 2), count // 4, 1)
        first = max(learned - count + 1, reply.memory_floor, 1)
        if first > learned:
            return reply
        reply = _ask_once(member, ask, first)
    return reply


def _ask_once(member: str, ask: Ask, from_instance: int) -> LearnReply | None:
    replies = ask(member, LearnRequest(from_instance, BYTES_MAX))
    return next((each for each in replies if isinstance(each, LearnReply)), None)


def _lines(values: Sequence[ChosenValue], known: Mapping[str, str]) -> list[LogLine]:
    # Of a machine's spec only its kind matters here.
    specs = [MachineSpec(name, kind, 1) for name, kind in known.items()]
    kinds = MachineKinds(specs, ())
    return [
        LogLine(
            row.instance_id,
            row.index,
            row.kind,
            row.ballot,
            row.machine or "",
            row.session or "",
            row.number,
            describe_row(row, kinds),
        )
        for row in rows_of([SealedInstance(value, b"", None) for value in values])
    ]

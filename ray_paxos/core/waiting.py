"""Commands of a client that have no number yet: first in, first out; pure.

They wait in *runs*: commands for one machine that came one after the other, as many as one request
holds. So a request is made of whole runs, and its commands are not touched one by one again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from ray_paxos.core.pending import FOREVER_NS, Part, PendingBatch, Receiver

BATCH_COMMANDS_MAX = 20_000
"""Of one request: above it more commands make a request slower, not cheaper."""
COMMAND_OVERHEAD_BYTES = 5
"""What the wire form adds to a command, at most."""


@dataclass(slots=True, eq=False)
class _Run:
    """Commands for one machine.

    Attributes:
        machine: Which.
        commands: In order.
        parts: Whose they are, in order.
        byte_count: Of the commands.
        earliest_ns: The earliest deadline of its receivers, or an earlier time.
        latest_ns: The latest one, or a later time.
    """

    machine: str
    commands: list[bytes]
    parts: list[Part]
    byte_count: int
    earliest_ns: int
    latest_ns: int

    @property
    def wire_bytes(self) -> int:
        """What it takes of a request."""
        return self.byte_count + COMMAND_OVERHEAD_BYTES * len(self.commands)


class WaitingCommands:
    """Commands in the order in which they were submitted; bounded by who adds to it.

    Invariants: a run holds at most what fits one request, or one command; only the last run grows;
    each receiver is asked once whether its commands go on.

    Attributes:
        commands: How many wait,
        byte_count: and their bytes.
    """

    def __init__(self, bytes_max: int, commands_max: int = BATCH_COMMANDS_MAX) -> None:
        """Start with none.

        Args:
            bytes_max: How much fits one request; one command does in any case.
            commands_max: How many.
        """
        assert bytes_max > 0 and commands_max > 0
        self._bytes_max = bytes_max
        self._commands_max = commands_max
        self._runs: deque[_Run] = deque()
        # Of the last run: how much more fits in it.
        self._room_bytes = 0
        self._room_commands = 0
        # Whom was asked last, some of whose commands may wait still, and the answer.
        self._asked: Receiver | None = None
        self._goes_on = False
        self.commands = 0
        self.byte_count = 0

    def __bool__(self) -> bool:
        """Whether any wait."""
        return bool(self.commands)

    # In.

    def add_one(self, machine: str, command: bytes, receiver: Receiver) -> None:
        """Queue one command behind all others."""
        size = len(command)
        self.commands += 1
        self.byte_count += size
        self._room_bytes -= size + COMMAND_OVERHEAD_BYTES
        self._room_commands -= 1
        if self._room_bytes >= 0 and self._room_commands >= 0:
            run = self._runs[-1]
            if run.machine == machine:
                run.commands.append(command)
                run.parts.append((receiver, 0, 1))
                run.byte_count += size
                deadline_ns = receiver.deadline_ns
                if deadline_ns > run.latest_ns:
                    run.latest_ns = deadline_ns
                elif deadline_ns < run.earliest_ns:
                    run.earliest_ns = deadline_ns
                return
        deadline_ns = receiver.deadline_ns
        run = _Run(machine, [command], [(receiver, 0, 1)], size, deadline_ns, deadline_ns)
        self._runs.append(run)
        self._room_bytes = self._bytes_max - run.wire_bytes
        self._room_commands = self._commands_max - 1

    def add(self, machine: str, commands: Sequence[bytes], receiver: Receiver) -> None:
        """Queue commands, at least one, behind all others.

        Args:
            machine: For which machine.
            commands: In order.
            receiver: Gets their outcome.
        """
        if len(commands) == 1:
            self.add_one(machine, commands[0], receiver)
            return
        # Where each command ends, on the wire.
        ends = list(accumulate(len(command) + COMMAND_OVERHEAD_BYTES for command in commands))
        taken = used = 0
        while taken < len(commands):
            if not self._runs or self._runs[-1].machine != machine:
                self._room_bytes = self._room_commands = 0
            count = self._fitting(ends, taken, used)
            if not count:
                # A run of its own; one command fits it in any case.
                self._room_bytes, self._room_commands = self._bytes_max, self._commands_max
                count = max(self._fitting(ends, taken, used), 1)
                self._runs.append(_Run(machine, [], [], 0, FOREVER_NS, 0))
            wire_bytes = ends[taken + count - 1] - used
            piece = commands[taken : taken + count]
            self._append(piece, (receiver, taken, count), wire_bytes)
            taken += count
            used += wire_bytes

    def _fitting(self, ends: Sequence[int], taken: int, used: int) -> int:
        """How many of the commands from `taken` on fit the last run."""
        end = min(len(ends), taken + self._room_commands)
        return bisect_right(ends, used + self._room_bytes, taken, end) - taken

    def _append(self, commands: Sequence[bytes], part: Part, wire_bytes: int) -> None:
        """Let the last run grow."""
        run, count = self._runs[-1], part[2]
        byte_count = wire_bytes - COMMAND_OVERHEAD_BYTES * count
        run.commands += commands
        run.parts.append(part)
        run.byte_count += byte_count
        run.earliest_ns = min(run.earliest_ns, part[0].deadline_ns)
        run.latest_ns = max(run.latest_ns, part[0].deadline_ns)
        self._room_bytes -= wire_bytes
        self._room_commands -= count
        self.commands += count
        self.byte_count += byte_count

    # Out.

    def number(self, first_number: int) -> tuple[list[PendingBatch], int]:
        """Give numbers to what fits one request.

        Args:
            first_number: The first one to give.

        Returns:
            Batches, in order, and the latest deadline of any of their receivers; no batches where
            nothing waits that was not cancelled.
        """
        batches: list[PendingBatch] = []
        deadline_ns = 0
        room_bytes, room_commands = self._bytes_max, self._commands_max
        while self._runs:
            run = self._runs[0]
            if batches and (run.wire_bytes > room_bytes or len(run.commands) > room_commands):
                break
            self._take_first()
            room_bytes -= run.wire_bytes
            room_commands -= len(run.commands)
            self._uncount(run)
            self._begin(run)
            if run.parts:
                batch = PendingBatch(
                    run.machine,
                    first_number,
                    run.commands,
                    run.parts,
                    run.byte_count,
                    run.earliest_ns,
                )
                batches.append(batch)
                first_number = batch.end
                deadline_ns = max(deadline_ns, run.latest_ns)
        return batches, deadline_ns

    def _take_first(self) -> None:
        self._runs.popleft()
        if not self._runs:
            # What comes next makes a run of its own.
            self._room_bytes = self._room_commands = 0

    def _begin(self, run: _Run) -> None:
        """Drop the commands of receivers that were cancelled."""
        cancelled: list[Part] = []
        for part in run.parts:
            receiver = part[0]
            if receiver is not self._asked:
                self._asked, self._goes_on = receiver, receiver.begin()
            if not self._goes_on:
                cancelled.append(part)
        if cancelled:
            self._drop(run, cancelled)
        if not self._runs:
            self._asked = None

    @staticmethod
    def _drop(run: _Run, dropped: Sequence[Part]) -> None:
        gone = set(map(id, dropped))
        commands: list[bytes] = []
        position = 0
        for part in run.parts:
            if id(part) not in gone:
                commands += run.commands[position : position + part[2]]
            position += part[2]
        run.commands = commands
        run.parts = [part for part in run.parts if id(part) not in gone]
        run.byte_count = sum(map(len, commands))

    def _uncount(self, run: _Run) -> None:
        self.commands -= len(run.commands)
        self.byte_count -= run.byte_count

    def drop_overdue(self, now_ns: int) -> list[Part]:
        """Take out what has run out of time; gives the parts that were not cancelled."""
        overdue: list[Part] = []
        for run in self._runs:
            if run.earliest_ns > now_ns:
                continue
            dropped = [part for part in run.parts if part[0].deadline_ns <= now_ns]
            self._uncount(run)
            self._drop(run, dropped)
            self.commands += len(run.commands)
            self.byte_count += run.byte_count
            run.earliest_ns = min((part[0].deadline_ns for part in run.parts), default=FOREVER_NS)
            overdue += dropped
        if overdue:
            self._runs = deque(run for run in self._runs if run.parts)
            self._room_bytes = self._room_commands = 0
        asked, goes_on = self._asked, self._goes_on
        parts: list[Part] = []
        for part in overdue:
            # One that has begun is asked no more; all commands of any other are overdue here.
            if part[0] is not asked:
                asked, goes_on = part[0], part[0].begin()
            if goes_on:
                parts.append(part)
        return parts

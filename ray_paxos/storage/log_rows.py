"""The chosen log as rows, one a command, for people and for other programs.

The columns are those of the segments (see `parquet_rows`); their order is the segments' too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ray_paxos.core.genesis import MachineSpec
from ray_paxos.core.records import SealedInstance
from ray_paxos.machines.describing import describe_bytes, describe_command, describe_text
from ray_paxos.storage.parquet_rows import (
    KIND_COMMAND,
    KIND_MACHINE,
    KIND_NOOP,
    KIND_OPAQUE,
    take_apart,
)


@dataclass(frozen=True, slots=True)
class LogRow:
    """One row of the chosen log; None where a column says nothing about its kind of row."""

    instance_id: int
    index: int
    kind: str
    ballot_round: int
    ballot_member: int
    ballot_incarnation: int
    machine: str | None
    session: str | None
    number: int | None
    command: bytes | None
    log_time: int | None
    chain: bytes
    result_chain: bytes | None
    entry: int
    lowest_open: int | None

    @property
    def ballot(self) -> str:
        """The ballot at which the value was chosen, as `round.member.incarnation`."""
        return f"{self.ballot_round}.{self.ballot_member}.{self.ballot_incarnation}"


def rows_of(instances: Sequence[SealedInstance]) -> Iterator[LogRow]:
    """The rows of instances, in order."""
    runs = take_apart(instances)
    position = 0
    for run, length in enumerate(runs.lengths):
        ballot, first_number = runs.ballot[run], runs.first_number[run]
        for offset in range(length):
            yield LogRow(
                runs.instance_id[run],
                runs.first_index[run] + offset,
                runs.kind[run],
                ballot.round,
                ballot.member_id,
                ballot.incarnation,
                runs.machine[run],
                runs.session[run],
                None if first_number is None else first_number + offset,
                runs.commands[position + offset],
                runs.log_time[run],
                runs.chain[run],
                runs.result_chain[run],
                runs.entry[run],
                runs.lowest_open[run],
            )
        position += length


class MachineKinds:
    """Which kind of machine a name in a group stands for.

    Machines are mounted by entries of the log. A reader that begins in the middle has not seen
    these: where a name is not known, the log before is searched, once.
    """

    def __init__(self, known: Iterable[MachineSpec], earlier: Iterable[SealedInstance]) -> None:
        """Begin with what the genesis (or a checkpoint) names; `earlier` is read when needed."""
        self._kinds = {spec.name: spec.kind for spec in known}
        self._earlier: Iterable[SealedInstance] | None = earlier

    def note(self, row: LogRow) -> None:
        """Take in a row that may mount a machine; the first mount of a name is the one."""
        if row.kind == KIND_MACHINE and row.machine is not None and row.command is not None:
            _, _, kind = row.command.decode().partition(" ")
            self._kinds.setdefault(row.machine, kind)

    def find(self, machine: str) -> str | None:
        """The machine's kind; None where nothing has mounted it."""
        if machine not in self._kinds and self._earlier is not None:
            for instance in self._earlier:
                for row in rows_of((instance,)):
                    self.note(row)
            self._earlier = None
        return self._kinds.get(machine)


def describe_row(row: LogRow, kinds: MachineKinds) -> str:
    """What a row says, in words: the command where the machine is known."""
    kinds.note(row)
    if row.kind == KIND_NOOP or row.command is None:
        return ""
    if row.kind == KIND_OPAQUE:
        return f"a value that this release cannot read: {describe_bytes(row.command)}"
    if row.kind != KIND_COMMAND:
        return describe_text(row.command).strip('"')
    if not row.machine:
        return "withdrawn"
    return describe_command(kinds.find(row.machine), row.command)

"""The rows of the chosen log: values taken apart so that people can read them, and put together.

One row a command, one for each other entry, one for a value without entries (`index` counts them
within the instance). Putting a value together again must give the very bytes that were voted
for: their hash is in the chain. `encode_value` writes one form for each value, so it is enough to
know the parts; what the readable columns do not tell is in two more:

- `entry`: to which entry of the value the row belongs. Two batches of one session that follow each
  other in a value would otherwise be read back as one.
- `lowest_open`: which of the session's numbers the batch closed.

A value that these columns cannot hold is kept whole, in one row of kind `opaque` with the encoded
value as its `command`: one that this release cannot decode (sealing goes on though applying has
stopped), that was not encoded in the one form, that has a batch without commands, or numbers
beyond 63 bits. Whether it is such a value is decided by trying: what does not give back its own
bytes is opaque.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import msgspec

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.learner_messages import ChosenValue
from ray_paxos.core.records import SealedInstance
from ray_paxos.core.values import (
    CommandBatch,
    Entry,
    MachineMount,
    MasterRecord,
    MembershipEntry,
    MembershipKind,
    SessionId,
    SessionOpen,
    Value,
    decode_value,
    encode_value,
)

KIND_COMMAND = "command"
KIND_NOOP = "noop"
KIND_MASTER = "master"
KIND_SESSION = "session"
KIND_MACHINE = "machine"
KIND_MEMBERSHIP = "membership"
KIND_OPAQUE = "opaque"

_INT64_MAX = (1 << 63) - 1


@dataclass(slots=True)
class Runs:
    """Rows by entry: a list for each column that is the same over an entry's rows.

    Attributes:
        lengths: Rows of each entry.
        first_index: `index` of its first row; it counts up by one a row.
        first_number: `number` of its first row, likewise; None where there is none.
        commands: One for each row of all entries.
    """

    lengths: list[int] = field(default_factory=list)
    first_index: list[int] = field(default_factory=list)
    first_number: list[int | None] = field(default_factory=list)
    instance_id: list[int] = field(default_factory=list)
    kind: list[str] = field(default_factory=list)
    ballot: list[Ballot] = field(default_factory=list)
    machine: list[str | None] = field(default_factory=list)
    session: list[str | None] = field(default_factory=list)
    log_time: list[int | None] = field(default_factory=list)
    chain: list[bytes] = field(default_factory=list)
    result_chain: list[bytes | None] = field(default_factory=list)
    entry: list[int] = field(default_factory=list)
    lowest_open: list[int | None] = field(default_factory=list)
    commands: list[bytes | None] = field(default_factory=list)


def take_apart(instances: Sequence[SealedInstance]) -> Runs:
    """The rows of instances."""
    runs = Runs()
    for sealed in instances:
        value = _readable(sealed.chosen.value)
        if value is None:
            raw = sealed.chosen.value
            _add(runs, sealed, 0, 0, KIND_OPAQUE, (raw,), log_time=None)
        elif not value.entries:
            _add(runs, sealed, 0, 0, KIND_NOOP, (None,), log_time=value.log_time_ns)
        else:
            _add_entries(runs, sealed, value)
    return runs


def put_together(runs: Runs) -> list[SealedInstance]:
    """The instances of rows; the reverse of `take_apart`.

    Raises:
        ValueError: A column holds what `take_apart` never writes.
    """
    instances: list[SealedInstance] = []
    position = 0
    entries: list[Entry] = []
    for run, length in enumerate(runs.lengths):
        commands = runs.commands[position : position + length]
        position += length
        entry = _entry(runs, run, commands)
        if entry is not None:
            entries.append(entry)
        if run + 1 < len(runs.lengths) and runs.entry[run + 1] > runs.entry[run]:
            continue
        if runs.kind[run] == KIND_OPAQUE:
            raw = _command(commands)
        else:
            log_time = runs.log_time[run]
            if log_time is None:
                raise ValueError("a value without log time")
            raw = encode_value(Value(log_time, tuple(entries)))
        entries = []
        chosen = ChosenValue(runs.instance_id[run], runs.ballot[run], raw)
        instances.append(SealedInstance(chosen, runs.chain[run], runs.result_chain[run]))
    return instances


def _readable(raw: bytes) -> Value | None:
    """The value, if the columns can hold it and give back its bytes."""
    try:
        value = decode_value(raw)
    except msgspec.DecodeError:
        return None
    if not 0 <= value.log_time_ns <= _INT64_MAX or encode_value(value) != raw:
        return None
    for entry in value.entries:
        if isinstance(entry, CommandBatch):
            last = entry.first_number + len(entry.commands)
            numbers = (entry.first_number, last, entry.lowest_open)
            if not entry.commands or not all(0 <= n <= _INT64_MAX for n in numbers):
                return None
    return value


def _add_entries(runs: Runs, sealed: SealedInstance, value: Value) -> None:
    index = 0
    for ordinal, entry in enumerate(value.entries):
        add = partial(_add, runs, sealed, ordinal, index, log_time=value.log_time_ns)
        index += 1
        match entry:
            case CommandBatch():
                session = f"{entry.session.instance_id}.{entry.session.index}"
                add(
                    KIND_COMMAND,
                    entry.commands,
                    machine=entry.machine,
                    session=session,
                    number=entry.first_number,
                    lowest_open=entry.lowest_open,
                )
                index += len(entry.commands) - 1
            case SessionOpen(label=label):
                add(KIND_SESSION, (label.encode(),))
            case MasterRecord(ballot=ballot):
                text = f"{ballot.round}.{ballot.member_id}.{ballot.incarnation}"
                add(KIND_MASTER, (text.encode(),))
            case MachineMount():
                add(KIND_MACHINE, (f"{entry.version} {entry.kind}".encode(),), machine=entry.name)
            case MembershipEntry(kind=kind):
                text = f"{kind.name.lower()} {entry.member_id} {entry.expected_config_id}"
                text += f" {entry.name}" if entry.name else ""
                add(KIND_MEMBERSHIP, (text.encode(),))


def _add(
    runs: Runs,
    sealed: SealedInstance,
    entry: int,
    index: int,
    kind: str,
    commands: Sequence[bytes | None],
    *,
    log_time: int | None,
    machine: str | None = None,
    session: str | None = None,
    number: int | None = None,
    lowest_open: int | None = None,
) -> None:
    runs.lengths.append(len(commands))
    runs.first_index.append(index)
    runs.first_number.append(number)
    runs.instance_id.append(sealed.chosen.instance_id)
    runs.kind.append(kind)
    runs.ballot.append(sealed.chosen.ballot)
    runs.machine.append(machine)
    runs.session.append(session)
    runs.log_time.append(log_time)
    runs.chain.append(sealed.chain)
    runs.result_chain.append(sealed.result_chain)
    runs.entry.append(entry)
    runs.lowest_open.append(lowest_open)
    runs.commands.extend(commands)


def _entry(runs: Runs, run: int, commands: Sequence[bytes | None]) -> Entry | None:
    """The entry of one run; None for a no-op and for an opaque value."""
    kind, machine = runs.kind[run], runs.machine[run]
    if kind == KIND_COMMAND:
        session, lowest_open = runs.session[run], runs.lowest_open[run]
        number = runs.first_number[run]
        if session is None or lowest_open is None or number is None or machine is None:
            raise ValueError("a command without session, number or machine")
        instance_id, _, index = session.partition(".")
        return CommandBatch(
            SessionId(int(instance_id), int(index)),
            lowest_open,
            number,
            machine,
            _all_there(commands),
        )
    if kind == KIND_SESSION:
        return SessionOpen(_command(commands).decode())
    if kind == KIND_MASTER:
        return MasterRecord(Ballot(*map(int, _command(commands).split(b"."))))
    if kind == KIND_MACHINE:
        version, _, machine_kind = _command(commands).decode().partition(" ")
        if machine is None:
            raise ValueError("a machine without a name")
        return MachineMount(machine, machine_kind, int(version))
    if kind == KIND_MEMBERSHIP:
        what, member_id, config_id, *name = _command(commands).decode().split(" ", 3)
        kind_of_change = MembershipKind[what.upper()]
        return MembershipEntry(kind_of_change, int(member_id), int(config_id), "".join(name))
    if kind in (KIND_NOOP, KIND_OPAQUE):
        return None
    raise ValueError(f"a row of kind {kind}")


def _all_there(commands: Sequence[bytes | None]) -> tuple[bytes, ...]:
    there = tuple(command for command in commands if command is not None)
    if len(there) != len(commands):
        raise ValueError("a row without its command")
    return there


def _command(commands: Sequence[bytes | None]) -> bytes:
    command = commands[0]
    if command is None:
        raise ValueError("a row without its command")
    return command

"""A second, plain execution of a group's chosen log, to judge the real one by.

It goes command by command where the host goes batch by batch, keeps everything, and shares no
code with it beyond the encoding of commands and results. What a client is told, and what a read
returns, must be what this execution gives.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.core.values import (
    WITHDRAWAL,
    CommandBatch,
    MachineMount,
    MasterRecord,
    MembershipEntry,
    SessionId,
    SessionOpen,
    Value,
)
from ray_paxos.machines.kv import (
    Cas,
    Condition,
    Conflict,
    Delete,
    Get,
    HasValue,
    KeyCommand,
    KeyResult,
    KvCommand,
    Put,
    PutFor,
    Read,
    Record,
    Recorded,
    Renew,
    Renewed,
    Txn,
    TxnDone,
    Written,
)

_decode_kv = msgspec.msgpack.Decoder(KvCommand).decode
_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True)
class Outcome:
    """Where a command of a session was applied, and what came of it.

    Attributes:
        instance_id: The instance,
        index: and the row in it.
        result: What the machine returned; None for nothing, or an error.
        is_error: The machine refused it, or is not mounted.
    """

    instance_id: int
    index: int
    result: bytes | None
    is_error: bool


@dataclass
class ReferenceSession:
    """Plain: the next number, and every outcome there ever was."""

    lowest_open: int = 1
    next_number: int = 1
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    commands: dict[int, bytes] = field(default_factory=dict)


class ReferenceGroup:
    """Executes a group's chosen values in order.

    Attributes:
        applied_through: The last instance executed.
        log_time_ns: The highest that a value carried.
        kept: How many rows were sent again, and got the result kept.
        applied: Every command that was ever applied.
        places: By instance and row, the session and the number of what was applied there.
    """

    def __init__(self) -> None:
        """Start before instance 1."""
        self.applied_through = 0
        self.log_time_ns = 0
        self.kept = 0
        self.applied: set[bytes] = set()
        self.places: dict[tuple[int, int], tuple[SessionId, int]] = {}
        self._sessions: dict[SessionId, ReferenceSession] = {}
        self._kinds: dict[str, str] = {}
        self._lines: list[tuple[int, bytes]] = []
        # By key, every (instance, value, version) it had, in order; a tombstone's value is None.
        self._keys: dict[str, list[tuple[int, bytes | None, int]]] = {}
        # By key, the log time at which its value ends.
        self._ends: dict[str, int] = {}

    def apply(self, instance_id: int, value: Value) -> None:
        """Execute the next value."""
        assert instance_id == self.applied_through + 1, "the reference goes in order"
        self.log_time_ns = max(self.log_time_ns, value.log_time_ns)
        for key in [key for key, ends_ns in self._ends.items() if ends_ns <= self.log_time_ns]:
            del self._ends[key]
            self._keys[key].append((instance_id, None, self._keys[key][-1][2] + 1))
        index = 0
        for entry in value.entries:
            if isinstance(entry, CommandBatch):
                for offset, command in enumerate(entry.commands):
                    number = entry.first_number + offset
                    self._command(instance_id, index, entry, number, command)
                    index += 1
                continue
            if isinstance(entry, SessionOpen):
                self._sessions[SessionId(instance_id, index)] = ReferenceSession()
            elif isinstance(entry, MachineMount):
                self._kinds.setdefault(entry.name, entry.kind)
            else:
                assert isinstance(entry, MasterRecord | MembershipEntry)
            index += 1
        self.applied_through = instance_id

    def outcome(self, session: SessionId, number: int) -> Outcome | None:
        """What became of a command; None where it was never applied."""
        state = self._sessions.get(session)
        return state.outcomes.get(number) if state is not None else None

    def command(self, session: SessionId, number: int) -> bytes | None:
        """Which command was applied under a number; None where none was."""
        state = self._sessions.get(session)
        return state.commands.get(number) if state is not None else None

    def key_at(self, key: str, instance_id: int) -> Read:
        """What a get of `key` returns on a member that applied exactly through an instance."""
        found: tuple[int, bytes | None, int] | None = None
        for entry in self._keys.get(key, ()):
            if entry[0] > instance_id:
                break
            found = entry
        if found is None:
            return Read(False, 0, None)
        return Read(found[1] is not None, found[2], found[1])

    @property
    def lines(self) -> list[bytes]:
        """All lines of the log machine."""
        return [line for _, line in self._lines]

    def lines_at(self, instance_id: int) -> int:
        """How many lines the log machine has on a member that applied through an instance."""
        return sum(1 for applied, _ in self._lines if applied <= instance_id)

    def _command(
        self, instance_id: int, index: int, batch: CommandBatch, number: int, command: bytes
    ) -> None:
        session = self._sessions.get(batch.session)
        if session is None:
            return
        session.lowest_open = max(session.lowest_open, batch.lowest_open)
        session.next_number = max(session.next_number, session.lowest_open)
        if session.lowest_open <= number < session.next_number:
            self.kept += 1
        elif number == session.next_number and batch.machine == WITHDRAWAL:
            session.next_number += 1
        elif number == session.next_number:
            result, is_error = self._execute(instance_id, batch.machine, command)
            session.commands[number] = command
            self.applied.add(command)
            self.places[instance_id, index] = batch.session, number
            session.outcomes[number] = Outcome(instance_id, index, result, is_error)
            session.next_number += 1

    def _execute(self, instance_id: int, machine: str, command: bytes) -> tuple[bytes | None, bool]:
        kind = self._kinds.get(machine)
        if kind == "log":
            self._lines.append((instance_id, command))
            return b"%d" % len(self._lines), False
        if kind != "kv":
            return None, True
        try:
            decoded = _decode_kv(command)
        except msgspec.DecodeError:
            return None, True
        if isinstance(decoded, Record):
            return _encode(Recorded()), False
        if not isinstance(decoded, Txn):
            return _encode(self._execute_kv(instance_id, decoded)), False
        held = all(self._holds(condition) for condition in decoded.conditions)
        chosen = decoded.then if held else decoded.otherwise
        results = tuple(self._execute_kv(instance_id, command) for command in chosen)
        return _encode(TxnDone(held, results)), False

    def _holds(self, condition: Condition) -> bool:
        entries = self._keys.get(condition.key)
        _, value, version = entries[-1] if entries else (0, None, 0)
        if isinstance(condition, HasValue):
            return value == condition.value
        return version == condition.version

    def _execute_kv(self, instance_id: int, command: KeyCommand) -> KeyResult:
        entries = self._keys.setdefault(command.key, [])
        value, version = (entries[-1][1], entries[-1][2]) if entries else (None, 0)
        match command:
            case Get():
                return Read(value is not None, version, value)
            case Cas(expected_version=expected) if expected != version:
                return Conflict(version)
            case Renew(expected_version=expected) if value is None or expected not in (0, version):
                return Conflict(version)
            case Renew(ttl_ms=ttl_ms):
                self._ends[command.key] = self.log_time_ns + ttl_ms * MILLISECOND_NS
                return Renewed(version)
            case Put() | Cas() | PutFor():
                entries.append((instance_id, command.value, version + 1))
            case Delete():
                entries.append((instance_id, None, version + 1))
        self._ends.pop(command.key, None)
        if isinstance(command, PutFor):
            self._ends[command.key] = self.log_time_ns + command.ttl_ms * MILLISECOND_NS
        return Written(version + 1, value is not None)

"""Drives a `MachineHost` the way a learner does: one value an instance, through its bytes."""

from __future__ import annotations

from ray_paxos.core.genesis import Configuration
from ray_paxos.core.results import EntryResult, decode_results, encode_results
from ray_paxos.core.values import (
    WITHDRAWAL,
    CommandBatch,
    Entry,
    MachineMount,
    SessionId,
    SessionOpen,
    Value,
    decode_value,
    encode_value,
)
from ray_paxos.errors import CommandError
from ray_paxos.machines.base import ApplyContext, StateMachine
from ray_paxos.machines.host import NOBODY, MachineHost
from ray_paxos.machines.registry import BUILT_IN, MachineRegistry
from ray_paxos.machines.sessions import LIMITS, SessionLimits


class Recorder(StateMachine):
    """Notes each command and where it stood; the result is the command reversed.

    `refuse...` raises CommandError after it was noted, `none...` returns nothing.
    """

    kind = "recorder"

    def __init__(self) -> None:
        self.applied: list[bytes] = []
        self.places: list[tuple[int, int, int, SessionId, int]] = []

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        self.applied.append(command)
        self.places.append(
            (
                context.instance_id,
                context.index,
                context.log_time_ns,
                context.session,
                context.number,
            )
        )
        if command.startswith(b"refuse"):
            raise CommandError(f"refused: {command.decode()}")
        return None if command.startswith(b"none") else command[::-1]

    def query(self, request: bytes) -> bytes:
        return b",".join(self.applied)


class GroupLog:
    """A log that grows by one value at a time, and the host that applies it."""

    def __init__(
        self,
        *classes: type[StateMachine],
        machine: str = "recorder",
        configuration: Configuration = NOBODY,
        limits: SessionLimits = LIMITS,
    ) -> None:
        """Mount `machine` (by its kind, under the same name) at instance 1."""
        registry = MachineRegistry((*BUILT_IN, Recorder, *classes))
        self.host = MachineHost(registry, group=1, configuration=configuration, limits=limits)
        self.values: list[Value] = []
        self.append(MachineMount(machine, machine, 1))

    def append(self, *entries: Entry, log_time_ns: int = 0) -> tuple[EntryResult, ...]:
        value = decode_value(encode_value(Value(log_time_ns, entries)))
        self.values.append(value)
        results = self.host.apply(len(self.values), value)
        # What is answered must survive the wire unchanged.
        assert decode_results(encode_results(results)) == results
        return results

    def open_session(self, *, log_time_ns: int = 0) -> SessionId:
        (result,) = self.append(SessionOpen("test"), log_time_ns=log_time_ns)
        assert not result.notes
        return SessionId(result.instance_id, result.index)

    def submit(
        self,
        session: SessionId,
        first_number: int,
        *commands: bytes,
        lowest_open: int = 1,
        machine: str = "recorder",
        log_time_ns: int = 0,
    ) -> EntryResult:
        batch = CommandBatch(session, lowest_open, first_number, machine, commands)
        (result,) = self.append(batch, log_time_ns=log_time_ns)
        return result

    def withdraw(self, session: SessionId, number: int, *, lowest_open: int = 1) -> EntryResult:
        return self.submit(session, number, b"", lowest_open=lowest_open, machine=WITHDRAWAL)

    def machine(self, name: str = "recorder") -> StateMachine:
        return self.host._machines[name]

    @property
    def applied(self) -> list[bytes]:
        machine = self.machine()
        assert isinstance(machine, Recorder)
        return machine.applied

"""What ends by itself in a group: when machines are told, and what the host says is due."""

from __future__ import annotations

import pytest

from ray_paxos.core.genesis import MachineSpec
from ray_paxos.core.values import CommandBatch, MachineMount
from ray_paxos.errors import ApplyStoppedError, ConfigurationError, QueryError
from ray_paxos.machines.base import ApplyContext, StateMachine
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.registry import MachineRegistry
from tests.unit.group_log import GroupLog


class Alarm(StateMachine):
    """A command is the log time of an alarm; notes what it was told, and when.

    Attributes:
        wrong: Returned as `due_ns`, or raised where it is an exception.
    """

    kind = "alarm"
    rung: tuple[tuple[int, int], ...] = ()
    at: int | None = None
    wrong: object = None
    breaks = False

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        if command == b"wrong":
            self.wrong = "soon"
        elif command == b"raise":
            self.wrong = ZeroDivisionError("by nothing")
        elif command == b"break":
            self.breaks = True
        else:
            self.at = int(command)
        return b"%d" % len(self.rung)

    @property
    def due_ns(self) -> int | None:
        if isinstance(self.wrong, Exception):
            raise self.wrong
        return self.wrong or self.at  # type: ignore[return-value]

    def on_due(self, context: ApplyContext) -> None:
        if self.breaks:
            raise ZeroDivisionError("by nothing")
        assert context.index == 0
        self.rung += ((context.instance_id, context.log_time_ns),)
        self.at = None

    def query(self, request: bytes) -> bytes:
        return b""


@pytest.fixture
def log() -> GroupLog:
    return GroupLog(Alarm, machine="alarm")


def alarm(log: GroupLog, name: str = "alarm") -> Alarm:
    machine = log.machine(name)
    assert isinstance(machine, Alarm)
    return machine


def test_it_ends_in_the_first_instance_that_is_so_late_before_its_commands(log: GroupLog) -> None:
    session = log.open_session()
    log.submit(session, 1, b"50", machine="alarm")
    assert log.host.due_ns == 50
    log.submit(session, 2, b"50", machine="alarm", log_time_ns=49)
    assert alarm(log).rung == ()
    result = log.submit(session, 3, b"70", machine="alarm", log_time_ns=50)
    assert result.results == (b"1",)
    assert alarm(log).rung == ((result.instance_id, 50),)
    assert log.host.due_ns == 70


def test_an_instance_without_entries_is_enough(log: GroupLog) -> None:
    session = log.open_session()
    log.submit(session, 1, b"50", machine="alarm")
    log.append(log_time_ns=60)
    assert alarm(log).rung == ((len(log.values), 60),)
    assert log.host.due_ns is None
    log.append(log_time_ns=61)
    assert len(alarm(log).rung) == 1


def test_the_earliest_of_all_machines_is_due_and_only_those_are_told(log: GroupLog) -> None:
    session = log.open_session()
    log.append(MachineMount("second", "alarm", 1), MachineMount("lines", "log", 1))
    log.append(
        CommandBatch(session, 1, 1, "alarm", (b"70",)),
        CommandBatch(session, 1, 2, "second", (b"50",)),
    )
    assert log.host.due_ns == 50
    log.append(log_time_ns=60)
    assert (alarm(log).rung, len(alarm(log, "second").rung)) == ((), 1)
    assert log.host.due_ns == 70


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (b"wrong", "due_ns is str"),
        (b"raise", "ZeroDivisionError"),
    ],
)
def test_a_machine_that_cannot_say_when_stops_the_group_here(
    log: GroupLog, command: bytes, message: str
) -> None:
    session = log.open_session()
    with pytest.raises(ApplyStoppedError, match=message):
        log.submit(session, 1, command, machine="alarm")
    with pytest.raises(QueryError, match="stopped"):
        log.host.query("alarm", b"")


def test_a_machine_that_fails_when_its_time_has_come_stops_the_group_here(log: GroupLog) -> None:
    session = log.open_session()
    log.submit(session, 1, b"50", b"break", machine="alarm")
    with pytest.raises(ApplyStoppedError, match="ZeroDivisionError"):
        log.append(log_time_ns=50)
    with pytest.raises(ApplyStoppedError):
        log.append(log_time_ns=51)


def test_a_restored_host_knows_what_is_due(log: GroupLog) -> None:
    session = log.open_session()
    log.submit(session, 1, b"50", machine="alarm")
    restored = MachineHost.restore(
        MachineRegistry((Alarm,)),
        group=1,
        state=log.host.state,
        sessions=list(log.host.export_sessions()),
        machines=[alarm(log)],
    )
    assert restored.mounted == (MachineSpec("alarm", "alarm", 1),)
    assert restored.due_ns == 50


def test_a_class_that_says_when_and_not_what_is_not_registered() -> None:
    class Silent(Alarm):
        kind = "silent"
        on_due = StateMachine.on_due

    with pytest.raises(ConfigurationError, match=r"Silent has `due_ns` and no `on_due`"):
        MachineRegistry((Silent,))

"""The judges themselves: what the histories' check and the clocks say of cases made by hand."""

from __future__ import annotations

import pytest

from ray_paxos.core.client_messages import Consistency, QueryResult
from ray_paxos.core.messages import Address, RoleName
from ray_paxos.core.parts import PartLeft
from ray_paxos.core.values import (
    MembershipEntry,
    MembershipKind,
    SessionId,
    Value,
    encode_value,
)
from ray_paxos.machines.base import ApplyContext
from ray_paxos.machines.kv import encode_get, encode_put
from ray_paxos.machines.kv_machine import KeyValueMachine
from ray_paxos.testing.client import Operation
from ray_paxos.testing.clock import MachineClock
from ray_paxos.testing.reads import Read
from ray_paxos.testing.recording import GroupRecording
from ray_paxos.testing.reference import Outcome
from ray_paxos.testing.scenario import Scenario
from ray_paxos.testing.violation import Violation
from ray_paxos.testing.workload import KV_MACHINE, LOG_MACHINE

SESSION = SessionId(1, 0)


def put(recording: GroupRecording, machine: KeyValueMachine, number: int, at_ns: int) -> None:
    """A put of a value of its own, from call to answer."""
    command = encode_put("key", b"%d" % number)
    operation = Operation(7, 0, SESSION, number, KV_MACHINE, command, at_ns)
    recording.called(operation)
    result = machine.apply(command, ApplyContext())
    operation.answered_ns = at_ns + 1
    operation.outcome = Outcome(number, 0, result, False)
    recording.acknowledged(operation)


def test_a_stale_read_is_not_linearizable():
    """Whatever instance its answer names."""
    recording, machine = GroupRecording(0), KeyValueMachine()
    put(recording, machine, 1, 10)
    stale = machine.query(encode_get("key"))
    put(recording, machine, 2, 20)
    assert recording.check() == 2
    read = Read(8, 0, KV_MACHINE, encode_get("key"), Consistency.LEASE)
    recording.read_called(read, 30)
    recording.read_answered(read, QueryResult(1, 2, stale), 31)
    with pytest.raises(Violation, match="linearizable: group 0"):
        recording.check()


def test_reads_in_turn_must_not_go_back():
    """Two reads see a write that nobody was acknowledged: first the new value, then the old one."""
    recording, machine = GroupRecording(0), KeyValueMachine()
    put(recording, machine, 1, 10)
    old = machine.query(encode_get("key"))
    command = encode_put("key", b"2")
    recording.called(Operation(7, 0, SESSION, 2, KV_MACHINE, command, 20))
    machine.apply(command, ApplyContext())
    new = machine.query(encode_get("key"))
    for number, seen in enumerate((old, new)):
        read = Read(8, 0, KV_MACHINE, encode_get("key"), Consistency.LINEARIZABLE)
        recording.read_called(read, 30 + number)
        recording.read_answered(read, QueryResult(1, 2, seen), 30 + number)
    assert recording.check() == 4
    read = Read(8, 0, KV_MACHINE, encode_get("key"), Consistency.LINEARIZABLE)
    recording.read_called(read, 40)
    recording.read_answered(read, QueryResult(1, 2, old), 41)
    with pytest.raises(Violation, match="linearizable"):
        recording.check()


def test_stale_reads_are_in_no_history():
    recording, machine = GroupRecording(0), KeyValueMachine()
    put(recording, machine, 1, 10)
    for consistency in (Consistency.STALE, Consistency.FOLLOWER):
        read = Read(8, 0, KV_MACHINE, encode_get("key"), consistency)
        recording.read_called(read, 30)
        assert read.history_id is None
    assert recording.check() == 1


def denied(line: bytes) -> Operation:
    return Operation(7, 0, SESSION, 0, LOG_MACHINE, line, 0, answered_ns=1, is_denied=True)


def test_what_is_certainly_not_applied_must_not_be_and_never_become_so():
    play = Scenario()
    play.stand("A")
    client = play.client()
    client.call("A", b"applied")
    checker = play.world.checker
    with pytest.raises(Violation, match="never will be"):
        checker.denied(denied(b"applied"))
    checker.denied(denied(b"another"))
    with pytest.raises(Violation, match="never will be"):
        client.call("A", b"another")


def test_a_result_at_a_place_where_nothing_was_applied_is_found():
    play = Scenario()
    play.stand("A")
    play.client().call("A", b"applied")
    operation = Operation(7, 0, SESSION, 0, LOG_MACHINE, b"applied", 0, answered_ns=1)
    operation.outcome = Outcome(99, 0, b"1", False)
    with pytest.raises(Violation, match="where nothing was applied"):
        play.world.checker.acknowledged_at_its_place(operation)
    operation.outcome = Outcome(3, 0, b"2", False)
    with pytest.raises(Violation, match="told Outcome"):
        play.world.checker.acknowledged_at_its_place(operation)


def test_only_as_a_replica_that_is_named_no_more_may_a_member_leave():
    """Removed and added again as another one, it may not have come to the second entry yet."""
    checker = Scenario().world.checker
    configurations = checker.ledgers[0].configurations
    first = configurations.current
    member_id = first.voters[-1].member_id
    learner = Address(member_id, RoleName.LEARNER)
    for instance_id, kind in ((5, MembershipKind.REMOVE), (7, MembershipKind.ADD)):
        entry = MembershipEntry(kind, member_id, configurations.current.config_id)
        configurations.chosen(instance_id, encode_value(Value(0, (entry,))))
    again = configurations.current.follower(member_id)
    assert again is not None
    with pytest.raises(Violation, match="leaves, and is named"):
        checker.wrote(learner, [PartLeft(0, again.replica_id)])
    checker.wrote(learner, [PartLeft(0, again.replica_id - 1)])


@pytest.mark.parametrize("drift_ppm", [-50_000, 0, 200, 50_000])
def test_a_clock_tells_when_it_will_show_a_time(drift_ppm):
    clock = MachineClock(1_000, drift_ppm)
    for jump_ns in (0, 5, 777_777_777):
        clock.jump(jump_ns)
        for local_ns in (clock.read(2_000) + 1, 10**9 + 7):
            when_ns = clock.when(local_ns)
            assert clock.read(when_ns) >= local_ns
            assert clock.read(when_ns - 1) < local_ns


def test_a_clock_that_jumps_never_goes_back():
    clock = MachineClock(0, 0)
    clock.jump(500)
    assert clock.read(100) == 600
    with pytest.raises(AssertionError):
        clock.jump(-1)

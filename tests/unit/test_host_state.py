"""A host taken apart for a checkpoint and put together again is the same host (R6)."""

from __future__ import annotations

import copy

import msgspec
import pytest

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.genesis import MachineSpec
from ray_paxos.core.values import MachineMount, MasterRecord
from ray_paxos.errors import ApplyStoppedError, CheckpointError
from ray_paxos.machines import kv
from ray_paxos.machines.base import ApplyContext, StateMachine
from ray_paxos.machines.host import HostState, MachineHost
from ray_paxos.machines.kv_machine import KeyValueMachine
from ray_paxos.machines.registry import BUILT_IN, MachineRegistry
from ray_paxos.machines.sessions import SessionLimits, SessionState
from tests.unit.group_log import GroupLog, Recorder

REGISTRY = MachineRegistry((*BUILT_IN, Recorder))
LIMITS = SessionLimits(3, 2, 1_000, 8, 10_000, 10_000)


def through_bytes(host: MachineHost) -> MachineHost:
    """Save and restore, without a disk."""
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(host.state), type=HostState)
    sessions = [
        msgspec.msgpack.decode(msgspec.msgpack.encode(each), type=SessionState)
        for each in host.export_sessions()
    ]
    machines = []
    for spec, machine in host.machines:
        fresh = REGISTRY.make(spec)
        vars(fresh).update(copy.deepcopy(vars(machine)))
        machines.append(fresh)
    return MachineHost.restore(
        REGISTRY, group=1, state=state, sessions=iter(sessions), machines=machines
    )


def busy_log() -> GroupLog:
    """Sessions with kept runs, errors, withdrawn numbers, evictions; two machines; a master."""
    log = GroupLog(limits=LIMITS)
    log.append(MachineMount("a map", "kv", 1))
    log.append(MasterRecord(Ballot(4, 11, 2)))
    gone = log.open_session(log_time_ns=5)
    log.submit(gone, 1, b"x", log_time_ns=6)
    first = log.open_session(log_time_ns=3_000)
    second = log.open_session(log_time_ns=3_000)
    log.submit(first, 1, b"one", b"refuse", b"none", log_time_ns=3_100)
    log.submit(second, 1, kv.encode_put("k", b"v"), machine="a map", log_time_ns=3_100)
    log.withdraw(first, 4)
    log.submit(first, 5, b"five", lowest_open=3, log_time_ns=3_200)
    log.submit(second, 2, b"missing", machine="nowhere", log_time_ns=3_200)
    assert log.host.evicted_sessions == 1
    return log


def test_a_restored_host_has_the_same_digest_and_gives_the_same_results():
    log = busy_log()
    restored = through_bytes(log.host)
    for name in (
        "applied_through",
        "log_time_ns",
        "master",
        "master_version",
        "mounted",
        "session_count",
        "evicted_sessions",
        "state",
    ):
        assert getattr(restored, name) == getattr(log.host, name), name
    assert restored.digest() == log.host.digest()
    # Whatever comes next: kept results, gaps, evictions, another mount.
    replay = GroupLog(limits=LIMITS)
    replay.host, replay.values = restored, list(log.values)

    def go_on(each: GroupLog) -> list[object]:
        session = next(iter(each.host.export_sessions())).session
        return [
            each.submit(session, 3, b"again", b"again"),
            each.submit(session, 9, b"gap"),
            each.append(MachineMount("third", "log", 1)),
            each.open_session(log_time_ns=9_000),
            each.open_session(log_time_ns=9_000),
            each.host.digest(),
        ]

    assert go_on(log) == go_on(replay)


def test_an_empty_host_comes_back():
    host = MachineHost(REGISTRY, group=1)
    assert through_bytes(host).digest() == host.digest()


def test_machines_come_in_the_order_of_mounting():
    log = busy_log()
    assert [spec.name for spec, _ in log.host.machines] == ["recorder", "a map"]
    assert tuple(spec for spec, _ in log.host.machines) == log.host.mounted
    with pytest.raises(ValueError, match="zip"):
        MachineHost.restore(REGISTRY, group=1, state=log.host.state, sessions=(), machines=())


class Broken(StateMachine):
    kind = "broken"

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        raise KeyError("broken")

    def query(self, request: bytes) -> bytes:
        return b""


def test_a_host_that_stopped_gives_no_state():
    log = GroupLog(Broken, machine="broken")
    session = log.open_session()
    with pytest.raises(ApplyStoppedError):
        log.submit(session, 1, b"x", machine="broken")
    with pytest.raises(ApplyStoppedError):
        _ = log.host.state


def test_a_registry_makes_what_was_mounted_or_names_what_it_lacks():
    assert isinstance(REGISTRY.make(MachineSpec("m", "kv", 1)), KeyValueMachine)
    for spec in (MachineSpec("m", "kv", 2), MachineSpec("m", "other", 1)):
        with pytest.raises(CheckpointError, match=f"'m' is of kind '{spec.kind}' version"):
            REGISTRY.make(spec)

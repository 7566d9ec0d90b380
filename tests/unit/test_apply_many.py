"""Runs of commands that a machine executes in one go: the same as one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.core.results import NoteCode
from ray_paxos.core.values import MachineMount
from ray_paxos.errors import ApplyStoppedError, CommandError
from ray_paxos.machines import batches, kv, kv_machine
from ray_paxos.machines.base import ApplyContext, StateMachine
from ray_paxos.machines.kv_machine import KeyValueMachine
from tests.unit.group_log import GroupLog


class OneByOne(KeyValueMachine):
    """Overrides `apply` alone, so it is executed by that."""

    kind = "one by one"

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        return super().apply(command, context)


class Run(StateMachine):
    """Returns from `apply_many` what the test wants; else counts."""

    kind = "run"
    returns: Sequence[object] = ()

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, bytes]] = []

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        if command == b"refuse":
            raise CommandError("no")
        self.seen.append((context.index, context.number, command))
        return command

    def apply_many(
        self, commands: Sequence[bytes], context: ApplyContext, bytes_max: int
    ) -> Sequence[bytes | None]:
        assert commands
        for offset, command in enumerate(commands[: len(self.returns)]):
            self.seen.append((context.index + offset, context.number + offset, command))
        return self.returns  # type: ignore[return-value]

    def query(self, request: bytes) -> bytes:
        return repr(self.seen).encode()


keys = st.sampled_from(["a", "b", "c"])
small = st.binary(max_size=8)
commands = st.one_of(
    st.builds(kv.encode_put, keys, small),
    st.builds(kv.encode_put, keys, small),
    st.builds(kv.encode_get, keys),
    st.builds(kv.encode_delete, keys),
    st.builds(kv.encode_cas, keys, small, st.integers(0, 4)),
    st.builds(kv.encode_put_for, keys, small, st.integers(-1, 4)),
    st.builds(kv.encode_renew, keys, st.integers(0, 4), st.integers(0, 2)),
    st.builds(
        kv.encode_txn,
        st.lists(st.builds(kv.HasVersion, keys, st.integers(0, 3)), max_size=2),
        st.lists(st.builds(kv.Put, keys, small), max_size=2),
        st.lists(st.builds(kv.Delete, keys), max_size=2),
    ),
    st.sampled_from([b"", b"junk", kv.encode_dump(), kv.encode_put("a", b"") * 2]),
)


@settings(deadline=None, max_examples=150)
@given(
    runs=st.lists(st.lists(commands, min_size=1, max_size=12), max_size=6),
    versions=st.sampled_from([2, 4, 1_024]),
    bytes_max=st.sampled_from([40, 200, 4_000_000]),
)
def test_kv_comes_to_the_same_in_one_go_and_one_by_one(
    runs: list[list[bytes]], versions: int, bytes_max: int
) -> None:
    log = GroupLog(OneByOne)
    log.append(MachineMount("fast", "kv", 1), MachineMount("slow", "one by one", 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kv_machine, "VERSIONS", versions)
        patch.setattr(batches, "RESULT_BYTES_MAX", bytes_max)
        fast, slow = log.open_session(), log.open_session()
        number = 1
        for run in runs:
            one = log.submit(fast, number, *run, machine="fast")
            other = log.submit(slow, number, *run, machine="slow")
            assert one.results == other.results
            assert [(n.code, n.message) for n in one.notes.values()] == [
                (n.code, n.message) for n in other.notes.values()
            ]
            assert list(one.notes) == list(other.notes)
            number += len(run) - sum(n.code is NoteCode.GAP for n in one.notes.values())
    machines = {spec.name: machine for spec, machine in log.host.machines}
    assert machines["fast"].digest() == machines["slow"].digest()
    sessions = [log.host._sessions.use(session, 0) for session in (fast, slow)]
    assert sessions[0] is not None
    assert sessions[1] is not None
    assert sessions[0].kept_bytes == sessions[1].kept_bytes


def test_puts_are_executed_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: KeyValueMachine, command: bytes, context: ApplyContext) -> bytes | None:
        raise AssertionError("one by one")

    log = GroupLog()
    log.append(MachineMount("fast", "kv", 1))
    session = log.open_session()
    monkeypatch.setattr(KeyValueMachine, "apply", never)
    puts = [kv.encode_put(key, b"v") for key in ("a", "b", "a")]
    results = log.submit(session, 1, *puts, machine="fast").results
    assert [kv.decode_result(result or b"") for result in results] == [
        kv.Written(1, False),
        kv.Written(1, False),
        kv.Written(2, True),
    ]


def test_a_subclass_that_overrides_apply_alone_is_executed_by_that() -> None:
    class Shouting(KeyValueMachine):
        kind = "shouting"

        def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
            return b"done"

    log = GroupLog(Shouting)
    log.append(MachineMount("loud", "shouting", 1))
    puts = [kv.encode_put("a", b"v")] * 2
    assert log.submit(log.open_session(), 1, *puts, machine="loud").results == (b"done",) * 2


def test_a_result_over_the_limit_is_an_error_in_one_go_too(monkeypatch: pytest.MonkeyPatch) -> None:
    log = GroupLog(OneByOne)
    log.append(MachineMount("fast", "kv", 1), MachineMount("slow", "one by one", 1))
    monkeypatch.setattr(batches, "RESULT_BYTES_MAX", 300)
    found = []
    for machine in ("fast", "slow"):
        session = log.open_session()
        log.submit(session, 1, kv.encode_put("a", bytes(400)), machine=machine)
        gets = (kv.encode_get("b"), kv.encode_get("a"), kv.encode_get("b"))
        result = log.submit(session, 2, *gets, machine=machine)
        assert result.notes[1].code is NoteCode.ERROR
        assert "over 300 bytes" in result.notes[1].message
        found.append((result.results, [(n.code, n.message) for n in result.notes.values()]))
    assert found[0] == found[1]


@pytest.fixture
def log() -> GroupLog:
    log = GroupLog(Run)
    log.append(MachineMount("run", "run", 1))
    return log


def test_what_a_run_leaves_is_executed_one_by_one(
    log: GroupLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "returns", (b"x", None))
    session = log.open_session()
    result = log.submit(session, 1, b"a", b"b", b"refuse", b"d", machine="run")
    assert result.results == (b"x", None, None, b"d")
    assert {at: note.code for at, note in result.notes.items()} == {2: NoteCode.ERROR}
    assert log.host.query("run", b"") == repr([(0, 1, b"a"), (1, 2, b"b"), (3, 4, b"d")]).encode()


@pytest.mark.parametrize(
    ("returns", "why"),
    [
        ((b"1", b"2", b"3"), "3 results of 2 commands"),
        (("text",), "str, not bytes"),
        ((bytearray(b"x"), b""), "bytearray, not bytes"),
        ((bytes(70), bytes(60)), None),
        ((bytes(101), b""), "went on behind 100 bytes"),
    ],
)
def test_a_run_that_returns_what_it_must_not_stops_applying(
    log: GroupLog, monkeypatch: pytest.MonkeyPatch, returns: Sequence[object], why: str | None
) -> None:
    monkeypatch.setattr(Run, "returns", returns)
    monkeypatch.setattr(batches, "RESULT_BYTES_MAX", 100)
    session = log.open_session()
    if why is None:
        assert log.submit(session, 1, b"a", b"b", machine="run").results == tuple(returns)
        return
    with pytest.raises(ApplyStoppedError, match=why):
        log.submit(session, 1, b"a", b"b", machine="run")

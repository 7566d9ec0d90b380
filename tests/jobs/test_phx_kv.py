"""PhxKV's machine against a model, its checkpoints, and its client against masters that move."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import phx_kv_client
from phx_kv_client import CALLS_MAX, Answer, PhxKv, group_of, keys_of
from phx_kv_machine import FILE, Delete, PhxKvMachine, Put, Reply, Status
from ray_paxos import ApplyContext, CommandError, Master, QueryError
from ray_paxos.machines.registry import MachineRegistry

KEYS = st.sampled_from(["a", "b", "\u00fc"])
VERSIONS = st.integers(0, 4)
COMMANDS = st.one_of(
    st.builds(Put, KEYS, st.binary(max_size=3), VERSIONS), st.builds(Delete, KEYS, VERSIONS)
)


def apply(machine: PhxKvMachine, command: Put | Delete) -> Reply:
    result = machine.apply(msgspec.msgpack.encode(command), ApplyContext())
    return msgspec.msgpack.decode(result, type=Reply)


def get(machine: PhxKvMachine, key: str) -> Reply:
    return msgspec.msgpack.decode(machine.query(key.encode()), type=Reply)


@settings(deadline=None)
@given(st.lists(COMMANDS, max_size=30))
def test_versions_are_as_in_a_model(commands: list[Put | Delete]) -> None:
    machine = PhxKvMachine()
    versions: dict[str, int] = {}
    values: dict[str, bytes] = {}
    for command in commands:
        found = versions.get(command.key, 0)
        reply = apply(machine, command)
        if command.version != found:
            assert reply == Reply(Status.VERSION_CONFLICT, found)
            continue
        assert reply == Reply(Status.SUCCESS, found + 1)
        versions[command.key] = found + 1
        values.pop(command.key, None)
        if isinstance(command, Put):
            values[command.key] = command.value
    for key in ("a", "b", "\u00fc", "never"):
        is_there = key in values
        status = Status.SUCCESS if is_there else Status.KEY_MISSING
        assert get(machine, key) == Reply(status, versions.get(key, 0), values.get(key))


def test_a_deleted_key_is_written_again_from_its_own_version() -> None:
    machine = PhxKvMachine()
    assert apply(machine, Delete("k", 0)) == Reply(Status.SUCCESS, 1), "works where nothing was"
    assert apply(machine, Put("k", b"v", 0)) == Reply(Status.VERSION_CONFLICT, 1)
    assert apply(machine, Put("k", b"", 1)) == Reply(Status.SUCCESS, 2)
    assert get(machine, "k") == Reply(Status.SUCCESS, 2, b""), "an empty value is one"


@pytest.mark.parametrize("command", [b"", b"x", msgspec.msgpack.encode(["put", "k"])])
def test_what_is_no_command_is_refused_and_changes_nothing(command: bytes) -> None:
    machine = PhxKvMachine()
    apply(machine, Put("k", b"v", 0))
    before = machine.digest()
    with pytest.raises(CommandError):
        machine.apply(command, ApplyContext())
    with pytest.raises(QueryError):
        machine.query(b"\xff")
    assert machine.digest() == before


@settings(deadline=None)
@given(st.lists(COMMANDS, max_size=20))
def test_a_checkpoint_holds_everything(commands: list[Put | Delete]) -> None:
    machine, other = PhxKvMachine(), PhxKvMachine()
    for command in commands:
        apply(machine, command)
    apply(other, Put("of another life", b"x", 0))
    with tempfile.TemporaryDirectory() as folder:
        machine.save(Path(folder))
        other.load(Path(folder))
    assert other.digest() == machine.digest()
    assert all(get(other, key) == get(machine, key) for key in ("a", "b", "\u00fc", "x"))
    assert get(other, "of another life").version == 0


def test_a_checkpoint_of_another_format_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(msgspec.msgpack.encode(("phx_kv 2", [])))
    machine = PhxKvMachine()
    apply(machine, Put("k", b"v", 0))
    with pytest.raises(ValueError, match="found format 'phx_kv 2'; allowed: 'phx_kv 1'"):
        machine.load(tmp_path)
    assert get(machine, "k").version == 1


def test_a_digest_does_not_tell_in_which_order_keys_were_written() -> None:
    one, other = PhxKvMachine(), PhxKvMachine()
    for machine, keys in ((one, "ab"), (other, "ba")):
        for key in keys:
            apply(machine, Put(key, key.encode(), 0))
    assert one.digest() == other.digest()


def test_it_is_found_by_its_name() -> None:
    assert MachineRegistry().find("phx_kv_machine:PhxKvMachine", 1) is PhxKvMachine


def test_the_group_is_that_of_the_hash_of_phx_kv() -> None:
    # h = h * 7 + byte, of 32 bits, modulo 3.
    assert group_of("") == 1
    assert group_of("a") == 1 + 97 % 3
    assert group_of("ab") == 1 + (97 * 7 + 98) % 3
    expected = 0
    for length in range(1, 40):
        expected = (expected * 7 + ord("z")) % (1 << 32)
        assert group_of("z" * length) == 1 + expected % 3
    assert all(group_of(key) == 2 for key in keys_of(2, 20))
    assert len(set(keys_of(2, 20))) == 20


class Masters:
    """Stands for a cluster whose masters move, with one machine for all groups."""

    def __init__(self, *masters: str) -> None:
        self.members = ("m1", "m2", "m3")
        self.machine = PhxKvMachine()
        self.closed = 0
        self._masters = list(masters)

    def master(self, group: int) -> Master | None:
        """Each time it is asked the next one, and at last the last one."""
        name = self._masters.pop(0) if len(self._masters) > 1 else self._masters[0]
        return Master(name, 1) if name else None

    def client(self, group: int, *, label: str) -> Masters:
        return self

    def __enter__(self) -> Masters:
        return self

    def __exit__(self, *error: object) -> None:
        self.closed += 1

    def propose(self, command: bytes, machine: str) -> Any:
        assert machine == phx_kv_client.MACHINE
        return type("Result", (), {"value": self.machine.apply(command, ApplyContext())})

    def query(self, request: bytes, machine: str, *, consistency: str) -> bytes:
        return self.machine.query(request)


def opened(*masters: str) -> tuple[PhxKv, Masters]:
    cluster: Any = Masters(*masters)
    return PhxKv(cluster), cluster


def test_a_client_follows_redirects_and_remembers_the_master() -> None:
    kv, cluster = opened("m3")
    with kv:
        assert kv.put("k", b"v", 0) == Answer(Status.SUCCESS, 1)
        assert kv.redirects == 1
        assert kv.get_global("k") == Answer(Status.SUCCESS, 1, b"v")
        assert kv.delete("k", 1) == Answer(Status.SUCCESS, 2)
        assert kv.redirects == 1, "it knows whom to ask"
    assert cluster.closed == 3


def test_a_client_gives_up_where_the_master_runs_away() -> None:
    kv, cluster = opened("m2", "m3", "m1", "m2", "m3")
    assert kv.put("k", b"v", 0) == Answer(Status.FAILED)
    assert kv.redirects == CALLS_MAX
    assert get(cluster.machine, "k").version == 0, "nobody did it"


def test_without_a_master_the_status_says_so() -> None:
    kv, cluster = opened("")
    assert kv.put("k", b"v", 0) == Answer(Status.NO_MASTER)
    assert kv.get_global("k").status is Status.NO_MASTER
    assert kv.get_local("k").status is Status.KEY_MISSING, "a local get takes no master"
    assert get(cluster.machine, "k").version == 0


def test_a_local_get_refuses_what_is_older_than_asked() -> None:
    kv, _ = opened("m1")
    kv.put("k", b"v", 0)
    assert kv.get_local("k", version_min=1) == Answer(Status.SUCCESS, 1, b"v")
    assert kv.get_local("k", version_min=2) == Answer(Status.VERSION_TOO_OLD, 1)


def test_only_the_master_answers() -> None:
    kv, cluster = opened("m2")
    for name, service in kv.services.items():
        answer = service.put("k", name.encode(), 0)
        is_master = name == "m2"
        assert answer.status is (Status.SUCCESS if is_master else Status.MASTER_REDIRECT)
        assert answer.master == ("" if is_master else "m2")
    assert get(cluster.machine, "k").value == b"m2"

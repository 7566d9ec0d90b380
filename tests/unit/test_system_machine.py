"""The system group's machine: commands, the one query, saving, digests."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from ray_paxos.core.genesis import GroupSpec, MachineSpec, MemberSpec, Voter
from ray_paxos.core.wanted import (
    GroupState,
    MemberState,
    SpaceState,
    Wanted,
    WantedGroup,
    WantedMember,
    decode_wanted,
    encode_wanted,
)
from ray_paxos.core.wanted_changes import (
    Begin,
    Change,
    DrainMember,
    DropGroup,
    DropSpace,
    GroupDropped,
    GroupMade,
    JoinMember,
    LeaveMember,
    MakeGroup,
    MakeSpace,
    MemberJoined,
    MemberLeft,
    PlaceGroup,
    RaiseVersion,
    StayMember,
    encode_change,
)
from ray_paxos.errors import CommandError, QueryError
from ray_paxos.machines.base import DIGEST_BYTES, ApplyContext
from ray_paxos.machines.system import SYSTEM_MACHINE, SystemMachine

CONTEXT = ApplyContext(1, 0)
SPECS = tuple(MemberSpec(name, 11 + n) for n, name in enumerate("abc"))
VOTERS = tuple(Voter(spec.member_id, n) for n, spec in enumerate(SPECS, start=1))


def group(number: int) -> WantedGroup:
    return WantedGroup(
        GroupSpec(number, VOTERS, (MachineSpec("kv", "kv", 1),)), GroupState.PRESENT, 3
    )


BEGIN = Begin(
    tuple(WantedMember(spec, MemberState.PRESENT) for spec in SPECS), (group(0), group(1))
)
JOIN_D = JoinMember(WantedMember(MemberSpec("d", 14), MemberState.JOINING, "node-d"))
ALL_WELL: tuple[Change, ...] = (
    BEGIN,
    JOIN_D,
    MemberJoined("d"),
    MakeGroup(group(7)),
    GroupMade(7),
    PlaceGroup(7, ("a", "b", "d")),
    DrainMember("c"),
    StayMember("c"),
    LeaveMember("c"),
    MemberLeft("c"),
    MakeSpace("keys", (1, 7)),
    DropSpace("keys"),
    DropGroup(7),
    GroupDropped(7),
    RaiseVersion(2, 14),
)


@pytest.fixture
def machine() -> SystemMachine:
    return SystemMachine()


def apply(machine: SystemMachine, *changes: Change) -> list[bytes | None]:
    return [machine.apply(encode_change(change), CONTEXT) for change in changes]


def wanted_of(machine: SystemMachine) -> Wanted:
    return decode_wanted(machine.query(b""))


def test_its_name_stands_in_logs() -> None:
    assert (SYSTEM_MACHINE, SystemMachine.kind, SystemMachine.version) == ("system", "system", 1)


def test_it_wants_nothing_at_first(machine: SystemMachine) -> None:
    assert wanted_of(machine) == Wanted()


def test_each_change_is_answered_by_the_version(machine: SystemMachine) -> None:
    results = apply(machine, *ALL_WELL)
    assert results == [b"%d" % version for version in range(1, len(ALL_WELL) + 1)]
    wanted = wanted_of(machine)
    assert wanted.version == len(ALL_WELL)
    assert wanted.members["c"].state is MemberState.GONE
    assert wanted.groups[7].state is GroupState.GONE
    assert wanted.cluster_version == 2
    assert wanted.spaces["keys"].state is SpaceState.GONE


def test_a_change_that_comes_twice_is_answered_alike(machine: SystemMachine) -> None:
    assert apply(machine, BEGIN, JOIN_D) == [b"1", b"2"]
    assert apply(machine, JOIN_D, BEGIN) == [b"2", b"2"]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"leave a", id="text"),
        pytest.param(b"\x92\xa5leave\xa1\xff", id="not-utf-8"),
        pytest.param(b"\x92\xa5leave\xa1a\x00", id="trailing"),
        pytest.param(b"\x93\xa5leave\xa1a" + b"\x91" * 100_000 + b"\x90", id="deep"),
        pytest.param(encode_change(LeaveMember("x")), id="unknown-member"),
        pytest.param(encode_change(DropGroup(0)), id="system-group"),
    ],
)
def test_a_bad_command_is_refused_and_changes_nothing(
    machine: SystemMachine, command: bytes
) -> None:
    apply(machine, BEGIN)
    before, digest = machine.query(b""), machine.digest()
    with pytest.raises(CommandError):
        machine.apply(command, CONTEXT)
    assert machine.query(b"") == before
    assert machine.digest() == digest


def test_bytes_that_mean_nothing_are_refused_in_our_own_words(machine: SystemMachine) -> None:
    """The decoder's may differ between two members' releases, and results are compared."""
    for command in (b"", b"\xc1", b"\x92\xa5leave\x01"):
        with pytest.raises(CommandError, match=r"^not a change of what is wanted$"):
            machine.apply(command, CONTEXT)


def test_there_is_one_query(machine: SystemMachine) -> None:
    with pytest.raises(QueryError):
        machine.query(b"members")


def test_a_query_changes_nothing(machine: SystemMachine) -> None:
    apply(machine, BEGIN)
    digest = machine.digest()
    machine.query(b"")
    assert machine.digest() == digest


def test_what_is_saved_is_loaded(machine: SystemMachine, tmp_path: Path) -> None:
    apply(machine, *ALL_WELL[:7])
    machine.save(tmp_path)
    other = SystemMachine()
    apply(other, BEGIN, LeaveMember("a"))
    other.load(tmp_path)
    assert other.query(b"") == machine.query(b"")
    assert other.digest() == machine.digest()
    assert apply(other, *ALL_WELL[7:]) == apply(machine, *ALL_WELL[7:])
    assert other.digest() == machine.digest()


def test_what_is_saved_is_in_one_form(machine: SystemMachine, tmp_path: Path) -> None:
    apply(machine, *ALL_WELL)
    machine.save(tmp_path)
    (path,) = tmp_path.iterdir()
    assert path.read_bytes() == encode_wanted(wanted_of(machine))


def test_a_damaged_file_is_not_loaded(machine: SystemMachine, tmp_path: Path) -> None:
    apply(machine, BEGIN)
    machine.save(tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    other = SystemMachine()
    with pytest.raises(msgspec.DecodeError):
        other.load(tmp_path)
    assert wanted_of(other) == Wanted()


def test_the_digest_tells_states_apart(machine: SystemMachine) -> None:
    digests = [machine.digest()]
    for change in ALL_WELL:
        apply(machine, change)
        digests.append(machine.digest())
    assert len(set(digests)) == len(digests)
    assert {len(digest) for digest in digests} == {DIGEST_BYTES}


@pytest.mark.parametrize("seed", range(5))
def test_all_members_come_to_the_same(seed: int, tmp_path: Path) -> None:
    """Also one that begins from a checkpoint, and wherever in the log a command stands."""
    randomness = random.Random(seed)
    commands = [encode_change(change) for change in ALL_WELL] + [b"", b"\xc1"]
    first, second = SystemMachine(), SystemMachine()
    for number in range(200):
        command = randomness.choice(commands) if number else commands[0]
        outcomes = []
        for machine, context in ((first, CONTEXT), (second, ApplyContext(number, 3, number))):
            try:
                outcomes.append(machine.apply(command, context))
            except CommandError as error:
                outcomes.append(str(error).encode())
        assert outcomes[0] == outcomes[1]
        assert first.digest() == second.digest()
        if number % 50 == 25:
            folder = tmp_path / str(number)
            folder.mkdir()
            second.save(folder)
            second = SystemMachine()
            second.load(folder)

"""The key-value machine: versions, tombstones, compare-and-set, paging, saving."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.errors import CommandError, QueryError
from ray_paxos.machines import kv
from ray_paxos.machines.base import ApplyContext
from ray_paxos.machines.kv import Conflict, KeyEntry, KeyValueMachine, Page, Read, Written

HDFS = Path(__file__).parents[3] / "shared" / "data" / "hdfs_commands.jsonl"
CONTEXT = ApplyContext(1, 0)


@pytest.fixture
def machine() -> KeyValueMachine:
    return KeyValueMachine()


def apply(machine: KeyValueMachine, command: bytes) -> kv.KvResult:
    result = machine.apply(command, CONTEXT)
    assert result is not None
    return kv.decode_result(result)


def dump(machine: KeyValueMachine, **limits: object) -> Page:
    return kv.decode_page(machine.query(kv.encode_dump(**limits)))  # type: ignore[arg-type]


def state(machine: KeyValueMachine) -> dict[str, tuple[bytes | None, int]]:
    return dict(machine._entries)


def test_a_version_counts_the_writes_of_its_key(machine: KeyValueMachine) -> None:
    assert apply(machine, kv.encode_put("a", b"1")) == Written(1, replaced=False)
    assert apply(machine, kv.encode_put("a", b"2")) == Written(2, replaced=True)
    assert apply(machine, kv.encode_put("b", b"1")) == Written(1, replaced=False)
    assert apply(machine, kv.encode_get("a")) == Read(True, 2, b"2")
    assert apply(machine, kv.encode_get("a")) == Read(True, 2, b"2")
    assert apply(machine, kv.encode_cas("a", b"3", 2)) == Written(3, replaced=True)
    assert apply(machine, kv.encode_delete("a")) == Written(4, replaced=True)


def test_a_get_tells_absent_from_deleted(machine: KeyValueMachine) -> None:
    assert apply(machine, kv.encode_get("a")) == Read(False, 0, None)
    apply(machine, kv.encode_put("a", b"1"))
    apply(machine, kv.encode_delete("a"))
    assert apply(machine, kv.encode_get("a")) == Read(False, 2, None)
    assert kv.decode_result(machine.query(kv.encode_get("a"))) == Read(False, 2, None)
    assert kv.decode_result(machine.query(kv.encode_get("b"))) == Read(False, 0, None)


def test_a_tombstone_keeps_and_raises_the_version(machine: KeyValueMachine) -> None:
    assert apply(machine, kv.encode_delete("a")) == Written(1, replaced=False)
    assert apply(machine, kv.encode_delete("a")) == Written(2, replaced=False)
    assert apply(machine, kv.encode_put("a", b"1")) == Written(3, replaced=False)
    apply(machine, kv.encode_delete("a"))
    # A version that was seen before the delete never fits again.
    for stale in (0, 1, 2, 3):
        assert apply(machine, kv.encode_cas("a", b"x", stale)) == Conflict(4)
    assert apply(machine, kv.encode_cas("a", b"x", 4)) == Written(5, replaced=False)


def test_cas_expects_the_stored_version(machine: KeyValueMachine) -> None:
    assert apply(machine, kv.encode_cas("a", b"x", 1)) == Conflict(0)
    assert apply(machine, kv.encode_get("a")) == Read(False, 0, None)
    assert apply(machine, kv.encode_cas("a", b"x", 0)) == Written(1, replaced=False)
    assert apply(machine, kv.encode_cas("a", b"y", 0)) == Conflict(1)
    assert apply(machine, kv.encode_cas("a", b"y", -1)) == Conflict(1)
    assert apply(machine, kv.encode_get("a")) == Read(True, 1, b"x")


def test_an_empty_value_and_an_empty_key_are_a_value_and_a_key(machine: KeyValueMachine) -> None:
    apply(machine, kv.encode_put("", b""))
    assert apply(machine, kv.encode_get("")) == Read(True, 1, b"")
    assert dump(machine) == Page((KeyEntry("", b"", 1),), None)


def test_wire_forms_are_plain_msgpack_arrays(machine: KeyValueMachine) -> None:
    # Other languages speak these; they stay.
    pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode
    assert kv.encode_put("k", b"v") == pack(["put", "k", b"v"])
    assert kv.encode_get("k") == pack(["get", "k"])
    assert kv.encode_delete("k") == pack(["delete", "k"])
    assert kv.encode_cas("k", b"v", 3) == pack(["cas", "k", b"v", 3])
    assert kv.encode_dump("p", "k", 5) == pack(["dump", "p", "k", 5])
    written = machine.apply(kv.encode_put("k", b"v"), CONTEXT)
    assert written is not None
    assert unpack(written) == ["written", 1, False]
    read = machine.apply(kv.encode_get("k"), CONTEXT)
    assert read is not None
    assert unpack(read) == ["read", True, 1, b"v"]
    conflict = machine.apply(kv.encode_cas("k", b"v", 9), CONTEXT)
    assert conflict is not None
    assert unpack(conflict) == ["conflict", 1]
    page = machine.query(kv.encode_dump())
    assert unpack(page) == ["page", [["k", b"v", 1]], None]


# What is no command.

BAD_COMMANDS = [
    b"",
    b"\xc1",
    b"put",
    msgspec.msgpack.encode(["put", "k"]),
    msgspec.msgpack.encode(["put", "k", "text"]),
    msgspec.msgpack.encode(["put", "k", b"v", "of a later version"]),
    msgspec.msgpack.encode(["increment", "k"]),
    msgspec.msgpack.encode({"op": "put"}),
    b"\x93\xa3put\xa1\xff\xc4\x01v",  # the key is not UTF-8
    b"\x92\xa3\xff\xff\xff\xa1k",  # nor is the name
    kv.encode_put("k", b"v") + b"\x00",
    kv.encode_put("k", b"v")[:-1],
    b"\x91" * 100_000,
    kv.encode_dump(),
]


@pytest.mark.parametrize("command", BAD_COMMANDS, ids=range(len(BAD_COMMANDS)))
def test_an_undecodable_command_is_refused_with_one_text(
    machine: KeyValueMachine, command: bytes
) -> None:
    apply(machine, kv.encode_put("k", b"before"))
    before = machine.digest()
    # The decoder's own text may change with its version: it would tell members apart.
    with pytest.raises(CommandError, match=r"^not a command of the kv machine$"):
        machine.apply(command, CONTEXT)
    assert machine.digest() == before


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_damaged_commands_are_refused_or_are_commands(data: st.DataObject) -> None:
    machine = KeyValueMachine()
    sound = data.draw(
        st.sampled_from([kv.encode_put("kä", b"xy"), kv.encode_cas("k", b"v", 1), b"\x92"])
    )
    damaged = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        result = machine.apply(bytes(damaged), CONTEXT)
    except CommandError:
        return
    assert result is not None
    kv.decode_result(result)


# Against the obvious implementation.

KEYS = st.sampled_from(["a", "b", "é", "\U0001f600", ""])
COMMANDS = st.lists(
    st.one_of(
        st.builds(kv.Put, KEYS, st.binary(max_size=4)),
        st.builds(kv.Get, KEYS),
        st.builds(kv.Delete, KEYS),
        st.builds(kv.Cas, KEYS, st.binary(max_size=4), st.integers(0, 4)),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(COMMANDS)
def test_behaves_like_two_dictionaries(commands: list[kv.KvCommand]) -> None:
    machine = KeyValueMachine()
    values: dict[str, bytes] = {}
    versions: dict[str, int] = {}
    for command in commands:
        version = versions.get(command.key, 0)
        live = command.key in values
        expected: kv.KvResult
        if isinstance(command, kv.Get):
            expected = Read(live, version, values.get(command.key))
        elif isinstance(command, kv.Cas) and command.expected_version != version:
            expected = Conflict(version)
        else:
            expected = Written(version + 1, live)
            versions[command.key] = version + 1
            if isinstance(command, kv.Delete):
                values.pop(command.key, None)
            else:
                values[command.key] = command.value
        assert apply(machine, msgspec.msgpack.encode(command)) == expected
    entries = tuple(KeyEntry(key, values[key], versions[key]) for key in sorted(values))
    assert dump(machine) == Page(entries, None)


@pytest.mark.skipif(not HDFS.exists(), reason="the shared data is not beside the repository")
def test_real_commands_give_what_a_plain_replay_gives(machine: KeyValueMachine) -> None:
    values: dict[str, tuple[bytes, int]] = {}
    versions: dict[str, int] = {}
    for line in HDFS.read_text().splitlines():
        command = json.loads(line)
        key, version = command["key"], versions.get(command["key"], 0)
        if command["op"] == "put":
            apply(machine, kv.encode_put(key, command["value"].encode()))
            versions[key] = version + 1
            values[key] = (command["value"].encode(), version + 1)
        elif command["op"] == "delete":
            apply(machine, kv.encode_delete(key))
            versions[key] = version + 1
            values.pop(key, None)
        else:
            result = apply(machine, kv.encode_get(key))
            assert result == Read(key in values, version, values.get(key, (None,))[0])
    assert dump(machine).entries == tuple(KeyEntry(key, *values[key]) for key in sorted(values))


# Dumps.


def fill(machine: KeyValueMachine, *keys: str) -> None:
    for key in keys:
        apply(machine, kv.encode_put(key, key.encode()))


def all_pages(machine: KeyValueMachine, **limits: object) -> tuple[list[str], int]:
    keys: list[str] = []
    after_key: str | None = None
    pages = 0
    while True:
        page = dump(machine, after_key=after_key, **limits)
        keys += [entry.key for entry in page.entries]
        pages += 1
        assert pages <= 20
        if page.next_after is None:
            return keys, pages
        after_key = page.next_after


def test_a_dump_holds_live_keys_in_order(machine: KeyValueMachine) -> None:
    fill(machine, "b", "a", "c", "aa", "\U0001f600", "é", "\uffff")
    apply(machine, kv.encode_delete("b"))
    assert all_pages(machine) == (["a", "aa", "c", "é", "\uffff", "\U0001f600"], 1)
    fill(machine, "ab", "b")
    assert [entry.key for entry in dump(machine).entries][:4] == ["a", "aa", "ab", "b"]


@pytest.mark.parametrize("limit", range(1, 8))
def test_pages_add_up_to_the_whole(machine: KeyValueMachine, limit: int) -> None:
    fill(machine, *"hgfedcba")
    for gone in "adh":
        apply(machine, kv.encode_delete(gone))
    keys, pages = all_pages(machine, limit=limit)
    assert keys == list("bcefg")
    # One more where only tombstones are left to look at.
    assert pages == {1: 6, 2: 3, 3: 2, 4: 2, 5: 2}.get(limit, 1)


def test_a_dump_by_prefix(machine: KeyValueMachine) -> None:
    fill(machine, "a", "b", "b/", "b/1", "b/2", "b0", "c")
    apply(machine, kv.encode_delete("b/1"))
    assert all_pages(machine, prefix="b/") == (["b/", "b/2"], 1)
    assert all_pages(machine, prefix="b/", limit=1) == (["b/", "b/2"], 2)
    assert all_pages(machine, prefix="d") == ([], 1)
    assert dump(machine, prefix="b", after_key="a").entries[0].key == "b"
    assert dump(machine, prefix="b", after_key="b0").entries == ()


def test_a_page_is_bounded_by_bytes_and_keys(
    machine: KeyValueMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(machine, *"abcdefgh")
    monkeypatch.setattr(kv, "PAGE_BYTES_MAX", 5)
    assert all_pages(machine) == (list("abcdefgh"), 3)
    monkeypatch.setattr(kv, "PAGE_BYTES_MAX", 1)
    assert all_pages(machine) == (list("abcdefgh"), 8)
    monkeypatch.setattr(kv, "PAGE_BYTES_MAX", 1_000)
    monkeypatch.setattr(kv, "PAGE_KEYS_MAX", 4)
    assert all_pages(machine, limit=1_000_000) == (list("abcdefgh"), 2)


def test_a_page_looks_at_a_bounded_number_of_tombstones(
    machine: KeyValueMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kv, "PAGE_SCAN_MAX", 3)
    fill(machine, *"abcdefgh")
    for gone in "bcdefg":
        apply(machine, kv.encode_delete(gone))
    assert dump(machine, after_key="b") == Page((), "e")
    assert all_pages(machine) == (["a", "h"], 3)


@pytest.mark.parametrize(
    "request_bytes",
    [b"", b"\xc1", b"\x92\xa3get\xa1\xff", kv.encode_put("a", b""), kv.encode_dump(limit=0)],
)
def test_a_malformed_query_is_an_error(machine: KeyValueMachine, request_bytes: bytes) -> None:
    with pytest.raises(QueryError):
        machine.query(request_bytes)


# Digest and files.


def test_the_digest_is_of_the_state_and_not_of_the_way_there() -> None:
    one, two = KeyValueMachine(), KeyValueMachine()
    fill(one, "a", "b", "c")
    fill(two, "c", "a")
    # Queries in between sort the keys; that must not show either.
    dump(two)
    fill(two, "b")
    assert one.digest() == two.digest()
    assert len(one.digest()) == 16


def test_the_digest_tells_every_difference() -> None:
    digests = [KeyValueMachine().digest()]
    for commands in [
        (kv.encode_put("a", b"1"),),
        (kv.encode_put("a", b"2"),),
        (kv.encode_put("a1", b""),),
        (kv.encode_put("a", b""),),
        (kv.encode_delete("a"),),
        (kv.encode_put("a", b"2"), kv.encode_put("a", b"1")),
        (kv.encode_put("a", b"1"), kv.encode_put("b", b"1")),
    ]:
        machine = KeyValueMachine()
        for command in commands:
            apply(machine, command)
        digests.append(machine.digest())
    assert len(set(digests)) == len(digests)


def test_a_saved_state_comes_back() -> None:
    machine = KeyValueMachine()
    fill(machine, *"hgfedcba")
    apply(machine, kv.encode_put("a", b"again"))
    apply(machine, kv.encode_delete("c"))
    rows = list(machine.rows())
    assert [row[0] for row in rows] == list("abcdefgh")
    assert rows[:3] == [("a", 2, b"again"), ("b", 1, rows[1][2]), ("c", 2, None)]
    loaded = KeyValueMachine()
    fill(loaded, "something", "else")
    dump(loaded)
    fill(loaded, "new")
    loaded.restore(iter(rows))
    assert loaded.digest() == machine.digest()
    assert state(loaded) == state(machine)
    fill(loaded, "b", "bb")
    assert all_pages(loaded, limit=2)[0] == ["a", "b", "bb", "d", "e", "f", "g", "h"]


def test_an_empty_state_is_saved_too() -> None:
    assert list(KeyValueMachine().rows()) == []
    loaded = KeyValueMachine()
    fill(loaded, "a")
    loaded.restore(())
    assert dump(loaded) == Page((), None)

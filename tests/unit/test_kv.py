"""The key-value machine: versions, tombstones, compare-and-set, paging, saving."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.errors import CommandError, QueryError
from ray_paxos.machines import kv, kv_machine
from ray_paxos.machines.base import ApplyContext
from ray_paxos.machines.kv import Conflict, KeyEntry, Page, Read, Written
from ray_paxos.machines.kv_machine import KeyValueMachine

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


# Values that end by themselves.


def apply_at(machine: KeyValueMachine, command: bytes, log_time_ns: int) -> kv.KvResult:
    """Execute a command, as the host does at that log time."""
    context = ApplyContext(1, 0, log_time_ns)
    if machine.due_ns is not None and machine.due_ns <= log_time_ns:
        machine.on_due(context)
    result = machine.apply(command, context)
    assert result is not None
    return kv.decode_result(result)


def test_a_value_ends_as_by_a_delete_when_its_time_is_over(machine: KeyValueMachine) -> None:
    assert machine.due_ns is None
    assert apply_at(machine, kv.encode_put_for("a", b"1", 5), 100) == Written(1, replaced=False)
    assert machine.due_ns == 5_000_100
    assert apply_at(machine, kv.encode_get("a"), 5_000_099) == Read(True, 1, b"1")
    assert apply_at(machine, kv.encode_get("a"), 5_000_100) == Read(False, 2, None)
    assert machine.due_ns is None
    assert apply_at(machine, kv.encode_cas("a", b"2", 1), 5_000_100) == Conflict(2)


@pytest.mark.parametrize(
    "again",
    [kv.encode_put("a", b"2"), kv.encode_cas("a", b"2", 1), kv.encode_delete("a")],
    ids=["put", "cas", "delete"],
)
@pytest.mark.parametrize("many", [False, True])
def test_who_writes_without_a_time_to_live_ends_the_earlier_one(
    machine: KeyValueMachine, again: bytes, many: bool
) -> None:
    apply_at(machine, kv.encode_put_for("a", b"1", 5), 0)
    if many:
        assert len(machine.apply_many([again], ApplyContext(2, 0, 1), 1_000)) == 1
    else:
        apply_at(machine, again, 1)
    assert machine.due_ns is None


def test_another_time_to_live_replaces_the_earlier_one(machine: KeyValueMachine) -> None:
    apply_at(machine, kv.encode_put_for("a", b"1", 5), 0)
    apply_at(machine, kv.encode_put_for("b", b"1", 7), 0)
    apply_at(machine, kv.encode_put_for("a", b"2", 9), 1)
    assert machine.due_ns == 7_000_000
    assert apply_at(machine, kv.encode_get("a"), 8_000_000) == Read(True, 2, b"2")
    assert apply_at(machine, kv.encode_get("b"), 8_000_000) == Read(False, 2, None)
    assert machine.due_ns == 9_000_001


def test_a_renewal_changes_the_end_and_no_version(machine: KeyValueMachine) -> None:
    apply_at(machine, kv.encode_put_for("a", b"1", 5), 0)
    assert apply_at(machine, kv.encode_renew("a", 5), 4_000_000) == kv.Renewed(1)
    assert machine.due_ns == 9_000_000
    assert apply_at(machine, kv.encode_renew("a", 50, 2), 5_000_000) == Conflict(1)
    assert machine.due_ns == 9_000_000
    assert apply_at(machine, kv.encode_renew("a", 50, 1), 9_000_000) == Conflict(2), "too late"
    assert apply_at(machine, kv.encode_renew("never", 5), 9_000_000) == Conflict(0)
    apply_at(machine, kv.encode_put("a", b"2"), 9_000_000)
    assert apply_at(machine, kv.encode_renew("a", 1), 9_000_000) == kv.Renewed(3)
    assert machine.due_ns == 10_000_000, "also of a value that had no end"


@pytest.mark.parametrize("ttl_ms", [0, -1, kv.TTL_MS_MAX + 1])
@pytest.mark.parametrize("is_renewal", [False, True])
def test_what_is_no_time_to_live_changes_nothing(
    machine: KeyValueMachine, is_renewal: bool, ttl_ms: int
) -> None:
    apply_at(machine, kv.encode_put("a", b"1"), 0)
    wrong = kv.encode_put_for("a", b"2", ttl_ms)
    if is_renewal:
        wrong = kv.encode_renew("a", ttl_ms)
    with pytest.raises(CommandError, match=f"not {ttl_ms}"):
        machine.apply(wrong, CONTEXT)
    assert machine.apply_many([wrong], CONTEXT, 1_000) == [], "apply says why"
    assert state(machine) == {"a": (b"1", 1)}
    assert machine.due_ns is None


def test_what_ends_at_a_time_ends_in_parts_in_one_order(machine: KeyValueMachine) -> None:
    count = kv_machine.ENDS_MAX + 2
    for number in range(count):
        apply_at(machine, kv.encode_put_for(f"{number:06}", b"1", 1), 0)
    context = ApplyContext(2, 0, 5_000_000)
    machine.on_due(context)
    assert machine.due_ns == 1_000_000, "there is more"
    assert [entry.key for entry in dump(machine).entries] == [f"{count - 2:06}", f"{count - 1:06}"]
    machine.on_due(context)
    assert machine.due_ns is None
    assert dump(machine).entries == ()


def test_ends_are_part_of_the_state(machine: KeyValueMachine) -> None:
    apply_at(machine, kv.encode_put_for("a", b"1", 5), 0)
    apply_at(machine, kv.encode_put("b", b"1"), 0)
    other = KeyValueMachine()
    for key in ("a", "b"):
        apply_at(other, kv.encode_put(key, b"1"), 0)
    assert machine.digest() != other.digest()
    other.restore(list(machine.rows()))
    assert machine.digest() == other.digest()
    assert other.due_ns == 5_000_000
    assert apply_at(other, kv.encode_get("a"), 5_000_000) == Read(False, 2, None)
    assert list(other.rows()) == [("a", 2, None, None), ("b", 1, b"1", None)]


# Several keys at once.


def txn(machine: KeyValueMachine, *arguments: object, log_time_ns: int = 0) -> kv.TxnDone:
    done = apply_at(machine, kv.encode_txn(*arguments), log_time_ns)  # type: ignore[arg-type]
    assert isinstance(done, kv.TxnDone)
    return done


def test_a_txn_does_one_of_two_things(machine: KeyValueMachine) -> None:
    apply(machine, kv.encode_put("from", b"10"))
    conditions = [kv.HasValue("from", b"10"), kv.HasVersion("to", 0)]
    then = [kv.Put("from", b"7"), kv.Put("to", b"3"), kv.Get("from")]
    otherwise = [kv.Get("from"), kv.Get("to")]
    assert txn(machine, conditions, then, otherwise) == kv.TxnDone(
        True, (Written(2, True), Written(1, False), Read(True, 2, b"7"))
    )
    assert txn(machine, conditions, then, otherwise) == kv.TxnDone(
        False, (Read(True, 2, b"7"), Read(True, 1, b"3"))
    )
    assert txn(machine, conditions, then) == kv.TxnDone(False, ())


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (kv.HasVersion("a", 2), True),
        (kv.HasVersion("a", 1), False),
        (kv.HasVersion("never", 0), True),
        (kv.HasVersion("gone", 2), True),
        (kv.HasValue("a", b"2"), True),
        (kv.HasValue("a", b"1"), False),
        (kv.HasValue("a", None), False),
        (kv.HasValue("never", None), True),
        (kv.HasValue("gone", None), True),
        (kv.HasValue("gone", b"1"), False),
    ],
)
def test_what_a_condition_means(
    machine: KeyValueMachine, condition: kv.Condition, holds: bool
) -> None:
    for command in (
        kv.encode_put("a", b"1"),
        kv.encode_put("a", b"2"),
        kv.encode_put("gone", b"1"),
        kv.encode_delete("gone"),
    ):
        apply(machine, command)
    assert txn(machine, [condition], []).held is holds
    assert txn(machine, [kv.HasVersion("a", 2), condition], []).held is holds


def test_all_conditions_are_looked_at_before_anything_is_done(machine: KeyValueMachine) -> None:
    done = txn(machine, [], [kv.Put("a", b"1"), kv.Cas("a", b"2", 1), kv.Cas("a", b"3", 1)])
    assert done == kv.TxnDone(True, (Written(1, False), Written(2, True), Conflict(2)))
    assert txn(machine, [kv.HasVersion("a", 2)], [kv.Delete("a")]).held
    done = txn(
        machine,
        [kv.HasValue("a", None)],
        [kv.PutFor("a", b"4", 5), kv.Renew("a", 7, 4), kv.Renew("b", 7, 0)],
    )
    assert done.results == (Written(4, False), kv.Renewed(4), Conflict(0))
    assert machine.due_ns == 7_000_000


def test_a_txn_that_means_nothing_changes_nothing(machine: KeyValueMachine) -> None:
    wrong = kv.encode_txn([kv.HasVersion("a", 1)], [kv.Put("a", b"1"), kv.PutFor("b", b"1", 0)])
    also = kv.encode_txn([], [kv.Put("a", b"1")], [kv.Renew("b", -1, 0)])
    long = kv.encode_txn([], [kv.Get("a")] * (kv.TXN_COMMANDS_MAX + 1))
    for command, why in ((wrong, "not 0"), (also, "not -1"), (long, "at most 1000")):
        with pytest.raises(CommandError, match=why):
            machine.apply(command, CONTEXT)
        assert machine.apply_many([command], CONTEXT, 1_000) == []
    with pytest.raises(CommandError, match="not a command"):
        machine.apply(msgspec.msgpack.encode(["txn", [], [["txn", [], [], []]], []]), CONTEXT)
    assert state(machine) == {}


def test_a_txn_reads_no_more_than_fits_a_result(
    machine: KeyValueMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kv_machine, "TXN_READ_BYTES_MAX", 5)
    apply(machine, kv.encode_put("a", b"123"))
    gets: list[kv.KeyCommand] = [kv.Put("b", b"1"), kv.Get("a"), kv.Get("a")]
    with pytest.raises(CommandError, match="at most 5 bytes of values, not 6"):
        machine.apply(kv.encode_txn([], gets), CONTEXT)
    assert state(machine) == {"a": (b"123", 1)}
    assert txn(machine, [], gets[:2]).held


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
def test_behaves_like_two_dictionaries(commands: list[kv.KeyCommand]) -> None:
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
            elif isinstance(command, kv.Put | kv.Cas):
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
    monkeypatch.setattr(kv_machine, "PAGE_BYTES_MAX", 5)
    assert all_pages(machine) == (list("abcdefgh"), 3)
    monkeypatch.setattr(kv_machine, "PAGE_BYTES_MAX", 1)
    assert all_pages(machine) == (list("abcdefgh"), 8)
    monkeypatch.setattr(kv_machine, "PAGE_BYTES_MAX", 1_000)
    monkeypatch.setattr(kv_machine, "PAGE_KEYS_MAX", 4)
    assert all_pages(machine, limit=1_000_000) == (list("abcdefgh"), 2)


def test_a_page_looks_at_a_bounded_number_of_tombstones(
    machine: KeyValueMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kv_machine, "PAGE_SCAN_MAX", 3)
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
    assert rows[:3] == [
        ("a", 2, b"again", None),
        ("b", 1, rows[1][2], None),
        ("c", 2, None, None),
    ]
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

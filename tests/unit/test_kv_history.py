"""What a key-value machine remembers of its changes, and whom it tells."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.errors import NotYetError
from ray_paxos.machines import kv, kv_history
from ray_paxos.machines.base import ApplyContext
from ray_paxos.machines.kv import Changed, Changes, Delete, Put
from ray_paxos.machines.kv_history import History, topic_of_key, topic_of_prefix
from ray_paxos.machines.kv_machine import NO_OFFSET, KeyValueMachine

MS = 1_000_000


class Group:
    """A machine that applies one command an instance, and what it notified then."""

    def __init__(self) -> None:
        self.machine = KeyValueMachine()
        self.instance_id = 0
        self.topics: set[str] = set()

    def apply(self, *commands: bytes) -> int:
        """Apply these in one instance, whose number it gives."""
        self.instance_id += 1
        context = ApplyContext(self.instance_id, 0, self.instance_id * MS)
        for command in commands:
            self.machine.apply(command, context)
        self.topics = context.topics
        return self.instance_id

    def pass_to(self, log_time_ms: int) -> None:
        """Let end what has ended by then."""
        self.instance_id += 1
        context = ApplyContext(self.instance_id, 0, log_time_ms * MS)
        self.machine.on_due(context)
        self.topics = context.topics

    def changed(self, prefix: str, instance_id: int, offset: int = NO_OFFSET) -> Changed:
        answer = self.machine.query(kv.encode_changes(prefix, instance_id, offset))
        return kv.decode_changed(answer)

    def seen(self, prefix: str, after: int) -> list[tuple[str, bytes | None, int]]:
        return [
            (each.key, each.value, each.version) for each in self.changed(prefix, after).changes
        ]


def test_changes_are_remembered_from_a_record_on_and_cost_nothing_before() -> None:
    group = Group()
    group.apply(kv.encode_put("a", b"1"))
    assert group.topics == set()
    assert group.changed("", 0).is_compacted
    start = group.apply(kv.encode_record())
    with pytest.raises(NotYetError) as caught:
        group.changed("", start)
    assert caught.value.topic == "*"
    group.apply(kv.encode_put("a", b"2"))
    assert group.seen("", start) == [("a", b"2", 2)]
    group.apply(kv.encode_record())
    assert group.seen("", start) == [("a", b"2", 2)], "a second one changes nothing"
    assert group.changed("", start - 1).is_compacted


def test_whatever_writes_is_a_change_and_what_does_not_is_none() -> None:
    group = Group()
    start = group.apply(kv.encode_record())
    group.apply(
        kv.encode_put_for("a", b"1", 50),
        kv.encode_cas("a", b"no", 7),
        kv.encode_cas("a", b"2", 1),
        kv.encode_get("a"),
        kv.encode_renew("a", 10),
        kv.encode_txn([], [Put("b", b"1"), Delete("a")]),
        kv.encode_put_for("c", b"1", 50),
    )
    group.pass_to(1_000)
    assert group.seen("", start) == [
        ("a", b"1", 1),
        ("a", b"2", 2),
        ("b", b"1", 1),
        ("a", None, 3),
        ("c", b"1", 1),
        ("c", None, 2),
    ]


def test_who_watches_one_head_is_not_told_of_others() -> None:
    group = Group()
    start = group.apply(kv.encode_record())
    group.apply(kv.encode_put("ui/dark", b"on"))
    assert group.topics == {"ui/", "*"}
    group.apply(kv.encode_put("plain", b"on"))
    assert group.topics == {"plain", "*"}
    assert group.seen("ui/", start) == [("ui/dark", b"on", 1)]
    with pytest.raises(NotYetError) as caught:
        group.changed("ui/l", start)
    assert caught.value.topic == "ui/"


@pytest.mark.parametrize(
    ("key", "topic"),
    [
        ("ui/dark/1", "ui/"),
        ("plain", "plain"),
        ("/x", "/"),
        ("\x1fflags\x1fui/dark", "\x1fflags\x1fui/"),
    ],
)
def test_a_key_is_told_under_its_head(key: str, topic: str) -> None:
    assert topic_of_key(key) == topic
    # Whatever prefix of the key is watched, it is woken by it.
    for end in range(len(key) + 1):
        assert topic_of_prefix(key[:end]) in (topic, "*")
    if "/" in key:
        assert topic_of_prefix(topic) == topic


def test_a_page_ends_and_the_next_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_history, "PAGE_CHANGES_MAX", 2)
    group = Group()
    start = group.apply(kv.encode_record())
    group.apply(*(kv.encode_put(f"k{n}", b"") for n in range(5)))
    found, position = [], (start, NO_OFFSET)
    for _ in range(3):
        page = group.changed("", *position)
        found += [each.key for each in page.changes]
        position = (page.instance_id, page.offset)
    assert found == ["k0", "k1", "k2", "k3", "k4"]
    with pytest.raises(NotYetError):
        group.changed("", *position)
    monkeypatch.setattr(kv_history, "PAGE_BYTES_MAX", 1)
    assert len(group.changed("", start).changes) == 1


def test_what_is_too_much_is_forgotten_and_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_history, "CHANGES_MAX", 3)
    group = Group()
    start = group.apply(kv.encode_record())
    numbers = [group.apply(kv.encode_put(f"k{n}", b"x")) for n in range(5)]
    assert group.changed("", start).is_compacted
    assert group.changed("", numbers[0]).is_compacted
    assert group.seen("", numbers[1]) == [("k2", b"x", 1), ("k3", b"x", 1), ("k4", b"x", 1)]
    monkeypatch.setattr(kv_history, "BYTES_MAX", 50)
    last = group.apply(kv.encode_put("large", b"x" * 100))
    assert group.changed("", numbers[4]).is_compacted is False
    assert group.changed("", numbers[3]).is_compacted
    assert group.seen("", last - 1) == [("large", b"x" * 100, 1)]


def test_it_is_no_part_of_the_state(tmp_path: Path) -> None:
    group, plain = Group(), Group()
    group.apply(kv.encode_record())
    plain.apply(kv.encode_get("a"))
    for each in (group, plain):
        each.apply(kv.encode_put("a", b"1"))
    assert group.machine.digest() == plain.machine.digest()
    assert list(group.machine.rows()) == list(plain.machine.rows())
    group.machine.restore(list(group.machine.rows()))
    assert group.changed("", 1).is_compacted, "a loaded state has no changes before it"


COMMANDS = st.lists(
    st.one_of(
        st.builds(
            kv.encode_put, st.sampled_from(["a", "b/1", "b/2"]), st.sampled_from([b"", b"x"])
        ),
        st.builds(kv.encode_delete, st.sampled_from(["a", "b/1"])),
        st.builds(kv.encode_cas, st.sampled_from(["a"]), st.just(b"y"), st.integers(0, 3)),
        st.just(kv.encode_record()),
    ),
    max_size=20,
)


@settings(max_examples=200, deadline=None)
@given(COMMANDS, COMMANDS)
def test_many_at_once_are_told_as_one_by_one(first: list[bytes], second: list[bytes]) -> None:
    one, many = KeyValueMachine(), KeyValueMachine()
    for instance_id, commands in enumerate((first, second), 1):
        context, at_once = ApplyContext(instance_id), ApplyContext(instance_id)
        results = [one.apply(command, context) for command in commands]
        assert list(many.apply_many(commands, at_once, 1_000_000)) == results
        assert context.topics == at_once.topics
    for position in ((0, 0), (1, 0), (1, 3), (2, 0)):
        for prefix in ("", "b/"):
            assert answered(one, prefix, position) == answered(many, prefix, position)


def answered(machine: KeyValueMachine, prefix: str, position: tuple[int, int]) -> object:
    try:
        return machine.query(kv.encode_changes(prefix, *position))
    except NotYetError as error:
        return error.topic


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["a", "b/1", "b/2", "c/"])), max_size=40),
    st.integers(1, 12),
)
def test_who_goes_on_from_page_to_page_misses_nothing(
    written: list[tuple[int, str]], kept: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kv_history, "CHANGES_MAX", kept)
        history = History((0, NO_OFFSET))
        instance_id, positions = 1, {"": (0, NO_OFFSET), "b/": (0, NO_OFFSET)}
        told: dict[str, list[int]] = {"": [], "b/": []}
        for number, (step, key) in enumerate(written):
            instance_id += step
            history.add(instance_id, key, b"", number)
            for prefix, after in positions.items():
                if number % (2 if prefix else 3):
                    continue
                found = history.changes(Changes(prefix, *after))
                if found is None:
                    continue
                assert found.is_compacted == (after < history.floor)
                told[prefix] += [each.version for each in found.changes]
                if found.is_compacted:
                    # Whoever reads what is there knows all of it.
                    told[prefix] = [
                        n for n, (_, k) in enumerate(written[: number + 1]) if k.startswith(prefix)
                    ]
                positions[prefix] = (found.instance_id, found.offset)
        for prefix, after in positions.items():
            found = history.changes(Changes(prefix, *after))
            rest = [each.version for each in found.changes] if found is not None else []
            if found is not None and found.is_compacted:
                continue
            expected = [n for n, (_, key) in enumerate(written) if key.startswith(prefix)]
            assert told[prefix] + rest == expected

"""The counters machine: what counters are at, and that no id is given twice."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.errors import CommandError, NotYetError, QueryError
from ray_paxos.machines import counters
from ray_paxos.machines.base import ApplyContext
from ray_paxos.machines.counters import (
    VALUE_MAX,
    VALUE_MIN,
    Counted,
    CounterResult,
    CountersMachine,
    Differs,
    Taken,
)


class Group:
    """A machine, and what the latest command notified."""

    def __init__(self) -> None:
        self.machine = CountersMachine()
        self.topics: set[str] = set()

    def apply(self, command: bytes) -> CounterResult:
        context = ApplyContext(1)
        self.topics = context.topics
        result = self.machine.apply(command, context)
        assert result is not None
        return counters.decode_result(result)

    def add(self, amount: int = 1, name: str = "c") -> CounterResult:
        return self.apply(counters.encode_add(name, amount))

    def take(self, count: int = 1, name: str = "ids") -> CounterResult:
        return self.apply(counters.encode_take(name, count))

    def set(self, value: int, expected: int | None = None, name: str = "c") -> CounterResult:
        return self.apply(counters.encode_set(name, value, expected))

    def drop(self, name: str = "c") -> CounterResult:
        return self.apply(counters.encode_drop(name))

    def get(self, name: str = "c") -> int:
        return counters.decode_value(self.machine.query(counters.encode_get(name)))

    def reached(self, at_least: int, name: str = "c") -> int:
        answer = self.machine.query(counters.encode_reached(name, at_least))
        return counters.decode_value(answer)

    def topic(self, at_least: int, name: str = "c") -> str:
        with pytest.raises(NotYetError) as caught:
            self.reached(at_least, name)
        return caught.value.topic


@pytest.fixture
def group() -> Group:
    return Group()


def test_a_counter_goes_up_and_down(group: Group) -> None:
    assert group.get() == 0
    assert group.add(5) == Counted(5)
    assert group.add(-7) == Counted(-2)
    assert group.add(1, "other") == Counted(1)
    assert group.get() == -2
    assert group.drop() == Counted(-2)
    assert group.drop() == Counted(0)
    assert (group.get(), group.get("other")) == (0, 1)


def test_one_that_is_back_at_zero_is_as_one_never_used(group: Group) -> None:
    group.add(5)
    group.add(-5)
    group.add(0, "d")
    group.set(0, name="e")
    assert group.machine.digest() == CountersMachine().digest()


def test_a_set_that_expects_something_else_changes_nothing(group: Group) -> None:
    assert group.set(5, expected=0) == Counted(5)
    assert group.set(6, expected=4) == Differs(5)
    assert group.get() == 5
    assert group.set(6, expected=5) == Counted(6)
    assert group.set(-3) == Counted(-3)


def test_ids_begin_at_one_and_go_on(group: Group) -> None:
    assert group.take() == Taken(1)
    assert group.take(10) == Taken(2)
    assert group.take(counters.COUNT_MAX) == Taken(12)
    assert group.take() == Taken(12 + counters.COUNT_MAX)
    assert group.take(1, "others") == Taken(1)


def test_what_gives_ids_never_falls(group: Group) -> None:
    group.take(10)
    before = group.machine.digest()
    for command, why in (
        (counters.encode_drop("ids"), "never dropped"),
        (counters.encode_set("ids", 9), "up to 10 are gone"),
        (counters.encode_set("ids", 0, 10), "up to 10 are gone"),
        (counters.encode_add("ids", 1), "nothing is added"),
        (counters.encode_add("ids", -1), "nothing is added"),
    ):
        with pytest.raises(CommandError, match=why):
            group.apply(command)
        assert group.machine.digest() == before
    assert group.take() == Taken(11)


def test_ids_can_be_skipped(group: Group) -> None:
    group.take(10)
    assert group.set(1_000, expected=9, name="ids") == Differs(10)
    assert group.set(1_000, expected=10, name="ids") == Counted(1_000)
    assert group.set(1_000, name="ids") == Counted(1_000)
    assert group.take() == Taken(1_001)


def test_a_counter_gives_no_ids_while_it_is_not_at_zero(group: Group) -> None:
    group.add(-5)
    with pytest.raises(CommandError, match="gives no ids"):
        group.take(name="c")
    assert group.get() == -5
    group.drop()
    assert group.take(name="c") == Taken(1)


def test_nothing_overflows(group: Group) -> None:
    assert group.set(VALUE_MAX) == Counted(VALUE_MAX)
    assert group.set(VALUE_MIN, name="low") == Counted(VALUE_MIN)
    assert group.set(VALUE_MAX - 1, name="never an allocator") == Counted(VALUE_MAX - 1)
    group.take()
    group.set(VALUE_MAX - 1, name="ids")
    before = group.machine.digest()
    for command in (
        counters.encode_add("c", 1),
        counters.encode_add("c", (1 << 64) - 1),
        counters.encode_add("low", -1),
        counters.encode_take("ids", 2),
        counters.encode_set("c", VALUE_MAX + 1),
        counters.encode_set("ids", VALUE_MAX + 1),
    ):
        with pytest.raises(CommandError, match="a value is"):
            group.apply(command)
        assert group.machine.digest() == before
    assert group.take() == Taken(VALUE_MAX)
    with pytest.raises(CommandError, match="a value is"):
        group.take()


def test_a_counter_that_rises_is_told_under_its_name(group: Group) -> None:
    assert group.reached(0) == 0
    topic = group.topic(3)
    assert group.topic(3, "other") != topic
    group.add(3, "other")
    assert topic not in group.topics
    group.add(2)
    assert group.topics == {topic}
    assert group.topic(3) == topic
    group.add(1)
    assert group.topics == {topic}
    assert group.reached(3) == 3
    group.add(-1)
    assert group.topics == set(), "nobody waits for less"
    assert group.topic(3) == topic


def test_whatever_lets_a_value_rise_is_told(group: Group) -> None:
    topic = group.topic(7)
    group.set(7)
    assert (group.topics, group.reached(7)) == ({topic}, 7)
    group.set(-7)
    topic = group.topic(0)
    group.drop()
    assert (group.topics, group.reached(0)) == ({topic}, 0)
    topic = group.topic(2, "ids")
    group.take(2)
    assert (group.topics, group.reached(2, "ids")) == ({topic}, 2)
    topic = group.topic(9, "ids")
    group.set(9, name="ids")
    assert (group.topics, group.reached(9, "ids")) == ({topic}, 9)


@pytest.mark.parametrize("count", [-1, 0, counters.COUNT_MAX + 1])
def test_a_count_is_bounded(group: Group, count: int) -> None:
    with pytest.raises(CommandError, match="a count is 1 to"):
        group.take(count)
    assert group.machine.digest() == CountersMachine().digest()


def test_names_are_bounded(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "NAMES_MAX", 2)
    group.add(1)
    group.take()
    for full in (
        lambda: group.add(1, "d"),
        lambda: group.take(1, "d"),
        lambda: group.set(1, 0, "d"),
    ):
        with pytest.raises(CommandError, match="2 counters already"):
            full()
        assert group.get("d") == 0
    assert group.add(1) == Counted(2), "those that are there go on"
    assert group.take() == Taken(2)
    group.drop()
    assert group.add(1, "d") == Counted(1)


def test_a_name_is_bounded(group: Group) -> None:
    longest = "n" * counters.NAME_LENGTH_MAX
    assert group.add(1, longest) == Counted(1)
    with pytest.raises(CommandError, match="at most 500 characters"):
        group.add(1, longest + "n")


def test_what_cannot_be_read_is_refused(group: Group) -> None:
    for wrong in (b"", b"junk", msgspec.msgpack.encode(["add", "c", 1, 2])):
        with pytest.raises(CommandError, match="not a command of the counters machine"):
            group.machine.apply(wrong, ApplyContext(1))
        with pytest.raises(QueryError, match="not a query of the counters machine"):
            group.machine.query(wrong)


def test_a_saved_state_goes_on_as_the_other(group: Group, tmp_path: Path) -> None:
    group.add(5)
    group.take(7)
    group.set(VALUE_MIN, name="low")
    group.machine.save(tmp_path)
    loaded = Group()
    loaded.add(1, "something else")
    loaded.machine.load(tmp_path)
    assert loaded.machine.digest() == group.machine.digest()
    for each in (group, loaded):
        assert (each.get(), each.get("low"), each.get("something else")) == (5, VALUE_MIN, 0)
        assert each.take() == Taken(8)
        with pytest.raises(CommandError, match="never dropped"):
            each.drop("ids")
    assert loaded.machine.digest() == group.machine.digest()


# Against the obvious implementation.


class Plain:
    """Numbers by name, and which names have given which ids."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self.given: dict[str, set[int]] = {}

    def apply(self, step: tuple[Any, ...]) -> CounterResult | None:
        """What comes of a step; None where it is refused."""
        what, name, *arguments = step
        value, gives = self.values.get(name, 0), name in self.given
        wanted: int
        match what:
            case "add":
                (amount,) = arguments
                result: CounterResult = Counted(value + amount)
                wanted, refused = value + amount, gives
            case "take":
                (count,) = arguments
                result, wanted = Taken(value + 1), value + count
                refused = not gives and value != 0
            case "set":
                wanted, expected = arguments
                if VALUE_MIN <= wanted <= VALUE_MAX and expected not in (None, value):
                    return Differs(value)
                result, refused = Counted(wanted), gives and wanted < value
            case _:
                result, wanted, refused = Counted(value), 0, gives
        if refused or not VALUE_MIN <= wanted <= VALUE_MAX:
            return None
        if what == "take":
            given = self.given.setdefault(name, set())
            ids = set(range(value + 1, wanted + 1))
            assert not ids & given, "the rules themselves give an id twice"
            given |= ids
        self.values[name] = wanted
        return result


NAMES = st.sampled_from("abc")
VALUES = st.one_of(st.integers(-3, 12), st.sampled_from([VALUE_MIN, VALUE_MAX - 2, VALUE_MAX]))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), NAMES, VALUES),
        st.tuples(st.just("take"), NAMES, st.integers(1, 4)),
        st.tuples(st.just("take"), NAMES, st.integers(1, 4)),
        st.tuples(st.just("set"), NAMES, VALUES, st.one_of(st.none(), st.integers(-1, 6))),
        st.tuples(st.just("drop"), NAMES),
        st.tuples(st.just("save"), st.just("")),
    ),
    max_size=40,
)
ENCODE: dict[str, Any] = {
    "add": counters.encode_add,
    "take": counters.encode_take,
    "set": counters.encode_set,
    "drop": counters.encode_drop,
}


def applied(group: Group, step: tuple[Any, ...]) -> CounterResult | None:
    try:
        return group.apply(ENCODE[step[0]](*step[1:]))
    except CommandError:
        assert group.topics == set()
        return None


@settings(max_examples=400, deadline=None)
@given(STEPS)
def test_it_does_what_plain_numbers_do(steps: list[tuple[Any, ...]]) -> None:
    group, replica, plain = Group(), Group(), Plain()
    given: dict[str, set[int]] = {}
    for step in steps:
        if step[0] == "save":
            loaded = Group()
            with TemporaryDirectory() as directory:
                replica.machine.save(Path(directory))
                loaded.machine.load(Path(directory))
            replica = loaded
            continue
        before = {name: plain.values.get(name, 0) for name in "abc"}
        result = applied(group, step)
        assert applied(replica, step) == result == plain.apply(step)
        if isinstance(result, Taken):
            ids = set(range(result.first, result.first + step[2]))
            assert not ids & given.setdefault(step[1], set()), "an id was given twice"
            assert result.first >= 1
            given[step[1]] |= ids
        for name in "abc":
            value = plain.values.get(name, 0)
            assert group.get(name) == value
            assert name in group.topics or value <= before[name]
            assert name not in group.topics or name == step[1]
        assert group.machine.digest() == replica.machine.digest()

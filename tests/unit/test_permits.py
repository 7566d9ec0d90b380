"""The permits machine: who holds what, in which order, until when, under which token."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.errors import CommandError, NotYetError, QueryError
from ray_paxos.machines import permits
from ray_paxos.machines.base import ApplyContext
from ray_paxos.machines.permits import (
    Busy,
    Granted,
    Lost,
    PermitResult,
    PermitsMachine,
    Released,
    Resource,
    Waiting,
)

MS = 1_000_000


class Group:
    """A machine, and its log time in milliseconds.

    Attributes:
        topics: What was notified since `notified` was last called.
    """

    def __init__(self) -> None:
        self.machine = PermitsMachine()
        self.now_ms = 0
        self.topics: set[str] = set()

    def notified(self) -> set[str]:
        topics, self.topics = self.topics, set()
        return topics

    def at(self, milliseconds: int) -> Group:
        """Let log time come so far, as the host does."""
        self.now_ms = milliseconds
        context = ApplyContext(1, 0, milliseconds * MS)
        while (due_ns := self.machine.due_ns) is not None and due_ns <= milliseconds * MS:
            self.machine.on_due(context)
        self.topics |= context.topics
        return self

    def apply(self, command: bytes) -> PermitResult:
        context = ApplyContext(1, 0, self.now_ms * MS)
        result = self.machine.apply(command, context)
        self.topics |= context.topics
        assert result is not None
        return permits.decode_result(result)

    def acquire(self, holder: str, name: str = "r", **options: Any) -> PermitResult:
        options.setdefault("ttl_ms", 100)
        return self.apply(permits.encode_acquire(name, holder, **options))

    def renew(self, holder: str, token: int, ttl_ms: int = 100) -> PermitResult:
        return self.apply(permits.encode_renew("r", holder, token, ttl_ms))

    def release(self, holder: str, name: str = "r") -> PermitResult:
        return self.apply(permits.encode_release(name, holder))

    def look(self, name: str = "r") -> Resource:
        return permits.decode_resource(self.machine.query(permits.encode_look(name)))

    def wait(self, holder: str, name: str = "r") -> PermitResult | str:
        """What one in line is told, or the topic that it waits for."""
        try:
            answer = self.machine.query(permits.encode_await(name, holder))
        except NotYetError as error:
            return error.topic
        return permits.decode_result(answer)

    def wait_for_change(self, known_token: int, name: str = "r") -> Resource | str:
        """Who holds a resource, or the topic that has to come first."""
        try:
            answer = self.machine.query(permits.encode_await_change(name, known_token))
        except NotYetError as error:
            return error.topic
        return permits.decode_resource(answer)

    @property
    def holders(self) -> list[str]:
        return list(self.look().holdings)

    @property
    def line(self) -> list[str]:
        return list(self.look().line)


@pytest.fixture
def group() -> Group:
    return Group()


def test_one_holds_a_lock_and_the_next_one_has_it_after(group: Group) -> None:
    assert group.acquire("a") == Granted(1)
    assert group.acquire("b") == Busy()
    assert group.acquire("b", wait_ms=50) == Waiting(0)
    assert group.acquire("c", wait_ms=50) == Waiting(1)
    assert group.release("a") == Released(held=True)
    assert (group.holders, group.line) == (["b"], ["c"])
    assert group.acquire("b") == Granted(2)
    assert group.release("b") == Released(held=True)
    assert group.acquire("c") == Granted(3)
    assert group.release("c") == Released(held=True)
    assert group.look() == Resource(0)
    assert group.machine.due_ns is None


def test_who_asks_again_keeps_its_lease_as_it_is_and_its_place_for_longer(group: Group) -> None:
    assert group.acquire("a", ttl_ms=200) == Granted(1)
    group.acquire("b", wait_ms=50)
    group.acquire("c", wait_ms=900)
    group.at(40)
    assert group.acquire("a", ttl_ms=900) == Granted(1)
    assert group.acquire("b", wait_ms=50) == Waiting(0)
    assert group.at(89).line == ["b", "c"]
    assert group.at(90).line == ["c"]
    assert group.at(200).holders == ["c"]


def test_to_release_twice_is_to_release_once(group: Group) -> None:
    group.acquire("a")
    group.acquire("b", wait_ms=50)
    assert group.release("a") == Released(held=True)
    assert group.release("a") == Released(held=False)
    assert group.holders == ["b"]
    assert group.release("nobody", "nothing") == Released(held=False)


def test_who_waits_may_leave_the_line(group: Group) -> None:
    group.acquire("a")
    group.acquire("b", wait_ms=50)
    group.acquire("c", wait_ms=50)
    assert group.release("b") == Released(held=False)
    assert group.line == ["c"]
    group.release("a")
    assert group.holders == ["c"]


def test_a_lease_ends_by_itself_and_the_next_one_begins_then(group: Group) -> None:
    group.acquire("a", ttl_ms=100)
    group.at(90).acquire("b", ttl_ms=70, wait_ms=500)
    assert group.at(99).holders == ["a"]
    assert group.at(103).holders == ["b"], "in the first instance that is so late"
    assert group.machine.due_ns == 173 * MS
    assert group.renew("a", 1) == Lost()
    assert group.release("a") == Released(held=False)
    assert group.holders == ["b"]


def test_a_renewal_counts_from_its_own_time(group: Group) -> None:
    group.acquire("a", ttl_ms=100)
    assert group.at(60).renew("a", 1, 100) == Granted(1)
    assert group.at(159).holders == ["a"]
    assert group.at(160).holders == []
    assert group.renew("a", 1) == Lost()


def test_a_renewal_by_an_old_token_is_no_renewal(group: Group) -> None:
    group.acquire("a", ttl_ms=100)
    group.release("a")
    assert group.acquire("a") == Granted(2)
    assert group.renew("a", 1) == Lost()
    assert group.renew("b", 2) == Lost()
    assert group.renew("a", 2) == Granted(2)


def test_one_that_is_served_as_its_wait_ends_holds(group: Group) -> None:
    """Both are due in one instance, and the lease ended first."""
    group.acquire("a", ttl_ms=100)
    group.acquire("b", ttl_ms=100, wait_ms=101)
    assert group.at(102).holders == ["b"]
    assert group.machine.due_ns == 202 * MS


def test_one_whose_wait_ended_first_does_not(group: Group) -> None:
    group.acquire("a", ttl_ms=100)
    group.acquire("b", ttl_ms=100, wait_ms=99)
    assert group.at(102).holders == []


def test_who_wants_much_is_not_overtaken(group: Group) -> None:
    four: dict[str, Any] = {"capacity": 4}
    assert group.acquire("a", units=2, **four) == Granted(1)
    assert group.acquire("b", units=1, **four) == Granted(2)
    assert group.acquire("writer", units=4, wait_ms=500, **four) == Waiting(0)
    assert group.acquire("c", units=1, **four) == Busy(), "though there is room"
    assert group.acquire("c", units=1, wait_ms=500, **four) == Waiting(1)
    assert group.acquire("d", units=1, wait_ms=500, **four) == Waiting(2)
    group.release("a")
    assert group.holders == ["b"]
    group.release("b")
    assert (group.holders, group.line) == (["writer"], ["c", "d"])
    group.release("writer")
    assert group.holders == ["c", "d"], "as many as fit"


def test_who_leaves_the_line_lets_the_others_through(group: Group) -> None:
    four: dict[str, Any] = {"capacity": 4}
    group.acquire("a", units=2, ttl_ms=900, **four)
    group.acquire("writer", units=4, wait_ms=50, **four)
    group.acquire("b", units=2, wait_ms=500, **four)
    assert group.at(50).holders == ["a", "b"]


def test_a_line_is_bounded(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permits, "LINE_MAX", 2)
    group.acquire("a")
    assert group.acquire("b", wait_ms=50) == Waiting(0)
    assert group.acquire("c", wait_ms=50) == Waiting(1)
    assert group.acquire("d", wait_ms=50) == Busy()


def test_a_capacity_is_kept_as_long_as_it_is_used(group: Group) -> None:
    group.acquire("a", capacity=2)
    with pytest.raises(CommandError, match="has 2 units, not 3"):
        group.acquire("b", capacity=3)
    assert group.look().capacity == 2
    group.release("a")
    assert group.acquire("b", capacity=3) == Granted(2)


def test_resources_have_nothing_to_do_with_each_other_but_for_tokens(group: Group) -> None:
    assert group.acquire("a") == Granted(1)
    assert group.acquire("a", "other", capacity=2) == Granted(2)
    group.release("a", "other")
    assert group.holders == ["a"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"capacity": 0}, "a capacity is 1 to"),
        ({"capacity": permits.CAPACITY_MAX + 1}, "a capacity is 1 to"),
        ({"units": 0}, "units are 1 to 1"),
        ({"units": 3, "capacity": 2}, "units are 1 to 2"),
        ({"ttl_ms": 0}, "ttl_ms is 1 to"),
        ({"wait_ms": -1}, "wait_ms is 0 to"),
    ],
)
def test_what_means_nothing_changes_nothing(
    group: Group, options: dict[str, Any], why: str
) -> None:
    with pytest.raises(CommandError, match=why):
        group.acquire("a", **options)
    assert group.look() == Resource(0)
    assert group.machine.digest() == PermitsMachine().digest()


def test_what_cannot_be_read_is_refused(group: Group) -> None:
    for wrong in (b"", b"junk", msgspec.msgpack.encode(["acquire", "r", "a"])):
        with pytest.raises(CommandError, match="not a command of the permits machine"):
            group.machine.apply(wrong, ApplyContext(1))
        with pytest.raises(QueryError, match="not a query"):
            group.machine.query(wrong)
    group.acquire("a")
    with pytest.raises(CommandError, match="ttl_ms"):
        group.renew("a", 1, 0)


def test_many_that_end_at_once_end_in_parts(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permits, "ENDS_MAX", 3)
    for number in range(5):
        group.acquire(str(number), f"r{number}", ttl_ms=10)
    context = ApplyContext(2, 0, 50 * MS)
    group.machine.on_due(context)
    assert group.machine.due_ns == 10 * MS
    group.machine.on_due(context)
    assert group.machine.due_ns is None


def test_a_saved_state_goes_on_as_the_other(group: Group, tmp_path: Path) -> None:
    group.acquire("z", "z", capacity=2, ttl_ms=30)
    group.acquire("a", ttl_ms=100)
    group.acquire("c", wait_ms=500)
    group.acquire("b", wait_ms=40)
    group.machine.save(tmp_path)
    loaded = Group()
    loaded.acquire("something", "else")
    loaded.machine.load(tmp_path)
    for each in (group, loaded):
        assert each.machine.due_ns == 30 * MS
        assert each.at(60).line == ["c"]
        assert each.at(100).holders == ["c"]
        assert each.acquire("n", "new") == Granted(4)
    assert loaded.machine.digest() == group.machine.digest()


# Queries that wait, and the topics under which something happens.

HOLDERS_TOPIC = "holders r"


def place_of(holder: str) -> str:
    """The topic of one in line."""
    return f"place r {holder}"


def test_one_in_line_is_told_once_it_holds(group: Group) -> None:
    group.acquire("a")
    group.acquire("b", wait_ms=50)
    group.acquire("c", wait_ms=50)
    assert group.wait("a") == Granted(1)
    assert (group.wait("b"), group.wait("c")) == (place_of("b"), place_of("c"))
    group.release("a")
    assert (group.wait("a"), group.wait("b"), group.wait("c")) == (
        Lost(),
        Granted(2),
        place_of("c"),
    )


def test_one_that_does_not_wait_any_more_is_told_that(group: Group) -> None:
    assert group.wait("b", "nothing") == Lost()
    group.acquire("a", ttl_ms=100)
    group.acquire("b", wait_ms=50)
    group.acquire("c", ttl_ms=10, wait_ms=500)
    assert group.at(50).wait("b") == Lost(), "its wait is over"
    group.at(100)
    assert group.wait("c") == Granted(2)
    assert group.at(110).wait("c") == Lost(), "its lease is"


def test_a_change_is_told_once_another_one_holds(group: Group) -> None:
    assert group.wait_for_change(0) == HOLDERS_TOPIC
    group.acquire("a")
    assert group.wait_for_change(0) == group.look()
    assert group.wait_for_change(1) == HOLDERS_TOPIC
    group.renew("a", 1)
    group.acquire("b", wait_ms=50)
    assert group.wait_for_change(1) == HOLDERS_TOPIC, "the same one holds"
    group.release("a")
    changed = group.wait_for_change(1)
    assert isinstance(changed, Resource)
    assert [each.token for each in changed.holdings.values()] == [2]
    group.release("b")
    assert group.wait_for_change(2) == Resource(0), "nobody does"
    assert group.wait_for_change(0) == HOLDERS_TOPIC


def test_a_grant_and_its_end_are_told_to_those_who_look_at_the_holders(group: Group) -> None:
    group.acquire("a")
    assert group.notified() == {HOLDERS_TOPIC}
    group.renew("a", 1)
    group.acquire("a")
    group.acquire("b")
    group.renew("b", 9)
    group.release("b")
    assert group.notified() == set(), "nothing has changed"
    group.release("a")
    assert group.notified() == {HOLDERS_TOPIC}
    group.release("a")
    assert group.notified() == set()


def test_of_a_line_only_who_is_served_is_told(group: Group) -> None:
    group.acquire("a")
    group.notified()
    for holder in "bcd":
        group.acquire(holder, wait_ms=500)
    assert group.notified() == set(), "who stands behind others concerns nobody"
    group.release("a")
    assert group.notified() == {HOLDERS_TOPIC, place_of("b")}


def test_who_leaves_the_line_is_told_and_nobody_else(group: Group) -> None:
    group.acquire("a", ttl_ms=900)
    group.acquire("b", wait_ms=50)
    group.acquire("c", wait_ms=60)
    group.notified()
    group.release("b")
    assert group.notified() == {place_of("b")}
    group.at(60)
    assert group.notified() == {place_of("c")}


def test_all_that_are_served_at_once_are_told(group: Group) -> None:
    four: dict[str, Any] = {"capacity": 4, "wait_ms": 500}
    group.acquire("a", units=4, **four)
    for holder in "bcde":
        group.acquire(holder, units=2, **four)
    group.notified()
    group.release("a")
    assert group.notified() == {HOLDERS_TOPIC, place_of("b"), place_of("c")}


def test_who_was_in_the_way_of_others_has_them_told_as_it_leaves(group: Group) -> None:
    four: dict[str, Any] = {"capacity": 4, "ttl_ms": 900}
    group.acquire("a", units=2, **four)
    group.acquire("writer", units=4, wait_ms=50, **four)
    group.acquire("b", units=2, wait_ms=500, **four)
    group.notified()
    group.at(50)
    assert group.notified() == {place_of("writer"), place_of("b"), HOLDERS_TOPIC}


def test_a_lease_that_ends_is_told_with_who_is_served(group: Group) -> None:
    group.acquire("a", ttl_ms=100)
    group.acquire("b", wait_ms=500)
    group.notified()
    group.at(99)
    assert group.notified() == set()
    group.at(100)
    assert group.notified() == {HOLDERS_TOPIC, place_of("b")}


def test_topics_are_those_of_the_resource(group: Group) -> None:
    group.acquire("a", "other")
    assert group.notified() == {"holders other"}
    group.acquire("b", "other", wait_ms=500)
    assert group.wait("b", "other") == "place other b"
    group.release("a", "other")
    assert group.notified() == {"holders other", "place other b"}


def test_a_refused_command_tells_nobody(group: Group) -> None:
    group.acquire("a", capacity=2)
    group.notified()
    with pytest.raises(CommandError):
        group.acquire("b", capacity=3)
    assert group.notified() == set()


# Against the obvious implementation.


@dataclass
class Plain:
    """One resource of four units, by lists that are gone through."""

    capacity: int = 4
    token: int = 0
    held: list[tuple[str, int, int, int]] = field(default_factory=list)
    line: list[tuple[str, int, int, int]] = field(default_factory=list)

    def serve(self, now_ms: int) -> None:
        while self.line:
            holder, units, ttl_ms, _ = self.line[0]
            if units > self.capacity - sum(each[1] for each in self.held):
                return
            self.line.pop(0)
            self.token += 1
            self.held.append((holder, units, self.token, now_ms + ttl_ms))

    def pass_to(self, now_ms: int) -> None:
        while True:
            due = [(end, holder) for holder, _, _, end in (*self.held, *self.line) if end <= now_ms]
            if not due:
                return
            self.leave(min(due)[1], now_ms)

    def leave(self, holder: str, now_ms: int) -> bool:
        was_held = any(each[0] == holder for each in self.held)
        self.held = [each for each in self.held if each[0] != holder]
        self.line = [each for each in self.line if each[0] != holder]
        self.serve(now_ms)
        return was_held

    def acquire(self, holder: str, units: int, ttl_ms: int, wait_ms: int, now_ms: int) -> object:
        for each in self.held:
            if each[0] == holder:
                return Granted(each[2])
        for place, waiting in enumerate(self.line):
            if waiting[0] == holder:
                self.line[place] = (*waiting[:3], now_ms + wait_ms)
                return Waiting(place)
        self.line.append((holder, units, ttl_ms, now_ms + wait_ms))
        self.serve(now_ms)
        if self.held and self.held[-1][0] == holder:
            return Granted(self.token)
        if not wait_ms:
            self.line.pop()
            return Busy()
        return Waiting(len(self.line) - 1)


HOLDERS = st.sampled_from("abcde")
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("acquire"), HOLDERS, st.integers(1, 4), st.integers(1, 9), st.integers(0, 9)
        ),
        st.tuples(st.just("release"), HOLDERS),
        st.tuples(st.just("renew"), HOLDERS, st.integers(1, 9)),
        st.tuples(st.just("pass"), st.integers(1, 6)),
    ),
    max_size=40,
)


@settings(max_examples=400, deadline=None)
@given(STEPS)
def test_it_does_what_plain_lists_do(steps: list[tuple[Any, ...]]) -> None:
    group, plain = Group(), Plain()
    tokens: list[int] = []
    before = group.look()
    for step in steps:
        match step:
            case ("acquire", holder, units, ttl_ms, wait_ms):
                result = group.acquire(
                    holder, units=units, capacity=4, ttl_ms=ttl_ms, wait_ms=wait_ms
                )
                assert result == plain.acquire(holder, units, ttl_ms, wait_ms, group.now_ms)
            case ("release", holder):
                assert group.release(holder) == Released(plain.leave(holder, group.now_ms))
            case ("renew", holder, ttl_ms):
                held = {each[0]: each for each in plain.held}
                own = held.get(holder)
                expected = Granted(own[2]) if own else Lost()
                assert group.renew(holder, own[2] if own else 1, ttl_ms) == expected
                plain.held = [
                    (*each[:3], group.now_ms + ttl_ms) if each[0] == holder else each
                    for each in plain.held
                ]
            case ("pass", milliseconds):
                group.at(group.now_ms + milliseconds)
                plain.pass_to(group.now_ms)
        seen = group.look()
        check_waiting(group, before, seen)
        before = seen
        assert [(h, e.units, e.token, e.ends_ns // MS) for h, e in seen.holdings.items()] == (
            plain.held
        )
        assert [(h, e.units, e.ttl_ms, e.ends_ns // MS) for h, e in seen.line.items()] == (
            plain.line
        )
        assert sum(each.units for each in seen.holdings.values()) <= 4
        tokens += [e.token for e in seen.holdings.values() if e.token not in tokens]
    assert tokens == sorted(tokens)


def check_waiting(group: Group, before: Resource, after: Resource) -> None:
    """Exactly those whom a step concerns are told, and whoever is told finds an answer."""
    told = {place_of(holder) for holder in before.line if holder not in after.line}
    held = [[each.token for each in seen.holdings.values()] for seen in (before, after)]
    if held[0] != held[1]:
        told.add(HOLDERS_TOPIC)
    assert group.notified() == told
    for holder in "abcde":
        if holder in after.line:
            assert group.wait(holder) == place_of(holder)
        elif holder in after.holdings:
            assert group.wait(holder) == Granted(after.holdings[holder].token)
        else:
            assert group.wait(holder) == Lost()
    latest = max(held[1], default=0)
    assert group.wait_for_change(latest) == HOLDERS_TOPIC
    assert group.wait_for_change(latest + 1) == after

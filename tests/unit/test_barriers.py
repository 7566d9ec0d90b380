"""The barriers machine: who is there, which round is passed, and that this is never forgotten."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.errors import CommandError, NotYetError, QueryError
from ray_paxos.machines import barriers
from ray_paxos.machines.barriers import (
    Arrived,
    BarrierResult,
    BarriersMachine,
    Gathering,
    Left,
    Passed,
)
from ray_paxos.machines.base import ApplyContext


class Group:
    """A machine, and what the latest command notified."""

    def __init__(self) -> None:
        self.machine = BarriersMachine()
        self.topics: set[str] = set()

    def apply(self, command: bytes) -> BarrierResult:
        context = ApplyContext(1)
        self.topics = context.topics
        result = self.machine.apply(command, context)
        assert result is not None
        return barriers.decode_result(result)

    def arrive(
        self, party: str, parties: int = 2, round: int = 0, name: str = "b"
    ) -> BarrierResult:
        return self.apply(barriers.encode_arrive(name, party, parties, round))

    def leave(self, party: str, round: int = 1, name: str = "b") -> BarrierResult:
        return self.apply(barriers.encode_leave(name, party, round))

    def wait(self, round: int = 1, name: str = "b") -> Passed:
        return barriers.decode_passed(self.machine.query(barriers.encode_wait(name, round)))

    def topic(self, round: int = 1, name: str = "b") -> str:
        with pytest.raises(NotYetError) as caught:
            self.wait(round, name)
        return caught.value.topic

    def look(self, name: str = "b") -> Gathering:
        return barriers.decode_gathering(self.machine.query(barriers.encode_look(name)))


@pytest.fixture
def group() -> Group:
    return Group()


def test_a_round_is_passed_once_all_are_there(group: Group) -> None:
    assert group.arrive("x", 3) == Arrived(1, 2, 0)
    assert group.arrive("y", 3) == Arrived(1, 1, 1)
    assert group.look() == Gathering(1, 3, {"x": 0, "y": 1})
    group.topic(1)
    assert group.arrive("z", 3) == Arrived(1, 0, 2)
    assert group.wait(1) == Passed(1)
    assert group.look() == Gathering(2, 0, {})
    assert group.arrive("x", 3) == Arrived(2, 2, 0)
    group.topic(2)
    assert group.wait(1) == Passed(1)


def test_to_arrive_again_changes_nothing(group: Group) -> None:
    group.arrive("x", 3)
    before = group.machine.digest()
    assert group.arrive("x", 3) == Arrived(1, 2, 0)
    assert group.machine.digest() == before
    group.arrive("y", 3)
    assert group.arrive("x", 3) == Arrived(1, 1, 0)
    group.topic(1)


def test_one_party_makes_a_round_alone(group: Group) -> None:
    assert group.arrive("x", 1) == Arrived(1, 0, 0)
    assert group.arrive("x", 1) == Arrived(2, 0, 0)
    assert group.wait(2) == Passed(2)


def test_parties_agree_on_how_many_they_are_while_anybody_is_there(group: Group) -> None:
    group.arrive("x", 3)
    before = group.machine.digest()
    for party in ("x", "y"):
        with pytest.raises(CommandError, match="3 parties make this round, not 2"):
            group.arrive(party, 2)
    assert group.machine.digest() == before
    assert group.leave("x") == Left(was_waiting=True)
    assert group.arrive("y", 2) == Arrived(1, 1, 0)
    assert group.arrive("x", 2) == Arrived(1, 0, 1)
    assert group.arrive("x", 4) == Arrived(2, 3, 0), "another round"


def test_who_leaves_is_not_counted(group: Group) -> None:
    group.arrive("x", 3)
    group.arrive("y", 3)
    assert group.leave("x") == Left(was_waiting=True)
    assert group.leave("x") == Left(was_waiting=False)
    assert group.look() == Gathering(1, 3, {"y": 1})
    assert group.arrive("z", 3) == Arrived(1, 1, 0), "the lowest place that is free"
    group.topic(1)
    assert group.arrive("x", 3) == Arrived(1, 0, 2)


def test_nobody_leaves_a_round_that_is_passed_or_another_than_it_names(group: Group) -> None:
    group.arrive("x")
    group.arrive("y")
    assert group.leave("x", 1) == Left(was_waiting=False)
    assert group.wait(1) == Passed(1)
    group.arrive("x")
    for round in (0, 1, 3):
        assert group.leave("x", round) == Left(was_waiting=False)
    assert group.leave("y", 2) == Left(was_waiting=False)
    assert group.leave("x", 2, "other") == Left(was_waiting=False)
    assert group.look().places == {"x": 0}


def test_who_names_a_round_arrives_at_no_other(group: Group) -> None:
    assert group.arrive("x", 2, 1) == Arrived(1, 1, 0)
    assert group.arrive("y", 2, 1) == Arrived(1, 0, 1)
    before = group.machine.digest()
    assert group.arrive("x", 2, 1) == Passed(1), "as one that is tried again does"
    with pytest.raises(CommandError, match="gather for round 2, not 3"):
        group.arrive("x", 2, 3)
    assert group.machine.digest() == before
    assert group.arrive("x", 2, 2) == Arrived(2, 1, 0)


def test_who_waits_for_a_round_is_told_once_it_is_passed(group: Group) -> None:
    first, second, other = group.topic(1), group.topic(2), group.topic(1, "other")
    assert len({first, second, other}) == 3
    group.arrive("x")
    assert group.topics == set()
    group.arrive("x", name="other")
    group.arrive("y")
    assert group.topics == {first}
    assert group.wait(1) == Passed(1)
    assert group.topic(2) == second
    group.arrive("x")
    group.leave("x", 2)
    assert group.topics == set()
    group.arrive("x")
    group.arrive("y")
    assert group.topics == {second}
    assert group.wait(2) == Passed(2)
    group.arrive("y", name="other")
    assert group.topics == {other}


def test_a_topic_is_of_one_barrier_alone(group: Group) -> None:
    assert group.topic(1, "1b") != group.topic(11, "b")
    assert group.topic(1, "1/b") != group.topic(1, "b")


def test_how_many_rounds_are_passed_is_not_forgotten(group: Group) -> None:
    """Not when nobody is there, nor when all have left the next round."""
    group.arrive("x", 1)
    group.arrive("x", 1)
    group.arrive("x", 5)
    group.leave("x", 3)
    assert [group.wait(round) for round in (1, 2)] == [Passed(1), Passed(2)]
    group.topic(3)
    assert group.arrive("x", 5) == Arrived(3, 4, 0)


def test_a_barrier_that_has_passed_no_round_is_forgotten_when_all_have_left(group: Group) -> None:
    group.arrive("x", 3)
    group.arrive("y", 3)
    group.leave("x")
    group.leave("y")
    assert group.machine.digest() == BarriersMachine().digest()
    group.topic(1)
    assert group.arrive("z", 3) == Arrived(1, 2, 0)


def test_barriers_are_bounded(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(barriers, "BARRIERS_MAX", 2)
    group.arrive("x", 1, name="a")
    group.arrive("x", 2, name="b")
    before = group.machine.digest()
    for parties in (1, 2):
        with pytest.raises(CommandError, match="2 barriers already"):
            group.arrive("x", parties, name="c")
    assert group.machine.digest() == before
    assert group.arrive("y", 2, name="a") == Arrived(2, 1, 0)
    group.leave("x", name="b")
    assert group.arrive("x", 1, name="c") == Arrived(1, 0, 0)


def test_those_who_wait_are_bounded(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(barriers, "WAITING_MAX", 3)
    group.arrive("x", name="a")
    group.arrive("x", 3)
    group.arrive("y", 3)
    with pytest.raises(CommandError, match="3 parties wait already"):
        group.arrive("x", name="c")
    assert group.arrive("x", 3) == Arrived(1, 1, 0), "those who are there may ask"
    assert group.arrive("z", 3) == Arrived(1, 0, 2), "who completes a round does not wait"
    assert group.arrive("x", name="c") == Arrived(1, 1, 0)
    assert group.arrive("x", name="d") == Arrived(1, 1, 0)
    with pytest.raises(CommandError, match="wait already"):
        group.arrive("x", name="e")
    group.leave("x", name="d")
    assert group.arrive("x", name="e") == Arrived(1, 1, 0)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (barriers.encode_arrive("b", "x", 0), "parties are 1 to"),
        (barriers.encode_arrive("b", "x", barriers.PARTIES_MAX + 1), "parties are 1 to"),
        (barriers.encode_arrive("b", "x", 2, -1), "rounds are from 1 on"),
        (barriers.encode_arrive("b" * 501, "x", 2), "a name has at most 500"),
        (barriers.encode_arrive("b", "x" * 101, 2), "a party's name has at most 100"),
    ],
    ids=["no parties", "too many parties", "negative round", "long name", "long party"],
)
def test_what_means_nothing_changes_nothing(group: Group, command: bytes, why: str) -> None:
    with pytest.raises(CommandError, match=why):
        group.apply(command)
    assert group.machine.digest() == BarriersMachine().digest()


def test_what_cannot_be_read_is_refused(group: Group) -> None:
    for wrong in (b"", b"junk", msgspec.msgpack.encode(["arrive", "b", "x"])):
        with pytest.raises(CommandError, match="not a command of the barriers machine"):
            group.machine.apply(wrong, ApplyContext(1))
        with pytest.raises(QueryError, match="not a query of the barriers machine"):
            group.machine.query(wrong)
    with pytest.raises(QueryError, match="from 1 on") as caught:
        group.wait(0)
    assert not isinstance(caught.value, NotYetError)


def test_a_saved_state_goes_on_as_the_other(
    group: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(barriers, "WAITING_MAX", 3)
    group.arrive("x", 1, name="a")
    for party in "xyz":
        group.arrive(party, 4)
    group.leave("x")
    group.machine.save(tmp_path)
    loaded = Group()
    loaded.arrive("x", 5, name="something else")
    loaded.machine.load(tmp_path)
    assert loaded.machine.digest() == group.machine.digest()
    for each in (group, loaded):
        assert each.wait(1, "a") == Passed(1)
        assert each.look("something else") == Gathering(1, 0, {})
        assert each.arrive("v", 4) == Arrived(1, 1, 0)
        with pytest.raises(CommandError, match="wait already"):
            each.arrive("x", 2, name="a")
        assert each.arrive("w", 4) == Arrived(1, 0, 3)
    assert loaded.machine.digest() == group.machine.digest()


# Against the obvious implementation.


@dataclass
class Plain:
    """One barrier, as the history of its rounds."""

    rounds: list[list[str]] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    parties: int = 0
    places: dict[str, int] = field(default_factory=dict)

    def arrive(self, party: str, parties: int, round: int) -> BarrierResult | None:
        """What comes of it; None where it is refused."""
        gathering = len(self.rounds) + 1
        if round > gathering:
            return None
        if round and round < gathering:
            return Passed(round)
        if self.there and self.parties != parties:
            return None
        self.parties = parties
        if party not in self.there:
            self.there.append(party)
            self.places[party] = min(set(range(parties)) - set(self.places.values()))
        missing, place = parties - len(self.there), self.places[party]
        if not missing:
            assert sorted(self.places.values()) == list(range(parties))
            self.rounds.append(self.there)
            self.there, self.places = [], {}
        return Arrived(gathering, missing, place)

    def leave(self, party: str, round: int) -> BarrierResult:
        if round != len(self.rounds) + 1 or party not in self.there:
            return Left(was_waiting=False)
        self.there.remove(party)
        del self.places[party]
        return Left(was_waiting=True)


NAMES, PARTIES = st.sampled_from("ab"), st.sampled_from("vwxyz")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), NAMES, PARTIES, st.sampled_from([1, 2, 3, 3, 3]), st.just(0)),
        st.tuples(st.just("arrive"), NAMES, PARTIES, st.just(3), st.integers(0, 4)),
        st.tuples(st.just("arrive"), NAMES, PARTIES, st.just(3), st.just(0)),
        st.tuples(st.just("leave"), NAMES, PARTIES, st.integers(0, 4)),
        st.tuples(st.just("save")),
    ),
    max_size=40,
)


def applied(group: Group, step: tuple[Any, ...]) -> BarrierResult | None:
    what, name, party, *arguments = step
    try:
        if what == "leave":
            return group.leave(party, arguments[0], name)
        return group.arrive(party, arguments[0], arguments[1], name)
    except CommandError:
        assert group.topics == set()
        return None


@settings(max_examples=400, deadline=None)
@given(STEPS)
def test_it_does_what_a_history_of_rounds_does(steps: list[tuple[Any, ...]]) -> None:
    group, replica, plain = Group(), Group(), {"a": Plain(), "b": Plain()}
    for step in steps:
        if step[0] == "save":
            loaded = Group()
            with TemporaryDirectory() as directory:
                replica.machine.save(Path(directory))
                loaded.machine.load(Path(directory))
            replica = loaded
            continue
        what, name, *arguments = step
        waiting = {
            (each, round): group.topic(round, each)
            for each in plain
            for round in range(len(plain[each].rounds) + 1, len(plain[each].rounds) + 4)
        }
        expected = getattr(plain[name], what)(*arguments)
        assert applied(group, step) == applied(replica, step) == expected
        told = {
            topic for (each, round), topic in waiting.items() if round <= len(plain[each].rounds)
        }
        assert group.topics == told
        for each, history in plain.items():
            passed = len(history.rounds)
            assert [group.wait(round, each) for round in range(1, passed + 1)] == [
                Passed(round) for round in range(1, passed + 1)
            ]
            group.topic(passed + 1, each)
            seen = group.look(each)
            assert (seen.round, list(seen.places)) == (passed + 1, history.there)
            assert seen.places == history.places
            assert seen.parties == (history.parties if history.there else 0)
        assert group.machine.digest() == replica.machine.digest()

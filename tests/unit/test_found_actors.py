"""Actors are looked up once for all clients, and nobody waits for Ray longer than he wants to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError

from ray_paxos.actors import found_actors
from ray_paxos.actors.answers import state_of
from ray_paxos.actors.found_actors import FoundActors, NotFoundYetError
from ray_paxos.actors.quorum_reader import QuorumReadTurn
from ray_paxos.actors.read_calls import LOOK_UP_S, ReadCall, ReadCalls
from ray_paxos.actors.reader import Reader
from ray_paxos.actors.role_actors import FoundRoles
from ray_paxos.actors.roster import Roster
from ray_paxos.core.client_messages import Consistency, QueryResult
from ray_paxos.core.genesis import Genesis, MemberSpec
from ray_paxos.core.messages import Address, Envelope, RoleName
from ray_paxos.core.patience import Patience
from ray_paxos.core.read_problems import ReadProblem
from ray_paxos.core.wire import encode_envelopes
from tests.unit.core_helpers import submit

PATIENCE_S = 20.0
SHORT_S = 0.05
GENESIS = Genesis(1, "demo", "0" * 32, (MemberSpec("m1", 1), MemberSpec("m2", 2)), ())


class Gcs:
    """Finds actors; those whose names are in `away` only once it is back.

    Attributes:
        asked: For which names it was asked.
        unknown: Names that no actor has.
        answer: What an actor gives for any call, by its name.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.away: set[str] = set()
        self.unknown: set[str] = set()
        self.answer: Callable[[str], bytes] = lambda name: name.encode()
        self._is_back = threading.Event()

    def come_back(self) -> None:
        self.away.clear()
        self._is_back.set()

    def find(self, name: str) -> Any:
        self.asked.append(name)
        if name in self.away:
            assert self._is_back.wait(PATIENCE_S)
        if name in self.unknown:
            raise ValueError(f"no actor {name}")
        return PlayedActor(self, name)


class PlayedActor:
    def __init__(self, gcs: Gcs, name: str) -> None:
        self._gcs = gcs
        self._name = name

    def call(self, method: str, *arguments: object) -> bytes:
        return self._gcs.answer(self._name)


@pytest.fixture
def gcs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gcs]:
    gcs = Gcs()
    monkeypatch.setattr(found_actors, "FoundActor", gcs.find)
    yield gcs
    gcs.come_back()


def test_one_look_up_serves_all_who_wait_for_it_and_who_comes_later(gcs: Gcs) -> None:
    actors = FoundActors()
    gcs.away = {"a"}
    found: list[object] = []
    waiting = [
        threading.Thread(target=lambda: found.append(actors.find("a", PATIENCE_S)))
        for _ in range(4)
    ]
    for each in waiting:
        each.start()
    with pytest.raises(NotFoundYetError, match="actor a"):
        actors.find("a", SHORT_S)
    assert not actors.knows("a")
    gcs.come_back()
    for each in waiting:
        each.join(PATIENCE_S)
    assert found == [actors.find("a", 0.0)] * 4
    assert actors.knows("a")
    assert gcs.asked == ["a"]


def test_a_name_that_no_actor_has_is_asked_for_again(gcs: Gcs) -> None:
    actors = FoundActors()
    gcs.unknown = {"a"}
    for _ in range(2):
        with pytest.raises(ValueError, match="no actor a"):
            actors.find("a", PATIENCE_S)
    gcs.unknown = set()
    actors.find("a", PATIENCE_S)
    assert gcs.asked == ["a"] * 3


def test_a_handle_is_forgotten_by_whoever_saw_it_fail_unless_there_is_a_newer_one(
    gcs: Gcs,
) -> None:
    actors = FoundActors()
    old = actors.find("a", PATIENCE_S)
    newer = actors.look_up("a")
    assert newer is not old
    actors.forget("a", old)
    assert actors.find("a", 0.0) is newer
    actors.forget("a", newer)
    assert not actors.knows("a")


def test_who_looks_at_members_does_not_keep_others_from_finding_an_actor(gcs: Gcs) -> None:
    actors, is_over = FoundActors(), threading.Event()
    actors.run(lambda: is_over.wait(PATIENCE_S))
    assert actors.find("a", PATIENCE_S) is not None
    is_over.set()


# What reads make of it.


def calls_of(roster: Roster) -> ReadCalls:
    return ReadCalls(roster=roster, group=1, client_id=9, is_fused=True)


def ask(calls: ReadCalls, member: int, within_s: float = SHORT_S) -> ReadCall | ReadProblem:
    (started,) = calls.start(RoleName.LEARNER, submit(1), member, within_s=within_s)
    return started


def test_what_one_client_has_called_another_calls_while_the_gcs_is_away(gcs: Gcs) -> None:
    roster = Roster(GENESIS)
    one, other = calls_of(roster), calls_of(roster)
    FoundRoles(roster, is_fused=True).find(1, RoleName.PROPOSER)
    assert one.knows(RoleName.LEARNER, 1), "a fused member is one actor"
    assert isinstance(ask(one, 1), ReadCall)
    assert isinstance(ask(one, 2, PATIENCE_S), ReadCall)
    gcs.away = set(gcs.asked)
    assert isinstance(ask(other, 2), ReadCall)
    assert len(gcs.asked) == 2


def test_a_call_of_a_member_that_nobody_has_called_waits_for_ray_as_long_as_it_is_told(
    gcs: Gcs,
) -> None:
    roster = Roster(GENESIS)
    calls = calls_of(roster)
    assert isinstance(ask(calls, 1, PATIENCE_S), ReadCall)
    gcs.away = {gcs.asked[0].replace("m1", "m2")}
    for within_s in (SHORT_S, PATIENCE_S):
        began_s = time.monotonic()
        problem = ask(calls, 2, within_s)
        assert isinstance(problem, ReadProblem)
        assert "m2 was never called" in problem.text
        assert time.monotonic() - began_s < LOOK_UP_S + 1.0, "no longer than that, for anybody"
    gcs.come_back()
    assert isinstance(ask(calls, 2, PATIENCE_S), ReadCall)


def test_a_member_that_died_is_looked_up_again_by_all(gcs: Gcs) -> None:
    roster = Roster(GENESIS)
    one, other = calls_of(roster), calls_of(roster)
    for each in (one, other):
        ask(each, 1, PATIENCE_S)
    one.lost(1, ActorDiedError())
    assert not one.knows(RoleName.LEARNER, 1)
    ask(one, 1, PATIENCE_S)
    assert len(gcs.asked) == 2
    other.lost(1, ActorDiedError())
    assert other.knows(RoleName.LEARNER, 1), "what the other one has found since stands"


def test_looking_for_members_waits_for_ray_as_long_as_it_is_told(
    gcs: Gcs, monkeypatch: pytest.MonkeyPatch
) -> None:
    roster, is_over = Roster(GENESIS), threading.Event()
    monkeypatch.setattr(roster, "look", lambda: is_over.wait(PATIENCE_S))
    for within_s in (SHORT_S, PATIENCE_S):
        began_s = time.monotonic()
        calls_of(roster).look_for_members(within_s)
        assert time.monotonic() - began_s < LOOK_UP_S + 1.0
    is_over.set()


def test_a_read_at_any_member_passes_over_one_that_ray_cannot_find(
    gcs: Gcs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 3 s, it took 22 s while the GCS was away and a member had joined."""
    roster = Roster(GENESIS)
    result = QueryResult(1, 5, b"x", None)
    envelope = Envelope(GENESIS.hash(), 1, Address(1, RoleName.LEARNER), 9, 1, 0, result)
    answer = encode_envelopes((envelope,))
    assert state_of(answer) is None
    gcs.answer = lambda name: answer
    monkeypatch.setattr(ray, "get", lambda references, timeout: list(references))
    reader = Reader(
        roster=roster,
        patience=Patience((1, 2)),
        group=1,
        has_lease=True,
        turn=QuorumReadTurn(),
        is_fused=True,
    )
    assert isinstance(ask(reader.read_calls, 1, PATIENCE_S), ReadCall)
    gcs.away = {gcs.asked[0].replace("m1", "m2")}
    reader._follower = 2
    began_s = time.monotonic()
    value = reader.read(
        b"?", "kv", Consistency.STALE, at_least=0, max_staleness_ms=None, timeout_s=PATIENCE_S
    )
    assert value == b"x"
    assert time.monotonic() - began_s < LOOK_UP_S + 1.0

"""The order to observe, or not: who is told, and what is said of those who are not reached."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray.exceptions import RayActorError

from ray_paxos.actors import administration as module
from ray_paxos.actors.administration import Administration
from ray_paxos.actors.bootstrapping import make_genesis
from ray_paxos.actors.roster import Roster
from ray_paxos.config import parse_configuration
from ray_paxos.core.wanted import MemberState
from ray_paxos.errors import ClusterError, NoMasterError
from ray_paxos.operations import Operations

GENESIS = make_genesis(parse_configuration("cluster: demo\nmembers: 3\n"))
ROLES = ("proposer", "acceptor", "learner", "checkpointer")
EVERYBODY = [(f"m{number}/{role}", False) for number in (1, 2, 3) for role in ROLES]
LATE = "late"


class PlayedActor:
    """Takes the order, as the actor of one role or of a whole member; or does not."""

    def __init__(self, played: PlayedRay, place: str) -> None:
        self._played = played
        self._place = place

    @property
    def observe(self) -> Any:
        problem = self._played.problems.get(self._place)
        if isinstance(problem, AttributeError):
            raise problem
        return SimpleNamespace(remote=lambda is_on: self._take(self._place, is_on))

    @property
    def ask(self) -> Any:
        def ask(role: str, method: str, is_on: bool) -> Any:
            assert method == "observe"
            return self._take(f"{self._place.split('/')[0]}/{role}", is_on)

        return SimpleNamespace(remote=ask)

    def _take(self, place: str, is_on: bool) -> Any:
        problem = self._played.problems.get(place)
        if problem is None:
            self._played.told.append((place, is_on))
        return (place, problem)


class PlayedRay:
    """As much of Ray as the order uses.

    Attributes:
        problems: By role: an error that the call comes to, LATE, or ValueError for no actor.
        told: Who took the order.
    """

    def __init__(self) -> None:
        self.problems: dict[str, Any] = {}
        self.told: list[tuple[str, bool]] = []
        self.is_there = True

    def is_initialized(self) -> bool:
        return self.is_there

    def get_actor(self, name: str, namespace: str) -> PlayedActor:
        place = name.removeprefix("demo/")
        if isinstance(self.problems.get(place), ValueError):
            raise self.problems[place]
        return PlayedActor(self, place)

    def wait(self, references: Any, num_returns: int, timeout: float) -> Any:
        late = [each for each in references if each[1] == LATE]
        return [each for each in references if each not in late], late

    def get(self, reference: Any) -> None:
        if reference[1] is not None:
            raise reference[1]


class PlayedSystem:
    """Group 0, which knows that somebody has gone; or does not answer."""

    def __init__(self) -> None:
        self.gone: set[str] = set()
        self.answers = True

    def last_known(self, *, timeout_s: float) -> Any:
        if not self.answers:
            raise NoMasterError("nobody")
        states = (
            (each.name, MemberState.GONE if each.name in self.gone else MemberState.PRESENT)
            for each in GENESIS.members
        )
        return SimpleNamespace(
            members={
                name: SimpleNamespace(spec=SimpleNamespace(name=name), state=state)
                for name, state in states
            }
        )


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> PlayedRay:
    made = PlayedRay()
    monkeypatch.setattr(module, "ray", made)
    monkeypatch.setattr(Roster, "look", lambda self, at_once=False: False)
    return made


@pytest.fixture
def system() -> PlayedSystem:
    return PlayedSystem()


@pytest.fixture
def order(played: PlayedRay, system: PlayedSystem) -> Callable[..., tuple[str, ...]]:
    def give(is_on: bool, *, is_fused: bool = False) -> tuple[str, ...]:
        administration = Administration(Roster(GENESIS), is_fused=is_fused)
        operations = Operations(cast(Any, None), administration, cast(Any, None), cast(Any, system))
        return operations.observe(is_on)

    return give


@pytest.mark.parametrize("is_fused", [False, True])
@pytest.mark.parametrize("answers", [False, True])
def test_every_role_of_every_member_is_told_also_without_group_0(
    order: Any, played: PlayedRay, system: PlayedSystem, is_fused: bool, answers: bool
) -> None:
    system.answers = answers
    assert order(False, is_fused=is_fused) == ("m1", "m2", "m3")
    assert sorted(played.told) == sorted(EVERYBODY)
    played.told.clear()
    order(True, is_fused=is_fused)
    assert {is_on for _, is_on in played.told} == {True}


def test_who_has_gone_for_ever_is_not_missed(
    order: Any, played: PlayedRay, system: PlayedSystem
) -> None:
    system.gone = {"m2"}
    assert order(False) == ("m1", "m3")
    assert len(played.told) == 8


def test_who_is_not_reached_is_named_with_what_to_do_and_all_others_are_told(
    order: Any, played: PlayedRay
) -> None:
    played.problems["m1/learner"] = LATE
    played.problems["m2/acceptor"] = AttributeError("observe")
    played.problems |= {f"m3/{role}": ValueError("a page of Ray's advice") for role in ROLES}
    with pytest.raises(ClusterError) as caught:
        order(False)
    assert str(caught.value) == (
        "observing was switched off, but not everywhere: m1/learner: no answer within 5 s; "
        "m2/acceptor: it is of another release, which cannot be switched; "
        "m3: no such actor lives in the Ray cluster. "
        "What starts again does as observability.enabled says: give the order again once it serves"
    )
    assert len(played.told) == 6


def test_each_role_has_the_reason_that_is_its_own(order: Any, played: PlayedRay) -> None:
    played.problems |= {f"m3/{role}": RayActorError() for role in ROLES[:3]}
    played.problems["m3/checkpointer"] = LATE
    with pytest.raises(ClusterError, match=r"switched on, .*m3/proposer: .*; m3/checkpointer: no"):
        order(True)


def test_a_process_that_is_connected_to_no_ray_says_so(order: Any, played: PlayedRay) -> None:
    played.is_there = False
    with pytest.raises(ClusterError, match="m1: this process is not connected to Ray"):
        order(False)

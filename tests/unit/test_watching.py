"""Asking all roles at once: who is late is not waited for, and never asked twice at a time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayActorError, RaySystemError

from ray_paxos.actors import questions as questions_module
from ray_paxos.actors.questions import NOT_FOUND, OLDER, Questions
from ray_paxos.actors.watching import Loss
from ray_paxos.observability.report import RoleReport, encode_report

REPORT = encode_report(RoleReport(at_ms=5, incarnation=1))


class Call:
    """What a call gives: a reference, which tests answer."""

    def __init__(self, member: str, role: str, events_after: int) -> None:
        self.member = member
        self.role = role
        self.events_after = events_after
        self.answer: Any = None


class PlayedRay:
    """The part of Ray that questions need: three members, each one actor."""

    def __init__(self) -> None:
        self.dead: set[str] = set()
        self.standing_still: set[str] = set()
        self.calls: list[Call] = []
        self.waits: list[float] = []
        self.looked_up = 0
        self.checks = 0
        self.is_control_there = True
        self.lookup_error: Exception | None = None
        self.answer: Any = ({"phase": "serving"}, REPORT)

    def is_initialized(self) -> bool:
        return True

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(gcs_address="10.0.0.1:6379")

    def is_listening(self, address: str) -> bool:
        assert address == "10.0.0.1:6379"
        self.checks += 1
        return self.is_control_there

    def get_actor(self, name: str, namespace: str) -> Any:
        assert self.is_control_there, "it would wait for a minute"
        if self.lookup_error is not None:
            raise self.lookup_error
        self.looked_up += 1
        member = name.split("/")[1]
        if member in self.dead:
            raise ValueError("no such actor")
        return PlayedActor(self, member)

    def wait(
        self, references: list[Call], num_returns: int, timeout: float
    ) -> tuple[list[Call], list[Call]]:
        assert num_returns == len(references)
        self.waits.append(timeout)
        done = [each for each in references if each.member not in self.standing_still]
        return done, [each for each in references if each not in done]

    def get(self, reference: Call) -> Any:
        if reference.member in self.dead:
            raise RayActorError
        return self.answer


class PlayedActor:
    def __init__(self, played: PlayedRay, member: str) -> None:
        self._played = played
        self._member = member
        self.ask = self

    def remote(self, role: str, method: str, events_after: int, with_slow: bool) -> Call:
        assert (method, with_slow) == ("report", False)
        call = Call(self._member, role, events_after)
        self._played.calls.append(call)
        return call


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> PlayedRay:
    made = PlayedRay()
    monkeypatch.setattr(questions_module, "ray", made)
    monkeypatch.setattr(questions_module, "is_listening", made.is_listening)
    return made


@pytest.fixture
def questions() -> Questions:
    return Questions("demo", is_fused=True)


MEMBERS = ("m1", "m2", "m3")


def silent(answers: dict[tuple[str, str], Any]) -> dict[str, str]:
    return {member: each for (member, _), each in answers.items() if isinstance(each, str)}


def test_all_roles_are_asked_at_once(played: PlayedRay, questions: Questions) -> None:
    answers = questions.ask(MEMBERS, {("m1", "learner"): 7}, 2.0)
    assert len(answers) == len(played.calls) == 12
    assert silent(answers) == {}
    after = {(call.member, call.role): call.events_after for call in played.calls}
    assert (after["m1", "learner"], after["m2", "learner"]) == (7, 0)
    assert answers["m1", "acceptor"] == ({"phase": "serving"}, RoleReport(at_ms=5, incarnation=1))


def test_who_stands_still_is_waited_for_once_and_asked_once(
    played: PlayedRay, questions: Questions
) -> None:
    played.standing_still = {"m2"}
    first = questions.ask(MEMBERS, {}, 2.0)
    assert silent(first) == {"m2": "no answer within 2 s"}
    assert len(first) == 12
    for _ in range(50):
        played.waits.clear()
        later = questions.ask(MEMBERS, {}, 2.0)
        assert silent(later) == {"m2": "it has not answered for a while"}
    assert sum(call.member == "m2" for call in played.calls) == 4, "it finds no heap of questions"
    played.standing_still = set()
    assert silent(questions.ask(MEMBERS, {}, 2.0)) == {}
    questions.ask(MEMBERS, {}, 2.0)
    assert sum(call.member == "m2" for call in played.calls) == 8


def test_only_those_that_are_not_late_are_waited_for(
    played: PlayedRay, questions: Questions, monkeypatch: pytest.MonkeyPatch
) -> None:
    played.standing_still = {"m2"}
    questions.ask(MEMBERS, {}, 2.0)
    waited: list[set[str]] = []
    wait = played.wait

    def noting(references: list[Call], num_returns: int, timeout: float) -> Any:
        if timeout:
            waited.append({each.member for each in references})
        return wait(references, num_returns, timeout)

    monkeypatch.setattr(played, "wait", noting)
    questions.ask(MEMBERS, {}, 2.0)
    assert waited == [{"m1", "m3"}]


def test_one_that_is_gone_is_looked_up_again(played: PlayedRay, questions: Questions) -> None:
    questions.ask(MEMBERS, {}, 2.0)
    played.dead = {"m2"}
    assert "RayActorError" in silent(questions.ask(MEMBERS, {}, 2.0))["m2"]
    assert silent(questions.ask(MEMBERS, {}, 2.0)) == {
        "m2": "no such actor lives in the Ray cluster"
    }
    played.dead = set()
    assert silent(questions.ask(MEMBERS, {}, 2.0)) == {}


def test_without_the_control_service_nobody_is_looked_up(
    played: PlayedRay, questions: Questions
) -> None:
    questions.ask(("m1", "m2"), {}, 2.0)
    played.is_control_there = False
    played.dead = {"m2"}
    for _ in range(3):
        told = silent(questions.ask(MEMBERS, {}, 2.0))
        assert "RayActorError" in told["m2"], "by the handle that was found before"
        assert told["m3"] == NOT_FOUND
        assert "m1" not in told
    played.is_control_there, played.dead = True, set()
    assert silent(questions.ask(MEMBERS, {}, 2.0)) == {}


def test_the_control_service_is_tried_once_for_all_that_are_asked(
    played: PlayedRay, questions: Questions
) -> None:
    questions.ask(MEMBERS, {}, 2.0)
    assert (played.checks, played.looked_up) == (1, 3)
    questions.ask(MEMBERS, {}, 2.0)
    assert (played.checks, played.looked_up) == (1, 3), "all are known"
    played.is_control_there = False
    Questions("demo", is_fused=True).ask(MEMBERS, {}, 2.0)
    assert played.checks == 2


@pytest.mark.parametrize(
    "error",
    [RaySystemError("x"), ConnectionError("x"), RuntimeError("x")],
    ids=lambda e: type(e).__name__,
)
def test_a_lookup_that_fails_is_told(
    played: PlayedRay, questions: Questions, error: Exception
) -> None:
    played.lookup_error = error
    assert silent(questions.ask(MEMBERS, {}, 2.0)) == dict.fromkeys(MEMBERS, NOT_FOUND)


def test_one_that_has_left_is_forgotten(played: PlayedRay, questions: Questions) -> None:
    played.standing_still = {"m2"}
    questions.ask(MEMBERS, {}, 2.0)
    answers = questions.ask(("m1", "m3"), {}, 2.0)
    assert {member for member, _ in answers} == {"m1", "m3"}


def test_one_of_another_release_is_told(played: PlayedRay, questions: Questions) -> None:
    played.answer = ({}, b"\xc1")
    assert set(silent(questions.ask(MEMBERS, {}, 2.0)).values()) == {OLDER}


def test_a_loss_is_measured_from_when_it_was_found() -> None:
    loss = Loss()
    assert loss.lost_s(is_there=True, now_s=5) == 0
    assert loss.lost_s(is_there=False, now_s=10) == 0
    assert loss.lost_s(is_there=False, now_s=40) == 30
    assert loss.lost_s(is_there=True, now_s=41) == 0
    assert loss.lost_s(is_there=False, now_s=50) == 0

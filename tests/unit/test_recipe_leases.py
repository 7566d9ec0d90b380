"""Leases that a process keeps, by a clock that moves by hand; and the thread that keeps them."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future

import pytest

from ray_paxos.actors.outcomes import Result
from ray_paxos.errors import LeaseLostError, NoMasterError, OverloadedError, PaxosError
from ray_paxos.recipes import leases
from ray_paxos.recipes.leases import KeptLease
from tests.unit.recipe_bench import in_thread

GRANTED = Result(b"yes", 1, 0)
LOST = Result(b"no", 1, 0)


class NoKeeper:
    """The test itself looks at the lease when it is due."""

    def keep(self, lease: KeptLease) -> None:
        pass


class Held:
    """A lease of ten seconds that was asked for at 100."""

    def __init__(self, known_from_s: float | None) -> None:
        self.now_s = 100.0
        self.renewals: list[Future[Result]] = []
        self.errors: list[PaxosError] = []
        self.lost: list[str] = []
        self.lease = KeptLease(
            "the lock",
            7,
            10.0,
            self.renew,
            lambda result: result == GRANTED,
            known_from_s=known_from_s,
            on_lost=lambda: self.lost.append("lost"),
            clock=lambda: self.now_s,
        )

    def renew(self) -> Future[Result]:
        if self.errors:
            raise self.errors.pop()
        self.renewals.append(Future())
        return self.renewals[-1]

    def at(self, now_s: float) -> KeptLease:
        self.now_s = now_s
        return self.lease

    def is_due(self, now_s: float) -> bool:
        due_s = self.at(now_s).next_due_s()
        return due_s is not None and due_s <= now_s

    def hears(self) -> None:
        deadline_s = time.monotonic() + 10
        while not self.lost:
            assert time.monotonic() < deadline_s
            time.sleep(0.001)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    monkeypatch.setattr(leases, "_keeper_of_this_process", NoKeeper)
    return Held(100.0)


def test_it_is_held_for_its_ttl_less_the_drift_from_when_it_was_asked_for(held: Held) -> None:
    assert held.at(103).remaining_s == pytest.approx(6.9)
    assert held.at(109.8).is_held
    assert not held.at(109.91).is_held
    with pytest.raises(LeaseLostError, match="the lock is not known to be held"):
        held.lease.check()


def test_it_is_renewed_every_third_of_its_ttl_from_when_each_was_sent(held: Held) -> None:
    assert not held.is_due(103.3)
    assert held.is_due(103.4)
    held.lease.go_on()
    assert len(held.renewals) == 1
    assert not held.is_due(106.6)
    held.at(108).check()
    held.renewals[0].set_result(GRANTED)
    assert held.lease.remaining_s == pytest.approx(103.4 + 9.9 - 108)
    held.at(112).check()


def test_what_is_not_answered_ends_by_the_own_clock(held: Held) -> None:
    for now_s in (103.4, 106.8):
        assert held.is_due(now_s)
        held.lease.go_on()
    assert held.is_due(109.95)
    held.lease.go_on()
    assert held.lease.next_due_s() is None
    held.hears()
    held.renewals[0].set_result(GRANTED)
    assert not held.lease.is_held
    held.lease.go_on()
    assert held.lost == ["lost"]
    assert len(held.renewals) == 2


def test_an_answer_that_comes_too_late_makes_nothing_held_again(held: Held) -> None:
    held.at(103.4).go_on()
    assert not held.at(110).is_held
    held.renewals[0].set_result(GRANTED)
    assert not held.lease.is_held
    held.hears()
    held.lease.go_on()
    assert held.lost == ["lost"]


def test_what_the_machine_says_is_lost_is_lost_at_once(held: Held) -> None:
    held.at(103.4).go_on()
    held.renewals[0].set_result(LOST)
    assert not held.lease.is_held
    held.hears()
    assert held.lost == ["lost"]


def test_a_renewal_that_fails_is_tried_again(held: Held) -> None:
    held.errors.append(OverloadedError("no room"))
    held.at(103.4).go_on()
    held.at(106.8).go_on()
    held.renewals[0].set_exception(NoMasterError(""))
    assert held.lease.is_held
    held.at(109).go_on()
    held.renewals[1].set_result(GRANTED)
    assert held.at(118.8).is_held
    cancelled = held.renewals
    held.at(112).go_on()
    cancelled[2].cancel()
    assert held.lease.is_held


def test_an_earlier_renewal_that_is_answered_later_shortens_nothing(held: Held) -> None:
    held.at(103).go_on()
    held.at(106).go_on()
    held.renewals[1].set_result(GRANTED)
    held.renewals[0].set_result(GRANTED)
    assert held.at(115.8).is_held


def test_what_was_waited_for_is_not_known_before_its_renewal_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leases, "_keeper_of_this_process", NoKeeper)
    held = Held(None)
    assert held.is_due(100)
    held.lease.go_on()
    asked = in_thread(lambda: held.lease.is_held)
    time.sleep(0.05)
    assert not asked.done()
    held.renewals[0].set_result(GRANTED)
    assert asked.result(10)
    assert held.at(109.8).is_held


def test_what_was_waited_for_and_never_answered_is_never_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leases, "_keeper_of_this_process", NoKeeper)
    held = Held(None)
    held.lease.go_on()
    asked = in_thread(lambda: held.lease.is_held)
    held.at(109.95).go_on()
    assert not asked.result(10)
    held.hears()


def test_a_lease_that_is_ended_is_renewed_no_more(held: Held) -> None:
    held.at(103.4).go_on()
    held.lease.end()
    assert held.lease.next_due_s() is None
    held.renewals[0].set_result(LOST)
    held.at(120).go_on()
    assert not held.lease.is_held
    time.sleep(0.02)
    assert not held.lost
    assert len(held.renewals) == 1


def test_the_keeper_renews_in_time_and_survives_what_fails() -> None:
    renewed = threading.Event()
    count = 0

    def bad() -> Future[Result]:
        raise RuntimeError("of a user's")

    def good() -> Future[Result]:
        nonlocal count
        count += 1
        if count > 5:
            renewed.set()
        future: Future[Result] = Future()
        future.set_result(GRANTED)
        return future

    now_s = leases.boot_time_s()
    made = [
        KeptLease("x", 1, 0.3, renew, lambda result: True, known_from_s=now_s)
        for renew in (bad, good)
    ]
    assert renewed.wait(20)
    assert not made[0].is_held
    for each in made:
        each.end()

"""Ledgers, over a real machine in this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ray_paxos.errors import (
    CommandError,
    ConfigurationError,
    LeaseLostError,
    NoMasterError,
    OutcomeUnknownError,
    WaitTimeoutError,
)
from ray_paxos.machines import ledgers
from ray_paxos.machines.ledger_messages import encode
from ray_paxos.recipes.ledger import Claim, Done, Ledger, Running, Unknown
from tests.unit.recipe_bench import Bench, PlayedCluster, in_thread, set_up


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return set_up(monkeypatch)


@pytest.fixture
def jobs(bench: Bench) -> Ledger[Any]:
    return PlayedCluster(bench).ledger("nightly", lease_s=30)


def claimed(jobs: Ledger[Any], key: str = "a", **options: Any) -> Claim[Any]:
    found = jobs.begin(key, **options)
    assert isinstance(found, Claim)
    return found


def test_a_key_has_one_owner_and_one_outcome(bench: Bench, jobs: Ledger[Any]) -> None:
    assert jobs.look("a") == Unknown(0)
    claim = claimed(jobs, owner="ann")
    assert (claim.key, claim.owner, claim.attempt) == ("a", "ann", 1)
    assert claim.is_held
    assert 29.6 < claim.remaining_s <= 29.7
    claim.check()
    assert "'a'" in repr(claim)
    assert jobs.begin("a") == jobs.look("a") == Running("ann", 1)
    done = claim.commit({"rows": 3})
    assert done == Done({"rows": 3}, "ann", 1, claim.token)
    assert jobs.begin("a") == jobs.look("a") == jobs.wait_for_outcome("a") == done
    assert claim.commit({"rows": 3}) == done, "the same again"
    with pytest.raises(LeaseLostError, match="not committed"):
        claim.commit({"rows": 4})
    assert not claim.is_held
    assert claimed(jobs, "b").token > claim.token
    assert jobs.forget("a")
    assert not jobs.forget("a")
    assert claimed(jobs).token > claim.token


def test_a_claim_is_renewed_until_it_ends(bench: Bench, jobs: Ledger[Any]) -> None:
    lost = threading.Event()
    claim = claimed(jobs, on_lost=lost.set)
    bench.advance(300)
    claim.check()
    claim.commit(1)
    bench.advance(100)
    assert not bench.keeper.leases
    assert not lost.is_set()


def test_a_renewal_behind_the_commit_loses_nothing(bench: Bench, jobs: Ledger[Any]) -> None:
    lost = threading.Event()
    claim = claimed(jobs, on_lost=lost.set)
    bench.is_answering = False
    commit = in_thread(lambda: claim.commit(1))
    bench.until(lambda: len(bench.commands) == 2)
    bench.advance(10)
    assert len(bench.commands) == 3, "renewed meanwhile"
    (commit_, renewal) = bench._unanswered
    bench._unanswered = [renewal, commit_]
    bench.answer()
    assert commit.result(10).outcome == 1
    assert not lost.wait(0.02)


def test_who_stood_still_may_commit_until_another_begins(bench: Bench, jobs: Ledger[Any]) -> None:
    lost = threading.Event()
    first = claimed(jobs, on_lost=lost.set)
    bench.stand_still(31)
    assert jobs.look("a") == Unknown(1)
    assert not first.is_held
    assert first.commit("late").outcome == "late"

    first = claimed(jobs, "b", on_lost=lost.set)
    bench.stand_still(31)
    second = claimed(jobs, "b")
    assert second.attempt == 2
    assert second.token > first.token
    with pytest.raises(LeaseLostError):
        first.check()
    with pytest.raises(LeaseLostError, match="Running"):
        first.commit("late")
    assert not first.abort()
    assert second.commit("right").outcome == "right"
    with pytest.raises(LeaseLostError):
        first.commit("late")

    third = claimed(jobs, "c", on_lost=lost.set)
    bench.stand_still(31)
    bench.advance(0)
    assert lost.wait(10)
    assert not third.is_held


def test_a_claim_that_is_not_committed_is_given_up(jobs: Ledger[Any]) -> None:
    with pytest.raises(ZeroDivisionError), claimed(jobs):
        raise ZeroDivisionError
    with claimed(jobs) as claim:
        assert claim.attempt == 2
    assert jobs.look("a") == Unknown(2)
    with pytest.raises(LeaseLostError):
        claim.commit(1)
    assert claimed(jobs).abort()
    with claimed(jobs) as claim:
        claim.commit(5)

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with claimed(jobs, "b"):
                raise ZeroDivisionError
        async with claimed(jobs, "b") as claim:
            await claim.commit_async(6)
        again = await jobs.begin_async("c")
        assert isinstance(again, Claim)
        assert await again.abort_async()

    asyncio.run(main())
    assert jobs.begin("a") == jobs.look("a")
    assert [jobs.look(key) for key in "bc"] == [Done(6, *_of(jobs, "b")), Unknown(1)]


def _of(jobs: Ledger[Any], key: str) -> tuple[str, int, int]:
    found = jobs.look(key)
    assert isinstance(found, Done)
    return found.owner, found.attempt, found.token


def test_what_is_on_its_way_is_not_hidden_by_what_giving_up_meets(
    bench: Bench, jobs: Ledger[Any]
) -> None:
    def fails() -> None:
        with claimed(jobs):
            bench.fails.append(NoMasterError(""))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert not bench.keeper.due_ns, "it is renewed no more"
    claim = claimed(jobs, "b")
    bench.fails.append(NoMasterError(""))
    with pytest.raises(NoMasterError), claim:
        pass


def test_who_is_interrupted_has_no_claim(bench: Bench, jobs: Ledger[Any]) -> None:
    bench.interrupts["propose"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        jobs.begin("a")
    assert jobs.look("a") == Unknown(1)
    claim = claimed(jobs)
    bench.interrupts["propose"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        jobs.begin("a")
    assert claim.commit(1).attempt == 2

    async def main() -> None:
        bench.is_answering = False
        task = asyncio.create_task(jobs.begin_async("b"))
        await bench.until_async(lambda: jobs.look("b") != Unknown(0))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        bench.answer()

    asyncio.run(main())
    assert jobs.look("b") == Unknown(1)


def test_a_commit_of_which_nothing_is_known_can_be_made_again(
    bench: Bench, jobs: Ledger[Any]
) -> None:
    claim = claimed(jobs)
    bench.is_answering = False
    commit = in_thread(lambda: claim.commit(1))
    bench.until(lambda: isinstance(jobs.look("a"), Done))
    bench.advance(31)
    with pytest.raises(OutcomeUnknownError):
        commit.result(10)
    bench.answer()
    assert claim.commit(1).outcome == 1


def test_outcomes_are_waited_for(bench: Bench, jobs: Ledger[Any]) -> None:
    assert jobs.wait_for_outcome("a") is None
    claim = claimed(jobs, owner="ann")
    waits = [
        in_thread(lambda: jobs.wait_for_outcome("a")),
        in_thread(lambda: asyncio.run(jobs.wait_for_outcome_async("a", timeout_s=9))),
    ]
    bench.until(lambda: bench.waiting == 2)
    done = claim.commit(7)
    assert [each.result(10) for each in waits] == [done, done]
    claim = claimed(jobs, "b", owner="ann")
    late = in_thread(lambda: jobs.wait_for_outcome("b", timeout_s=5))
    none = in_thread(lambda: jobs.wait_for_outcome("b", timeout_s=50))
    bench.until(lambda: bench.waiting == 2)
    bench.advance(6)
    with pytest.raises(WaitTimeoutError, match="'ann' was at 'b'"):
        late.result(10)
    claim.abort()
    assert none.result(10) is None


def test_a_member_that_lags_does_not_say_that_nobody_is_at_it(
    bench: Bench, jobs: Ledger[Any]
) -> None:
    claimed(jobs, "x").abort()
    claim = claimed(jobs)
    bench.told.append((encode(Unknown(0)), 2))
    waits = in_thread(lambda: jobs.wait_for_outcome("a"))
    bench.until(lambda: bench.waiting == 1 or waits.done())
    assert bench.waited == [0, 3]
    assert claim.commit(1) == waits.result(10)


def test_keys_are_listed_page_by_page(bench: Bench, jobs: Ledger[Any]) -> None:
    for number in range(25):
        claimed(jobs, f"day/{number:02}").commit(number)
    running = claimed(jobs, "day/99", owner="ann")
    claimed(jobs, "else").abort()
    found = list(jobs.keys("day/", page_keys=10))
    assert [key for key, _ in found] == [*(f"day/{n:02}" for n in range(25)), "day/99"]
    assert [state.outcome for _, state in found if isinstance(state, Done)] == list(range(25))
    assert found[-1][1] == Running("ann", 1)
    assert len(list(jobs.keys())) == 27

    async def main() -> None:
        assert [each async for each in jobs.keys_async("day/", page_keys=10)] == found
        assert await jobs.look_async("day/03") == found[3][1]
        assert await jobs.forget_async("day/03")

    asyncio.run(main())
    running.abort()


# Once.


def test_a_function_is_run_once_by_many(bench: Bench, jobs: Ledger[Any]) -> None:
    runs: list[int] = []
    may_end = threading.Event()

    def work(number: int, *, more: int) -> list[int]:
        runs.append(number)
        assert may_end.wait(10)
        return [number, more]

    def call(number: int) -> Callable[[], list[int]]:
        return lambda: jobs.run_once("a", work, number, more=5)

    calls = [in_thread(call(number)) for number in range(20)]
    bench.until(lambda: bench.waiting == 19)
    may_end.set()
    outcomes = [each.result(10) for each in calls]
    assert len(runs) == 1
    assert outcomes == [[runs[0], 5]] * 20
    assert jobs.run_once("a", work, 99, more=9) == outcomes[0]


def test_a_function_that_raises_is_run_by_the_next(bench: Bench, jobs: Ledger[Any]) -> None:
    ready = threading.Event()

    def fails() -> int:
        assert ready.wait(10)
        raise ZeroDivisionError

    first = in_thread(lambda: jobs.run_once("a", fails))
    bench.until(lambda: jobs.look("a") == Running(*_running(jobs)))
    second = in_thread(lambda: jobs.run_once("a", lambda: 2))
    bench.until(lambda: bench.waiting == 1)
    ready.set()
    with pytest.raises(ZeroDivisionError):
        first.result(10)
    assert second.result(10) == 2
    for bad in (lambda: b"x" * 70_000, lambda: threading.Lock()):
        with pytest.raises(ConfigurationError, match="found"):
            jobs.run_once("b", bad)
    assert jobs.look("b") == Unknown(2)


def _running(jobs: Ledger[Any]) -> tuple[str, int]:
    found = jobs.look("a")
    return (found.owner, found.attempt) if isinstance(found, Running) else ("", 0)


def test_who_lost_its_lease_gets_the_outcome_of_who_came_after(
    bench: Bench, jobs: Ledger[Any]
) -> None:
    ran: list[str] = []

    def second() -> str:
        ran.append("second")
        return "second"

    def first() -> str:
        ran.append("first")
        bench.stand_still(31)
        assert jobs.run_once("a", second) == "second"
        return "first"

    assert jobs.run_once("a", first) == "second"
    assert ran == ["first", "second"], "twice, since a lease ended"


def test_an_interrupt_while_it_waits_leaves_nothing(bench: Bench, jobs: Ledger[Any]) -> None:
    claim = claimed(jobs)
    bench.interrupts["wait"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        jobs.run_once("a", lambda: 1)
    assert bench.waiting == 0
    claim.abort()
    assert jobs.look("a") == Unknown(1)

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jobs.run_once("a", interrupted)
    assert jobs.look("a") == Unknown(2)


def test_coroutines_are_run_once_too(bench: Bench, jobs: Ledger[Any]) -> None:
    runs: list[int] = []

    async def work(number: int) -> int:
        runs.append(number)
        await asyncio.sleep(0.01)
        return number

    async def forever() -> int:
        await asyncio.sleep(1_000)
        return 0

    async def main() -> None:
        outcomes = await asyncio.gather(*(jobs.run_once_async("a", work, n) for n in range(9)))
        assert outcomes == runs * 9
        task = asyncio.create_task(jobs.run_once_async("b", forever))
        await bench.until_async(lambda: jobs.look("b") != Unknown(0))
        waits = asyncio.create_task(jobs.run_once_async("b", work, 5))
        await bench.until_async(lambda: bench.waiting == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await waits == 5

    asyncio.run(main())


# Arguments.


def test_an_outcome_may_be_kept_for_some_time(bench: Bench, jobs: Ledger[Any]) -> None:
    claimed(jobs).commit(1, keep_s=60)
    bench.advance(59)
    assert isinstance(jobs.look("a"), Done)
    bench.advance(2)
    assert jobs.look("a") == Unknown(0)


def test_a_lease_may_be_another_one(bench: Bench, jobs: Ledger[Any]) -> None:
    claim = claimed(jobs, lease_s=2)
    assert claim.remaining_s < 2
    bench.advance(10)
    assert claim.is_held
    bench.stand_still(2)
    assert jobs.look("a") == Unknown(1)


def test_outcomes_may_be_encoded_otherwise(bench: Bench) -> None:
    texts = PlayedCluster(bench).ledger("t", encode=str.encode, decode=bytes.decode)
    assert texts.run_once("a", lambda: "text") == "text"
    found = texts.look("a")
    assert isinstance(found, Done)
    assert found.outcome == "text"
    assert b"text" in bench.commands[-1][1]
    assert b"pickle" not in bench.commands[-1][1]


def test_what_a_ledger_cannot_be_told_is_refused(
    bench: Bench, jobs: Ledger[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong: list[Callable[[], Any]] = [
        lambda: PlayedCluster(bench).ledger("a", lease_s=0),
        lambda: jobs.begin(""),
        lambda: jobs.begin("x" * 501),
        lambda: jobs.begin("\ud800"),
        lambda: jobs.begin(3),  # type: ignore[arg-type]
        lambda: jobs.begin("a", lease_s=-1),
        lambda: jobs.begin("a", owner="\n"),
        lambda: jobs.look(""),
        lambda: jobs.forget(""),
        lambda: jobs.wait_for_outcome(""),
        lambda: jobs.wait_for_outcome("a", timeout_s=-1),
        lambda: jobs.keys(3),  # type: ignore[arg-type]
        lambda: jobs.keys(page_keys=0),
        lambda: jobs.run_once("", lambda: 1),
    ]
    for each in wrong:
        with pytest.raises(ConfigurationError, match="found"):
            each()
    assert not bench.commands
    claim = claimed(jobs)
    for each in (lambda: claim.commit(b"x" * 70_000), lambda: claim.commit(1, keep_s=0)):
        with pytest.raises(ConfigurationError, match="found"):
            each()
    assert len(bench.commands) == 1
    assert claim.is_held
    monkeypatch.setattr(ledgers, "KEYS_MAX", 1)
    with pytest.raises(CommandError, match="keys already"):
        jobs.begin("b")

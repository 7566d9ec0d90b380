"""A watch over keys of real machines in this process: order, gaps, positions, threads, tasks."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Any

import pytest

from ray_paxos.actors.outcomes import Result
from ray_paxos.errors import CompactedError, ConfigurationError, NotYetError, WaitTimeoutError
from ray_paxos.key_watch import KeyChange, KeyPosition, KeyWatch
from ray_paxos.machines import kv
from ray_paxos.machines.base import ApplyContext
from ray_paxos.machines.kv_machine import KeyValueMachine

SPACE = "\x1fs\x1f"


class PlayedGroup:
    """A group's client: one command an instance; waits are asked again after each."""

    def __init__(self) -> None:
        self.machine = KeyValueMachine()
        self.instance_id = 0
        self.waits: list[tuple[bytes, Future[Result]]] = []
        self.asked = 0
        self.written_before_a_read: list[str] = []

    def apply(self, command: bytes) -> Result:
        self.instance_id += 1
        value = self.machine.apply(command, ApplyContext(self.instance_id))
        self.ask_again()
        return Result(value, self.instance_id, 0)

    def put(self, key: str, value: bytes) -> None:
        self.apply(kv.encode_put(SPACE + key, value))

    def restart(self) -> None:
        """As from a checkpoint: the state is there, and what had changed is not."""
        machine = KeyValueMachine()
        machine.restore(list(self.machine.rows()))
        self.machine = machine
        self.ask_again()

    def ask_again(self) -> None:
        waits, self.waits = self.waits, []
        for request, future in waits:
            self._ask(request, future)

    def _ask(self, request: bytes, future: Future[Result]) -> None:
        if future.cancelled():
            return
        try:
            answer = self.machine.query(request)
        except NotYetError:
            self.waits.append((request, future))
        else:
            future.set_result(Result(answer, self.instance_id, 0))

    # As of `Client`.

    def propose_async(self, command: bytes, machine: str, *, timeout_s: float) -> Future[Result]:
        future: Future[Result] = Future()
        future.set_result(self.apply(command))
        return future

    def query(self, request: bytes, machine: str, *, timeout_s: float) -> bytes:
        while self.written_before_a_read:
            self.put(self.written_before_a_read.pop(), b"1")
        return self.machine.query(request)

    def wait_for_async(
        self, request: bytes, machine: str, *, at_least: int, timeout_s: float
    ) -> Future[Result]:
        assert at_least <= self.instance_id
        self.asked += 1
        future: Future[Result] = Future()
        self._ask(request, future)
        return future


class Played:
    """A space in two groups."""

    def __init__(self) -> None:
        self.groups = {1: PlayedGroup(), 2: PlayedGroup()}

    def at(self, group: int) -> PlayedGroup:
        return self.groups[group]

    def watch(
        self,
        prefix: str = "",
        *,
        groups: tuple[int, ...] = (1,),
        position: KeyPosition | None = None,
        initial: bool = False,
    ) -> KeyWatch:
        clients: Any = self
        return KeyWatch(
            space_prefix=SPACE,
            prefix=prefix,
            groups=groups,
            clients=clients,
            position=position,
            initial=initial,
            timeout_s=5.0,
        )


@pytest.fixture
def played() -> Played:
    return Played()


def test_changes_come_in_order_once_and_only_of_the_prefix(played: Played) -> None:
    one = played.groups[1]
    one.put("a/1", b"before")
    with played.watch("a/") as watch:
        one.put("a/1", b"x")
        one.put("b/1", b"y")
        one.apply(kv.encode_delete(f"{SPACE}a/1"))
        assert watch.next(0) == KeyChange("a/1", b"x", 2)
        assert watch.next(0) == KeyChange("a/1", None, 3)
        with pytest.raises(WaitTimeoutError):
            watch.next(0)
    assert all(future.cancelled() for _, future in one.waits), "nobody waits any more"


def test_what_is_there_is_told_first_and_not_again(played: Played) -> None:
    one = played.groups[1]
    one.put("a", b"1")
    one.put("a", b"2")
    # Written before it is read, and a change after the position from which it goes on.
    one.written_before_a_read = ["b"]
    watch = played.watch(initial=True)
    assert watch.next(0) == KeyChange("a", b"2", 2)
    assert watch.next(0) == KeyChange("b", b"1", 1)
    with pytest.raises(WaitTimeoutError):
        watch.next(0)


def test_a_member_that_remembers_nothing_makes_a_gap_which_is_told(played: Played) -> None:
    one = played.groups[1]
    one.put("gone", b"1")
    one.put("kept", b"1")
    watch = played.watch(initial=True)
    assert [watch.next(0).key for _ in range(2)] == ["gone", "kept"]
    # While it is looked away: one is written twice, one goes, one comes.
    watch.close()
    one.put("kept", b"2")
    one.put("kept", b"3")
    one.apply(kv.encode_delete(f"{SPACE}gone"))
    one.put("new", b"1")
    one.restart()
    told = {change.key: change for change in (watch.next(0) for _ in range(3))}
    assert told == {
        "kept": KeyChange("kept", b"3", 3, is_after_gap=True),
        "new": KeyChange("new", b"1", 1, is_after_gap=True),
        "gone": KeyChange("gone", None, 2, is_after_gap=True),
    }
    one.put("kept", b"4")
    assert watch.next(0) == KeyChange("kept", b"4", 4), "from there on none is missing"


def test_a_position_goes_on_where_it_was_or_says_that_it_cannot(played: Played) -> None:
    one = played.groups[1]
    first = played.watch()
    one.put("a", b"1")
    one.put("b", b"1")
    assert first.next(0).key == "a"
    position = first.position
    with played.watch(position=position) as again:
        assert again.next(0).key == "b"
    one.restart()
    with played.watch(position=position) as lost, pytest.raises(CompactedError, match="remembers"):
        lost.next(0)
    # One that has been told something since goes on after a gap instead.
    with played.watch() as watch:
        here = watch.position
    with played.watch(position=here) as watch:
        one.put("c", b"1")
        assert watch.next(0).key == "c"
        one.restart()
        one.put("c", b"2")
        told = {change.key: change for change in (watch.next(0) for _ in range(3))}
        assert told["c"] == KeyChange("c", b"2", 2, is_after_gap=True)
        # Of the others it does not know whether they have changed.
        assert told.keys() == {"a", "b", "c"}


def test_a_position_is_of_the_same_groups(played: Played) -> None:
    position = played.watch(groups=(1, 2)).position
    for wrong in (position, KeyPosition({}), (1, 2)):
        with pytest.raises(ConfigurationError, match="position: "):
            played.watch(position=wrong)  # type: ignore[arg-type]


def test_a_thread_waits_for_any_of_the_groups(played: Played) -> None:
    watch = played.watch(groups=(1, 2))
    told: list[KeyChange] = []
    waiting = threading.Thread(target=lambda: told.append(watch.next(10)))
    waiting.start()
    played.groups[2].put("of two", b"x")
    waiting.join(10)
    assert told == [KeyChange("of two", b"x", 1)]


def test_a_coroutine_waits_and_leaves_one_callback_of_each_wait(played: Played) -> None:
    watch = played.watch(groups=(1, 2))

    async def hear(count: int) -> list[str]:
        told = []
        async for change in watch:
            told.append(change.key)
            if len(told) == count:
                return told
        raise AssertionError("it does not end")

    async def play() -> None:
        hearing = asyncio.create_task(hear(20))
        for number in range(20):
            await asyncio.sleep(0.002)
            await asyncio.to_thread(played.groups[1].put, f"k{number}", b"x")
        assert await hearing == [f"k{number}" for number in range(20)]
        cancelled = asyncio.create_task(hear(1))
        await asyncio.sleep(0.01)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled

    asyncio.run(play())
    ((_, quiet),) = played.groups[2].waits
    assert len(quiet._done_callbacks) == 1  # type: ignore[attr-defined]
    assert played.groups[2].asked == 1
    played.groups[2].put("last", b"x")
    assert watch.next(5).key == "last", "what was waited for before is not lost"

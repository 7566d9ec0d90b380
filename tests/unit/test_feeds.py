"""Feeds: coalescing, bounds, abandoned calls and looking up again; with peers made here."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError

from ray_paxos.actors.answers import RolePhase, RoleState, encode_state
from ray_paxos.actors.feeds import FeedLimits, FeedQueue, Peer, PeerFeed
from ray_paxos.core.learner_messages import VoteFloorRaised
from ray_paxos.core.messages import (
    Address,
    Envelope,
    RoleName,
)
from ray_paxos.core.wire import decode_envelopes, encode_envelope, encode_envelopes

SENDER = Address(1, RoleName.LEARNER)


def envelope(number: int) -> Envelope:
    return Envelope(b"g" * 16, 1, SENDER, 1, 1, 0, VoteFloorRaised(number))


def encoded(number: int) -> bytes:
    return encode_envelope(envelope(number))


def floors(envelopes: Sequence[Envelope]) -> list[int]:
    return [e.message.floor for e in envelopes if isinstance(e.message, VoteFloorRaised)]


class FakePeer:
    """Keeps every call open until the test answers it."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[int], Future[bytes]]] = []
        self.arrived = asyncio.Event()

    def call(self, batch: bytes) -> Future[bytes]:
        future: Future[bytes] = Future()
        self.calls.append((floors(decode_envelopes(batch)), future))
        self.arrived.set()
        return future

    async def next_call(self) -> tuple[list[int], Future[bytes]]:
        while not self.calls:
            self.arrived.clear()
            await asyncio.wait_for(self.arrived.wait(), 5)
        return self.calls.pop(0)


class Harness:
    """One feed on the running loop."""

    def __init__(self, limits: FeedLimits) -> None:
        self.peer = FakePeer()
        self.finds: list[str] = []
        self.answers: list[int] = []
        self.missing = 0
        self.lookup = ThreadPoolExecutor(1)
        self.feed = PeerFeed(
            "demo/m1/acceptor",
            loop=asyncio.get_running_loop(),
            lookup=self.lookup,
            on_answer=lambda envelopes: self.answers.extend(floors(envelopes)),
            limits=limits,
            find=self.find,
        )

    def find(self, name: str) -> Peer:
        self.finds.append(name)
        if len(self.finds) <= self.missing:
            raise ValueError(f"no actor {name}")
        return self.peer

    def put(self, *numbers: int) -> None:
        for number in numbers:
            self.feed.put(encoded(number))

    async def turn(self) -> None:
        """Let everything run that is due now."""
        for _ in range(10):
            await asyncio.sleep(0)


def run(scenario: Callable[[Harness], Coroutine[Any, Any, None]], **limits: Any) -> None:
    async def main() -> None:
        harness = Harness(FeedLimits(**limits))
        try:
            await asyncio.wait_for(scenario(harness), 10)
        finally:
            harness.feed.close()
            harness.lookup.shutdown()

    asyncio.run(main())


def answer(*numbers: int) -> bytes:
    return encode_envelopes([envelope(number) for number in numbers])


def test_what_queues_during_a_call_goes_into_the_next_one() -> None:
    async def scenario(h: Harness) -> None:
        h.put(1, 2)
        taken, first = await h.peer.next_call()
        assert taken == [1, 2], "one turn of the loop makes one call"
        h.put(3)
        await h.turn()
        h.put(4)
        await h.turn()
        assert h.peer.calls == [], "one call at a time"
        first.set_result(answer(70))
        taken, _ = await h.peer.next_call()
        assert taken == [3, 4]
        assert h.answers == [70]
        assert h.finds == ["demo/m1/acceptor"]

    run(scenario)


def test_a_call_carries_so_many_bytes_and_at_least_one_envelope() -> None:
    size = len(encoded(100))

    async def scenario(h: Harness) -> None:
        h.put(100, 101, 102)
        taken, first = await h.peer.next_call()
        assert taken == [100, 101]
        first.set_result(answer())
        assert (await h.peer.next_call())[0] == [102]

    run(scenario, call_bytes_max=2 * size)


def test_a_call_past_its_time_does_not_hold_up_the_feed_and_may_still_answer() -> None:
    async def scenario(h: Harness) -> None:
        h.put(1)
        _, slow = await h.peer.next_call()
        h.put(2)
        taken, _ = await h.peer.next_call()
        assert taken == [2]
        slow.set_result(answer(71))
        await h.turn()
        assert h.answers == [71]

    run(scenario, timeout_s=0.05)


def test_a_peer_that_answers_nothing_gets_a_bounded_number_of_calls() -> None:
    async def scenario(h: Harness) -> None:
        calls = []
        for number in range(3):
            h.put(number)
            calls.append(await h.peer.next_call())
        h.put(9)
        await asyncio.sleep(0.2)
        assert h.peer.calls == [], "three are owed already"
        calls[0][1].set_result(answer())
        assert (await h.peer.next_call())[0] == [9]

    run(scenario, timeout_s=0.02, abandoned_max=3)


def test_calls_that_nobody_ever_answers_are_forgotten_in_the_end() -> None:
    async def scenario(h: Harness) -> None:
        h.put(1)
        await h.peer.next_call()
        h.put(2)
        await asyncio.sleep(0.1)
        assert h.peer.calls == []
        assert (await h.peer.next_call())[0] == [2]

    run(scenario, timeout_s=0.02, abandoned_max=1, forget_s=0.2)


def test_a_dead_actor_is_looked_up_again_and_an_unavailable_one_is_not() -> None:
    async def scenario(h: Harness) -> None:
        h.put(1)
        _, first = await h.peer.next_call()
        first.set_exception(ActorUnavailableError("restarting", None))
        h.put(2)
        _, second = await h.peer.next_call()
        assert len(h.finds) == 1
        second.set_exception(ActorDiedError())
        h.put(3)
        await h.peer.next_call()
        assert len(h.finds) == 2

    run(scenario, pause_s=0.01)


def test_a_name_that_nobody_has_is_asked_for_again_later() -> None:
    async def scenario(h: Harness) -> None:
        h.missing = 2
        h.put(1)
        assert (await h.peer.next_call())[0] == [1]
        assert len(h.finds) == 3

    run(scenario, pause_s=0.01)


def test_failures_pause_the_feed_for_longer_each_time() -> None:
    async def scenario(h: Harness) -> None:
        times = []
        loop = asyncio.get_running_loop()
        for number in range(4):
            h.put(number)
            _, call = await h.peer.next_call()
            times.append(loop.time())
            call.set_exception(ActorUnavailableError("restarting", None))
            await h.turn()
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert gaps[0] >= 0.02
        assert gaps[1] >= 0.04
        assert gaps[2] >= 0.08

    run(scenario, pause_s=0.02)


def test_a_role_that_is_opening_is_given_a_pause_and_no_answer_is_made_of_it() -> None:
    async def scenario(h: Harness) -> None:
        h.put(1)
        _, first = await h.peer.next_call()
        first.set_result(encode_state(RoleState(RolePhase.OPENING, "held")))
        h.put(2)
        assert (await h.peer.next_call())[0] == [2]
        assert h.answers == []

    run(scenario, pause_s=0.01)


@pytest.mark.parametrize("garbage", [b"", b"\x07abc", b"\x01\xff", b"\x00\xff"])
def test_an_answer_that_is_none_of_ours_is_dropped(garbage: bytes) -> None:
    async def scenario(h: Harness) -> None:
        h.put(1)
        _, first = await h.peer.next_call()
        first.set_result(garbage)
        h.put(2)
        assert (await h.peer.next_call())[0] == [2]

    run(scenario, pause_s=0.01)


def test_the_queue_drops_the_oldest_when_it_is_full() -> None:
    queue = FeedQueue(FeedLimits(bytes_max=30, envelopes_max=3, call_bytes_max=100))
    for number in range(5):
        queue.put(bytes([number]) * 8)
    assert [e[0] for e in queue.take()] == [2, 3, 4]
    assert queue.dropped == 2
    queue.put(b"x" * 500)
    assert queue.take() == [b"x" * 500], "one over the limit is kept alone"
    assert (len(queue), queue.byte_count) == (0, 0)

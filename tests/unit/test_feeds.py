"""Feeds: coalescing, bounds, abandoned calls and looking up again; with peers made here."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError

from ray_paxos.actors.answers import RolePhase, RoleState, encode_state
from ray_paxos.actors.background import Background
from ray_paxos.actors.feeds import BatchForm, FeedLimits, FeedQueue, Haste, PeerFeed
from ray_paxos.actors.peers import Peer
from ray_paxos.core.learner_messages import VoteFloorRaised
from ray_paxos.core.messages import (
    Address,
    Envelope,
    RoleName,
)
from ray_paxos.core.wire import (
    decode_envelopes,
    encode_envelope,
    encode_envelopes,
    join_envelopes,
)

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
        self.calls: queue.Queue[tuple[list[int], Future[bytes]]] = queue.Queue()

    def call(self, batch: bytes) -> Future[bytes]:
        future: Future[bytes] = Future()
        self.calls.put((floors(decode_envelopes(batch)), future))
        return future

    def next_call(self) -> tuple[list[int], Future[bytes]]:
        return self.calls.get(timeout=5)


class Harness:
    """One feed, with a background thread of its own."""

    def __init__(self, limits: FeedLimits) -> None:
        self.peer = FakePeer()
        self.finds: list[str] = []
        self.answers: list[int] = []
        self.missing = 0
        self.lookup = ThreadPoolExecutor(1)
        self.background = Background("test")
        self.feed = PeerFeed(
            "demo/m1/acceptor",
            background=self.background,
            lookup=self.lookup,
            form=BatchForm(join_envelopes, decode_envelopes),
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
        self.feed.put([encoded(number) for number in numbers])

    def turn(self) -> None:
        """Let everything run that is due now."""
        done = threading.Event()
        self.background.post(done.set)
        assert done.wait(5)


@contextmanager
def running(**limits: Any) -> Iterator[Harness]:
    harness = Harness(FeedLimits(**limits))
    try:
        yield harness
    finally:
        harness.feed.close()
        harness.lookup.shutdown()
        harness.background.close()


def answer(*numbers: int) -> bytes:
    return encode_envelopes([envelope(number) for number in numbers])


def test_what_queues_during_a_call_goes_into_the_next_one() -> None:
    with running() as h:
        h.put(1, 2)
        taken, first = h.peer.next_call()
        assert taken == [1, 2], "what is put together goes together"
        h.put(3)
        h.turn()
        h.put(4)
        h.turn()
        assert h.peer.calls.empty(), "one call at a time"
        first.set_result(answer(70))
        taken, _ = h.peer.next_call()
        assert taken == [3, 4]
        assert h.answers == [70]
        assert h.finds == ["demo/m1/acceptor"]


def test_a_call_carries_so_many_bytes_and_at_least_one_envelope() -> None:
    size = len(encoded(100))

    with running(call_bytes_max=2 * size) as h:
        h.put(100, 101, 102)
        taken, first = h.peer.next_call()
        assert taken == [100, 101]
        first.set_result(answer())
        assert h.peer.next_call()[0] == [102]


def test_a_call_past_its_time_does_not_hold_up_the_feed_and_may_still_answer() -> None:
    with running(timeout_s=0.05) as h:
        h.put(1)
        _, slow = h.peer.next_call()
        h.put(2)
        taken, _ = h.peer.next_call()
        assert taken == [2]
        slow.set_result(answer(71))
        h.turn()
        assert h.answers == [71]


def test_a_peer_that_answers_nothing_gets_a_bounded_number_of_calls() -> None:
    with running(timeout_s=0.02, abandoned_max=3) as h:
        calls = []
        for number in range(3):
            h.put(number)
            calls.append(h.peer.next_call())
        h.put(9)
        time.sleep(0.2)
        assert h.peer.calls.empty(), "three are owed already"
        calls[0][1].set_result(answer())
        assert h.peer.next_call()[0] == [9]


def test_calls_that_nobody_ever_answers_are_forgotten_in_the_end() -> None:
    with running(timeout_s=0.02, abandoned_max=1, forget_s=0.2) as h:
        h.put(1)
        h.peer.next_call()
        h.put(2)
        time.sleep(0.1)
        assert h.peer.calls.empty()
        assert h.peer.next_call()[0] == [2]


def test_a_dead_actor_is_looked_up_again_and_an_unavailable_one_is_not() -> None:
    with running(pause_s=0.01) as h:
        h.put(1)
        _, first = h.peer.next_call()
        first.set_exception(ActorUnavailableError("restarting", None))
        h.put(2)
        _, second = h.peer.next_call()
        assert len(h.finds) == 1
        second.set_exception(ActorDiedError())
        h.put(3)
        h.peer.next_call()
        assert len(h.finds) == 2


def test_a_name_that_nobody_has_is_asked_for_again_later() -> None:
    with running(pause_s=0.01) as h:
        h.missing = 2
        h.put(1)
        assert h.peer.next_call()[0] == [1]
        assert len(h.finds) == 3


def test_failures_pause_the_feed_for_longer_each_time() -> None:
    with running(pause_s=0.02) as h:
        times = []
        for number in range(4):
            h.put(number)
            _, call = h.peer.next_call()
            times.append(time.monotonic())
            call.set_exception(ActorUnavailableError("restarting", None))
            h.turn()
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert gaps[0] >= 0.02
        assert gaps[1] >= 0.04
        assert gaps[2] >= 0.08


def test_a_role_that_is_opening_is_given_a_pause_and_no_answer_is_made_of_it() -> None:
    with running(pause_s=0.01) as h:
        h.put(1)
        _, first = h.peer.next_call()
        first.set_result(encode_state(RoleState(RolePhase.OPENING, "held")))
        h.put(2)
        assert h.peer.next_call()[0] == [2]
        assert h.answers == []


@pytest.mark.parametrize("garbage", [b"", b"\x07abc", b"\x01\xff", b"\x00\xff"])
def test_an_answer_that_is_none_of_ours_is_dropped(garbage: bytes) -> None:
    with running(pause_s=0.01) as h:
        h.put(1)
        _, first = h.peer.next_call()
        first.set_result(garbage)
        h.put(2)
        assert h.peer.next_call()[0] == [2]


def test_the_queue_drops_the_oldest_when_it_is_full() -> None:
    queue = FeedQueue(FeedLimits(bytes_max=30, envelopes_max=3, call_bytes_max=100))
    for number in range(5):
        queue.put(bytes([number]) * 8)
    assert [e[0] for e in queue.take()] == [2, 3, 4]
    assert queue.dropped == 2
    queue.put(b"x" * 500)
    assert queue.take() == [b"x" * 500], "one over the limit is kept alone"
    assert (len(queue), queue.byte_count) == (0, 0)


def test_what_is_patient_leaves_with_what_comes_next() -> None:
    with running(patience_s=30.0) as h:
        h.feed.put([encoded(1)], Haste.SOON)
        h.turn()
        assert h.peer.calls.empty()
        h.put(2)
        assert h.peer.next_call()[0] == [1, 2]


def test_what_is_patient_leaves_alone_after_a_while() -> None:
    with running(patience_s=0.02) as h:
        h.feed.put([encoded(1)], Haste.SOON)
        assert h.peer.next_call()[0] == [1]


def test_what_is_patient_during_a_call_does_not_wait_for_ever() -> None:
    with running(patience_s=0.02) as h:
        h.put(1)
        _, first = h.peer.next_call()
        h.feed.put([encoded(2)], Haste.SOON)
        time.sleep(0.05)
        h.turn()
        first.set_result(answer())
        assert h.peer.next_call()[0] == [2]


def test_news_makes_a_call_of_its_own_only_so_often() -> None:
    with running(patience_s=0.001, news_s=0.3) as h:
        h.feed.put([encoded(1)], Haste.NEWS)
        taken, first = h.peer.next_call()
        assert taken == [1], "the first one leaves soon"
        left = time.monotonic()
        first.set_result(answer())
        for number in (2, 3, 4):
            h.feed.put([encoded(number)], Haste.NEWS)
            time.sleep(0.01)
        assert h.peer.next_call()[0] == [2, 3, 4]
        assert time.monotonic() - left > 0.2


def test_what_goes_soon_does_not_wait_for_news_and_takes_it_along() -> None:
    with running(patience_s=0.02, news_s=30.0) as h:
        h.feed.put([encoded(1)], Haste.NEWS)
        h.peer.next_call()[1].set_result(answer())
        h.feed.put([encoded(2)], Haste.NEWS)
        h.feed.put([encoded(3)], Haste.SOON)
        assert h.peer.next_call()[0] == [2, 3]


def test_patience_begins_anew_with_what_is_put_in_after_a_call() -> None:
    with running(patience_s=0.2) as h:
        h.feed.put([encoded(1)], Haste.SOON)
        time.sleep(0.1)
        assert h.feed.take() == [encoded(1)]
        put = time.monotonic()
        h.feed.put([encoded(2)], Haste.SOON)
        assert h.peer.next_call()[0] == [2]
        assert time.monotonic() - put >= 0.2


def test_what_waits_may_leave_with_an_answer_unless_a_call_is_on_its_way() -> None:
    with running(patience_s=30.0) as h:
        h.feed.put([encoded(1)], Haste.SOON)
        assert h.feed.take() == [encoded(1)]
        assert h.feed.take() == []
        h.put(2)
        _, call = h.peer.next_call()
        h.feed.put([encoded(3)], Haste.SOON)
        assert h.feed.take() == [], "it would overtake what was sent before"
        call.set_result(answer())
        h.turn()
        assert h.feed.take() == [encoded(3)]


def test_a_peer_is_ready_once_it_has_answered_and_owes_nothing() -> None:
    with running(pause_s=30.0) as h:
        assert not h.feed.is_ready, "it was never found"
        h.put(0)
        h.peer.next_call()[1].set_result(answer())
        h.turn()
        assert h.feed.is_ready
        h.put(1)
        assert not h.feed.is_ready, "it has not answered"
        h.peer.next_call()[1].set_exception(ActorDiedError())
        h.turn()
        assert not h.feed.is_ready, "it is gone"

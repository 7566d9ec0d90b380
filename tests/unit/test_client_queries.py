"""Reads that go together, as users call them: the futures, the thread, the bounds."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from ray_paxos import client as client_module
from ray_paxos.actors.bootstrapping import make_genesis
from ray_paxos.actors.query_outcomes import QueryFuture
from ray_paxos.actors.query_sender import QuerySender
from ray_paxos.actors.read_calls import ReadCall, ReadCalls, Started
from ray_paxos.actors.roster import Roster
from ray_paxos.actors.spec import make_spec
from ray_paxos.client import Client
from ray_paxos.config import parse_configuration
from ray_paxos.core.client_messages import Consistency, QueryAnswers, QueryMany
from ray_paxos.core.genesis import Genesis, MemberSpec
from ray_paxos.core.messages import Address, Envelope, Message, RoleName
from ray_paxos.core.patience import Patience
from ray_paxos.core.query_batches import QueryBatches
from ray_paxos.core.query_calls import QuerySettings, ReadTerms
from ray_paxos.core.wire import encode_envelopes
from ray_paxos.errors import (
    ClientClosedError,
    ConfigurationError,
    OverloadedError,
    QueryError,
)

BAD = b"bad"
CONFIGURATION = parse_configuration("cluster: demo\n")
SPEC = make_spec(make_genesis(CONFIGURATION), CONFIGURATION).encoded()


class Reference(Future[bytes]):
    """Stands for Ray's reference of a call's answer."""

    def future(self) -> Future[bytes]:
        return self


PLAYED = Roster(Genesis(1, "demo", "0" * 32, (MemberSpec("m1", 1),), ()))


class Learners(ReadCalls):
    """Turns every request round, at once or when it is told to; refuses what is bad.

    Attributes:
        is_keeping: Calls are kept, and answered by `release`.
        queries: What was asked, in order.
        called: Released with each call.
    """

    def __init__(self) -> None:
        super().__init__(roster=PLAYED, group=1, client_id=9)
        self.is_keeping = False
        self.failure: Exception | None = None
        self.garbage: bytes | None = None
        self.queries: list[QueryMany] = []
        self.called = threading.Semaphore(0)
        self._kept: list[tuple[int, Message, Reference]] = []
        self._lock = threading.Lock()

    def knows(self, role: RoleName, member: int) -> bool:
        return bool(self.queries)

    def start(
        self, role: RoleName, message: Message, *members: int, within_s: float
    ) -> list[Started]:
        reference = Reference()
        with self._lock:
            assert isinstance(message, QueryMany)
            self.queries.append(message)
            self._kept.append((members[0], message, reference))
        self.called.release()
        if not self.is_keeping:
            self.release()
        return [ReadCall(members[0], reference)]

    def release(self) -> None:
        with self._lock:
            self.is_keeping = False
            kept, self._kept = self._kept, []
        for member, message, reference in kept:
            self._answer(member, message, reference)

    def _answer(self, member: int, message: Message, reference: Reference) -> None:
        assert isinstance(message, QueryMany)
        if self.failure is not None:
            failure, self.failure = self.failure, None
            reference.set_exception(failure)
            return
        if self.garbage is not None:
            garbage, self.garbage = self.garbage, None
            reference.set_result(garbage)
            return
        results = tuple(None if each == BAD else each[::-1] for each in message.requests)
        refusals = {at: "no query" for at, result in enumerate(results) if result is None}
        answers = QueryAnswers(message.request_id, 7, results, refusals)
        sender = Address(member, RoleName.LEARNER)
        reference.set_result(encode_envelopes((Envelope(b"", 1, sender, 0, 1, 0, answers),)))


@pytest.fixture
def learners() -> Learners:
    return Learners()


@pytest.fixture
def client(learners: Learners) -> Iterator[Client]:
    client = make_client(learners)
    yield client
    client.close(timeout_s=0)


def make_client(learners: Learners) -> Client:
    client = Client(SPEC, 1, "test")
    learners.names = client._names
    client._reader.read_calls = learners
    return client


def test_each_read_has_its_own_answer(client: Client, learners: Learners) -> None:
    futures = [client.query_async(b"%d-" % number) for number in range(1_000)]
    expected = [(b"%d-" % number)[::-1] for number in range(1_000)]
    assert [future.result(10) for future in futures] == expected
    assert len(learners.queries) < 500
    assert client.query_many([b"ab", b"cd"]) == [b"ba", b"dc"]
    assert client.query_many([]) == []


def test_a_bad_request_fails_alone(client: Client) -> None:
    good, bad, other = [client.query_async(request) for request in (b"ab", BAD, b"cd")]
    assert (good.result(10), other.result(10)) == (b"ba", b"dc")
    with pytest.raises(QueryError, match="no query"):
        bad.result(10)
    with pytest.raises(QueryError, match="no query"):
        client.query_many([b"ab", BAD, b"cd"])


def test_reads_on_several_terms_at_once(client: Client, learners: Learners) -> None:
    futures = [
        client.query_async(b"a", consistency="linearizable"),
        client.query_async(b"b", "log", consistency="stale", at_least=4),
        client.query_async(b"c", consistency="follower", max_staleness_ms=100),
        client.query_async(b"d", consistency="follower"),
        client.query_async(b"e", consistency="lease"),
    ]
    wait(futures, timeout=10)
    assert [future.result(0) for future in futures] == [b"a", b"b", b"c", b"d", b"e"]
    asked = {query.requests[0]: query for query in learners.queries}
    assert (asked[b"b"].machine, asked[b"b"].at_least) == ("log", 4)
    assert asked[b"c"].max_staleness_ms == 100
    assert asked[b"e"].consistency is Consistency.LEASE


def test_own_writes_are_those_of_before_the_read_was_let_in(learners: Learners) -> None:
    """What is acknowledged between looking and sending would be missed by a read that saw it."""
    random_ = random.Random(1)
    batches = QueryBatches(
        {1: "m1"}, Patience([1]), has_lease=True, settings=QuerySettings(), random=random_
    )
    held: list[bool] = []
    looked = threading.Event()

    def own_instance() -> int:
        held.append(sender._lock.locked())
        looked.set()
        return 7

    sender = QuerySender(learners, batches, own_instance)
    terms = ReadTerms("kv", Consistency.FOLLOWER, None)
    future = QueryFuture(time.monotonic_ns() + 10_000_000_000)
    sender.submit_one(terms, b"ab", future, 1.0)
    assert future.result(10) == b"ba"
    assert looked.wait(10)
    assert learners.queries[0].at_least == 7
    assert set(held) == {True}, "no read can be let in meanwhile"
    sender.close()


def test_a_loop_waits_for_reads(client: Client) -> None:
    async def read() -> list[bytes]:
        return await asyncio.gather(
            *(asyncio.wrap_future(client.query_async(b"%d1" % number)) for number in range(50))
        )

    assert asyncio.run(read()) == [(b"%d1" % number)[::-1] for number in range(50)]


def test_a_call_that_fails_is_made_again(client: Client, learners: Learners) -> None:
    learners.failure = ActorDiedError()
    assert client.query_async(b"ab").result(10) == b"ba"
    learners.failure = ZeroDivisionError()
    assert client.query_async(b"ef").result(10) == b"fe"
    learners.garbage = b"\x01nonsense"
    assert client.query_async(b"cd").result(10) == b"dc"
    assert len(learners.queries) == 6


def test_a_read_that_is_not_answered_fails_in_time(client: Client, learners: Learners) -> None:
    learners.is_keeping = True
    began = time.monotonic()
    with pytest.raises(QueryError, match="no answer in time"):
        client.query_async(b"ab", timeout_s=0.1).result(10)
    with pytest.raises(QueryError, match="no answer in time"):
        client.query_many([b"ab", b"cd"], timeout_s=0.1)
    assert time.monotonic() - began < 5


def test_what_is_cancelled_before_it_is_sent_is_not_sent(
    client: Client, learners: Learners
) -> None:
    client.query_async(b"warm").result(10)
    learners.is_keeping = True
    sent = client.query_async(b"ab")
    for _ in range(2):
        assert learners.called.acquire(timeout=10)
    assert not sent.cancel()
    waiting = [client.query_async(b"%d" % number) for number in range(3)]
    # Fewer than a window's share wait for the answer, or went already.
    cancelled = [future for future in waiting if future.cancel()]
    learners.release()
    assert sent.result(10) == b"ba"
    asked = [request for query in learners.queries for request in query.requests]
    assert len(asked) == 2 + len(waiting) - len(cancelled)


def test_reads_are_bounded(learners: Learners, monkeypatch: pytest.MonkeyPatch) -> None:
    few = QuerySettings(held_reads_max=2)
    monkeypatch.setattr(client_module, "query_settings", lambda: few)
    client = make_client(learners)
    learners.is_keeping = True
    held = [client.query_async(b"%d" % number) for number in range(2)]
    with pytest.raises(OverloadedError, match="no room") as caught:
        client.query_async(b"x", timeout_s=0.05)
    assert caught.value.retry_after_s
    with pytest.raises(OverloadedError, match="no room"):
        client.query_many([b"x"], timeout_s=0.05)
    threading.Timer(0.1, learners.release).start()
    assert client.query_async(b"yz", timeout_s=10).result(10) == b"zy", "room is waited for"
    assert [future.result(10) for future in held] == [b"0", b"1"]
    client.close()


def test_a_callback_may_ask_more_but_not_wait(client: Client) -> None:
    outcomes: list[Any] = []
    done = threading.Event()

    def go_on(future: Future[bytes]) -> None:
        for call in (lambda: client.query_many([b"x"]), lambda: client.query(b"x")):
            with pytest.raises(ConfigurationError, match="callback"):
                call()
        outcomes.append(client.query_async(b"cd"))
        done.set()

    client.query_async(b"ab").add_done_callback(go_on)
    assert done.wait(10)
    assert outcomes[0].result(10) == b"dc"


@pytest.mark.parametrize(
    "options",
    [
        {"consistency": "eventual"},
        {"at_least": -1},
        {"at_least": 1 << 63},
        {"at_least": "1"},
        {"max_staleness_ms": 5},
        {"consistency": "follower", "max_staleness_ms": -1},
        {"machine": ""},
        {"machine": None},
        {"machine": "\ud800"},
        {"timeout_s": -1},
        {"timeout_s": None},
    ],
)
def test_options_that_mean_nothing(
    client: Client, learners: Learners, options: dict[str, Any]
) -> None:
    for _ in range(2):
        with pytest.raises(ConfigurationError):
            client.query_async(b"x", **options)
    with pytest.raises(ConfigurationError):
        client.query_many([b"x"], **options)
    assert learners.queries == []


@pytest.mark.parametrize("request_", ["text", None, 7, bytearray(b"x")])
def test_what_is_no_request(client: Client, learners: Learners, request_: Any) -> None:
    with pytest.raises(ConfigurationError, match="request: found"):
        client.query_async(request_)
    with pytest.raises(ConfigurationError, match="request 1: found"):
        client.query_many([b"x", request_])
    with pytest.raises(ConfigurationError, match="requests: found"):
        client.query_many(b"bytes")  # type: ignore[arg-type]
    assert learners.queries == []


def test_closing_fails_what_has_no_answer(client: Client, learners: Learners) -> None:
    learners.is_keeping = True
    future = client.query_async(b"ab")
    client.close()
    with pytest.raises(QueryError, match="closed"):
        future.result(10)
    with pytest.raises(ClientClosedError):
        client.query_async(b"cd")
    with pytest.raises(ClientClosedError):
        client.query_many([b"cd"])


def test_a_closed_client_starts_no_reads(client: Client) -> None:
    client.close()
    with pytest.raises(ClientClosedError):
        client.query_async(b"cd")


def test_a_dropped_client_ends_its_thread(learners: Learners) -> None:
    dropped = make_client(learners)
    dropped.query_async(b"ab").result(10)
    assert dropped._query_sender is not None
    thread = dropped._query_sender._thread
    del dropped
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()

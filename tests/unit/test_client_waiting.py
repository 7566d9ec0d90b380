"""`Client.wait_for`: who may wait, for how long, and what becomes of waits that end otherwise."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from ray_paxos import client as client_module
from ray_paxos.actors.line_answers import ClientAnswer, encode_answers
from ray_paxos.actors.outcomes import CommandFuture, Result
from ray_paxos.client import Client
from ray_paxos.core import client_waits
from ray_paxos.core.client_messages import Query, QueryFailed, QueryProblem, QueryResult
from ray_paxos.core.genesis import MemberSpec
from ray_paxos.core.messages import Address, Envelope, Message, RoleName
from ray_paxos.core.wire import decode_envelopes
from ray_paxos.errors import (
    ClientClosedError,
    ConfigurationError,
    NotYetError,
    OverloadedError,
    QueryError,
)
from tests.unit.thread_bench import (
    Clients,
    Group,
    Reference,
    clients_of,
    done_in_a_callback,
    has_ended,
    hold,
    in_a_callback,
    thread_of,
    wait_until,
)


class Waited(Group):
    """A group whose learner holds all that it is asked until the test says what it comes to.

    Attributes:
        asked: All queries so far, in the order of the calls that brought them.
        calls_made: How many they were.
        found_roles: What was looked up.
        gone: Members that cannot be found.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Query] = []
        self.calls_made = 0
        self.found_roles: list[RoleName] = []
        self.gone: set[int] = set()
        self._holding = threading.Lock()
        self._held: dict[tuple[int, int], Envelope] = {}
        self._waiting: list[Reference] = []

    def find(self, member_id: int, role: RoleName) -> Any:
        self.found_roles.append(role)
        if member_id in self.gone:
            raise ValueError("no actor of that name")
        return super().find(member_id, role)

    def exchange(self, proposer: Any, role: RoleName, line: int, batch: bytes) -> Reference:
        if role is RoleName.PROPOSER:
            return super().exchange(proposer, role, line, batch)
        with self._holding:
            self.calls_made += 1
            for each in decode_envelopes(batch):
                assert isinstance(each.message, Query)
                self.asked.append(each.message)
                self._held[each.sender.member_id, each.message.request_id] = each
            for earlier in self._waiting:
                earlier.set_result(encode_answers(()))
            self._waiting = [Reference()]
            return self._waiting[0]

    def come_to(self, *requests: bytes, instance_id: int = 50) -> None:
        """These have an answer now: themselves, turned round."""
        self._answer(
            requests,
            lambda query: QueryResult(query.request_id, instance_id, query.request[::-1]),
        )

    def fail(self, problem: QueryProblem, *requests: bytes) -> None:
        """These have none, for that reason."""
        self._answer(requests, lambda query: QueryFailed(query.request_id, 0, "why", problem))

    def _answer(self, requests: tuple[bytes, ...], answer_to: Any) -> None:
        wait_until(lambda: self._holds(requests))
        with self._holding:
            answers: list[ClientAnswer] = []
            for key, each in list(self._held.items()):
                assert isinstance(each.message, Query)
                if each.message.request in requests:
                    del self._held[key]
                    answers.append((key[0], 1, told(each, answer_to(each.message))))
            (reference,) = self._waiting
            self._waiting = []
        reference.set_result(encode_answers(answers))

    def _holds(self, requests: tuple[bytes, ...]) -> bool:
        with self._holding:
            held = {getattr(each.message, "request", b"") for each in self._held.values()}
            return held.issuperset(requests)

    def die(self) -> None:
        """The call that waits fails, and what was held is forgotten."""
        with self._holding:
            self._held.clear()
            (reference,) = self._waiting
            self._waiting = []
        reference.set_exception(ActorDiedError())


def told(asked: Envelope, message: Message) -> Envelope:
    sender = Address(1, RoleName.LEARNER)
    return Envelope(asked.genesis, asked.group, sender, 0, 1, 0, message)


@pytest.fixture
def group() -> Waited:
    return Waited()


@pytest.fixture
def clients(group: Waited, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    yield from clients_of(group, monkeypatch)


def in_a_thread(client: Client, request: bytes, **options: Any) -> Future[Result]:
    """Another thread waits, by `wait_for`."""
    outcome: Future[Result] = Future()

    def run() -> None:
        try:
            outcome.set_result(client.wait_for(request, **options))
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome


# Waiting.


def test_an_answer_comes_as_of_its_instance_once_there_is_one(
    clients: Clients, group: Waited
) -> None:
    client = clients.make()
    waiting = in_a_thread(client, b"ab")
    wait_until(lambda: bool(group.asked))
    assert not waiting.done()
    group.come_to(b"ab", instance_id=77)
    assert waiting.result(10) == Result(b"ba", 77, 0)
    assert group.carried == [], "who only waits needs no session"


def test_waits_of_one_moment_go_in_one_call_and_end_by_themselves(
    clients: Clients, group: Waited
) -> None:
    client = clients.make()
    client.wait_for_async(b"first")
    wait_until(lambda: bool(group.asked))
    may_go_on = hold(thread_of(client))
    calls = group.calls_made
    futures = [client.wait_for_async(b"w%d" % number) for number in range(100)]
    may_go_on.set()
    wait_until(lambda: len(group.asked) == 101)
    assert group.calls_made == calls + 1
    group.come_to(b"w3", b"w99")
    assert (futures[3].result(10).value, futures[99].result(10).value) == (b"3w", b"99w")
    assert not futures[4].done()


def test_waits_of_all_clients_share_the_line_to_a_learner(clients: Clients, group: Waited) -> None:
    one, two = clients.make(), clients.make()
    futures = [client.wait_for_async(b"ab") for client in (one, two)]
    wait_until(lambda: len(group.asked) == 2)
    assert group.found_roles.count(RoleName.LEARNER) == 1
    group.come_to(b"ab")
    assert [future.result(10).value for future in futures] == [b"ba", b"ba"]


def test_a_wait_sees_what_this_client_was_acknowledged(clients: Clients, group: Waited) -> None:
    client = clients.open()
    for at_least, expected in ((None, 9), (3, 3), (0, 0), (12, 12)):
        client.wait_for_async(b"ab", "locks", at_least=at_least)
        wait_until(lambda: bool(group.asked))
        query = group.asked.pop()
        assert (query.machine, query.at_least) == ("locks", expected)


def test_a_learner_that_dies_is_asked_again(clients: Clients, group: Waited) -> None:
    client = clients.make()
    future = client.wait_for_async(b"ab")
    wait_until(lambda: bool(group.asked))
    group.die()
    wait_until(lambda: len(group.asked) == 2)
    first, again = group.asked
    assert again.request_id == first.request_id
    group.come_to(b"ab")
    assert future.result(10).value == b"ba"


def test_waits_hold_no_commands_up(clients: Clients, group: Waited) -> None:
    client = clients.open()
    client.wait_for_async(b"ab")
    wait_until(lambda: bool(group.asked))
    assert client.propose(b"cd").value == b"dc"
    assert client.propose_async(b"ef").result(10).value == b"fe"


def test_members_that_joined_are_found_where_none_of_the_others_can_be_asked(
    clients: Clients, group: Waited, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_waits, "PAUSE_MAX_NS", 40_000_000)
    client = clients.make()
    group.gone = set(client._names)
    looks = [0]

    def look() -> list[int]:
        looks[0] += 1
        if looks[0] == 1:
            raise ValueError("Ray does not say now")
        client._roster.meet([MemberSpec("m2", 2)])
        return [2]

    monkeypatch.setattr(group, "look", look)
    future = client.wait_for_async(b"ab")
    group.come_to(b"ab")
    assert future.result(10).value == b"ba"
    assert 2 in group.found
    assert looks >= [2]


def test_one_looks_for_members_at_a_time(
    clients: Clients, group: Waited, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_waits, "PAUSE_MAX_NS", 20_000_000)
    client = clients.make()
    wanted: list[object] = []
    monkeypatch.setattr(thread_of(client), "look_for_members", wanted.append)
    future = client.wait_for_async(b"ab")
    for _ in range(8):
        group.fail(QueryProblem.NO_GROUP, b"ab")
    group.come_to(b"ab")
    assert future.result(10).value == b"ba"
    assert wanted == [client._wait_sender], "Ray has not said anything yet"


# Ends.


def test_what_does_not_happen_in_time_is_told_in_time(clients: Clients, group: Waited) -> None:
    client = clients.make()
    begun = time.monotonic()
    with pytest.raises(NotYetError, match="has not happened in time"):
        client.wait_for(b"ab", timeout_s=0.2)
    assert 0.2 <= time.monotonic() - begun < 5
    assert group.asked[0].wait_ms <= 200


def test_what_the_machine_refuses_is_told(clients: Clients, group: Waited) -> None:
    waiting = in_a_thread(clients.make(), b"ab")
    wait_until(lambda: bool(group.asked))
    group.fail(QueryProblem.REFUSED, b"ab")
    with pytest.raises(QueryError, match="why"):
        waiting.result(10)


def test_a_wait_is_cancelled_until_there_is_an_answer(clients: Clients, group: Waited) -> None:
    client = clients.make()
    cancelled, other = client.wait_for_async(b"ab"), client.wait_for_async(b"cd")
    wait_until(lambda: len(group.asked) == 2)
    assert cancelled.cancel()
    group.come_to(b"ab", b"cd")
    assert other.result(10).value == b"dc"
    assert cancelled.cancelled()
    with pytest.raises(CancelledError):
        cancelled.result(10)
    assert not other.cancel()


def test_who_is_interrupted_waits_no_more(
    clients: Clients, group: Waited, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = clients.make()
    futures: list[CommandFuture] = []

    def interrupted(future: CommandFuture, timeout: float | None = None) -> Result:
        futures.append(future)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CommandFuture, "result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.wait_for(b"ab")
    (future,) = futures
    assert future.cancelled()


def test_more_waits_than_there_is_room_for_are_refused(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_waits, "WAITS_MAX", 1)
    client = clients.make()
    client.wait_for_async(b"ab")
    for wait in (client.wait_for_async, client.wait_for):
        with pytest.raises(OverloadedError):
            wait(b"cd")


def test_closing_ends_all_waits(clients: Clients, group: Waited) -> None:
    client = clients.make()
    waiting = in_a_thread(client, b"ab")
    wait_until(lambda: bool(group.asked))
    future = client.wait_for_async(b"cd")
    client.close()
    for each in (waiting, future):
        with pytest.raises(ClientClosedError):
            each.result(10)
    assert has_ended(thread_of(client))


@pytest.mark.parametrize("has_waited", [False, True])
def test_a_closed_client_waits_for_nothing(clients: Clients, has_waited: bool) -> None:
    client = clients.make()
    if has_waited:
        client.wait_for_async(b"ab")
    client.close()
    for wait in (client.wait_for_async, client.wait_for):
        with pytest.raises(ClientClosedError):
            wait(b"cd")
    assert has_ended(thread_of(client))


def test_a_client_that_is_dropped_leaves_the_thread(clients: Clients, group: Waited) -> None:
    client = client_module.Client(clients.spec, 1, "")
    future = client.wait_for_async(b"ab")
    wait_until(lambda: bool(group.asked))
    thread = thread_of(client)
    del client
    gc.collect()
    assert has_ended(thread)
    with pytest.raises(ClientClosedError):
        future.result(10)


# Callbacks.


def test_a_callback_may_not_wait(clients: Clients, group: Waited) -> None:
    one, two = clients.open(), clients.open()

    def wait_for_each() -> None:
        for client in (one, two):
            with pytest.raises(ConfigurationError, match="must not wait for another command or"):
                client.wait_for(b"ab")
            assert client._wait_sender is None
        with pytest.raises(ConfigurationError, match="must not wait for another one"):
            one.wait_for_async(b"cd").result()

    in_a_callback(one, wait_for_each)
    wait_until(lambda: bool(group.asked))
    assert [query.request for query in group.asked] == [b"cd"], "nobody asks for who may not wait"


def test_a_callback_of_a_wait_may_go_on(clients: Clients, group: Waited) -> None:
    client = clients.open()
    future = client.wait_for_async(b"ab")
    proposed = done_in_a_callback(future, lambda: client.propose_async(b"cd"))
    waited = done_in_a_callback(future, lambda: client.wait_for_async(b"ef"))
    group.come_to(b"ab")
    assert proposed.result(10).result(10).value == b"dc"
    group.come_to(b"ef")
    assert waited.result(10).result(10).value == b"fe"


# Arguments that mean nothing.


@pytest.mark.parametrize(
    ("request_", "options", "why"),
    [
        ("text", {}, "request: found str; allowed: bytes"),
        (bytearray(b"a"), {}, "request: found bytearray"),
        (None, {}, "request: found NoneType"),
        (b"a", {"machine": ""}, "machine"),
        (b"a", {"machine": 7}, "machine"),
        (b"a", {"at_least": -1}, "at_least: found -1"),
        (b"a", {"at_least": True}, "at_least: found True"),
        (b"a", {"at_least": 1.5}, "at_least: found 1.5"),
        (b"a", {"timeout_s": -1}, "timeout_s"),
        (b"a", {"timeout_s": "soon"}, "timeout_s"),
        (b"a", {"timeout_s": float("nan")}, "timeout_s"),
    ],
)
def test_an_argument_that_means_nothing_is_refused(
    clients: Clients, group: Waited, request_: Any, options: dict[str, Any], why: str
) -> None:
    client = clients.make()
    for wait in (client.wait_for_async, client.wait_for):
        with pytest.raises(ConfigurationError, match=why):
            wait(request_, **options)
    assert client._wait_sender is None
    assert group.asked == []

"""What callbacks of futures may do, which the thread of the clients runs; and lone commands."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from ray_paxos.actors import sender
from ray_paxos.actors.found_actor import CallFailedError, NotConnectedError
from ray_paxos.actors.light_future import SETTLED_AT_ONCE
from ray_paxos.core.client_calls import Call, ClientSettings
from ray_paxos.core.client_messages import OpenSession, Submit
from ray_paxos.core.patience import SEARCH_NS
from ray_paxos.errors import (
    ConfigurationError,
    NotAppliedError,
    OutcomeUnknownError,
    OverloadedError,
    PaxosError,
)
from tests.unit.core_helpers import submit
from tests.unit.thread_bench import (
    Clients,
    FakeRay,
    FakeSender,
    Group,
    Reference,
    clients_of,
    done_in_a_callback,
    has_ended,
    hold,
    in_a_callback,
    some_spec,
    thread_of,
    wait_until,
)


@pytest.fixture
def group() -> Group:
    return Group()


@pytest.fixture
def clients(group: Group, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    yield from clients_of(group, monkeypatch)


def commands_of(carried: tuple[int, Submit | OpenSession]) -> list[bytes]:
    """Of one request that a call of a line brought."""
    _, message = carried
    assert isinstance(message, Submit)
    (batch,) = message.batches
    return list(batch.commands)


# Callbacks.


def test_a_callback_may_wait_for_no_client_of_the_cluster(clients: Clients) -> None:
    one, two = clients.open(), clients.open()

    def wait_for_each() -> None:
        for client in (one, two):
            for wait in (
                lambda client=client: client.propose(b"y"),
                lambda client=client: client.propose_many([b"y"]),
                lambda client=client: client.outcome(1),
                lambda client=client: client.abandon(1),
                lambda client=client: client.query(b"y"),
                lambda client=client: client.query_many([b"y"]),
            ):
                with pytest.raises(ConfigurationError, match="a callback of a future must not"):
                    wait()

    in_a_callback(one, wait_for_each)
    assert two.propose(b"cd").value == b"dc"


def test_a_callback_may_not_wait_for_a_future_that_is_not_done(clients: Clients) -> None:
    client = clients.open()

    def wait_for_each() -> None:
        waiting = (client.propose_async(b"y"), client.propose_many_async([b"y"]))
        for future in waiting:
            for wait in (future.result, future.exception):
                with pytest.raises(ConfigurationError, match="must not wait for another one"):
                    wait()
                with pytest.raises(FutureTimeoutError):
                    wait(timeout=0)

    in_a_callback(client, wait_for_each)


def test_a_callback_may_wait_for_a_client_of_another_cluster(clients: Clients) -> None:
    other = clients.open(some_spec())
    values: list[bytes | None] = []
    in_a_callback(clients.open(), lambda: values.append(other.propose(b"cd").value))
    assert values == [b"dc"]


def test_a_callback_may_go_on_with_any_client(clients: Clients) -> None:
    one, two = clients.open(), clients.open()
    futures: list[Future[Any]] = []

    def go_on() -> None:
        futures.extend(client.propose_async(b"cd") for client in (one, two))
        futures.append(two.propose_many_async([b"ef"]))

    in_a_callback(one, go_on)
    first, second, many = futures
    assert (first.result(10).value, second.result(10).value) == (b"dc", b"dc")
    assert [result.value for result in many.result(10)] == [b"fe"]


def test_a_callback_may_make_a_client_whose_command_leaves_at_once(clients: Clients) -> None:
    proposed: list[Future[Any]] = []
    in_a_callback(clients.open(), lambda: proposed.append(clients.make().propose_async(b"cd")))
    assert proposed[0].result(10).value == b"dc"


def test_what_callbacks_go_on_with_leaves_before_many_are_all_settled(
    clients: Clients, group: Group
) -> None:
    client = clients.open()
    calls = len(group.carried)
    may_go_on = hold(thread_of(client))
    futures = [client.propose_async(b"x") for _ in range(SETTLED_AT_ONCE + 1)]
    following = [done_in_a_callback(each, lambda: client.propose_async(b"y")) for each in futures]
    carried = done_in_a_callback(futures[-1], lambda: group.carried[calls:])
    may_go_on.set()
    (together,), (first,) = carried.result(10)
    assert commands_of(together) == [b"x"] * len(futures), "they are settled as one batch"
    assert commands_of(first) == [b"y"] * SETTLED_AT_ONCE
    assert [each.result(10).result(10).value for each in following] == [b"y"] * len(futures)


def test_a_callback_does_not_wait_for_room(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = clients.open(), clients.open()

    def go_on() -> None:
        monkeypatch.setattr(two._sender._requests, "has_room", lambda *_: False)
        with pytest.raises(OverloadedError, match="no room"):
            two.propose_async(b"y", timeout_s=60)

    in_a_callback(one, go_on)


def test_a_callback_may_close_a_client_and_does_not_wait_for_its_commands(
    clients: Clients, group: Group
) -> None:
    one, two = clients.open(), clients.open()
    group.is_keeping = True
    calls = len(group.carried)
    future = two.propose_async(b"x", timeout_s=60)
    wait_until(lambda: len(group.carried) > calls)
    group.is_keeping = False
    in_a_callback(one, lambda: two.close(timeout_s=60))
    with pytest.raises(OutcomeUnknownError, match="closed"):
        future.result(10)
    in_a_callback(one, one.close)
    assert has_ended(thread_of(one))


# Lone commands, whose callers make the calls themselves.


def test_a_lone_command_needs_no_call_of_the_line(clients: Clients, group: Group) -> None:
    client = clients.open()
    calls = len(group.carried)
    for _ in range(5):
        assert client.propose(b"cd").value == b"dc"
    assert len(group.carried) == calls


def test_a_lone_command_waits_for_its_call_as_long_as_anybody_does(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, waits_s = clients.open(), []

    class NotingRay(FakeRay):
        @staticmethod
        def get(reference: Reference, timeout: float) -> bytes:
            waits_s.append(timeout)
            return FakeRay.get(reference, timeout)

    monkeypatch.setattr(sender, "ray", NotingRay)
    client.propose(b"ab")
    guess = client._sender._requests.guess
    guess.patience.gave_no_answer(guess.member_id)
    client.propose(b"ab")
    assert waits_s == [ClientSettings().call_timeout_ns / 1e9, 2 * SEARCH_NS / 1e9]


def test_a_lone_command_whose_proposer_is_gone_is_sent_again(
    clients: Clients, group: Group
) -> None:
    client = clients.open()
    assert group.finds == 1
    group.lone_error = ActorDiedError()
    assert client.propose(b"cd").value == b"dc"
    assert group.lone_error is None
    assert group.finds == 2


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (NotConnectedError("left"), NotAppliedError),
        (ActorDiedError(), NotAppliedError),
        (CallFailedError("who knows"), OutcomeUnknownError),
    ],
)
def test_of_a_lone_command_whose_call_was_never_made_it_is_certain_that_it_was_not_applied(
    clients: Clients, group: Group, error: Exception, kind: type[PaxosError]
) -> None:
    client = clients.open()
    group.refusing_alone, group.refusing = error, NotConnectedError("left")
    with pytest.raises(kind):
        client.propose(b"cd", timeout_s=0.3)
    group.refusing_alone = group.refusing = None
    assert client.propose(b"ef").value == b"fe"


def test_a_lone_call_over_an_older_handle_has_nothing_looked_up_again(
    clients: Clients, group: Group
) -> None:
    client = clients.open()
    thread = thread_of(client)
    fake = FakeSender(1)
    member_id = client._sender._requests.guess.member_id
    handle = thread.proposer_of(member_id)
    assert handle is not None
    for proposer, expected in ((object(), handle), (handle, None)):
        call = Call(submit(7), member_id, 0, 0, ClientSettings().call_timeout_ns)
        thread.on_lone_failed(fake, call, ActorDiedError(), proposer)
        wait_until(lambda: bool(fake.told))
        assert fake.told.pop() == ("lost", 7)
        assert thread.proposer_of(member_id) is expected
    thread.on_lone_failed(fake, call, ActorDiedError(), handle, was_made=False)
    wait_until(lambda: fake.told == [("not taken", 7)])

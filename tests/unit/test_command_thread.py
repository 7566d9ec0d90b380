"""The thread that clients of a cluster share: its life, and its rounds."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest
from ray.exceptions import ActorDiedError

from ray_paxos.actors import command_thread, role_line
from ray_paxos.actors.command_thread import CommandThread, join_thread
from ray_paxos.core.client_calls import Call
from ray_paxos.core.pending import Outcomes
from ray_paxos.errors import ClientClosedError, OutcomeUnknownError
from tests.unit.client_world import Told
from tests.unit.thread_bench import (
    GENESIS,
    Clients,
    FakeSender,
    Group,
    Joined,
    clients_of,
    done_in_a_callback,
    has_ended,
    hold,
    let_pass,
    some_spec,
    thread_of,
    wait_until,
)

LATER_NS = 60_000_000_000


@pytest.fixture
def group() -> Group:
    return Group()


@pytest.fixture
def clients(group: Group, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    yield from clients_of(group, monkeypatch)


@pytest.fixture
def joined(group: Group) -> Iterator[Joined]:
    joined = Joined(group)
    yield joined
    joined.leave()


@pytest.fixture
def broke(monkeypatch: pytest.MonkeyPatch) -> list[threading.ExceptHookArgs]:
    """What ends threads, in place of being printed."""
    broke: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", broke.append)
    return broke


# Its life.


def test_clients_of_one_cluster_share_a_thread(clients: Clients) -> None:
    one, two = clients.open(), clients.open()
    assert thread_of(one) is thread_of(two)
    other = clients.open(some_spec())
    assert thread_of(other) is not thread_of(one), "another genesis"


def test_the_thread_ends_with_its_last_client_and_a_later_one_gets_another(
    clients: Clients,
) -> None:
    one, two = clients.open(), clients.open()
    thread = thread_of(one)
    one.close()
    assert two.propose_async(b"cd").result(10).value == b"dc", "it goes on"
    two.close()
    assert has_ended(thread)
    later = clients.open()
    assert thread_of(later) is not thread


def test_a_client_may_join_while_the_last_one_leaves(clients: Clients, group: Group) -> None:
    one = clients.open()
    group.is_keeping = True
    made = done_in_a_callback(one.propose_async(b"x", timeout_s=60), clients.make)
    one.close(timeout_s=0)
    later = made.result(10)
    group.is_keeping = False
    assert later.propose(b"ab").value == b"ba"
    assert thread_of(later) is thread_of(one)


def test_a_client_that_left_is_told_its_end_and_nothing_more(joined: Joined, group: Group) -> None:
    group.is_keeping = True
    gone, stays = FakeSender(1, 7), FakeSender(2, 8)
    thread = joined.join(gone)
    joined.join(stays)
    may_go_on = hold(thread)
    for each in (gone, stays):
        thread.wake(each)
    may_go_on.set()
    assert group.calls.acquire(timeout=10)
    thread.leave(gone)
    thread.leave(gone)
    assert gone.ended.wait(10)
    group.fail_open()
    wait_until(lambda: stays.told == [("lost", 8)])
    assert not stays.ended.is_set()
    assert gone.told == []


def test_closing_a_client_fails_its_own_commands_only(clients: Clients, group: Group) -> None:
    one, two = clients.open(), clients.open()
    group.is_keeping = True
    carried = len(group.carried)
    futures = [client.propose_async(b"x", timeout_s=60) for client in (one, two)]
    wait_until(lambda: sum(map(len, group.carried[carried:])) == 2)
    one.close(timeout_s=0)
    with pytest.raises(OutcomeUnknownError):
        futures[0].result(10)
    assert not futures[1].done()


@pytest.mark.parametrize("is_before", [True, False], ids=["as it looks", "as it takes in"])
def test_a_bug_that_ends_the_thread_leaves_nobody_waiting(
    clients: Clients, group: Group, broke: list[threading.ExceptHookArgs], is_before: bool
) -> None:
    one, two = clients.open(), clients.open()
    thread = thread_of(one)
    group.is_keeping = True
    futures = [client.propose_async(b"x", timeout_s=60) for client in (one, two)]
    broken = FakeSender(3)
    broken.error = ZeroDivisionError("a bug")
    assert join_thread(broken, one._sender._genesis, group) is thread
    if is_before:
        thread.wake(broken)
    else:
        thread.post(lambda outcomes: broken.on_time(0, outcomes))
    for future in futures:
        with pytest.raises((OutcomeUnknownError, ClientClosedError)):
            future.result(10)
    assert has_ended(thread)
    assert broken.ended.is_set()
    assert [type(each.exc_value) for each in broke] == [ZeroDivisionError]
    with pytest.raises(ClientClosedError):
        two.propose_async(b"y")
    group.is_keeping = False
    assert thread_of(clients.open()) is not thread


def test_a_bug_ends_also_who_has_just_joined(
    joined: Joined, broke: list[threading.ExceptHookArgs]
) -> None:
    thread = joined.join(FakeSender(1))
    may_go_on = hold(thread)
    broken, late = FakeSender(2), FakeSender(3)
    broken.error = ZeroDivisionError("a bug")
    thread.post(lambda outcomes: broken.on_time(0, outcomes))
    assert joined.join(late) is thread
    may_go_on.set()
    assert has_ended(thread)
    assert late.ended.is_set()
    assert [type(each.exc_value) for each in broke] == [ZeroDivisionError]


def test_a_bug_in_ending_one_client_keeps_no_other_from_its_end(
    joined: Joined, broke: list[threading.ExceptHookArgs]
) -> None:
    fakes = [FakeSender(at) for at in range(1, 4)]
    for fake in fakes:
        fake.end_error = ZeroDivisionError("another bug")
        thread = joined.join(fake)
    fakes[0].error = ZeroDivisionError("a bug")
    thread.wake(fakes[0])
    assert has_ended(thread)
    assert all(fake.ended.is_set() for fake in fakes)
    assert len(broke) == 1


def test_what_is_known_is_told_though_a_bug_breaks_the_round(
    joined: Joined, broke: list[threading.ExceptHookArgs]
) -> None:
    thread = joined.join(FakeSender(1))
    may_go_on = hold(thread)
    told = Told()
    broken = FakeSender(2)
    broken.error = ZeroDivisionError("a bug")
    thread.post(lambda outcomes: outcomes.fail([(told, 0, 1)], ClientClosedError("known")))
    thread.post(lambda outcomes: broken.on_time(0, outcomes))
    may_go_on.set()
    assert has_ended(thread)
    assert isinstance(told.errors[0], ClientClosedError)
    assert [type(each.exc_value) for each in broke] == [ZeroDivisionError]


def test_a_thread_that_cannot_be_started_leaves_nothing_behind(
    joined: Joined, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(thread: CommandThread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(CommandThread, "start", fail)
        with pytest.raises(RuntimeError, match="can't start"):
            join_thread(FakeSender(1), GENESIS, group)
    fake = FakeSender(2)
    joined.join(fake).wake(fake)
    assert fake.looked.acquire(timeout=10), "the next client has a thread that runs"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_after_a_fork_the_child_begins_without_threads(joined: Joined) -> None:
    joined.join(FakeSender(1))
    # Another thread may be joining just now: that one is not there in the child to go on.
    with command_thread._joining:
        child = os.fork()
        if not child:
            try:
                is_free = command_thread._joining.acquire(blocking=False)
                os._exit(0 if is_free and not command_thread._threads else 7)
            finally:
                os._exit(8)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert GENESIS in command_thread._threads


# Its rounds.


def test_events_are_taken_in_as_they_came_however_many_there_are(
    joined: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_thread, "EVENTS_MAX", 3)
    thread = joined.join(FakeSender(1))
    may_go_on = hold(thread)
    seen: list[int] = []
    is_over = threading.Event()

    def note(number: int, outcomes: Outcomes) -> None:
        seen.append(number)

    for number in range(10):
        thread.post(partial(note, number))
    thread.post(lambda outcomes: is_over.set())
    may_go_on.set()
    assert is_over.wait(10)
    assert seen == list(range(10))


def test_a_client_that_joins_a_busy_thread_is_run_by_it(
    joined: Joined, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_thread, "EVENTS_MAX", 3)
    thread = joined.join(FakeSender(1))
    may_go_on = hold(thread)
    late = FakeSender(2, 7)
    # It is in the next round that the client joins, and that it is woken.
    let_pass(thread, 2)
    joined.join(late)
    let_pass(thread, 2)
    thread.wake(late)
    let_pass(thread, 5)
    may_go_on.set()
    assert group.calls.acquire(timeout=10)


def test_requests_of_several_clients_leave_in_one_call(clients: Clients, group: Group) -> None:
    made = [clients.open() for _ in range(3)]
    may_go_on = hold(thread_of(made[0]))
    futures = [client.propose_async(b"%d-" % at) for at, client in enumerate(made)]
    calls = len(group.carried)
    may_go_on.set()
    assert [future.result(10).value for future in futures] == [b"-0", b"-1", b"-2"]
    (call,) = group.carried[calls:]
    assert {client_id for client_id, _ in call} == {each._sender.client_id for each in made}


def test_many_clients_are_answered_each_its_own(clients: Clients, group: Group) -> None:
    made = [clients.make() for _ in range(20)]
    futures = [
        client.propose_async(b"%d of %d-" % (number, at))
        for number in range(10)
        for at, client in enumerate(made)
    ]
    expected = [(b"%d of %d-" % (n, at))[::-1] for n in range(10) for at in range(len(made))]
    assert [future.result(10).value for future in futures] == expected
    assert group.finds == 1


def test_all_proposers_are_looked_up_before_they_are_needed(joined: Joined, group: Group) -> None:
    """Where the GCS is away just when a member leads for the first time, it can be called."""
    group.members = [1, 2, 3]
    thread = joined.join(FakeSender(1))
    joined.join(FakeSender(2))
    wait_until(lambda: all(thread.proposer_of(member_id) for member_id in (1, 2, 3)))
    assert sorted(group.found) == [1, 2, 3]


def test_a_member_that_others_have_met_is_looked_up_at_once(joined: Joined, group: Group) -> None:
    one = FakeSender(1)
    group.looked = (1, 4)
    thread = joined.join(one)
    thread.look_for_members(one)
    wait_until(lambda: thread.proposer_of(4) is not None)
    assert ("members", 2) in one.told


def test_an_answer_wakes_the_client_that_it_is_for(joined: Joined) -> None:
    one, two = FakeSender(1, 7), FakeSender(2)
    thread = joined.join(one)
    joined.join(two)
    thread.wake(one)
    assert one.looked.acquire(timeout=10)
    wait_until(lambda: one.told == [("answered", 7)])
    assert two.told == []
    assert two.asked == 0, "nothing has happened to it"


def test_what_is_woken_in_a_round_is_sent_at_its_end(joined: Joined, group: Group) -> None:
    fake = FakeSender(1)
    thread = joined.join(fake)

    def wake(outcomes: Outcomes) -> None:
        fake.to_send.append(7)
        thread.wake(fake)

    thread.post(wake)
    assert group.calls.acquire(timeout=10)
    wait_until(lambda: fake.told == [("answered", 7)])


def test_what_is_woken_while_it_sends_has_the_next_round_at_once(
    joined: Joined, group: Group
) -> None:
    class Stubborn(FakeSender):
        def on_not_taken(self, call: Call, what: str) -> None:
            super().on_not_taken(call, what)
            self.to_send.append(call.message.request_id)
            thread.wake(self)

    group.refusing_once = ActorDiedError()
    stubborn = Stubborn(1, 7)
    thread = joined.join(stubborn)
    thread.wake(stubborn)
    wait_until(lambda: stubborn.told == [("not taken", 7), ("answered", 7)])


def test_time_passes_for_a_client_though_nothing_else_happens(joined: Joined) -> None:
    fake = FakeSender(1)
    fake.due = time.monotonic_ns() + 50_000_000
    thread = joined.join(fake)
    thread.wake(fake)
    assert fake.looked.acquire(timeout=10)
    due = fake.due
    assert fake.looked.acquire(timeout=10)
    assert due is not None
    assert time.monotonic_ns() >= due
    assert fake.due is None
    assert not fake.looked.acquire(timeout=0.1), "nothing is due any more"


def test_a_command_fails_in_time_though_nothing_else_happens(
    clients: Clients, group: Group
) -> None:
    opened, unopened = clients.open(), clients.make()
    group.is_keeping = True
    began = time.monotonic()
    futures = [client.propose_async(b"x", timeout_s=0.1) for client in (opened, unopened)]
    with pytest.raises(OutcomeUnknownError):
        futures[0].result(10)
    assert futures[1].exception(10) is not None
    assert time.monotonic() - began < 2


def test_a_call_that_takes_too_long_is_abandoned_though_nothing_else_happens(
    joined: Joined, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(role_line, "CALL_TIMEOUT_S", 0.02)
    group.is_keeping = True
    fake = FakeSender(1, 7)
    thread = joined.join(fake)
    thread.wake(fake)
    for _ in range(role_line.ABANDONED_MAX):
        assert group.calls.acquire(timeout=10)
    assert [len(call) for call in group.carried] == [1, 0, 0, 0], "the others only ask for it"

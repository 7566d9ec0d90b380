"""The intake: first in first out, whole requests, bounded; a refusal leaves nothing held (R10)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.core.client_messages import OpenSession, RefusalCode, Submit
from ray_paxos.core.intake import Intake, Request
from ray_paxos.core.messages import Address
from ray_paxos.core.settings import ProposerSettings
from ray_paxos.core.values import CommandBatch, SessionId, SessionOpen
from tests.unit.core_helpers import MS, client, submit

SETTINGS = ProposerSettings(
    batch_bytes_max=1_000,
    command_bytes_max=600,
    intake_bytes_max=3_000,
    intake_requests_max=5,
)


@pytest.fixture
def intake() -> Intake:
    return Intake(SETTINGS)


def request(request_id: int, size: int = 1) -> Submit:
    return Submit(request_id, (batch(b"x" * size, number=request_id),))


def batch(*commands: bytes, number: int = 1, machine: str = "kv") -> CommandBatch:
    return CommandBatch(SessionId(1, 0), 1, number, machine, commands)


def held(intake: Intake) -> tuple[int, int, int]:
    return len(intake), intake.held_requests, intake.held_bytes


def ids(requests: list[Request]) -> list[int]:
    return [request.request_id for request in requests]


def test_a_request_is_taken_as_it_came_and_held_until_it_is_answered(intake: Intake) -> None:
    message = submit(7)
    assert intake.offer(client(), message, 0) is None
    assert len(intake) == 1
    (taken,) = intake.take(0)
    assert (taken.client, taken.request_id, taken.entries) == (client(), 7, message.batches)
    assert len(intake) == 0
    assert intake.held_requests == 1
    assert intake.held_bytes == taken.byte_count > 0
    intake.release(taken)
    assert held(intake) == (0, 0, 0)


def test_opening_a_session_is_a_request_like_any_other(intake: Intake) -> None:
    assert intake.offer(client(), OpenSession(1, "me"), 0) is None
    (taken,) = intake.take(0)
    assert taken.entries == (SessionOpen("me"),)


def test_requests_are_taken_in_order_up_to_the_batch_limit(intake: Intake) -> None:
    for request_id in (1, 2, 3):
        assert intake.offer(client(), request(request_id, 400), 0) is None
    assert ids(intake.take(0)) == [1, 2]
    assert ids(intake.take(0)) == [3]
    assert intake.take(0) == []


def test_one_request_is_taken_whole_though_it_is_over_the_batch_limit(intake: Intake) -> None:
    large = Submit(1, tuple(batch(b"x" * 500, number=n) for n in (1, 2, 3)))
    intake.offer(client(), large, 0)
    intake.offer(client(), request(2), 0)
    (taken,) = intake.take(0)
    assert taken.entries == large.batches


def test_a_request_sent_again_is_held_once(intake: Intake) -> None:
    intake.offer(client(), request(1), 0)
    before = held(intake)
    assert intake.offer(client(), request(1), 0) is None
    assert held(intake) == before
    (taken,) = intake.take(0)
    assert intake.offer(client(), request(1), 0) is None, "on its way, not answered yet"
    assert len(intake) == 0
    intake.release(taken)
    assert intake.offer(client(), request(1), 0) is None
    assert len(intake) == 1, "answered: asked anew"


def test_two_clients_may_use_the_same_request_id(intake: Intake) -> None:
    intake.offer(client(1), request(1), 0)
    intake.offer(client(2), request(1), 0)
    assert [taken.client for taken in intake.take(0)] == [client(1), client(2)]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (Submit(1, (batch(b"x" * 601),)), RefusalCode.TOO_LARGE),
        (Submit(1, (batch(b"x"), batch(b"x" * 601))), RefusalCode.TOO_LARGE),
        (Submit(1, (batch(),)), RefusalCode.MALFORMED),
        (Submit(1, (batch(b"x"), batch())), RefusalCode.MALFORMED),
        (Submit(1, ()), RefusalCode.MALFORMED),
        (OpenSession(1, "x" * 601), RefusalCode.TOO_LARGE),
        (Submit(1, (batch(b"x", machine="m" * 601),)), RefusalCode.TOO_LARGE),
    ],
    ids=[
        "long command",
        "in a later batch",
        "no command",
        "none in a later batch",
        "no batch",
        "long label",
        "long name of a machine",
    ],
)
def test_what_can_never_be_taken_is_refused_for_good(
    intake: Intake, message: Submit | OpenSession, code: RefusalCode
) -> None:
    refused = intake.offer(client(), message, 0)
    assert refused is not None
    assert (refused.request_id, refused.code) == (1, code)
    assert refused.retry_after_ms == 0, "trying again makes no sense"
    assert refused.message
    assert held(intake) == (0, 0, 0)


def test_the_longest_command_is_taken_and_the_limit_is_named(intake: Intake) -> None:
    assert intake.offer(client(), request(1, 600), 0) is None
    refused = intake.offer(client(), request(2, 601), 0)
    assert refused is not None
    assert "601" in refused.message
    assert "600" in refused.message


def test_a_request_larger_than_the_whole_intake_is_too_large_not_overload(intake: Intake) -> None:
    # "Overloaded, try again" would make its client try for ever.
    parts = tuple(batch(b"x" * 600, number=n) for n in range(1, 7))
    refused = intake.offer(client(), Submit(1, parts), 0)
    assert refused is not None
    assert refused.code is RefusalCode.TOO_LARGE
    assert refused.retry_after_ms == 0
    assert held(intake) == (0, 0, 0)


def test_too_many_requests_are_overload_with_a_time_to_come_back(intake: Intake) -> None:
    for request_id in range(5):
        assert intake.offer(client(), request(request_id), 0) is None
    before = held(intake)
    refused = intake.offer(client(), request(5), 0)
    assert refused is not None
    assert refused.code is RefusalCode.OVERLOADED
    assert refused.retry_after_ms > 0
    assert held(intake) == before
    taken = intake.take(0)
    assert intake.offer(client(), request(5), 0) is not None, "taken is not answered"
    intake.release(taken[0])
    assert intake.offer(client(), request(5), 0) is None


def test_too_many_bytes_are_overload(intake: Intake) -> None:
    for request_id in range(3):
        assert (
            intake.offer(client(), Submit(request_id, (batch(b"x" * 450, b"y" * 450),)), 0) is None
        )
    assert 2_700 < intake.held_bytes <= SETTINGS.intake_bytes_max
    refused = intake.offer(client(), request(3, 300), 0)
    assert refused is not None
    assert refused.code is RefusalCode.OVERLOADED
    assert intake.held_requests == 3
    assert intake.offer(client(), request(4, 1), 0) is None, "a small one still fits"


def test_commands_without_bytes_cost_something_too(intake: Intake) -> None:
    # A million empty commands are a value of a million rows and as many results.
    refused = intake.offer(client(), Submit(1, (batch(*([b""] * 100_000)),)), 0)
    assert refused is not None
    assert held(intake) == (0, 0, 0)


def test_draining_takes_what_waits_and_holds_it_until_it_is_answered(intake: Intake) -> None:
    for request_id in (1, 2, 3):
        intake.offer(client(), request(request_id, 500), 0)
    (taken,) = intake.take(0)
    drained = intake.drain()
    assert ids([taken]) + ids(drained) == [1, 2, 3]
    assert len(intake) == 0
    for one in [taken, *drained]:
        intake.release(one)
    assert held(intake) == (0, 0, 0)
    assert intake.drain() == []


def test_nothing_is_answered_twice(intake: Intake) -> None:
    intake.offer(client(), request(1), 0)
    (taken,) = intake.take(0)
    intake.release(taken)
    with pytest.raises(KeyError):
        intake.release(taken)


# Time that a client gave.


def timed(request_id: int, timeout_ms: int, *, session: int = 1, size: int = 1) -> Submit:
    commands = CommandBatch(SessionId(session, 0), 1, request_id, "kv", (b"x" * size,))
    return Submit(request_id, (commands,), timeout_ms)


def told(intake: Intake) -> list[tuple[int, RefusalCode]]:
    return [(refused.request_id, refused.code) for _, refused in intake.take_refused()]


def test_what_came_too_late_is_not_proposed_and_is_told_so_once(intake: Intake) -> None:
    intake.offer(client(), timed(1, 10), 0)
    intake.offer(client(), timed(2, 0, session=2), 0)
    intake.offer(client(), timed(3, 11, session=3), 0)
    assert ids(intake.take(10 * MS)) == [2, 3]
    assert told(intake) == [(1, RefusalCode.TOO_LATE)]
    assert told(intake) == []
    assert intake.held_requests == 2, "a refused request is not held"
    assert intake.offer(client(), timed(1, 10), 10 * MS) is None, "and may be sent again"


def test_time_counts_from_the_arrival_here(intake: Intake) -> None:
    intake.offer(client(), timed(1, 10), 5 * MS)
    assert ids(intake.take(15 * MS - 1)) == [1]


def test_what_could_not_be_applied_without_it_goes_back_with_it(intake: Intake) -> None:
    intake.offer(client(), timed(1, 10), 0)
    intake.offer(client(2), timed(1, 99, session=2), 0)
    intake.offer(client(), timed(2, 99), 0)
    intake.offer(client(), OpenSession(9, "x"), 0)
    intake.offer(client(), timed(3, 0), 0)
    taken = intake.take(10 * MS)
    assert [(request.client, request.request_id) for request in taken] == [
        (client(2), 1),
        (client(), 9),
    ]
    assert told(intake) == [
        (1, RefusalCode.TOO_LATE),
        (2, RefusalCode.OVERLOADED),
        (3, RefusalCode.OVERLOADED),
    ]
    assert intake.held_requests == 2


def test_what_is_too_late_is_told_before_its_turn_comes(intake: Intake) -> None:
    for request_id in (1, 2):
        intake.offer(client(), timed(request_id, 0, session=request_id, size=590), 0)
    intake.offer(client(3), timed(3, 10, session=3), 0)
    intake.offer(client(4), timed(4, 999, session=4), 0)
    assert ids(intake.take(50 * MS)) == [1]
    assert told(intake) == [(3, RefusalCode.TOO_LATE)]
    assert ids(intake.take(50 * MS)) == [2, 4]


def test_all_of_it_may_be_too_late(intake: Intake) -> None:
    intake.offer(client(), timed(1, 10), 0)
    assert intake.take(10 * MS) == []
    assert held(intake) == (0, 0, 0)
    assert told(intake) == [(1, RefusalCode.TOO_LATE)]


# Any order.


operations = st.one_of(
    st.tuples(st.just("offer"), st.integers(1, 3), st.integers(1, 9), st.integers(0, 700)),
    st.tuples(st.just("take")),
    st.tuples(st.just("answer")),
    st.tuples(st.just("drain")),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(operations, max_size=40))
def test_every_request_is_held_within_bounds_or_refused(steps: list[tuple[object, ...]]) -> None:
    intake = Intake(SETTINGS)
    waiting: list[tuple[Address, int]] = []
    taken: list[Request] = []
    for step in steps:
        match step:
            case ("offer", int(number), int(request_id), int(size)):
                key = (client(number), request_id)
                is_held = key in waiting or key in [(r.client, r.request_id) for r in taken]
                before = held(intake)
                refused = intake.offer(key[0], request(request_id, size), 0)
                if refused is not None or is_held:
                    assert held(intake) == before
                else:
                    waiting.append(key)
            case ("take",):
                batch = intake.take(0)
                assert bool(batch) == bool(waiting)
                total = sum(request.byte_count for request in batch)
                assert len(batch) <= 1 or total <= SETTINGS.batch_bytes_max
                assert [(r.client, r.request_id) for r in batch] == waiting[: len(batch)]
                del waiting[: len(batch)]
                taken += batch
            case ("answer",) if taken:
                intake.release(taken.pop(0))
            case ("drain",):
                drained = intake.drain()
                assert [(r.client, r.request_id) for r in drained] == waiting
                waiting.clear()
                taken += drained
        assert len(intake) == len(waiting)
        assert intake.held_requests == len(waiting) + len(taken) <= SETTINGS.intake_requests_max
        assert 0 <= intake.held_bytes <= SETTINGS.intake_bytes_max
        assert (intake.held_bytes == 0) == (intake.held_requests == 0)

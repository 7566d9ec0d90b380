"""The intake: first in first out, whole requests, bounded; a refusal leaves nothing held (R10)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.core.intake import Intake, Request
from ray_paxos.core.messages import Address, OpenSession, RefusalCode, Submit
from ray_paxos.core.settings import ProposerSettings
from ray_paxos.core.values import CommandBatch, SessionId, SessionOpen
from tests.unit.core_helpers import client, submit

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
    assert intake.offer(client(), message) is None
    assert len(intake) == 1
    (taken,) = intake.take()
    assert (taken.client, taken.request_id, taken.entries) == (client(), 7, message.batches)
    assert len(intake) == 0
    assert intake.held_requests == 1
    assert intake.held_bytes == taken.byte_count > 0
    intake.release(taken)
    assert held(intake) == (0, 0, 0)


def test_opening_a_session_is_a_request_like_any_other(intake: Intake) -> None:
    assert intake.offer(client(), OpenSession(1, "me")) is None
    (taken,) = intake.take()
    assert taken.entries == (SessionOpen("me"),)


def test_requests_are_taken_in_order_up_to_the_batch_limit(intake: Intake) -> None:
    for request_id in (1, 2, 3):
        assert intake.offer(client(), request(request_id, 400)) is None
    assert ids(intake.take()) == [1, 2]
    assert ids(intake.take()) == [3]
    assert intake.take() == []


def test_one_request_is_taken_whole_though_it_is_over_the_batch_limit(intake: Intake) -> None:
    large = Submit(1, tuple(batch(b"x" * 500, number=n) for n in (1, 2, 3)))
    intake.offer(client(), large)
    intake.offer(client(), request(2))
    (taken,) = intake.take()
    assert taken.entries == large.batches


def test_a_request_sent_again_is_held_once(intake: Intake) -> None:
    intake.offer(client(), request(1))
    before = held(intake)
    assert intake.offer(client(), request(1)) is None
    assert held(intake) == before
    (taken,) = intake.take()
    assert intake.offer(client(), request(1)) is None, "on its way, not answered yet"
    assert len(intake) == 0
    intake.release(taken)
    assert intake.offer(client(), request(1)) is None
    assert len(intake) == 1, "answered: asked anew"


def test_two_clients_may_use_the_same_request_id(intake: Intake) -> None:
    intake.offer(client(1), request(1))
    intake.offer(client(2), request(1))
    assert [taken.client for taken in intake.take()] == [client(1), client(2)]


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
    refused = intake.offer(client(), message)
    assert refused is not None
    assert (refused.request_id, refused.code) == (1, code)
    assert refused.retry_after_ms == 0, "trying again makes no sense"
    assert refused.message
    assert held(intake) == (0, 0, 0)


def test_the_longest_command_is_taken_and_the_limit_is_named(intake: Intake) -> None:
    assert intake.offer(client(), request(1, 600)) is None
    refused = intake.offer(client(), request(2, 601))
    assert refused is not None
    assert "601" in refused.message
    assert "600" in refused.message


def test_a_request_larger_than_the_whole_intake_is_too_large_not_overload(intake: Intake) -> None:
    # "Overloaded, try again" would make its client try for ever.
    parts = tuple(batch(b"x" * 600, number=n) for n in range(1, 7))
    refused = intake.offer(client(), Submit(1, parts))
    assert refused is not None
    assert refused.code is RefusalCode.TOO_LARGE
    assert refused.retry_after_ms == 0
    assert held(intake) == (0, 0, 0)


def test_too_many_requests_are_overload_with_a_time_to_come_back(intake: Intake) -> None:
    for request_id in range(5):
        assert intake.offer(client(), request(request_id)) is None
    before = held(intake)
    refused = intake.offer(client(), request(5))
    assert refused is not None
    assert refused.code is RefusalCode.OVERLOADED
    assert refused.retry_after_ms > 0
    assert held(intake) == before
    taken = intake.take()
    assert intake.offer(client(), request(5)) is not None, "taken is not answered"
    intake.release(taken[0])
    assert intake.offer(client(), request(5)) is None


def test_too_many_bytes_are_overload(intake: Intake) -> None:
    for request_id in range(3):
        assert intake.offer(client(), Submit(request_id, (batch(b"x" * 450, b"y" * 450),))) is None
    assert 2_700 < intake.held_bytes <= SETTINGS.intake_bytes_max
    refused = intake.offer(client(), request(3, 300))
    assert refused is not None
    assert refused.code is RefusalCode.OVERLOADED
    assert intake.held_requests == 3
    assert intake.offer(client(), request(4, 1)) is None, "a small one still fits"


def test_commands_without_bytes_cost_something_too(intake: Intake) -> None:
    # A million empty commands are a value of a million rows and as many results.
    refused = intake.offer(client(), Submit(1, (batch(*([b""] * 100_000)),)))
    assert refused is not None
    assert held(intake) == (0, 0, 0)


def test_draining_takes_what_waits_and_holds_it_until_it_is_answered(intake: Intake) -> None:
    for request_id in (1, 2, 3):
        intake.offer(client(), request(request_id, 500))
    (taken,) = intake.take()
    drained = intake.drain()
    assert ids([taken]) + ids(drained) == [1, 2, 3]
    assert len(intake) == 0
    for one in [taken, *drained]:
        intake.release(one)
    assert held(intake) == (0, 0, 0)
    assert intake.drain() == []


def test_nothing_is_answered_twice(intake: Intake) -> None:
    intake.offer(client(), request(1))
    (taken,) = intake.take()
    intake.release(taken)
    with pytest.raises(KeyError):
        intake.release(taken)


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
                refused = intake.offer(key[0], request(request_id, size))
                if refused is not None or is_held:
                    assert held(intake) == before
                else:
                    waiting.append(key)
            case ("take",):
                batch = intake.take()
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

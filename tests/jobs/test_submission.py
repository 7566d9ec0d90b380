"""The submitting loop: order, bounds, and where it stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator

import pytest

import submission
from command_input import InputLine
from ray_paxos.errors import CommandError, InputError, OutcomeUnknownError, OverloadedError
from ray_paxos.machines.log import LogMachine
from submission import Submission, Submitted
from tests.jobs.fakes import FakeClient


def lines(count: int, length: int = 4) -> Generator[InputLine]:
    for number in range(1, count + 1):
        yield InputLine(number, length + 1, b"%0*d" % (length, number))


def submit(client: FakeClient, source: Generator[InputLine], **options: object) -> Submitted:
    arguments = {"machine": "log", "timeout_s": 5.0, "on_progress": lambda *_: None} | options
    with client:
        return Submission(client, **arguments).run(source)  # type: ignore[arg-type]


def client_with(on_command=lambda command: None) -> FakeClient:
    return FakeClient({"log": LogMachine()}, on_command)


def test_all_lines_arrive_in_order_in_few_chunks() -> None:
    client = client_with()
    outcome = submit(client, lines(50_000))
    assert (outcome.submitted, outcome.acknowledged, outcome.failed) == (50_000, 50_000, 0)
    assert client.commands == [line.command for line in lines(50_000)]
    assert outcome.failure is None
    assert outcome.input_error is None
    assert outcome.elapsed_s > 0


def test_no_lines_are_no_work() -> None:
    client = client_with()
    assert submit(client, lines(0)) == Submitted()
    assert client.chunks == []


def test_what_is_in_flight_and_read_ahead_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "CHUNK_COMMANDS_MAX", 50)
    monkeypatch.setattr(submission, "CHUNK_BYTES_MAX", 400)
    read = 0
    ahead_most = 0
    client = client_with(lambda command: time.sleep(0.2) if command == b"0000000001" else None)

    def counted() -> Generator[InputLine]:
        nonlocal read, ahead_most
        for line in lines(2_000, length=10):
            read += 1
            ahead_most = max(ahead_most, read - len(client.commands))
            yield line

    submit(client, counted())
    assert client.in_flight_most == 2
    # 40 lines of ten bytes make a chunk full; the reader waits with one more in its hand.
    assert max(len(chunk) for chunk in client.chunks) == 40
    assert ahead_most <= 41


def test_a_slow_input_is_submitted_as_it_comes() -> None:
    settled = threading.Event()
    client = client_with(lambda command: settled.set())

    def slow() -> Generator[InputLine]:
        for line in lines(3):
            yield line
            assert settled.wait(10), "a line waits for later ones"
            settled.clear()

    assert submit(client, slow()).acknowledged == 3


def test_nothing_is_submitted_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "CHUNK_COMMANDS_MAX", 10)
    in_flight_after = threading.Event()

    def refuse(command: bytes) -> None:
        if command == b"0300":
            raise CommandError("no such machine")
        if command > b"0300" and not in_flight_after.is_set():
            in_flight_after.set()
            time.sleep(0.2)

    client = client_with(refuse)
    outcome = submit(client, lines(3_000))
    assert outcome.failure == "the command of line 300: no such machine"
    assert outcome.failed == 1
    failed = next(number for number, chunk in enumerate(client.chunks) if b"0300" in chunk)
    assert len(client.chunks) <= failed + 2, "only what was in flight already"
    assert outcome.submitted == len(client.commands)


def test_a_chunk_without_an_outcome_counts_as_failed() -> None:
    def give_up(command: bytes) -> None:
        raise OutcomeUnknownError("no answer within 5 s")

    outcome = submit(client_with(give_up), lines(3))
    assert outcome.failure == "the command of line 1: no answer within 5 s"
    assert outcome.acknowledged == 0
    assert outcome.failed == outcome.submitted > 0


def test_a_client_that_takes_nothing_on_ends_it_and_lets_the_input_go() -> None:
    class Full(FakeClient):
        def propose_many_async(self, *_arguments: object, **_options: object):
            raise OverloadedError("no room within 5 s", retry_after_s=1.0)

    released = threading.Event()

    def held() -> Generator[InputLine]:
        try:
            yield from lines(100_000)
        finally:
            released.set()

    source = held()
    outcome = submit(Full({}), source)
    assert outcome.failure == "the command of line 1: no room within 5 s"
    assert outcome.submitted == outcome.acknowledged == 0
    assert released.wait(10)
    assert list(source) == []


def test_a_bad_line_ends_it_after_everything_before_is_acknowledged() -> None:
    def broken() -> Generator[InputLine]:
        yield from lines(700)
        raise InputError("x, line 701: bad")

    outcome = submit(client_with(), broken())
    assert outcome.acknowledged == outcome.submitted == 700
    assert str(outcome.input_error) == "x, line 701: bad"


def test_a_bug_in_reading_is_not_taken_for_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    died = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _arguments: died.set())

    def buggy() -> Generator[InputLine]:
        yield from lines(3)
        raise ZeroDivisionError

    with pytest.raises(RuntimeError, match="the thread that reads the input died"):
        submit(client_with(), buggy())
    assert died.wait(10)


def test_progress_ends_with_everything() -> None:
    seen: list[tuple[int, int]] = []
    submit(client_with(), lines(30_000), on_progress=lambda *counts: seen.append(counts))
    assert seen[-1] == (30_000, 150_000)
    assert seen == sorted(seen)

"""The futures of commands, and the results of many."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

import pytest

from ray_paxos.actors.outcomes import (
    CommandFuture,
    ManyFuture,
    ManyResults,
    Result,
    run_callbacks_here,
)
from ray_paxos.core.pending import Outcomes, PendingBatch
from ray_paxos.core.results import EntryResult, Note, NoteCode
from ray_paxos.errors import (
    CommandError,
    ConfigurationError,
    NotAppliedError,
    OutcomeUnknownError,
    PaxosError,
    SessionExpiredError,
    SessionUnknownError,
    WithdrawnError,
)


def test_a_future_takes_its_own_part_of_an_entry() -> None:
    future = CommandFuture(0)
    assert future.begin()
    future.deliver(0, EntryResult(8, 5, (b"a", b"b", None), {}), 1, 1)
    assert future.result(0) == Result(b"b", 8, 6)


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        (Note(NoteCode.KEPT, "", 4, 2), Result(b"r", 4, 2)),
        (Note(NoteCode.ERROR, "too long", 0, 0), CommandError),
        (Note(NoteCode.KEPT_ERROR, "too long", 4, 2), CommandError),
        (Note(NoteCode.SESSION_EXPIRED, "", 0, 0), SessionExpiredError),
        (Note(NoteCode.SESSION_UNKNOWN, "", 0, 0), SessionUnknownError),
        (Note(NoteCode.WITHDRAWN, "", 4, 2), WithdrawnError),
        (Note(NoteCode.CLOSED, "", 0, 0), OutcomeUnknownError),
    ],
    ids=lambda value: value.code.name if isinstance(value, Note) else "",
)
def test_each_note_has_its_outcome(note: Note, expected: Result | type[PaxosError]) -> None:
    entry = EntryResult(8, 5, (None, b"r"), {1: note})
    single, many = CommandFuture(0), ManyFuture(2, 0, None)
    single.begin()
    many.begin()
    single.deliver(0, entry, 1, 1)
    many.deliver(0, entry, 0, 2)
    results = many.result(0)
    assert results[0] == Result(None, 8, 5)
    if isinstance(expected, Result):
        assert single.result(0) == results[1] == expected
        assert results.acknowledged == 2
        return
    assert type(single.exception(0)) is expected
    assert type(results.errors[1]) is expected
    with pytest.raises(expected):
        results[1]
    assert results.acknowledged == (2 if expected is CommandError else 1)


def test_a_future_that_was_cancelled_does_not_begin() -> None:
    future = CommandFuture(0)
    assert future.cancel()
    assert not future.begin()


def test_a_future_that_is_settled_stays_so() -> None:
    future = CommandFuture(0)
    future.begin()
    future.set_result(Result(None, 1, 0))
    future.fail(0, OutcomeUnknownError("late"), 1)
    assert future.result(0) == Result(None, 1, 0)


def test_parts_may_come_in_any_order() -> None:
    heard: list[int] = []
    future = ManyFuture(5, 0, heard.append)
    future.begin()
    future.deliver(3, EntryResult(9, 0, (b"d", b"e"), {}), 0, 2)
    assert not future.done()
    kept = {1: Note(NoteCode.KEPT, "", 2, 7)}
    future.deliver(0, EntryResult(8, 10, (b"a", b"b", b"c"), kept), 0, 3)
    assert list(future.result(0)) == [
        Result(b"a", 8, 10),
        Result(b"b", 2, 7),
        Result(b"c", 8, 12),
        Result(b"d", 9, 0),
        Result(b"e", 9, 1),
    ]
    assert future.result(0)[-1] == Result(b"e", 9, 1)
    assert heard == [2, 5]


def test_a_kept_result_at_the_end_of_a_part_says_nothing_of_the_next_part() -> None:
    results = ManyResults(2)
    results.add(1, EntryResult(9, 3, (b"b",), {}), 0, 1)
    results.add(0, EntryResult(8, 0, (b"a",), {0: Note(NoteCode.KEPT, "", 2, 7)}), 0, 1)
    assert list(results) == [Result(b"a", 2, 7), Result(b"b", 9, 3)]


def test_parts_without_a_result_are_errors_of_their_positions() -> None:
    future = ManyFuture(3, 0, None)
    future.begin()
    future.fail(1, OutcomeUnknownError("no answer"), 2)
    future.deliver(0, EntryResult(8, 0, (b"a",), {}), 0, 1)
    results = future.result(0)
    assert sorted(results.errors) == [1, 2]
    assert results.acknowledged == 1
    with pytest.raises(IndexError):
        results[3]


def test_each_command_of_many_has_its_own_number_to_ask_by() -> None:
    future = ManyFuture(4, 0, None)
    future.begin()
    future.fail(2, OutcomeUnknownError("no answer", 19), 2)
    future.fail(0, OutcomeUnknownError("no answer", 7), 2)
    errors = future.result(0).errors
    numbers = [getattr(errors[position], "number", None) for position in range(4)]
    assert numbers == [7, 8, 19, 20]


def test_what_a_progress_callback_raises_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(settled: int) -> None:
        raise ZeroDivisionError

    future = ManyFuture(1, 0, fail)
    future.begin()
    future.deliver(0, EntryResult(8, 0, (b"a",), {}), 0, 1)
    assert future.done()
    assert "on_progress" in caplog.text


def test_parts_that_are_settled_meanwhile_do_not_settle_the_future_twice() -> None:
    # Two threads settle parts of it: between counting one and looking, the other may be counted.
    heard: list[int] = []

    def settle_the_rest(settled: int) -> None:
        heard.append(settled)
        if settled == 1:
            future.fail(1, NotAppliedError("late"), 1)

    future = ManyFuture(2, 0, settle_the_rest)
    future.begin()
    future.deliver(0, EntryResult(9, 0, (b"a",), {}), 0, 1)
    assert heard == [1, 2]
    assert sorted(future.result(0).errors) == [1]


# Waiting in a callback.


def command() -> CommandFuture:
    return CommandFuture(0)


def many() -> ManyFuture:
    return ManyFuture(1, 0, None)


def where_callbacks_run(do: Callable[..., Any], *arguments: Any) -> Any:
    """Do this in a thread that runs callbacks; gives what comes of it."""
    outcome: Future[Any] = Future()

    def run() -> None:
        run_callbacks_here()
        try:
            outcome.set_result(do(*arguments))
        except BaseException as error:
            outcome.set_exception(error)

    # A daemon, so that one that waits nevertheless keeps nobody from ending.
    threading.Thread(target=run, daemon=True).start()
    return outcome.result(5)


@pytest.mark.parametrize("make", [command, many])
@pytest.mark.parametrize("kind", ["result", "exception"])
def test_in_a_thread_that_runs_callbacks_nobody_waits_for_a_future(
    make: Callable[[], Future[Any]], kind: str
) -> None:
    future = make()
    wait = getattr(future, kind)
    for arguments in ((), (None,), (0.001,), (60,)):
        with pytest.raises(ConfigurationError, match="must not wait for another one"):
            where_callbacks_run(wait, *arguments)
    with pytest.raises(FutureTimeoutError):
        where_callbacks_run(wait, 0)
    with pytest.raises(FutureTimeoutError):
        wait(0.001)


@pytest.mark.parametrize("timeout", [None, 0, 5])
def test_a_future_that_is_done_may_be_asked_in_any_thread(
    timeout: float | None,
) -> None:
    error = OutcomeUnknownError("no answer")
    has_result, has_error, is_cancelled = command(), command(), command()
    has_result.set_result(Result(None, 1, 0))
    has_error.fail(0, error, 1)
    is_cancelled.cancel()
    assert where_callbacks_run(has_result.result, timeout) == Result(None, 1, 0)
    assert where_callbacks_run(has_result.exception, timeout) is None
    assert where_callbacks_run(has_error.exception, timeout) is error
    with pytest.raises(OutcomeUnknownError, match="no answer"):
        where_callbacks_run(has_error.result, timeout)
    for wait in (is_cancelled.result, is_cancelled.exception):
        with pytest.raises(CancelledError):
            where_callbacks_run(wait, timeout)


@pytest.mark.parametrize("timeout", [None, 0, 5])
def test_many_that_are_done_may_be_asked_in_any_thread(
    timeout: float | None,
) -> None:
    done, is_cancelled = many(), many()
    done.begin()
    done.fail(0, OutcomeUnknownError("no answer"), 1)
    is_cancelled.cancel()
    assert len(where_callbacks_run(done.result, timeout).errors) == 1
    assert where_callbacks_run(done.exception, timeout) is None
    with pytest.raises(CancelledError):
        where_callbacks_run(is_cancelled.result, timeout)


# Telling everyone.


def test_each_is_told_once_though_telling_one_broke_off() -> None:
    told: list[object] = []

    class Listener:
        deadline_ns = 0

        def __init__(self, name: str) -> None:
            self.name = name

        def begin(self) -> bool:
            return True

        def deliver(self, start: int, entry: EntryResult, offset: int, count: int) -> None:
            self._note()

        def fail(self, start: int, error: PaxosError, count: int) -> None:
            self._note()

        def _note(self) -> None:
            told.append(self.name)
            if self.name.startswith("breaks"):
                raise ZeroDivisionError

    entry = EntryResult(9, 0, (None,), {})
    outcomes = Outcomes()
    names = ("1", "breaks 2", "3")
    for name in names:
        part = (Listener(name), 0, 1)
        outcomes.resolve(PendingBatch("kv", 1, [b"x"], [part], 1), entry)
        outcomes.fail([part, part], OutcomeUnknownError("no answer"))
        outcomes.tell(part[0], entry)
    breaks = 0
    while True:
        try:
            outcomes.settle()
            break
        except ZeroDivisionError:
            breaks += 1
    assert told == [*names, *(name for name in names for _ in range(2)), *names]
    assert breaks == 4
    outcomes.settle()
    assert len(told) == 12

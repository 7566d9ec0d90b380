"""The thread that runs what is posted, at once or at a time."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from ray_paxos.actors.background import Background


@pytest.fixture
def background() -> Iterator[Background]:
    made = Background("test")
    yield made
    made.close()


def test_calls_run_in_their_order_in_one_thread(background: Background) -> None:
    ran: list[tuple[int, str]] = []
    done = threading.Event()

    def note(number: int) -> None:
        ran.append((number, threading.current_thread().name))

    for number in range(100):
        background.post(partial(note, number))
    background.post(done.set)
    assert done.wait(5)
    assert ran == [(number, "test") for number in range(100)]


def test_timers_run_at_their_time_and_not_where_they_were_cancelled(
    background: Background,
) -> None:
    started = time.monotonic()
    ran: list[tuple[str, float]] = []
    done = threading.Event()

    def note(name: str) -> None:
        ran.append((name, time.monotonic()))

    background.call_later(0.06, partial(note, "late"))
    background.call_later(0.06, done.set)
    background.call_later(0.03, partial(note, "early"))
    background.call_later(0.02, partial(note, "never")).cancel()
    assert done.wait(5)
    assert [name for name, _ in ran] == ["early", "late"]
    assert all(at - started >= least for (_, at), least in zip(ran, (0.03, 0.06), strict=True))


def test_posts_do_not_hold_up_timers(background: Background) -> None:
    """A thread that always has something to do looks at the time in between."""
    done = threading.Event()
    background.call_later(0.02, done.set)

    def again() -> None:
        if not done.is_set():
            background.post(again)

    background.post(again)
    assert done.wait(5)


def test_a_call_that_breaks_off_ends_no_other(
    background: Background, caplog: pytest.LogCaptureFixture
) -> None:
    done = threading.Event()

    def broken() -> None:
        raise RuntimeError("a bug")

    background.post(broken)
    background.call_later(0.0, broken)
    background.call_later(0.01, done.set)
    assert done.wait(5)
    assert "a bug" in caplog.text


def test_it_is_nicer_and_so_are_its_threads_alone() -> None:
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    found: list[int] = []
    background = Background("test", niceness=2)

    def look() -> None:
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    background.post(look)
    background.close()
    assert found == [min(own + 2, 19)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own


def test_it_may_close_itself() -> None:
    background = Background("test")
    done = threading.Event()

    def close() -> None:
        background.close()
        done.set()

    background.post(close)
    assert done.wait(5)

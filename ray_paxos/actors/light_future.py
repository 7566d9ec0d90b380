"""A future that costs little as long as nobody waits for it.

A `concurrent.futures.Future` makes a condition, which is a lock and a queue of waiters, whether or
not anybody ever waits: with what the garbage collector has to do for it that is most of what a
command costs its client. Here it is made when it is first asked for. Until then the future is
*light*, and one lock, shared by all futures of the process, guards the change of its state:

```
 light ── set_result, add_done_callback ─▶ under the shared lock
   │
   ▼  result (not done yet), wait, as_completed, cancel: its condition is made, under that lock
 as any other ── everything ────────────▶ under its condition, by the base class
```

Whoever holds the shared lock and finds a future light knows that nobody is inside its condition.
The shared lock is never held while a condition is entered, and no callback runs under it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures._base import (
    CANCELLED,
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    PENDING,
    RUNNING,
)
from typing import Any, TypeVar, cast

T = TypeVar("T")

SETTLED_AT_ONCE = 1_024
"""So many futures change under the lock at most, before others have their turn, and before a client
sends what their callbacks have proposed."""

_CANCELLED = (CANCELLED, CANCELLED_AND_NOTIFIED)
_DONE = (FINISHED, *_CANCELLED)
_NONE: tuple[Any, ...] = ()

_changing = threading.Lock()


def set_results(
    futures: Sequence[LightFuture[T]],
    results: Sequence[T],
    between: Callable[[], object] = lambda: None,
) -> None:
    """Settle each future with its result, in this order; as `set_result` of each, only cheaper.

    Args:
        futures: None of them done.
        results: As many.
        between: Called whenever `SETTLED_AT_ONCE` futures more are settled, but for the last time.
    """
    for begin in range(0, len(futures), SETTLED_AT_ONCE):
        if begin:
            is_whole = False
            try:
                between()
                is_whole = True
            finally:
                if not is_whole:
                    _set_some_results(futures[begin:], results[begin:])
        end = begin + SETTLED_AT_ONCE
        _set_some_results(futures[begin:end], results[begin:end])


def _set_some_results(futures: Sequence[LightFuture[T]], results: Sequence[T]) -> None:
    # Those that need more than their new state: whether they have it, future, result.
    left: list[tuple[bool, LightFuture[T], T]] = []
    with _changing:
        for future, result in zip(futures, results, strict=True):
            if future._is_light and future._state != FINISHED:
                # In this order: others read them without the lock.
                future._result = result
                future._state = FINISHED
                if future._callback is not None:
                    left.append((True, future, result))
            else:
                left.append((False, future, result))
    for is_settled, future, result in left:
        if is_settled:
            future._run_callbacks()
        else:
            future.set_result(result)


class _MadeWhenNeeded:
    """Gives a future its condition, and what belongs to it, on first use.

    Not called again after that: what is set at the instance comes first.
    """

    def __get__(self, future: Any, owner: type) -> threading.Condition:
        with _changing:
            if future._is_light:
                future._condition = threading.Condition()
                future._waiters = []
                future._list_callbacks()
                future._is_light = False
            return cast(threading.Condition, future.__dict__["_condition"])


class LightFuture(Future[T]):
    """As `concurrent.futures.Future` in all that it does.

    Invariants: while it is light its state is PENDING, RUNNING or FINISHED, and nobody waits.
    """

    # What the base class's constructor would set; set here once for all.
    _state: str = PENDING
    _result: T | None = None
    _exception: BaseException | None = None
    _condition: threading.Condition = cast(threading.Condition, _MadeWhenNeeded())
    _waiters: Any = _NONE
    _done_callbacks: Any = _NONE
    _callback: Callable[[Future[T]], object] | None = None
    """The first one of a light future: most have one, and a list for each is dear (see `gc`)."""
    _is_light = True

    def __init__(self) -> None:
        """Begin light."""

    def done(self) -> bool:
        """Whether it has a result or an error, or was cancelled."""
        return self._state in _DONE

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._state in _CANCELLED

    def result(self, timeout: float | None = None) -> T:
        """As of the base class."""
        if self._state == FINISHED and self._exception is None:
            return cast(T, self._result)
        if self._state not in _DONE:
            self._check_may_wait(timeout)
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As of the base class."""
        if self._state == FINISHED:
            return self._exception
        if self._state not in _DONE:
            self._check_may_wait(timeout)
        return super().exception(timeout)

    def _check_may_wait(self, timeout: float | None) -> None:
        """Somebody waits for it, who may have to be told that this cannot be."""

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """As of the base class."""
        with _changing:
            if self._is_light and self._state != FINISHED:
                if self._callback is None:
                    self._callback = fn
                else:
                    self._list_callbacks().append(fn)
                return
        super().add_done_callback(fn)

    def set_running_or_notify_cancel(self) -> bool:
        """As of the base class."""
        with _changing:
            if self._is_light and self._state == PENDING:
                self._state = RUNNING
                return True
        return super().set_running_or_notify_cancel()

    def set_result(self, result: T) -> None:
        """As of the base class."""
        with _changing:
            if is_light := self._is_light and self._state != FINISHED:
                # In this order: others read them without the lock.
                self._result = result
                self._state = FINISHED
        if not is_light:
            super().set_result(result)
        elif self._callback is not None:
            self._run_callbacks()

    def set_exception(self, exception: BaseException | None) -> None:
        """As of the base class."""
        with _changing:
            if is_light := self._is_light and self._state != FINISHED:
                self._exception = exception
                self._state = FINISHED
        if not is_light:
            super().set_exception(exception)
        elif self._callback is not None:
            self._run_callbacks()

    def _list_callbacks(self) -> list[Callable[[Future[T]], object]]:
        """All of them, as the base class has them; under the shared lock, or when it is done."""
        if self._done_callbacks is _NONE:
            self._done_callbacks = [] if self._callback is None else [self._callback]
        listed: list[Callable[[Future[T]], object]] = self._done_callbacks
        return listed

    def _run_callbacks(self) -> None:
        self._list_callbacks()
        # The base class's: it logs what a callback raises, and goes on.
        self._invoke_callbacks()  # type: ignore[attr-defined]

"""A process of its own that is the Ray driver, and the end of the pipe here.

Ray ends a driver whose cluster is gone, and a call into Ray may hang. Neither may happen to whoever
serves the page: they happen to this process, and the next question starts another one.

```
 Watcher.look, read_log ── number, method, arguments ─▶ target.method(*arguments)
  future of that number ◀── number, what came of it ────┘ in a thread
```

Rules:

1. The process ends when the pipe does, also while it connects: with the watcher's own process,
   however that ends.
2. It hears no interrupt: a terminal sends that to all, and the watcher closes the pipe then.
3. A look that is not answered in time ends the process; so does `close`.
4. A log that is not read in time is given up, and nothing else: the process keeps what it has seen.
   Logs have threads of their own, so that no look waits for them, and while so many are late as
   there are threads no other is asked for.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pickle import PicklingError
from queue import Queue
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from ray_paxos.dashboard.log_tail import LogTail
from ray_paxos.dashboard.target import Hello, Target
from ray_paxos.errors import ClusterError, PaxosError

if TYPE_CHECKING:
    from ray_paxos.observability.cluster_view import ClusterView

LOOKERS = 2
READERS = 2
START_TIMEOUT_S = 120.0
ANSWER_TIMEOUT_S = 15.0
READ_TIMEOUT_S = 10.0
"""More than the target takes by itself."""
END_TIMEOUT_S = 3.0

_Question: TypeAlias = tuple[int, str, tuple[Any, ...]]


class Watcher:
    """Looks at a target from another process. May be used by several threads; to be closed."""

    def __init__(
        self,
        make: Callable[[], Target],
        *,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        """Start nothing yet.

        Args:
            make: Makes the target, in the other process; fit for pickling.
            answer_timeout_s: How long a look may take.
            read_timeout_s: How long reading a log may take.
        """
        self._make = make
        self._answer_timeout_s = answer_timeout_s
        self._read_timeout_s = read_timeout_s
        self._starting = threading.Lock()
        self._life: _Life | None = None
        self._hello: Hello | None = None
        self._is_closed = False

    def hello(self) -> Hello:
        """What the target said when it was made last; makes it where that has not happened.

        Raises:
            PaxosError: It could not be made.
        """
        if self._hello is None:
            self._alive()
        assert self._hello is not None
        return self._hello

    def look(self) -> ClusterView:
        """As `Target.look`; raises ClusterError, too, where the process has ended or hangs."""
        life = self._alive()
        try:
            view = life.call("look").result(self._answer_timeout_s)
        except FutureTimeoutError:
            life.end()
            raise ClusterError(f"no answer within {self._answer_timeout_s:g} s") from None
        return cast("ClusterView", view)

    def read_log(self, group: int, members: tuple[str, ...], count: int) -> LogTail:
        """As `Target.read_log`; raises ClusterError, too, where the process has ended or hangs."""
        life = self._alive()
        if life.reads_late >= READERS:
            raise ClusterError("logs that were asked for before have not been read yet")
        reading = life.call("read_log", group, members, count)
        try:
            return cast(LogTail, reading.result(self._read_timeout_s))
        except FutureTimeoutError:
            life.give_up(reading)
            raise ClusterError(f"no log within {self._read_timeout_s:g} s") from None

    def close(self) -> None:
        """End the process, also one that is still connecting, for good."""
        self._is_closed = True
        life = self._life
        if life is not None:
            life.end()

    def _alive(self) -> _Life:
        """The process, started where there is none."""
        with self._starting:
            life = self._life
            if life is None or life.is_over:
                life = self._life = _Life(self._make)
                self._hello = self._greet(life)
            return life

    def _greet(self, life: _Life) -> Hello:
        is_greeted = False
        try:
            if self._is_closed:
                raise ClusterError("it is not watched any more")
            hello = cast(Hello, life.call("hello").result(START_TIMEOUT_S))
            is_greeted = True
        except FutureTimeoutError:
            raise ClusterError(f"not connected within {START_TIMEOUT_S:g} s") from None
        finally:
            if not is_greeted:
                self._life = None
                life.end()
        return hello


class _Life:
    """One process, from its start to its end."""

    def __init__(self, make: Callable[[], Target]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=run_target, args=(theirs, make), name="ray-paxos-watcher", daemon=True
        )
        self._process.start()
        theirs.close()
        self._changing = threading.Lock()
        self._open: dict[int, Future[Any]] = {}
        self._late: list[Future[Any]] = []
        self._numbers = count(1)
        self.is_over = False
        self._answers = threading.Thread(
            target=self._take_answers, name="watcher-answers", daemon=True
        )
        self._answers.start()

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        """Have a method called; its future has what came of it, or a PaxosError."""
        future: Future[Any] = Future()
        with self._changing:
            if self.is_over:
                future.set_exception(_gone())
                return future
            number = next(self._numbers)
            self._open[number] = future
            try:
                self._pipe.send((number, method, arguments))
            except OSError:
                # The answers' thread will find the same.
                self._open.pop(number)
                future.set_exception(_gone())
        return future

    @property
    def reads_late(self) -> int:
        """How many logs are still being read for which nobody waits any more."""
        with self._changing:
            self._late = [future for future in self._late if not future.done()]
            return len(self._late)

    def give_up(self, reading: Future[Any]) -> None:
        """Wait no more for a log."""
        with self._changing:
            self._late.append(reading)

    def end(self) -> None:
        """End the process, at once where it does not end by itself soon."""
        self._process.terminate()
        self._process.join(END_TIMEOUT_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(END_TIMEOUT_S)
        # Until it has seen that, the next question would come to this life, and fail.
        self._answers.join(END_TIMEOUT_S)

    def _take_answers(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                number, answer, error = self._pipe.recv()
                with self._changing:
                    future = self._open.pop(number, None)
                if future is not None:
                    if error is None:
                        future.set_result(answer)
                    else:
                        future.set_exception(error)
        with self._changing:
            self.is_over = True
            left, self._open = list(self._open.values()), {}
            self._pipe.close()
        for future in left:
            future.set_exception(_gone())


def _gone() -> ClusterError:
    return ClusterError("the process that watched it has ended, as Ray ends one whose cluster ends")


def run_target(pipe: Connection, make: Callable[[], Target]) -> None:
    """The other process: make the target, and answer for it until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _be_silent()
    questions: Queue[_Question] = Queue()
    threading.Thread(
        target=_take_questions, args=(pipe, questions), name="watcher-questions", daemon=True
    ).start()
    target: Target | None = None
    problem: PaxosError | None = None
    try:
        target = make()
    except Exception as error:
        # Whatever it is, whoever waits at the pipe's other end has to be told, or waits for ever.
        problem = _typed(error)
    # Ray takes the signal for itself, and ends with a trace.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    sending = threading.Lock()
    lookers, readers = ThreadPoolExecutor(LOOKERS), ThreadPoolExecutor(READERS)
    while True:
        number, method, arguments = questions.get()
        if target is None:
            with contextlib.suppress(OSError):
                pipe.send((number, None, problem))
            continue
        work = partial(getattr(target, method), *arguments)
        threads = readers if method == "read_log" else lookers
        threads.submit(_answer, pipe, sending, number, work)


def _take_questions(pipe: Connection, questions: Queue[_Question]) -> None:
    """Hear the pipe's end whatever the others do: making a target may take long, or hang."""
    try:
        while True:
            questions.put(pipe.recv())
    finally:
        # Nobody waits for what a thread may still wait for.
        os._exit(0)


def _answer(
    pipe: Connection, sending: threading.Lock, number: int, work: Callable[[], Any]
) -> None:
    answer: Any = None
    problem: PaxosError | None = None
    try:
        answer = work()
    except Exception as error:
        # Likewise; and a thread of a pool would keep it to itself.
        problem = _typed(error)
    with sending, contextlib.suppress(OSError):
        try:
            pipe.send((number, answer, problem))
        except (PicklingError, TypeError, AttributeError) as error:
            # Nothing of it was sent.
            pipe.send((number, None, _typed(error)))


def _typed(error: Exception) -> PaxosError:
    if isinstance(error, PaxosError):
        return error
    return ClusterError(f"{type(error).__name__}: {error}")


def _be_silent() -> None:
    """What Ray and the cluster's clients print when a cluster ends is on the page, in one line."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    os.close(nothing)

"""What the shells of learner and checkpointer share: a role whose disk work is done in threads.

Whoever has the turn applies commands, answers reads, and hands everything that takes time to
others: sealing, merging and reading segments to one store thread, what takes as long as all of a
group's state does (checkpoints, scrubbing) to a slow one, messages to the switchboard. What comes
of it arrives through the inbox. So a segment being written, or a peer that does not answer, delays
no command and no read.
"""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from ray_paxos.actors.background import be_nicer
from ray_paxos.actors.errands import Errand
from ray_paxos.actors.shell import Shell
from ray_paxos.core.driver import Action, Driver, Observe, Run, Transmit, Write
from ray_paxos.core.tasks import Outcome, Task, TaskFailed
from ray_paxos.errors import PaxosError, StorageError, StorageFullError
from ray_paxos.storage.opening import OpenedRole
from ray_paxos.storage.stores import INLINE_TASKS, SLOW_TASKS, RoleStore

FULL_PAUSE_S = 1.0


class LogShell(Shell):
    """A learner or a checkpointer."""

    _storage_full = False
    """Whether the last write found no room, and none has worked since; of the store thread."""

    def _started(self, opened: OpenedRole) -> None:
        self._is_closing = threading.Event()
        # Of the store thread, which alone takes them out.
        self._tasks: deque[Task] = deque()
        self._store_thread = self._executor("ray_paxos-store")
        self._slow_thread = self._executor("ray_paxos-slow")

    def _executor(self, name: str) -> ThreadPoolExecutor:
        initializer = partial(be_nicer, self._niceness)
        return ThreadPoolExecutor(1, thread_name_prefix=name, initializer=initializer)

    def _end(self) -> None:
        self._is_closing.set()
        self._store_thread.shutdown(wait=True)
        self._slow_thread.shutdown(wait=True)

    # With the turn.

    def _execute(self, actions: Sequence[Action], present: Sequence[Errand]) -> None:
        assert self._opened is not None
        store = self._opened.store
        for action in actions:
            match action:
                case Transmit():
                    self._transmit(action, present)
                case Write():
                    self._submit(self._store_thread, partial(self._write, store, action))
                case Run(task=task) if isinstance(task, INLINE_TASKS):
                    outcome = store.run(task)
                    done = self._opened.driver.on_outcome(task, outcome, self._clock())
                    self._execute(done, present)
                case Run(task=task):
                    self._start(store, task)
                case Observe(event=event):
                    self._observer.observe(event)

    def _start(self, store: RoleStore, task: Task) -> None:
        """Have a task done in the background."""
        if isinstance(task, SLOW_TASKS):
            self._submit(self._slow_thread, partial(self._run, store, task))
        else:
            self._tasks.append(task)
            self._submit(self._store_thread, partial(self._run_next, store))

    def _submit(self, executor: ThreadPoolExecutor, work: partial[None]) -> None:
        if self._is_closing.is_set():
            # What comes of the last turns is for the next life: it asks again.
            return
        executor.submit(work).add_done_callback(self._tell_broken)

    # The store thread.

    def _write(self, store: RoleStore, write: Write) -> None:
        # What breaks off for any other reason stops the role, too: nobody reads this thread's end.
        failure: PaxosError | None = StorageError("a write broke off, which is a bug; see the log")
        try:
            failure = self._try_to_write(store, write)
        finally:
            self.arrive(partial(self._was_written, write.number, failure))

    def _try_to_write(self, store: RoleStore, write: Write) -> PaxosError | None:
        """Write and sync, again where there was no room; what went wrong, if anything did."""
        is_told = False
        while True:
            begun_ns = self._clock()
            try:
                store.write(write.records)
                store.sync()
            except StorageFullError as error:
                # Nothing was written and nobody was told anything: again, once there may be room.
                self._storage_full = True
                if not is_told:
                    self._observer.warn(f"{error}; what is learned waits in memory, up to a limit")
                    is_told = True
                if self._is_closing.wait(FULL_PAUSE_S):
                    return error
                # What waits behind this write may be what makes room: a cut of the log.
                while self._tasks:
                    self._run_next(store)
            except PaxosError as error:
                return error
            else:
                self._storage_full = False
                self._observer.note_seal(self._clock() - begun_ns)
                return None

    def _tell_broken(self, ended: Future[None]) -> None:
        """Write what broke off to the log, which nobody else would."""
        error = ended.exception()
        if error is not None:
            self._observer.warn("".join(traceback.format_exception(error)))

    def _run_next(self, store: RoleStore) -> None:
        """Do the task that has waited longest; it may be done already (`_try_to_write`)."""
        if self._tasks:
            self._run(store, self._tasks.popleft())

    def _run(self, store: RoleStore, task: Task) -> None:
        # What breaks off for any other reason is told, too: nobody reads this thread's end.
        outcome: Outcome = TaskFailed("it broke off, which is a bug; see the log")
        try:
            outcome = store.run(task)
        finally:
            if isinstance(outcome, TaskFailed):
                self._observer.warn(f"gave up {type(task).__name__}: {outcome.why}")
            self.arrive(partial(_was_run, task, outcome))

    # What comes of it; with the turn.

    def _was_written(
        self, number: int, failure: PaxosError | None, driver: Driver, now_ns: int
    ) -> list[Action]:
        if failure is not None:
            self._fail(driver, failure)
            return []
        return driver.on_durable(number, now_ns)


def _was_run(task: Task, outcome: Outcome, driver: Driver, now_ns: int) -> list[Action]:
    return driver.on_outcome(task, outcome, now_ns)

"""Processes that execute a log a second time, to find what depends on the process.

Members of an in-process cluster share one process, and with it the order in which sets of strings
are gone through, the process id, and nearly the time of day. So a log is executed in others, too:

1. Each has another hash seed, and clocks that are ahead by years.
2. Classes are sent by value, with the local code that they mention (`class_shipping`), so that
   nothing of a test's module is imported there; what is installed is imported. Classes that use
   what cannot be pickled, such as a decoder of their module, are imported with their module.
3. The processes are started with the first check of a process, and end with it. They read requests
   from their standard input; what machines print there goes to the standard error.

A set of two strings comes out in another order in every second process: with three of them such a
set escapes one time in eight, where it is looked at once; a set of four, one time in 10,000.
"""

from __future__ import annotations

import atexit
import importlib
import io
import os
import pickle
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import IO, BinaryIO

from ray_paxos.class_shipping import is_local, loads, pickled_by_value, ship
from ray_paxos.errors import ConfigurationError, PaxosError
from ray_paxos.machines.base import StateMachine
from ray_paxos.machines.batches import exception_text
from ray_paxos.machines.object_values import MAIN, Types
from ray_paxos.machines.registry import BUILT_IN, MachineRegistry
from ray_paxos.testing.replay import Replay, Saved, load_machine, replay

HASH_SEEDS = ("1", "2", "3", "4")
PROCESSES = 3
ANSWER_TIMEOUT_S = 60.0
YEARS_AHEAD_S = 3 * 366 * 86_400
_LENGTH_BYTES = 8
_PIPE_BYTES = 1 << 16


class OtherProcessError(PaxosError):
    """A process that was to execute a log gave no answer; says why."""


@dataclass(frozen=True)
class Request:
    """What another process is to do.

    Attributes:
        classes: Those of the registry beside the built-in ones, as of `shipped`.
        path: Where modules are found.
        group: Whose log.
        log: What instance 1, 2, ... chose.
        digests_at: As of `replay`.
        saved: Machines that it is to load.
    """

    classes: bytes
    path: tuple[str, ...]
    group: int
    log: tuple[bytes, ...]
    digests_at: frozenset[int]
    saved: tuple[Saved, ...] = ()


@dataclass
class Answer:
    """What came of it.

    Attributes:
        replay: What the log gives there.
        loaded: By machine that was loaded, its digest, or as text what it raised.
        problem: What a machine's digest raised; nothing of all that is there then.
        not_loaded: Why the classes could not be loaded; empty where they could.
    """

    replay: Replay = field(default_factory=Replay)
    loaded: dict[str, bytes | str] = field(default_factory=dict)
    problem: str = ""
    not_loaded: str = ""


def shipped(classes: Sequence[type[StateMachine]]) -> bytes:
    """Classes for `Request`.

    Raises:
        ConfigurationError: One cannot be pickled; says what in it.
    """
    try:
        return pickled_by_value(tuple(classes), Types({}))
    except ConfigurationError:
        if all(map(_is_importable, classes)):
            return pickle.dumps(tuple(classes))
        for each in classes:
            # Says more of one class than of all of them.
            ship(each, Types({MAIN: each}))
        raise


def _is_importable(cls: type) -> bool:
    """Whether a class can be found by its module and name."""
    module = sys.modules.get(cls.__module__)
    return cls.__module__ != "__main__" and getattr(module, cls.__qualname__, None) is cls


def import_path() -> tuple[str, ...]:
    """Where this process finds modules, for `Request`."""
    return tuple(each or os.getcwd() for each in sys.path)


# This side.


class _Process:
    """One of them."""

    def __init__(self, hash_seed: str) -> None:
        self.parent_id = os.getpid()
        path = os.pathsep.join(import_path())
        self._popen = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path},
        )

    def send(self, data: bytes) -> None:
        assert self._popen.stdin is not None
        try:
            _write(self._popen.stdin, data)
        except OSError as error:
            raise self._gone(f"it is gone ({error})") from error

    def receive(self) -> Answer:
        data, wanted = bytearray(), _LENGTH_BYTES
        assert self._popen.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._popen.stdout, selectors.EVENT_READ)
            while len(data) < wanted:
                # A machine that waits for ever must not hold up a test run.
                if not selector.select(ANSWER_TIMEOUT_S):
                    raise self._gone(f"no answer within {ANSWER_TIMEOUT_S:g} s")
                read = os.read(self._popen.stdout.fileno(), _PIPE_BYTES)
                if not read:
                    raise self._gone("it ended while it executed the log")
                data += read
                if wanted == _LENGTH_BYTES <= len(data):
                    wanted += int.from_bytes(data[:_LENGTH_BYTES], "big")
        answer: Answer = pickle.loads(bytes(data[_LENGTH_BYTES:]))
        return answer

    def _gone(self, what: str) -> OtherProcessError:
        self.end()
        return OtherProcessError(what)

    @property
    def is_alive(self) -> bool:
        return self._popen.poll() is None

    def end(self) -> None:
        self._popen.kill()
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:
                # What it was sent last was not taken.
                continue


_processes: list[_Process] = []
_of_parent: list[_Process] = []


def ask_others(request: Request) -> list[Answer]:
    """Have other processes execute a log, side by side.

    Raises:
        OtherProcessError: One gave no answer, and was ended.
    """
    if any(process.parent_id != os.getpid() for process in _processes):
        # This process was forked: they are its parent's.
        _of_parent.extend(_processes)
        _processes.clear()
    if not all(process.is_alive for process in _processes):
        end_others()
    if not _processes:
        seeds = [seed for seed in HASH_SEEDS if seed != os.environ.get("PYTHONHASHSEED")]
        _processes.extend(map(_Process, seeds[:PROCESSES]))
    data = pickle.dumps(request)
    try:
        for process in _processes:
            process.send(data)
        return [process.receive() for process in _processes]
    except BaseException:
        # What the others answer later would be taken for the answer to something else.
        end_others()
        raise


def end_others() -> None:
    """End the processes; others are started when they are needed."""
    for process in _processes:
        process.end()
    _processes.clear()


atexit.register(end_others)


# The other side.


def answer_to(request: Request) -> Answer:
    """Do what is asked, in this process."""
    sys.path[:] = request.path
    importlib.invalidate_caches()
    before = set(sys.modules)
    try:
        return _answer_to(request)
    finally:
        # Somebody else's local modules may have the same names.
        for name in set(sys.modules) - before:
            if is_local(name):
                del sys.modules[name]


def _answer_to(request: Request) -> Answer:
    answer = Answer()
    try:
        registry = MachineRegistry((*BUILT_IN, *loads(request.classes, Types({}))))
    except (Exception, SystemExit) as error:
        # The users' code, here and below: whatever it raises is told.
        answer.not_loaded = exception_text(error)
        return answer
    try:
        answer.replay, _ = replay(request.log, registry, request.group, request.digests_at)
    except (Exception, SystemExit) as error:
        answer.problem = exception_text(error)
        return answer
    for saved in request.saved:
        try:
            answer.loaded[saved.spec.name] = load_machine(saved, registry).digest()
        except (Exception, SystemExit) as error:
            answer.loaded[saved.spec.name] = exception_text(error)
    return answer


def _write(file: IO[bytes], data: bytes) -> None:
    file.write(len(data).to_bytes(_LENGTH_BYTES, "big"))
    file.write(data)
    file.flush()


def set_clocks_ahead() -> None:
    """Let the clocks that Python code reads be ahead by years."""

    def ahead(clock: Callable[[], int | float], by: int) -> int | float:
        return clock() + by

    for name in ("time", "monotonic", "perf_counter"):
        for suffix, by in (("", YEARS_AHEAD_S), ("_ns", YEARS_AHEAD_S * 10**9)):
            setattr(time, name + suffix, partial(ahead, getattr(time, name + suffix), by))


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more."""
    while head := requests.read(_LENGTH_BYTES):
        request: Request = pickle.load(io.BytesIO(requests.read(int.from_bytes(head, "big"))))
        _write(answers, pickle.dumps(answer_to(request)))


def main() -> None:
    """Answer the process that has started this one."""
    # Under its own name, as the one that asks knows the classes here.
    from ray_paxos.testing import other_process

    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    other_process.set_clocks_ahead()
    other_process.serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()

"""The processes in which a log is executed a second time."""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from ray_paxos.machines.base import ApplyContext
from ray_paxos.testing import other_process
from tests.unit.in_process_machines import Plain, found, played

HERE = os.getpid()


# The other processes.


def test_a_class_that_cannot_be_sent_is_told() -> None:
    lock = threading.Lock()

    class UsesLock(Plain):
        def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
            with lock:
                return None

    cluster = played(UsesLock)
    text = found(cluster)
    assert "cannot be sent to another process" in text
    assert "`lock`" in text
    assert "in_other_processes=False" in text
    cluster.check(in_other_processes=False)


class Ends(Plain):
    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        if os.getpid() != HERE:
            os._exit(3)
        return None


class Sleeps(Plain):
    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        if os.getpid() != HERE:
            time.sleep(60)
        return None


def test_another_process_that_ends_is_told_and_replaced() -> None:
    text = found(played(Ends))
    assert "could not be executed in another process: it ended while it executed the log" in text
    played(Plain).check()


def test_another_process_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_process, "ANSWER_TIMEOUT_S", 0.5)
    begin = time.monotonic()
    assert "no answer within 0.5 s" in found(played(Sleeps))
    assert time.monotonic() - begin < 15
    monkeypatch.undo()
    played(Plain).check()


def test_what_machines_print_there_does_no_harm() -> None:
    class Prints(Plain):
        def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
            print("applied", command)
            return None

    played(Prints, b"a" * 100_000).check()


def test_other_processes_have_other_hash_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    other_process.end_others()
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    started: list[str] = []
    start = other_process._Process.__init__

    def noting(self: Any, hash_seed: str) -> None:
        started.append(hash_seed)
        start(self, hash_seed)

    monkeypatch.setattr(other_process._Process, "__init__", noting)
    played(Plain).check()
    assert started == ["2", "3", "4"]
    other_process.end_others()


def test_processes_of_a_parent_are_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = played(Plain)
    cluster.check()
    before = list(other_process._processes)
    real = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: real + 1)
    cluster.check()
    monkeypatch.undo()
    assert not set(before) & set(other_process._processes)
    assert all(process.is_alive for process in before)
    for process in before:
        other_process._of_parent.remove(process)
        process.end()
    other_process.end_others()


def test_nothing_of_the_tests_module_is_imported_there() -> None:
    class Looks(Plain):
        def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
            return b"%d" % (command.decode() in sys.modules)

    assert found(played(Looks, __name__.encode())).startswith("not deterministic: executed in")


MODULE = """
import itertools
import msgspec
from ray_paxos import StateMachine

class Add(msgspec.Struct):
    count: int

decode = msgspec.msgpack.Decoder(Add).decode
lock = __import__("threading").Lock()

class Adds(StateMachine):
    kind = "adds"

    def __init__(self):
        self.total = 0

    def apply(self, command, context):
        with lock:
            self.total += FACTOR * decode(command).count

    def query(self, request):
        return b""
"""


@pytest.mark.parametrize("factor", [2, 3])
def test_a_class_that_uses_what_cannot_be_pickled_is_imported_there(
    factor: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Twice, with other code under the same name.
    (tmp_path / "adding.py").write_text(MODULE + f"\nFACTOR = {factor}\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "adding" not in sys.modules
    adding = importlib.import_module("adding")
    try:
        played(adding.Adds, msgspec.msgpack.encode(adding.Add(7))).check()
    finally:
        del sys.modules["adding"]


def test_a_module_that_is_not_found_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adding = ModuleType("only_here")
    exec(MODULE + "\nFACTOR = 1\n", vars(adding))
    monkeypatch.setitem(sys.modules, "only_here", adding)
    text = found(played(adding.Adds, msgspec.msgpack.encode(adding.Add(7))))
    assert "cannot be sent to another process" in text
    assert "No module named 'only_here'" in text
    assert "in_other_processes=False" in text


def test_each_process_has_another_hash_seed() -> None:
    class Hashes(Plain):
        def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
            self.held = hash(command)
            return None

    cluster = played(Hashes)
    log = tuple(cluster._world.witness.log)
    at = frozenset({len(log)})
    classes, path = other_process.shipped([Hashes]), other_process.import_path()
    answers = other_process.ask_others(other_process.Request(classes, path, 1, log, at))
    digests = {answer.replay.digests[len(log)]["m"] for answer in answers}
    assert len(digests) == other_process.PROCESSES


def test_a_check_that_is_interrupted_leaves_no_answers_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(process: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(other_process._Process, "receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        played(Plain, b"one").check()
    monkeypatch.undo()
    played(Plain, b"other").check()

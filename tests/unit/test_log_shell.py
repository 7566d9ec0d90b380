"""What a learner says of its disk: that it is full while writes find no room, and not longer."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ray_paxos.actors.learner_shell import LearnerShell
from ray_paxos.core.driver import Write
from ray_paxos.errors import PaxosError, StorageError, StorageFullError
from tests.unit.member_processes import running_members

PATIENCE_S = 20.0


class Store:
    """Fails in turn with what it is given; None is a write that works."""

    def __init__(self, *failures: PaxosError | None) -> None:
        self.failures = deque(failures)

    def write(self, records: object) -> None:
        failure = self.failures.popleft()
        if failure is not None:
            raise failure

    def sync(self) -> None:
        pass


class Bench:
    """A learner's shell with no more than what a write needs."""

    def __init__(self) -> None:
        shell: Any = LearnerShell.__new__(LearnerShell)
        shell._tasks = deque()
        shell._clock = lambda: 0
        shell._observer = SimpleNamespace(warn=lambda text: None, note_seal=lambda ns: None)
        shell._is_closing = SimpleNamespace(wait=self._wait)
        self.shell = shell
        self.while_waiting: list[bool] = []
        self.is_closing = False

    def _wait(self, seconds: float) -> bool:
        self.while_waiting.append(self.shell._storage_full)
        return self.is_closing

    def write(self, *failures: PaxosError | None) -> PaxosError | None:
        failed: PaxosError | None = self.shell._try_to_write(Store(*failures), Write((), 1))
        return failed


FULL = StorageFullError("no room")


def test_the_disk_is_full_from_a_write_that_finds_no_room_to_the_next_that_works() -> None:
    bench = Bench()
    assert bench.shell._storage_full is False
    assert bench.write(FULL, FULL, None) is None
    assert bench.while_waiting == [True, True]
    assert bench.shell._storage_full is False


def test_it_is_full_still_where_waiting_ends_without_a_write_that_works() -> None:
    bench = Bench()
    bench.is_closing = True
    assert bench.write(FULL) is FULL
    assert bench.shell._storage_full is True


def test_another_failure_says_nothing_of_room() -> None:
    bench = Bench()
    failure = StorageError("fsync failed")
    assert bench.write(failure) is failure
    assert bench.shell._storage_full is False


def wait_for(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_each_group_of_a_learner_tells_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_members(tmp_path) as cluster:
        client = cluster.client(1_000)
        learner = cluster.members["m2"].learner
        opened = learner.serving_role()
        assert opened is not None

        def told() -> list[bool]:
            return [group["storage_full"] for group in learner.state()["groups"].values()]

        assert told()
        assert not any(told())
        has_room = opened.store.write

        def no_room(records: object) -> None:
            raise FULL

        monkeypatch.setattr(opened.store, "write", no_room)
        client.write(b"a line")
        wait_for("it says that its disk is full", lambda: all(told()))
        monkeypatch.setattr(opened.store, "write", has_room)
        wait_for("it says that there is room again", lambda: not any(told()))
        wait_for("it has a segment", lambda: learner.state()["groups"][1]["segments"] >= 1)

"""The archiver's thread: an archive that refuses is tried again, told, and disturbs nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from ray_paxos.actors import archiving
from ray_paxos.actors.archiving import ArchiverThread
from ray_paxos.errors import StorageError
from ray_paxos.storage.archiver import ArchiveProgress, Archiver


class FakeArchiver:
    """Refuses as long as it is told to."""

    def __init__(self) -> None:
        self.rounds = 0
        self.refuses = ""
        self.holds: threading.Event | None = None
        self.progress = {1: ArchiveProgress(sealed_through=9, archived_through=4)}

    def update(self, is_over: Callable[[], bool]) -> None:
        self.rounds += 1
        if self.holds is not None:
            self.holds.wait(30)
        if self.refuses:
            raise StorageError(self.refuses)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ROUND_PAUSE_S", "RETRY_S"):
        monkeypatch.setattr(archiving, name, 0.01)
    monkeypatch.setattr(archiving, "RETRY_MAX_S", 0.04)


@pytest.fixture
def fake() -> FakeArchiver:
    return FakeArchiver()


@pytest.fixture
def thread(fast: None, fake: FakeArchiver) -> Iterator[ArchiverThread]:
    started = ArchiverThread(lambda: cast(Archiver, fake))
    yield started
    if fake.holds is not None:
        fake.holds.set()
    started.close()


def wait_for(what: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_it_looks_when_it_is_told_and_not_otherwise(
    thread: ArchiverThread, fake: FakeArchiver
) -> None:
    wait_for(lambda: fake.rounds == 1)
    time.sleep(0.1)
    assert fake.rounds == 1
    thread.look()
    wait_for(lambda: fake.rounds == 2)
    assert thread.describe(1) == {
        "archived_through": 4,
        "lag": 5,
        "checkpoint": 0,
        "files": 0,
        "problem": "",
    }
    assert thread.alarms(1) == []


def test_what_refuses_is_tried_again_by_itself_and_told_until_it_works(
    thread: ArchiverThread, fake: FakeArchiver
) -> None:
    wait_for(lambda: fake.rounds == 1)
    fake.refuses = "no room there"
    thread.look()
    wait_for(lambda: fake.rounds > 5)
    assert thread.describe(1)["problem"] == "no room there"
    assert thread.alarms(1) == ["the archive is behind: no room there"]
    fake.refuses = ""
    wait_for(lambda: thread.describe(1)["problem"] == "")
    assert thread.alarms(1) == []


def test_what_is_damaged_here_is_an_alarm(thread: ArchiverThread, fake: FakeArchiver) -> None:
    fake.progress = {1: ArchiveProgress(problems=("x: wrong checksum",))}
    wait_for(lambda: thread.alarms(1) == ["not archived: x: wrong checksum"])


def test_an_archive_that_cannot_be_made_is_told_too(fast: None) -> None:
    def fail() -> Archiver:
        raise StorageError("no region")

    thread = ArchiverThread(fail)
    wait_for(lambda: thread.describe(1)["problem"] == "no region")
    thread.close()


def test_closing_does_not_wait_for_ever(
    thread: ArchiverThread, fake: FakeArchiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archiving, "CLOSE_WAIT_S", 0.1)
    fake.holds = threading.Event()
    thread.look()
    wait_for(lambda: fake.rounds == 2)
    began = time.monotonic()
    thread.close()
    assert time.monotonic() - began < 5

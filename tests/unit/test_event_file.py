"""A role's file of events: whole lines, bounded, readable, and never trouble for the role."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from ray_paxos.errors import DamageError, StorageError
from ray_paxos.observability import event_file
from ray_paxos.observability.event_file import EventFile, older_path, read_events
from ray_paxos.observability.event_record import EventRecord, encode_record

PAUSE_NS = 1_000
MAX = 1_000_000


def record(sequence: int, text: str = "leads") -> EventRecord:
    return EventRecord(
        sequence=sequence,
        at_ms=6,
        cluster="demo",
        member="m1",
        role="learner",
        group=3,
        kind="MasterStarted",
        level="INFO",
        text=text,
    )


LINE_BYTES = len(encode_record(record(0))) + 1


def sequences(path: Path) -> list[int]:
    return [each.sequence for each in read_events(path)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


class Told(list[str]):
    """What the file told of failures."""

    def __call__(self, text: str) -> None:
        self.append(text)


made: list[EventFile] = []


@pytest.fixture(autouse=True)
def _closed_at_the_end() -> Iterator[None]:
    yield
    while made:
        made.pop().close()


def new_file(path: Path, told: Told | None = None, bytes_max: int = MAX) -> EventFile:
    made.append(EventFile(path, bytes_max, told, pause_ns=PAUSE_NS))
    return made[-1]


def write(file: EventFile, *numbers: int, now_ns: int = 0) -> None:
    for number in numbers:
        file.write(record(number), now_ns)


def test_what_is_written_is_there_at_once_and_comes_back(path: Path) -> None:
    file = new_file(path)
    write(file, 1, 2)
    assert list(read_events(path)) == [record(1), record(2)]
    file.close()
    write(file, 3)
    assert sequences(path) == [1, 2, 3]


def test_nothing_is_touched_before_the_first_event(path: Path) -> None:
    new_file(path)
    assert not path.exists()
    assert not sequences(path)


def test_a_later_life_goes_on_behind_an_earlier_one(path: Path) -> None:
    write(new_file(path), 1)
    write(new_file(path), 2)
    assert sequences(path) == [1, 2]


@pytest.mark.parametrize("torn", [b'{"seq', b"\0" * 200_000, b"x"])
def test_the_torn_end_of_an_earlier_life_is_cut_off(path: Path, torn: bytes) -> None:
    write(new_file(path), 1, 2)
    with path.open("ab") as file:
        file.write(torn)
    assert sequences(path) == [1, 2], "a reader skips it"
    write(new_file(path), 3)
    assert sequences(path) == [1, 2, 3]
    assert path.stat().st_size == 3 * LINE_BYTES


def test_a_file_that_is_nothing_but_a_torn_line_begins_anew(path: Path) -> None:
    path.write_bytes(b'{"seq')
    write(new_file(path), 1)
    assert sequences(path) == [1]


def test_it_is_begun_anew_at_its_size_and_one_older_file_is_kept(path: Path) -> None:
    file = new_file(path, bytes_max=3 * LINE_BYTES)
    write(file, *range(1, 4))
    assert not older_path(path).exists()
    write(file, 4)
    assert sequences(path) == [1, 2, 3, 4]
    write(file, 5, 6, 7, 8)
    assert sequences(path) == [4, 5, 6, 7, 8]
    assert older_path(path).stat().st_size == 3 * LINE_BYTES
    assert sorted(os.listdir(path.parent)) == ["events.jsonl", "events.jsonl.1"]


def test_the_size_counts_what_earlier_lives_wrote(path: Path) -> None:
    write(new_file(path, bytes_max=3 * LINE_BYTES), 1, 2, 3)
    write(new_file(path, bytes_max=3 * LINE_BYTES), 4)
    assert path.stat().st_size == LINE_BYTES


def test_a_line_over_the_size_has_a_file_of_its_own(path: Path) -> None:
    file = new_file(path, bytes_max=10)
    write(file, 1, 2)
    assert path.stat().st_size == older_path(path).stat().st_size == LINE_BYTES


def test_an_empty_file_does_not_take_the_place_of_the_older_one(path: Path) -> None:
    file = new_file(path, bytes_max=10)
    write(file, 1)
    file.close()
    path.rename(older_path(path))
    write(file, 2)
    assert sequences(path) == [1, 2]


@pytest.mark.parametrize("bad", [b"nonsense", b"", b'{"sequence": 1}', b"\xff\xfe", b"[1]"])
@pytest.mark.parametrize("is_older", [False, True])
def test_any_other_bad_line_is_named(path: Path, bad: bytes, is_older: bool) -> None:
    write(new_file(path), 1)
    good = path.read_bytes()
    where = older_path(path) if is_older else path
    where.write_bytes(good + bad + b"\n" + good)
    reading = read_events(path)
    assert next(reading).sequence == 1
    with pytest.raises(DamageError, match=rf"{where.name}, line 2: ") as raised:
        list(reading)
    assert str(where) in str(raised.value)


def test_a_text_that_is_no_utf8_is_a_bad_line(path: Path) -> None:
    path.write_bytes(encode_record(record(1, "XX")).replace(b"XX", b"\xff\xff") + b"\n")
    with pytest.raises(DamageError, match="line 1"):
        list(read_events(path))


def test_a_file_that_cannot_be_read_is_named(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StorageError, match=r"events\.jsonl cannot be read"):
        list(read_events(path))


class BrokenFile(FileIO):
    """On a disk that cannot give it back."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise OSError(errno.EIO, "input/output error")


def test_a_disk_that_cannot_give_a_file_back_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(new_file(path), 1)
    monkeypatch.setattr(Path, "open", lambda self, mode, buffering: BrokenFile(self))
    with pytest.raises(StorageError, match=r"events\.jsonl(\.1)? cannot be read: .*input/output"):
        list(read_events(path))


def test_a_reader_misses_nothing_that_becomes_older_meanwhile(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = new_file(path, bytes_max=2 * LINE_BYTES)
    write(file, 1, 2, 3, 4)
    opened = event_file._opened

    def open_slowly(which: Path, stack: Any) -> FileIO | None:
        found = opened(which, stack)
        if not waited:
            waited.append(which)
            write(file, 5)
        return found

    waited: list[Path] = []
    monkeypatch.setattr(event_file, "_opened", open_slowly)
    assert sequences(path) == [3, 4], "each once, and none between is missing"


# Failing disks.


def test_a_folder_that_is_not_there_is_told_once_and_tried_after_a_pause(path: Path) -> None:
    path = path.parent / "gone" / "events.jsonl"
    told = Told()
    file = new_file(path, told)
    write(file, 1, 2, now_ns=0)
    write(file, 3, now_ns=PAUSE_NS)
    assert len(told) == 1
    assert str(path) in told[0]
    path.parent.mkdir()
    write(file, 4, now_ns=2 * PAUSE_NS - 1)
    assert not path.exists(), "the pause is not over"
    write(file, 5, 6, now_ns=2 * PAUSE_NS)
    assert sequences(path) == [5, 6]
    assert len(told) == 1


def test_another_failure_after_a_success_is_told_anew(path: Path) -> None:
    told = Told()
    folder = path.parent / "now_and_then"
    file = new_file(folder / "events.jsonl", told)
    write(file, 1, now_ns=0)
    folder.mkdir()
    write(file, 2, now_ns=PAUSE_NS)
    file.close()
    folder.rename(path.parent / "moved")
    write(file, 3, now_ns=2 * PAUSE_NS)
    assert len(told) == 2


def test_nothing_is_tried_while_the_pause_lasts(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def fail(self: EventFile, encoded: bytes) -> None:
        tries.append(1)
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr(EventFile, "_append", fail)
    file = new_file(path)
    for now_ns in range(PAUSE_NS):
        write(file, 1, now_ns=now_ns)
    assert len(tries) == 1


class ShortFile(FileIO):
    """Has no room for more than so many bytes."""

    room = LINE_BYTES + 10

    def write(self, data: Any) -> int:
        part = bytes(data)[: max(ShortFile.room, 0)]
        if not part:
            raise OSError(errno.ENOSPC, "no room")
        ShortFile.room -= len(part)
        return super().write(part)


def test_half_a_line_is_cut_off_once_there_is_room(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ShortFile, "room", LINE_BYTES + 10)
    monkeypatch.setattr(Path, "open", lambda self, mode, buffering: ShortFile(self, mode[:2]))
    told = Told()
    file = new_file(path, told)
    write(file, 1, 2, now_ns=0)
    assert path.stat().st_size == LINE_BYTES + 10
    write(file, 3, now_ns=PAUSE_NS)
    assert len(told) == 1
    ShortFile.room = MAX
    write(file, 4, now_ns=2 * PAUSE_NS)
    monkeypatch.undo()
    assert sequences(path) == [1, 4]


def test_nothing_is_written_behind_half_a_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ShortFile, "room", LINE_BYTES + 10)
    monkeypatch.setattr(Path, "open", lambda self, mode, buffering: ShortFile(self, mode[:2]))
    file = new_file(path)
    write(file, 1, 2, now_ns=0)
    ShortFile.room = MAX
    write(file, 3, now_ns=PAUSE_NS)
    monkeypatch.undo()
    assert sequences(path) == [1, 3]


def test_a_file_that_cannot_be_put_aside_is_no_trouble(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    file = new_file(path, told, bytes_max=LINE_BYTES)
    write(file, 1)
    older_path(path).mkdir()
    (older_path(path) / "something").touch()
    write(file, 2)
    assert len(told) == 1
    assert path.stat().st_size == LINE_BYTES, "its bound holds"


def test_threads_write_whole_lines_each_once(path: Path) -> None:
    file = new_file(path)
    threads = [
        threading.Thread(target=write, args=(file, *range(start, start + 100)))
        for start in range(0, 800, 100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sequences(path)) == list(range(800))


def test_one_thread_writes_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append, inside, most = EventFile._append, [0], [0]

    def append_slowly(self: EventFile, encoded: bytes) -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.001)
        append(self, encoded)
        inside[0] -= 1

    monkeypatch.setattr(EventFile, "_append", append_slowly)
    file = new_file(path)
    threads = [threading.Thread(target=write, args=(file, number)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_without_anybody_to_tell_a_failure_is_silent(path: Path) -> None:
    write(new_file(path.parent / "gone" / "events.jsonl"), 1)

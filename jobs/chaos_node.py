"""What a chaos run does on a node: signals to processes there, and reading logs from its disk.

Runs in an actor on that node and travels there by value, so it imports no other job.

A signal never goes to a process that only has the number of the one that was meant: a *life* is
a process id with the moment at which that process started, and both are compared first. A process
that is stopped is continued by this actor after its time, and by a shell of its own if the actor
should be gone by then.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.dataset
from pyarrow import fs

from ray_paxos.errors import PaxosError, StorageError
from ray_paxos.observability.event_file import read_events
from ray_paxos.observability.event_record import encode_record
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.member_files import EVENTS
from ray_paxos.storage.parquet import ParquetCodec
from ray_paxos.storage.segments import SegmentPlace, SegmentReader

LifeFields: TypeAlias = tuple[int, int]
"""Process id, and when it started, in the kernel's ticks."""

COLUMNS = ("instance_id", "index", "kind", "machine", "session", "number", "command", "chain")
LISTINGS_MAX = 10
LATE_S = 5.0
"""So long after its time a process is continued in any case."""


class NodeAgent:
    """Works on one node. A plain class; `chaos_members` makes an actor of it."""

    def __init__(self) -> None:
        """Nothing is stopped."""
        self._lock = threading.Lock()
        self._paused: dict[LifeFields, int] = {}
        """What is stopped: the process group that watches over it."""

    def identify(self, titles: dict[int, str]) -> dict[int, int]:
        """When processes started that are what they are taken for.

        Args:
            titles: By process id: what its title begins with.

        Returns:
            By process id; one that is gone, or is something else, is left out.
        """
        found = {}
        for pid, title in titles.items():
            with contextlib.suppress(OSError, ValueError):
                started = started_at(pid)
                shown = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
                if shown.startswith(title):
                    found[pid] = started
        return found

    def kill(self, lives: Sequence[LifeFields]) -> list[LifeFields]:
        """SIGKILL; gives those that were there."""
        return [life for life in lives if send_signal(life, signal.SIGKILL)]

    def wipe(self, lives: Sequence[LifeFields], folder: str, spare: str) -> list[LifeFields]:
        """SIGKILL, and delete a member's folder; gives those processes that were there.

        The folder is gone at once, before anything that is started again can open it.

        Args:
            lives: The member's.
            folder: The member's.
            spare: A path on the same disk that nobody knows; what is there is deleted.

        Raises:
            OSError: The folder is not there, or cannot be deleted.
        """
        killed = self.kill(lives)
        Path(folder).rename(spare)
        shutil.rmtree(spare)
        return killed

    def pause(self, lives: Sequence[LifeFields], pause_s: float) -> list[LifeFields]:
        """SIGSTOP, and SIGCONT after a time; gives those that were there."""
        stopped = []
        with self._lock:
            for pid, started in lives:
                # Before the process is stopped: from here on nothing can leave it stopped.
                guard = start_guard(pid, pause_s + LATE_S)
                if send_signal((pid, started), signal.SIGSTOP):
                    self._dismiss((pid, started))
                    self._paused[pid, started] = guard
                    stopped.append((pid, started))
                else:
                    end_guard(guard)
        timer = threading.Timer(pause_s, self.resume, [stopped])
        timer.daemon = True
        timer.start()
        return stopped

    def resume(self, lives: Sequence[LifeFields] | None = None) -> None:
        """SIGCONT: to these, or to all that are stopped."""
        with self._lock:
            for life in list(self._paused) if lives is None else lives:
                send_signal(life, signal.SIGCONT)
                self._dismiss(life)

    def _dismiss(self, life: LifeFields) -> None:
        guard = self._paused.pop(life, None)
        if guard is not None:
            end_guard(guard)

    def read_log(self, log_dir: str, group: int, first: int) -> dict[str, Any]:
        """Read a member's chosen log.

        Args:
            log_dir: Its folder here.
            group: Whose log.
            first: From which instance on.

        Returns:
            `rows`: of the log as any reader of Parquet sees it, a table as an Arrow stream; None
            where it cannot be read. `problem`: what is wrong with it, its checksums or its chain;
            empty for nothing.
        """
        try:
            rows = read_rows(Path(log_dir), group, first)
        except (pa.ArrowException, OSError, ValueError) as error:
            return {"rows": None, "problem": f"{type(error).__name__}: {error}"}
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
        return {"rows": sink.getvalue().to_pybytes(), "problem": verify(log_dir, group, first)}

    def read_events(self, log_dir: str) -> dict[str, Any]:
        """Read a member's files of events, those of all its roles.

        Args:
            log_dir: Of its chosen log here, by which its folder is found.

        Returns:
            `records`: encoded, each role's in the order in which they were written; `problems`:
            what could not be read, for a person.
        """
        records: list[bytes] = []
        problems: list[str] = []
        folder = Path(log_dir).parent.parent
        for path in sorted(folder.glob(f"*/{EVENTS}")):
            try:
                # As far as it can be read, it counts.
                for record in read_events(path):
                    records.append(encode_record(record))
            except StorageError as error:
                problems.append(str(error))
        return {"records": records, "problems": problems}


def started_at(pid: int) -> int:
    """When a process started, in ticks since boot.

    Raises:
        OSError: There is none.
    """
    # The title, in parentheses, may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[19])


def send_signal(life: LifeFields, number: signal.Signals) -> bool:
    """Send a signal to one life of a process; False where it is over."""
    pid, started = life
    try:
        if started_at(pid) != started:
            return False
        os.kill(pid, number)
    except (OSError, ValueError):
        return False
    return True


def start_guard(pid: int, after_s: float) -> int:
    """Have a process continued after a time, even if nothing of this run is left by then.

    Returns:
        The process group that does it.
    """
    # Not a child of ours: Ray ends those with the actor's process.
    script = f"(sleep {after_s:.3f}; kill -CONT {pid}) &"
    shell = subprocess.Popen(
        ["/bin/sh", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    shell.wait()
    return shell.pid


def end_guard(group: int) -> None:
    """It is not needed any more."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def read_rows(log_dir: Path, group: int, first: int) -> pa.Table:
    """The rows of a group's log from an instance on, in order, through `pyarrow.dataset`.

    Raises:
        FileNotFoundError: Files keep going away, or there is no such folder.
        OSError: A file cannot be read.
    """
    for left in reversed(range(LISTINGS_MAX)):
        paths = [str(path) for path in segment_paths(log_dir / f"group={group}", first)]
        try:
            table = pyarrow.dataset.dataset(
                paths,
                filesystem=fs.LocalFileSystem(),
                format="parquet",
                partitioning="hive",
                partition_base_dir=str(log_dir),
            ).to_table(columns=list(COLUMNS), filter=pyarrow.dataset.field("instance_id") >= first)
        except FileNotFoundError:
            # Parts were merged meanwhile.
            if not left:
                raise
            time.sleep(0.05)
            continue
        return table.sort_by([("instance_id", "ascending"), ("index", "ascending")])
    raise AssertionError("the last try returns or raises")


def segment_paths(folder: Path, first: int) -> list[Path]:
    """The files that hold instances from one on; no part beside what it was merged into."""
    ranges = []
    for path in folder.iterdir():
        if path.suffix == ".parquet" and not path.name.startswith(("_", ".")):
            start, _, last = path.stem.partition("-")
            ranges.append((int(start), -int(last), path))
    kept = []
    end_of_kept = 0
    for _start, negative_last, path in sorted(ranges):
        if -negative_last > end_of_kept:
            end_of_kept = -negative_last
            if end_of_kept >= first:
                kept.append(path)
    return kept


def verify(log_dir: str, group: int, first: int) -> str:
    """Compare a log with its checksums, and recompute the chain over its values.

    Returns:
        What is wrong; empty for nothing.
    """
    codec = ParquetCodec()
    disk = LocalDisk(Path(log_dir))
    folder = f"group={group}"
    try:
        name = min(name for name in disk.list(folder) if not name.startswith("_"))
        path = f"{folder}/{name}"
        size = disk.size(path)

        def tail(byte_count: int) -> bytes:
            start = max(0, size - byte_count)
            return disk.read(path, start, size - start)

        # Which cluster it is of does not matter here, only that it is of one.
        genesis = codec.read_header(tail, disk.where(path)).genesis
        reader = SegmentReader(SegmentPlace(disk, codec, genesis, group, folder, folder))
        reader.refresh()
        for _instance in reader.instances(first, reader.last):
            pass
    except (PaxosError, OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return ""

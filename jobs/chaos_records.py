"""What the clients of a chaos run saw.

Three records are kept, each for a check of its own:

- the *history*: puts, deletes, compare-and-sets and gets of the kv machine, the gets as commands
  or as reads of kind `linearizable` and `lease`, for the linearizability checker;
- *follower reads*, with what the client was entitled to see;
- *appends* of unique ids to the log machine, with what became of each.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from job_files import OutputError
from ray_paxos.machines import kv
from ray_paxos.testing.history import Event, HistoryRecorder
from ray_paxos.testing.history_formats.jsonl import format_event, format_header


@dataclass(frozen=True, slots=True)
class AcknowledgedCommand:
    """A command with a result.

    Attributes:
        machine: That it was for.
        command: Its bytes.
        instance_id: The instance that applied it.
        index: Its row there.
        asked_ns: When the client submitted it.
        at_ns: When the client had the result.
    """

    machine: str
    command: bytes
    instance_id: int
    index: int
    asked_ns: int
    at_ns: int


@dataclass(slots=True)
class Append:
    """An id for the log machine.

    Attributes:
        line: The id.
        client: Whose.
        position: In the log, as it was acknowledged; None where it was not.
        is_refused: Whether it was certainly not applied.
    """

    line: bytes
    client: str
    position: int | None = None
    is_refused: bool = False


@dataclass(frozen=True, slots=True)
class Write:
    """An acknowledged write of a key.

    Attributes:
        key: Which.
        version: The key's version after it.
        value: None for a delete.
        at_ns: When it was acknowledged.
    """

    key: str
    version: int
    value: str | None
    at_ns: int


@dataclass(frozen=True, slots=True)
class FollowerRead:
    """A read of one key at any member.

    Attributes:
        client: Whose.
        key: Which.
        asked_ns: When it was asked for.
        version: Of the key, as it was seen.
        value: Likewise; None where there was none.
        version_min: The client was promised to see this version or a later one.
        promise: Why.
        max_staleness_ms: How old the state might be; None for any age.
    """

    client: str
    key: str
    asked_ns: int
    version: int
    value: str | None
    version_min: int
    promise: str
    max_staleness_ms: int | None


@dataclass
class Records:
    """What all clients saw. Lists are only appended to, so that threads may share them.

    Attributes:
        history: Of the kv machine.
        acknowledged: All commands with a result.
        appends: To the log machine, by each client in its order.
        writes: Acknowledged ones of the kv machine.
        follower_reads: As it says.
        outcomes: By kind of operation and outcome.
        errors: By kind of error.
        failures: What ended a client, or must not happen at all.
        keys: All that were used.
    """

    history: HistoryRecorder
    acknowledged: list[AcknowledgedCommand] = field(default_factory=list)
    appends: list[Append] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    follower_reads: list[FollowerRead] = field(default_factory=list)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, operation: str, outcome: str, error: Exception | None = None) -> None:
        """One operation ended so."""
        with self._lock:
            self.outcomes[operation, outcome] += 1
            if error is not None:
                self.errors[type(error).__name__] += 1

    @property
    def last_acknowledged_ns(self) -> int:
        """When the last command was acknowledged; 0 for none yet."""
        return self.acknowledged[-1].at_ns if self.acknowledged else 0

    @property
    def operations(self) -> int:
        """How many ended."""
        with self._lock:
            return sum(self.outcomes.values())


def described(answer: bytes | None) -> list[object]:
    """A result of the kv machine in the words of the checker's model."""
    decoded = kv.decode_result(answer or b"")
    if isinstance(decoded, kv.Written):
        return ["written", decoded.version, decoded.replaced]
    if isinstance(decoded, kv.Conflict):
        return ["conflict", decoded.version]
    assert isinstance(decoded, kv.Read), "no history has a time to live in it"
    value = decoded.value.decode() if decoded.value is not None else None
    return ["read", decoded.found, decoded.version, value]


def history_path(path: str | None, group: int | None) -> str | None:
    """Where the history of one group goes, where there is one file for each.

    Args:
        path: As it was given; None for none.
        group: Its number; None where there is but one group.
    """
    if path is None or group is None:
        return path
    given = Path(path)
    return str(given.with_name(f"{given.stem}-{group}{given.suffix}"))


@contextlib.contextmanager
def open_history(path: str | None) -> Iterator[Callable[[Event], None] | None]:
    """A file that takes each event of the history as it happens; None for none.

    Raises:
        OutputError: It cannot be written.
    """
    if path is None:
        yield None
        return
    try:
        file = Path(path).open("w", encoding="utf-8", buffering=1)  # noqa: SIM115  # closed below
    except OSError as error:
        raise OutputError(f"--history {path}: cannot be written: {error.strerror}") from error
    with file:
        file.write(format_header())
        yield _writer(file)


def _writer(file: TextIO) -> Callable[[Event], None]:
    def write(event: Event) -> None:
        # A client that is left behind may still have something to say.
        if not file.closed:
            file.write(format_event(event))

    return write

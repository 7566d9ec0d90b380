"""The clients of a chaos run: each does one thing at a time, and records everything it sees.

Keys change every few seconds, since what the checker has to search grows with the operations of a
key; a few are used throughout. A command without an answer in time stays open in the history: its
client goes on sending it, so it may take effect at any later moment.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from chaos_records import AcknowledgedCommand, Append, FollowerRead, Records, Write, described
from ray_paxos.errors import NotAppliedError, OutcomeUnknownError, PaxosError, SessionExpiredError
from ray_paxos.machines import kv

SECOND_NS = 1_000_000_000
EPOCH_S = 5.0
KEYS_PER_EPOCH = 4
STEADY_KEYS = 2
STALENESS_MS = (100, 1_000)
PACE = (0.5, 1.5)
"""A client's pauses, in shares of the mean."""

# What a client does, and how often in a hundred operations.
SHARES = {
    "put": 26,
    "cas": 10,
    "delete": 5,
    "get": 4,
    "append": 15,
    "linearizable": 20,
    "lease": 8,
    "follower": 12,
}
READS = ("linearizable", "lease", "follower")


class ProposedResult(Protocol):
    """What this module needs of a `ray_paxos.Result`."""

    @property
    def value(self) -> bytes | None:
        """What the machine returned."""

    @property
    def instance_id(self) -> int:
        """The instance that applied it."""

    @property
    def index(self) -> int:
        """Its row there."""


class WorkingClient(AbstractContextManager["WorkingClient"], Protocol):
    """What this module needs of a `ray_paxos.Client`."""

    def propose(self, command: bytes, machine: str, *, timeout_s: float) -> ProposedResult:
        """Submit one command and wait for its result."""

    def query(
        self,
        request: bytes,
        machine: str,
        *,
        consistency: str,
        at_least: int | None,
        max_staleness_ms: int | None,
        timeout_s: float,
    ) -> bytes:
        """Read from a machine's state."""

    def close(self, *, timeout_s: float) -> None:
        """End the client."""


@dataclass(frozen=True)
class WorkSettings:
    """What clients do, and where.

    Attributes:
        run: Unique to the run: in all keys and ids.
        kv: Name of the kv machine.
        log: Name of the log machine.
        rate: Operations of one client in a second, at most.
        command_s: How long a command may stay without an outcome.
        read_s: How long a read is tried.
    """

    run: str
    kv: str
    log: str
    rate: float
    command_s: float
    read_s: float


class _LatestWrites:
    """The latest acknowledged write of each key: version and instance."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: dict[str, tuple[int, int]] = {}

    def note(self, key: str, version: int, instance_id: int) -> None:
        with self._lock:
            if version > self._latest.get(key, (0, 0))[0]:
                self._latest[key] = version, instance_id

    def of(self, key: str) -> tuple[int, int]:
        with self._lock:
            return self._latest.get(key, (0, 0))


class Workload:
    """All clients of a run, in threads of their own."""

    def __init__(
        self,
        open_client: Callable[[str], WorkingClient],
        records: Records,
        settings: WorkSettings,
        *,
        clients: int,
        seed: int,
        first: int = 1,
    ) -> None:
        """Nothing runs yet.

        Args:
            open_client: Opens a client of that name.
            records: Takes what they see.
            settings: What they do.
            clients: How many.
            seed: Of what each of them draws.
            first: Number of the first client.
        """
        self.records = records
        self._stopping = threading.Event()
        self._started_ns = time.monotonic_ns()
        latest = _LatestWrites()
        self._clients = [
            _Client(self, open_client, settings, latest, f"client-{number}", f"{seed}/{number}")
            for number in range(first, first + clients)
        ]

    def start(self, timeout_s: float) -> str:
        """Start them all, and wait until each has its first acknowledgement.

        Returns:
            What went wrong; empty for nothing.
        """
        for client in self._clients:
            client.thread.start()
        deadline = time.monotonic() + timeout_s
        for client in self._clients:
            if not client.ready.wait(max(deadline - time.monotonic(), 0.0)):
                return f"{client.name} had no command acknowledged within {timeout_s:g} s"
        return self.records.failures[0] if self.records.failures else ""

    def end(self) -> None:
        """Have clients end after what they do; returns at once."""
        self._stopping.set()

    def stop(self, timeout_s: float) -> None:
        """Let every client finish what it does, and close it.

        Args:
            timeout_s: How long they may take, all together; then they are left behind.
        """
        self.end()
        deadline = time.monotonic() + timeout_s
        for client in self._clients:
            if client.thread.ident is None:
                continue
            client.thread.join(max(deadline - time.monotonic(), 0.0))
            if client.thread.is_alive():
                self.records.failures.append(f"{client.name} did not end within {timeout_s:g} s")

    @property
    def is_stopping(self) -> bool:
        """Whether clients are to end."""
        return self._stopping.is_set()

    def pause(self, pause_s: float) -> None:
        """Wait, or until clients are to end."""
        self._stopping.wait(pause_s)

    @property
    def epoch(self) -> int:
        """Number of the keys to use now."""
        return int((time.monotonic_ns() - self._started_ns) / SECOND_NS / EPOCH_S)


class _Client:
    """One client: one thread, one session, one operation at a time."""

    def __init__(
        self,
        workload: Workload,
        open_client: Callable[[str], WorkingClient],
        settings: WorkSettings,
        latest: _LatestWrites,
        name: str,
        seed: str,
    ) -> None:
        self.name = name
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._workload = workload
        self._records = workload.records
        self._open_client = open_client
        self._settings = settings
        self._latest = latest
        self._random = random.Random(seed)
        self._own: dict[str, int] = {}
        self._count = 0
        self._client: WorkingClient

    def _run(self) -> None:
        try:
            with self._open_client(self.name) as self._client:
                self._work()
                # What has no outcome yet has one before the state is looked at, if that can be.
                self._client.close(timeout_s=self._settings.command_s)
        except Exception as error:
            # Whatever it is, it must not end one client unseen while the others go on.
            self._records.failures.append(f"{self.name} ended by {type(error).__name__}: {error}")
        finally:
            self.ready.set()

    def _work(self) -> None:
        while not self.ready.is_set() and not self._workload.is_stopping:
            if self._append():
                self.ready.set()
        kinds, shares = list(SHARES), list(SHARES.values())
        while not self._workload.is_stopping:
            self._workload.pause(self._random.uniform(*PACE) / self._settings.rate)
            kind = self._random.choices(kinds, shares)[0]
            if kind == "append":
                self._append()
            elif kind == "follower":
                self._read_of_follower(self._key())
            elif kind in READS:
                self._read(self._key(), kind)
            else:
                self._command(self._key(), kind)

    def _key(self) -> str:
        """Mostly one of now, sometimes one of just before, or one that is used throughout."""
        draw = self._random.random()
        if draw < 0.1:
            name = f"steady/{self._random.randrange(STEADY_KEYS)}"
        else:
            epoch = max(self._workload.epoch - (draw < 0.25), 0)
            name = f"{epoch}/{self._random.randrange(KEYS_PER_EPOCH)}"
        key = f"chaos/{self._settings.run}/{name}"
        self._records.keys.add(key)
        return key

    def _unique(self) -> str:
        self._count += 1
        return f"{self.name}.{self._count}"

    # Operations. Each records its invocation before it is sent, its response once it is there.

    def _append(self) -> bool:
        """Append an id; whether it was acknowledged."""
        line = f"{self._settings.run} {self._unique()}".encode()
        append = Append(line, self.name)
        self._records.appends.append(append)
        try:
            result = self._propose(line, self._settings.log)
        except NotAppliedError as error:
            append.is_refused = True
            self._records.count("append", "failed", error)
        except PaxosError as error:
            self._note_unknown("append", error)
        else:
            append.position = int(result.value or b"0")
            self._records.count("append", "ok")
            return True
        return False

    def _command(self, key: str, kind: str) -> None:
        history = self._records.history
        value = self._unique()
        argument: object = None
        written: str | None = None
        if kind == "put":
            argument = written = value
            command = kv.encode_put(key, value.encode())
        elif kind == "cas":
            expected = self._latest.of(key)[0]
            argument, written = [value, expected], value
            command = kv.encode_cas(key, value.encode(), expected)
        elif kind == "delete":
            command = kv.encode_delete(key)
        else:
            command = kv.encode_get(key)
        operation = history.invoke(self.name, kind, key, argument, now_ns=time.monotonic_ns())
        try:
            result = self._propose(command, self._settings.kv)
        except NotAppliedError as error:
            history.failed(operation, now_ns=time.monotonic_ns())
            self._records.count(kind, "failed", error)
            return
        except PaxosError as error:
            # Open in the history, too: its client goes on sending it.
            self._note_unknown(kind, error)
            return
        history.ok(operation, described(result.value), now_ns=time.monotonic_ns())
        self._records.count(kind, "ok")
        decoded = kv.decode_result(result.value or b"")
        if isinstance(decoded, kv.Written):
            at_ns = time.monotonic_ns()
            self._own[key] = decoded.version
            self._latest.note(key, decoded.version, result.instance_id)
            self._records.writes.append(Write(key, decoded.version, written, at_ns))

    def _propose(self, command: bytes, machine: str) -> ProposedResult:
        asked_ns = time.monotonic_ns()
        result = self._client.propose(command, machine, timeout_s=self._settings.command_s)
        acknowledged = AcknowledgedCommand(
            machine, command, result.instance_id, result.index, asked_ns, time.monotonic_ns()
        )
        self._records.acknowledged.append(acknowledged)
        return result

    def _note_unknown(self, kind: str, error: PaxosError) -> None:
        self._records.count(kind, "unknown", error)
        if not isinstance(error, OutcomeUnknownError | SessionExpiredError):
            # A machine that refuses what it must take, or an error that nothing documents.
            self._records.failures.append(f"{self.name}: {kind}: {type(error).__name__}: {error}")

    def _read(self, key: str, consistency: str) -> None:
        history = self._records.history
        operation = history.invoke(self.name, "get", key, now_ns=time.monotonic_ns())
        try:
            answer = self._query(key, consistency)
        except PaxosError as error:
            history.failed(operation, now_ns=time.monotonic_ns())
            self._records.count(consistency, "failed", error)
            return
        history.ok(operation, described(answer), now_ns=time.monotonic_ns())
        self._records.count(consistency, "ok")

    def _read_of_follower(self, key: str) -> None:
        """Read at any member, in one of the three ways to say how fresh it has to be."""
        form = self._random.choice(("own writes", "at_least", "max_staleness_ms"))
        at_least = staleness_ms = None
        version_min = 0
        if form == "own writes":
            version_min = self._own.get(key, 0)
        elif form == "at_least":
            version_min, at_least = self._latest.of(key)
        else:
            staleness_ms = self._random.randint(*STALENESS_MS)
            at_least = 0
        asked_ns = time.monotonic_ns()
        try:
            answer = self._query(key, "follower", at_least, staleness_ms)
        except PaxosError as error:
            self._records.count("follower", "failed", error)
            return
        seen = kv.decode_result(answer)
        assert isinstance(seen, kv.Read)
        value = seen.value.decode() if seen.value is not None else None
        self._records.follower_reads.append(
            FollowerRead(
                self.name, key, asked_ns, seen.version, value, version_min, form, staleness_ms
            )
        )
        self._records.count("follower", "ok")

    def _query(
        self,
        key: str,
        consistency: str,
        at_least: int | None = None,
        max_staleness_ms: int | None = None,
    ) -> bytes:
        return self._client.query(
            kv.encode_get(key),
            self._settings.kv,
            consistency=consistency,
            at_least=at_least,
            max_staleness_ms=max_staleness_ms,
            timeout_s=self._settings.read_s,
        )

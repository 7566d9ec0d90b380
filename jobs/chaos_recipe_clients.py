"""The clients of a recipe's workload: each in a thread and with a session of its own.

Each client attaches to the cluster by itself, as another program would, and uses nothing but public
handles. It makes one call at a time, and records it with the times before and after.
"""

from __future__ import annotations

import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from chaos_checks import HistoryVerdict
from chaos_recipe_records import Answered, Figures, RecipeRecords
from ray_paxos.errors import (
    LeaseLostError,
    NotAppliedError,
    OutcomeUnknownError,
    PaxosError,
    QueryError,
    SessionExpiredError,
    WaitTimeoutError,
)

if TYPE_CHECKING:
    from ray_paxos import Cluster

T = TypeVar("T")
SECOND_NS = 1_000_000_000
PACE = (0.5, 1.5)
"""A client's pauses, in shares of the mean."""
OK, FAILED, UNKNOWN = "ok", "failed", "unknown"


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One call of a recipe, and what came of it.

    Attributes:
        asked_ns: Before it.
        told_ns: After it.
        outcome: `ok`; `failed`: certainly without effect; `unknown`.
        result: What it returned; None unless it is ok.
        error: What it raised.
    """

    asked_ns: int
    told_ns: int
    outcome: str
    result: T | None = None
    error: PaxosError | None = None

    @property
    def is_ok(self) -> bool:
        """Whether it had a result."""
        return self.outcome == OK

    @property
    def is_refused(self) -> bool:
        """Whether it certainly had no effect."""
        return self.outcome == FAILED

    @property
    def value(self) -> T:
        """What it returned, of one that is ok."""
        assert self.is_ok, "only a call with a result has a value"
        return self.result  # type: ignore[return-value]  # None only where T has it


@dataclass(frozen=True)
class WorkPlace:
    """Where a workload lives, and its limits.

    Attributes:
        group: Whose group's machines.
        run: Unique to the run: in all names.
        clients: How many there are.
        rate: Operations of one client in a second, at most.
        command_s: How long a command may stay without an outcome.
        read_s: How long a read is tried.
        seed: Of operations.
    """

    group: int
    run: str
    clients: int
    rate: float
    command_s: float
    read_s: float
    seed: int


@dataclass(frozen=True)
class Judgement:
    """What became of a workload's promises.

    Attributes:
        checks: Problems by check; a check without problems held.
        checked: How many calls were looked at.
        figures: What else there is to tell.
        history: Of the linearizability checker; None where it has no model of the recipe.
    """

    checks: Mapping[str, Sequence[str]]
    checked: int
    figures: Figures = field(default_factory=dict)
    history: HistoryVerdict | None = None


class RecipeWork(ABC):
    """One workload: what its clients share, and how it is judged."""

    def __init__(self, place: WorkPlace, records: RecipeRecords) -> None:
        """Nothing has happened.

        Args:
            place: Where it lives.
            records: Counts calls.
        """
        self.place = place
        self.records = records
        self.started_ns = time.monotonic_ns()

    @abstractmethod
    def client(self, crew: Crew, number: int, cluster: Cluster) -> RecipeClient:
        """The client of this number, from 0."""

    def finish(self, cluster: Cluster) -> None:  # noqa: B027  # most have nothing to do
        """Read what is there, once clients have ended and the cluster is healed.

        Raises:
            PaxosError: It cannot be read.
        """

    @abstractmethod
    def judge(self, check_s: float) -> Judgement:
        """Whether everything held.

        Args:
            check_s: For the linearizability checker.
        """

    def epoch(self, length_s: float) -> int:
        """Number of the present stretch of so many seconds, from 0."""
        return int((time.monotonic_ns() - self.started_ns) / SECOND_NS / length_s)


class RecipeClient(ABC):
    """One client: one thread, one operation at a time."""

    def __init__(self, crew: Crew, work: RecipeWork, number: int) -> None:
        """It does not run yet."""
        self.name = f"client-{number + 1}"
        self.number = number
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self.random = random.Random(f"{work.place.seed}/{number}")
        self.place = work.place
        self.records = work.records
        self._crew = crew
        self._count = 0

    @property
    def is_stopping(self) -> bool:
        """Whether it is to end."""
        return self._crew.is_stopping

    @abstractmethod
    def step(self) -> None:
        """Do the next thing."""

    def begin(self) -> None:  # noqa: B027  # most have nothing to do
        """What it does first, in its thread."""

    def end(self) -> None:  # noqa: B027  # most have nothing to do
        """What it does at last, in its thread."""

    def _run(self) -> None:
        try:
            self.begin()
            while not self.is_stopping:
                self.step()
                self.pause(self.random.uniform(*PACE) / self.place.rate)
            self.end()
        except Exception as error:
            # Whatever it is, it must not end one client unseen while the others go on.
            self.records.failures.append(f"{self.name} ended by {type(error).__name__}: {error}")
        finally:
            self.ready.set()

    def call(self, kind: str, function: Callable[[], T], *, is_read: bool = False) -> Call[T]:
        """Call something, and note what came of it.

        Args:
            kind: What to count it as.
            function: Makes the call.
            is_read: Whether it can have no effect in any case.
        """
        asked_ns = time.monotonic_ns()
        try:
            result = function()
        except PaxosError as error:
            told_ns = time.monotonic_ns()
            outcome = self._outcome(kind, error, is_read=is_read)
            self.records.count(kind, outcome, error)
            return Call(asked_ns, told_ns, outcome, error=error)
        told_ns = time.monotonic_ns()
        self.records.count(kind, OK)
        self.records.acknowledged.append(Answered(kind, asked_ns, told_ns))
        self.ready.set()
        return Call(asked_ns, told_ns, OK, result)

    def _outcome(self, kind: str, error: PaxosError, *, is_read: bool) -> str:
        if isinstance(error, NotAppliedError | WaitTimeoutError | LeaseLostError):
            return FAILED
        if isinstance(error, QueryError):
            # What a command asked on its way; the command itself may have had its effect.
            return FAILED if is_read else UNKNOWN
        if not isinstance(error, OutcomeUnknownError | SessionExpiredError):
            self.fail(f"{kind}: {type(error).__name__}: {error}")
        return UNKNOWN

    def fail(self, what: str) -> None:
        """Something that must not happen."""
        self.records.failures.append(f"{self.name}: {what}")

    def pause(self, pause_s: float) -> None:
        """Wait, or until clients are to end."""
        self._crew.pause(pause_s)

    def unique(self) -> str:
        """A text that nobody else makes in this run."""
        self._count += 1
        return f"{self.name}.{self._count}"

    def chance(self, share: float) -> bool:
        """Whether to do something that is done so often."""
        return self.random.random() < share


class Crew:
    """All clients of one workload."""

    def __init__(self, work: RecipeWork, clusters: Sequence[Cluster]) -> None:
        """Nothing runs yet.

        Args:
            work: What they do.
            clusters: One for each, so that each has sessions of its own.
        """
        self._stopping = threading.Event()
        self._records = work.records
        self._clients = [work.client(self, n, cluster) for n, cluster in enumerate(clusters)]

    def start(self, timeout_s: float) -> str:
        """Start them all, and wait until each has its first result.

        Returns:
            What went wrong; empty for nothing.
        """
        for client in self._clients:
            client.thread.start()
        deadline = time.monotonic() + timeout_s
        for client in self._clients:
            if not client.ready.wait(max(deadline - time.monotonic(), 0.0)):
                return f"{client.name} had no result within {timeout_s:g} s"
        return self._records.failures[0] if self._records.failures else ""

    def end(self) -> None:
        """Have clients end after what they do; returns at once."""
        self._stopping.set()

    def stop(self, timeout_s: float) -> None:
        """Let every client finish what it does.

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
                self._records.failures.append(f"{client.name} did not end within {timeout_s:g} s")

    @property
    def is_stopping(self) -> bool:
        """Whether clients are to end."""
        return self._stopping.is_set()

    def pause(self, pause_s: float) -> None:
        """Wait, or until clients are to end."""
        self._stopping.wait(pause_s)

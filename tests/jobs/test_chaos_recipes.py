"""A chaos run with a recipe's workload, on recipes of this process: what is told, what fails."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import chaos_account
import chaos_run
import chaos_waiting
import chaos_workload_permits
import ray_paxos
from chaos import command_line
from chaos_recipe_clients import Crew, RecipeClient, WorkPlace
from chaos_recipe_records import RecipeRecords
from chaos_workload_counter import CounterWork
from ray_paxos.errors import (
    CommandError,
    LeaseLostError,
    NoMasterError,
    OutcomeUnknownError,
    PaxosError,
    QueryError,
    WaitTimeoutError,
)
from tests.jobs.chaos_fakes import FakeEnvironment

QUICK = [
    *("--workload", "counter", "--seconds", "0.4", "--clients", "3", "--rate", "300"),
    *("--fault-interval-s", "0.1", "--command-timeout-s", "0.5", "--read-timeout-s", "0.5"),
]


class FakeCounter:
    """Counts, unless it is told to forget an addition."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lost = 0
        self.errors: list[PaxosError] = []
        self._lock = threading.Lock()
        self._value = self._calls = 0

    def add(self, amount: int, *, timeout_s: float) -> int:
        with self._lock:
            self._calls += 1
            if self.errors and self._calls % 5 == 0:
                raise self.errors[self._calls // 5 % len(self.errors)]
            self._value += amount
            value = self._value
            if self._calls == self.lost:
                self._value -= amount
            return value

    def get(self, *, timeout_s: float) -> int:
        with self._lock:
            return self._value


class FakeIds:
    """Gives ids."""

    name = "ids"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 1

    def take(self, count: int, *, timeout_s: float) -> range:
        with self._lock:
            first = self._next
            self._next += count
        return range(first, first + count)

    def next(self, *, timeout_s: float) -> int:
        return self.take(1, timeout_s=timeout_s).start


class FakeLock:
    """A lock whose lease runs once; or, where it is broken, no lock at all."""

    def __init__(self, name: str, ttl_s: float, is_broken: bool) -> None:
        self.name = name
        self.ttl_s = ttl_s
        self.is_broken = is_broken
        self._changed = threading.Condition()
        self._token = 0
        self._until_s = 0.0

    def acquire(self, *, timeout_s: float) -> FakeGrant:
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not self.is_broken and time.monotonic() < self._until_s:
                if time.monotonic() > deadline:
                    raise WaitTimeoutError("not in time")
                self._changed.wait(0.01)
            self._token += 1
            self._until_s = time.monotonic() + self.ttl_s
            return FakeGrant(self, self._token, self._until_s)

    def release(self, token: int) -> bool:
        with self._changed:
            was_held = token == self._token and time.monotonic() < self._until_s
            if was_held:
                self._until_s = 0.0
                self._changed.notify_all()
            return was_held or self.is_broken


class FakeGrant:
    def __init__(self, lock: FakeLock, token: int, until_s: float) -> None:
        self.token = token
        self._lock = lock
        self._until_s = until_s
        self._lease = SimpleNamespace()

    @property
    def remaining_s(self) -> float:
        return max(self._until_s - time.monotonic(), 0.0)

    @property
    def is_held(self) -> bool:
        return self.remaining_s > 0

    def release(self, *, timeout_s: float) -> bool:
        return self._lock.release(self.token)


class FakeRecipes:
    """What `connect` gives: the same counters to all."""

    def __init__(self) -> None:
        self.counters: dict[str, FakeCounter] = {}
        self.ids = FakeIds()
        self.lost = 0
        self.errors: list[PaxosError] = []
        self.connected = 0
        self.locks: dict[str, FakeLock] = {}
        self.is_broken = False

    def lock(self, name: str, *, ttl_s: float, group: int) -> FakeLock:
        return self.locks.setdefault(name, FakeLock(name, ttl_s, self.is_broken))

    def counter(self, name: str, *, group: int) -> FakeCounter:
        counter = self.counters.setdefault(name, FakeCounter(name))
        counter.lost, counter.errors = self.lost, self.errors
        return counter

    def id_allocator(self, name: str, *, block_size: int, group: int) -> FakeIds:
        return self.ids


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> FakeRecipes:
    found = FakeRecipes()

    def connect(name: str) -> FakeRecipes:
        assert name == "demo"
        found.connected += 1
        return found

    monkeypatch.setattr(ray_paxos, "connect", connect)
    for module in (chaos_account, chaos_waiting):
        monkeypatch.setattr(module, "LOOK_INTERVAL_S", 0.05)
    monkeypatch.setattr(chaos_run, "SETTLE_S", 0.05)
    monkeypatch.setattr(chaos_run, "RETRY_S", 0.05)
    return found


def run(tmp_path: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    path = tmp_path / "out.json"
    with pytest.raises(SystemExit) as caught:
        command_line.main([*QUICK, "--json", str(path), *arguments], obj=FakeEnvironment())
    assert isinstance(caught.value.code, int)
    document: dict[str, Any] = json.loads(path.read_text())
    assert document["held"] is (caught.value.code == 0)
    return caught.value.code, document


def test_a_good_recipe_passes_and_everything_is_told(
    tmp_path: Path, recipes: FakeRecipes, capsys: pytest.CaptureFixture[str]
) -> None:
    status, document = run(tmp_path, "--report", str(tmp_path / "run.html"))
    assert status == 0
    assert document["workload"] == "counter"
    assert document["linearizability"] is None
    checks = {"clients", "read_at_the_end", "counted_once", "ids_once", "digests_equal"}
    assert set(document["checks"]) == {
        *checks, "logs_equal", "healed", "events", "gap", "restart_all_gap",
    }  # fmt: skip
    assert set(document["operations"]) == {"add", "get", "take", "next"}
    assert set(document["figures"]) == {
        "additions", "additions_unknown", "reads", "ids", "latency_ms",
    }  # fmt: skip
    assert set(document["figures"]["latency_ms"]["add"]) == {"count", "p50", "p99", "longest"}
    assert document["checked"] >= document["acknowledged"] > 20
    assert len(document["gaps"]) == 10
    # One for each client, and one that reads at the end.
    assert recipes.connected == 4
    assert "additions: " in capsys.readouterr().err
    assert "Everything held." in (tmp_path / "run.html").read_text()


def test_an_addition_that_is_lost_is_found(tmp_path: Path, recipes: FakeRecipes) -> None:
    recipes.lost = 7
    status, document = run(tmp_path)
    assert status == 1
    assert failed(document) == {"counted_once"}


def test_errors_that_are_documented_are_no_failures(tmp_path: Path, recipes: FakeRecipes) -> None:
    recipes.errors = [NoMasterError("none")]
    status, document = run(tmp_path)
    assert status == 0
    assert document["operations"]["add"]["failed"] == document["errors"]["NoMasterError"] > 0


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Holders of locks have short leases, and stand still often."""
    monkeypatch.setattr(chaos_workload_permits, "TTLS_S", (0.03,))
    monkeypatch.setattr(chaos_workload_permits, "STILL_SHARE", 0.4)
    monkeypatch.setattr(chaos_workload_permits, "WAIT_S", (0.1, 0.3))


def failed(document: dict[str, Any]) -> set[str]:
    return {name for name, held in document["checks"].items() if not held}


@pytest.mark.usefixtures("impatient")
def test_holders_that_stand_still_are_refused_by_their_token(
    tmp_path: Path, recipes: FakeRecipes
) -> None:
    status, document = run(tmp_path, "--workload", "lock", "--seconds", "1.5", "--faults", "none")
    assert (status, document["violations"]) == (0, [])
    figures = document["figures"]
    assert figures["stood_still"] == figures["late_writes"] > 0
    assert 0 < figures["late_writes_refused"] <= figures["late_writes"]
    assert figures["lost"] >= figures["late_writes_refused"]
    assert document["linearizability"]["operations"] == 2 * figures["grants"]


@pytest.mark.usefixtures("impatient")
def test_a_lock_that_is_none_is_found(tmp_path: Path, recipes: FakeRecipes) -> None:
    recipes.is_broken = True
    status, document = run(tmp_path, "--workload", "lock", "--seconds", "1.5", "--faults", "none")
    assert status == 1
    assert {"mutual_exclusion", "linearizable"} <= failed(document)


def test_an_error_that_must_not_happen_is_a_failure(tmp_path: Path, recipes: FakeRecipes) -> None:
    recipes.errors = [CommandError("no")]
    status, document = run(tmp_path)
    assert status == 1
    assert not document["checks"]["clients"]
    assert any("add: CommandError: no" in text for text in document["violations"])


@pytest.mark.parametrize(
    ("error", "is_read", "outcome", "failures"),
    [
        (NoMasterError("x"), False, "failed", 0),
        (WaitTimeoutError("x"), False, "failed", 0),
        (LeaseLostError("x"), False, "failed", 0),
        (QueryError("x"), True, "failed", 0),
        (QueryError("x"), False, "unknown", 0),
        (OutcomeUnknownError.__new__(OutcomeUnknownError), False, "unknown", 0),
        (CommandError("x"), False, "unknown", 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_became_of_a_call_is_told_by_its_error(
    error: PaxosError, is_read: bool, outcome: str, failures: int
) -> None:
    records = RecipeRecords()
    place = WorkPlace(1, "run", 1, 10.0, 1.0, 1.0, 7)
    crew = Crew(CounterWork(place, records), [FakeRecipes()])  # type: ignore[list-item]
    client: RecipeClient = crew._clients[0]

    def fail() -> int:
        raise error

    call = client.call("add", fail, is_read=is_read)
    assert (call.outcome, call.error, call.is_ok) == (outcome, error, False)
    assert call.is_refused is (outcome == "failed")
    assert call.asked_ns <= call.told_ns
    assert len(records.failures) == failures
    assert records.acknowledged == []
    done = client.call("add", lambda: 5)
    assert (done.value, done.outcome) == (5, "ok")
    assert [each.kind for each in records.acknowledged] == ["add"]

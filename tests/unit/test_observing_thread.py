"""The thread that measures a member's disk and exports its counts: it goes on, come what may."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest

from ray_paxos.actors import observing
from ray_paxos.actors.observing import NO_EVENTS, Observing
from ray_paxos.core.messages import RoleName
from ray_paxos.observability.report import RoleReport
from ray_paxos.observability.samples import Sample
from ray_paxos.observability.settings import ObservingSettings

PATIENCE_S = 20.0
SETTINGS = ObservingSettings(export_interval_s=0.005)


class PlayedShell:
    """Tells nothing; or fails now and then."""

    def __init__(self, role: RoleName, errors: tuple[Exception, ...] = ()) -> None:
        self.role = role
        self.errors = list(errors)
        self.reports = 0
        self.is_closed = False
        self.gauges: dict[tuple[str, str], float] = {}

    def told(self, *, events_after: int) -> tuple[dict[str, Any], RoleReport]:
        assert events_after == NO_EVENTS, "nobody reads them"
        self.reports += 1
        if self.errors:
            raise self.errors.pop()
        return {}, RoleReport(at_ms=1, incarnation=1)

    def set_gauge(self, metric: Any, value: float, label: str = "") -> None:
        self.gauges[metric.name, label] = value


class PlayedExport:
    """Takes the place of what gives samples to Ray."""

    made: ClassVar[list[PlayedExport]] = []

    def __init__(self, cluster: str, member: str, settings: ObservingSettings) -> None:
        self.place = (cluster, member)
        self.count = 0
        self.last: list[Sample] | None = None
        self.made.append(self)

    def export(self, samples: Sequence[Sample]) -> None:
        self.count += 1
        self.last = list(samples)


class Bench:
    def __init__(self, folder: Path) -> None:
        self.settings = SETTINGS
        self.folder = folder
        self.shells: list[PlayedShell] = []

    def spec(self, encoded: bytes) -> SimpleNamespace:
        genesis = SimpleNamespace(cluster="demo")
        return SimpleNamespace(observing=self.settings, decoded_genesis=lambda: genesis)

    def begin(self, *shells: PlayedShell) -> Observing:
        made = Observing(b"", "m1", shells)  # type: ignore[arg-type]
        self.shells += shells
        made.begin()
        return made


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(tmp_path)
    PlayedExport.made.clear()
    monkeypatch.setattr(observing, "decode_spec", made.spec)
    monkeypatch.setattr(observing, "member_folder", lambda spec, member: made.folder)
    monkeypatch.setattr(observing, "MetricsExport", PlayedExport)
    monkeypatch.setattr(observing, "samples_of", lambda state, report, settings: [])
    before = set(threading.enumerate())
    yield made
    for shell in made.shells:
        shell.is_closed = True
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "it was told to end"


def comes_about(is_so: Callable[[], bool], patience_s: float = PATIENCE_S) -> bool:
    for _ in range(round(patience_s / 0.01)):
        if is_so():
            return True
        threading.Event().wait(0.01)
    return is_so()


def exports() -> int:
    return sum(each.count for each in PlayedExport.made)


def test_it_exports_again_and_again(bench: Bench) -> None:
    shell = PlayedShell(RoleName.ACCEPTOR)
    bench.begin(shell)
    assert comes_about(lambda: exports() >= 3)
    assert PlayedExport.made[0].place == ("demo", "m1")
    assert shell.reports >= 3


def test_it_ends_with_the_roles_and_ends_what_it_exported(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observing, "samples_of", lambda state, report, settings: ["a sample"])
    first, second = PlayedShell(RoleName.ACCEPTOR), PlayedShell(RoleName.LEARNER)
    before = set(threading.enumerate())
    bench.begin(first, second)
    (thread,) = set(threading.enumerate()) - before
    assert comes_about(lambda: exports() >= 1)
    (export,) = PlayedExport.made
    first.is_closed = True
    count = export.count
    assert comes_about(lambda: export.count >= count + 2), "the other one serves on"
    assert export.last == cast(Any, ["a sample", "a sample"])
    second.is_closed = True
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert export.last == []


def test_off_does_nothing(bench: Bench) -> None:
    bench.settings = ObservingSettings(is_on=False, export_interval_s=0.005)
    shell = PlayedShell(RoleName.ACCEPTOR)
    before = set(threading.enumerate())
    bench.begin(shell)
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "by itself"
    assert (shell.reports, shell.gauges, exports()) == (0, {}, 0)


def test_without_metrics_the_disk_is_measured_all_the_same(bench: Bench) -> None:
    bench.settings = ObservingSettings(exports_metrics=False, export_interval_s=0.005)
    (bench.folder / "acceptor").mkdir()
    (bench.folder / "acceptor" / "journal").write_bytes(b"x" * 1_000)
    shell = PlayedShell(RoleName.ACCEPTOR)
    bench.begin(shell)
    assert comes_about(lambda: len(shell.gauges) == 2)
    assert shell.gauges["paxos_disk_bytes", "acceptor"] == 1_000
    assert shell.gauges["paxos_disk_free_bytes", ""] > 0
    assert (exports(), shell.reports) == (0, 0)


def test_a_member_without_a_folder_is_no_mistake(bench: Bench) -> None:
    bench.folder = bench.folder / "nowhere"
    shell = PlayedShell(RoleName.ACCEPTOR)
    bench.begin(shell)
    assert comes_about(lambda: exports() >= 2)
    assert shell.gauges == {}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("error", [RuntimeError("x"), KeyError("x"), ValueError("x")])
def test_one_error_does_not_end_it(bench: Bench, error: Exception) -> None:
    bench.begin(PlayedShell(RoleName.ACCEPTOR, (error,)))
    assert comes_about(lambda: exports() >= 2, patience_s=1.0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_one_role_that_cannot_be_asked_hides_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observing, "samples_of", lambda state, report, settings: ["a sample"])
    broken = PlayedShell(RoleName.ACCEPTOR, (RuntimeError("x"),) * 1_000)
    bench.begin(broken, PlayedShell(RoleName.LEARNER))
    assert comes_about(lambda: exports() >= 2)
    assert PlayedExport.made[0].last == cast(Any, ["a sample"])

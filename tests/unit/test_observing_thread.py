"""The thread that measures a member's disk and exports its counts: it goes on, come what may."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from ray_paxos.actors import observing
from ray_paxos.actors.observing import Observing
from ray_paxos.core.messages import RoleName
from ray_paxos.observability.report import RoleReport, encode_report
from ray_paxos.observability.settings import ObservingSettings

PATIENCE_S = 20.0
SETTINGS = ObservingSettings(export_interval_s=0.005)


class PlayedShell:
    """Tells nothing; or fails now and then."""

    def __init__(self, role: RoleName, errors: tuple[Exception, ...] = ()) -> None:
        self.role = role
        self.errors = list(errors)
        self.reports = 0
        self.gauges: dict[tuple[str, str], float] = {}

    def report(self) -> tuple[dict[str, Any], bytes]:
        self.reports += 1
        if self.errors:
            raise self.errors.pop()
        return {}, encode_report(RoleReport(at_ms=1, incarnation=1))

    def set_gauge(self, metric: Any, value: float, label: str = "") -> None:
        self.gauges[metric.name, label] = value


class PlayedExport:
    """Takes the place of what gives samples to Ray."""

    made: ClassVar[list[PlayedExport]] = []

    def __init__(self, cluster: str, member: str, settings: ObservingSettings) -> None:
        self.place = (cluster, member)
        self.count = 0
        self.made.append(self)

    def export(self, samples: object) -> None:
        self.count += 1


class Bench:
    def __init__(self, folder: Path) -> None:
        self.settings = SETTINGS
        self.folder = folder
        self.begun: list[Observing] = []

    def spec(self, encoded: bytes) -> SimpleNamespace:
        genesis = SimpleNamespace(cluster="demo")
        return SimpleNamespace(observing=self.settings, decoded_genesis=lambda: genesis)

    def begin(self, *shells: PlayedShell) -> Observing:
        made = Observing(b"", "m1", shells)  # type: ignore[arg-type]
        self.begun.append(made)
        made.begin()
        return made


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(tmp_path)
    PlayedExport.made.clear()
    monkeypatch.setattr(observing, "decode_spec", made.spec)
    monkeypatch.setattr(observing, "member_folder", lambda spec, member: made.folder)
    monkeypatch.setattr(observing, "MetricsExport", PlayedExport)
    monkeypatch.setattr(observing, "be_nicer", lambda niceness: None)
    monkeypatch.setattr(observing, "samples_of", lambda state, report, settings: [])
    before = set(threading.enumerate())
    yield made
    for each in made.begun:
        each.close()
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

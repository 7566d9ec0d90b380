"""The thread that measures a member's disk and exports its counts: it goes on, come what may."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest

from ray_paxos.actors import observing
from ray_paxos.actors.observing import NO_EVENTS, Observing, bytes_below
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
        self.switched: bool | None = None
        self.gauges: dict[tuple[str, str], float] = {}
        self.looks = 0
        self.told_s: list[float] = []
        self._is_closed = False
        self._tell: Callable[[], None] = lambda: None

    @property
    def is_closed(self) -> bool:
        self.looks += 1
        return self._is_closed

    def tell_changes(self, tell: Callable[[], None]) -> None:
        self._tell = tell

    def observe(self, is_on: bool) -> None:
        self.switched = is_on
        self._tell()

    def close(self) -> None:
        self._is_closed = True
        self._tell()

    def told(self, *, events_after: int) -> tuple[dict[str, Any], RoleReport]:
        assert events_after == NO_EVENTS, "nobody reads them"
        self.told_s.append(time.monotonic())
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
        shell.close()
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
    first.close()
    count = export.count
    assert comes_about(lambda: export.count >= count + 2), "the other one serves on"
    assert export.last == cast(Any, ["a sample", "a sample"])
    second.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert export.last == []


def test_off_does_nothing(bench: Bench) -> None:
    bench.settings = ObservingSettings(is_on=False, export_interval_s=0.005)
    shell = PlayedShell(RoleName.ACCEPTOR)
    before = set(threading.enumerate())
    bench.begin(shell)
    assert comes_about(lambda: shell.looks > 0)
    (thread,) = set(threading.enumerate()) - before
    threading.Event().wait(0.2)
    assert thread.is_alive(), "it may be switched on"
    assert shell.looks == 1, "it waits for an event"
    assert (shell.reports, shell.gauges, exports()) == (0, {}, 0)
    shell.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


# Switched.


def test_one_that_was_started_off_begins_when_it_is_switched_on(bench: Bench) -> None:
    bench.settings = ObservingSettings(is_on=False, export_interval_s=0.005)
    (bench.folder / "acceptor").mkdir()
    shell = PlayedShell(RoleName.ACCEPTOR)
    bench.begin(shell)
    assert comes_about(lambda: shell.looks == 1)
    shell.observe(True)
    assert comes_about(lambda: exports() >= 2 and len(shell.gauges) == 2)


def test_switched_off_it_ends_what_it_exported_once_and_does_nothing_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observing, "samples_of", lambda state, report, settings: ["a sample"])
    # Every export is one with a look at the disk.
    monkeypatch.setattr(observing, "DISK_INTERVAL_S", 0.005)
    (bench.folder / "acceptor").mkdir()
    shell = PlayedShell(RoleName.ACCEPTOR)
    bench.begin(shell)
    assert comes_about(lambda: exports() >= 1)
    (export,) = PlayedExport.made
    shell.observe(False)
    assert comes_about(lambda: export.last == [])
    count, reports = export.count, shell.reports
    shell.gauges.clear()
    threading.Event().wait(0.2)
    assert (export.count, shell.reports, shell.gauges) == (count, reports, {})
    shell.observe(False)
    threading.Event().wait(0.05)
    assert export.count == count, "once"
    shell.observe(True)
    assert comes_about(lambda: export.last == cast(Any, ["a sample"]) and len(shell.gauges) == 2)
    assert PlayedExport.made == [export], "what it has counted goes on"


def test_the_disk_is_told_of_anew_once_it_is_on_again_and_not_looked_at_for_that(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An observer that was switched off has forgotten what was measured."""
    (bench.folder / "acceptor").mkdir()
    looked_at: list[Path] = []

    def look(folder: Path) -> int:
        looked_at.append(folder)
        return bytes_below(folder)

    monkeypatch.setattr(observing, "bytes_below", look)
    shell = PlayedShell(RoleName.ACCEPTOR)
    bench.begin(shell)
    assert comes_about(lambda: exports() >= 3)
    shell.observe(False)
    assert comes_about(lambda: PlayedExport.made[0].last == [] and exports() >= 4)
    threading.Event().wait(0.05)
    shell.gauges.clear()
    shell.observe(True)
    assert comes_about(lambda: len(shell.gauges) == 2, patience_s=5.0)
    assert len(looked_at) == 1


def test_the_disk_is_looked_at_again_in_time_and_for_a_role_that_is_switched_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = PlayedShell(RoleName.ACCEPTOR), PlayedShell(RoleName.LEARNER)
    for shell in (first, second):
        (bench.folder / shell.role.name.lower()).mkdir()
    second.switched = False
    bench.begin(first, second)
    assert comes_about(lambda: len(first.gauges) == 2)
    second.observe(True)
    assert comes_about(lambda: len(second.gauges) == 2)
    (bench.folder / "acceptor" / "journal").write_bytes(b"x" * 1_000)
    monkeypatch.setattr(observing, "DISK_INTERVAL_S", 0.005)
    assert comes_about(lambda: first.gauges["paxos_disk_bytes", "acceptor"] == 1_000)


def test_only_roles_that_observe_are_told_of(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "samples_of", lambda state, report, settings: ["a sample"])
    on, off = PlayedShell(RoleName.ACCEPTOR), PlayedShell(RoleName.LEARNER)
    for shell in (on, off):
        (bench.folder / shell.role.name.lower()).mkdir()
    off.switched = False
    bench.begin(on, off)
    assert comes_about(lambda: exports() >= 2)
    assert PlayedExport.made[0].last == cast(Any, ["a sample"])
    assert (len(on.gauges), off.gauges, off.reports) == (2, {}, 0)


def test_from_one_export_to_the_next_is_the_time_that_is_configured(bench: Bench) -> None:
    interval_s = 0.1
    bench.settings = ObservingSettings(export_interval_s=interval_s)
    shell = PlayedShell(RoleName.ACCEPTOR)
    bench.begin(shell)
    assert comes_about(lambda: shell.reports >= 3)
    first, second, third = shell.told_s[:3]
    assert min(second - first, third - second) >= interval_s / 2


def test_who_switches_all_the_time_has_exports_all_the_same(bench: Bench) -> None:
    bench.settings = ObservingSettings(export_interval_s=0.3)
    shell = PlayedShell(RoleName.ACCEPTOR)
    bench.begin(shell)

    def is_exported() -> bool:
        shell.observe(False)
        shell.observe(True)
        return shell.reports >= 2

    assert comes_about(is_exported, patience_s=5.0)


def test_time_in_which_nothing_is_observed_does_not_count_to_the_next_export(
    bench: Bench,
) -> None:
    interval_s = 0.3
    bench.settings = ObservingSettings(export_interval_s=interval_s)
    shell = PlayedShell(RoleName.ACCEPTOR)
    began_s = time.monotonic()
    bench.begin(shell)
    shell.observe(False)
    off_s = time.monotonic()
    threading.Event().wait(2 * interval_s)
    off_s = time.monotonic() - off_s
    shell.observe(True)
    assert comes_about(lambda: shell.reports >= 1)
    assert shell.told_s[0] - began_s - off_s >= interval_s


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

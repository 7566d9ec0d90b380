"""What is given to Ray's metrics, export by export, and that nothing of it disturbs a role."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_paxos.actors import metrics_export
from ray_paxos.actors.metrics_export import (
    BORN,
    OBSERVATIONS_MAX,
    MetricsExport,
    Tags,
    middles,
    spread,
)
from ray_paxos.observability import catalogue
from ray_paxos.observability.catalogue import METRICS, Kind, Metric
from ray_paxos.observability.histogram import SECONDS, Histogram
from ray_paxos.observability.report import HistogramCounts
from ray_paxos.observability.samples import Sample, samples_of
from ray_paxos.observability.settings import ObservingSettings
from tests.unit.observed_roles import ROLES, member_samples, report, state

SETTINGS = ObservingSettings()
Series = tuple[str, ...]


class Recorder:
    """Takes what is exported, as Ray's instruments do."""

    def __init__(self) -> None:
        self.counters: dict[Series, float] = {}
        self.gauges: dict[Series, float] = {}
        self.observed: dict[Series, Histogram] = {}
        self.calls = 0
        self.fails_at: set[str] = set()

    def rise(self, metric: Metric, amount: float, tags: Tags) -> None:
        assert amount > 0, "Ray refuses it"
        assert metric.kind is Kind.COUNTER
        series = self._series(metric, tags)
        self.counters[series] = self.counters.get(series, 0.0) + amount

    def set(self, metric: Metric, value: float, tags: Tags) -> None:
        assert metric.kind is Kind.GAUGE
        self.gauges[self._series(metric, tags)] = value

    def observe(self, metric: Metric, value: float, times: int, tags: Tags) -> None:
        assert metric.kind is Kind.HISTOGRAM
        series = self._series(metric, tags)
        self.observed.setdefault(series, Histogram(metric.bounds)).observe(value, times)

    def _series(self, metric: Metric, tags: Tags) -> Series:
        if metric.name in self.fails_at:
            raise RuntimeError("no metrics agent")
        self.calls += 1
        assert tuple(tags) == metric.labels, metric
        return (metric.name, *list(tags.values())[2:])


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def exporting(recorder: Recorder) -> MetricsExport:
    return MetricsExport("demo", "m1", SETTINGS, instruments=recorder)


def commands(count: float, group: str = "1", role: str = "proposer") -> Sample:
    return Sample(catalogue.COMMANDS, count, group=group, role=role)


NAME = catalogue.COMMANDS.name


def test_counters_go_by_what_they_have_risen(exporting: MetricsExport, recorder: Recorder) -> None:
    exporting.export([commands(0)])
    assert recorder.counters == {(NAME, "1"): BORN}, "there before it rises"
    for count, given_so_far in ((5, 5), (5, 5), (12, 12)):
        exporting.export([commands(count)])
        assert recorder.counters == {(NAME, "1"): given_so_far}


def test_a_counter_that_fell_is_of_another_life(
    exporting: MetricsExport, recorder: Recorder
) -> None:
    for count in (10, 4, 6):
        exporting.export([commands(count)])
    assert recorder.counters == {(NAME, "1"): 16}


def test_counts_of_several_roles_of_a_process_add_up(
    exporting: MetricsExport, recorder: Recorder
) -> None:
    def both(learner: int, checkpointer: int) -> list[Sample]:
        return [
            Sample(catalogue.DAMAGED, learner, group="1", role="learner"),
            Sample(catalogue.DAMAGED, checkpointer, group="1", role="checkpointer"),
        ]

    for learner, checkpointer in ((3, 1), (4, 1), (4, 2)):
        exporting.export(both(learner, checkpointer))
    assert recorder.counters == {(catalogue.DAMAGED.name, "1"): 6}


@given(st.lists(st.lists(st.integers(0, 9), min_size=2, max_size=2), max_size=8))
def test_what_ray_was_given_is_what_was_counted(rises: list[list[int]]) -> None:
    recorder = Recorder()
    exporting = MetricsExport("demo", "m1", SETTINGS, instruments=recorder)
    totals = [0, 0]
    for pair in rises:
        totals = [total + rise for total, rise in zip(totals, pair, strict=True)]
        exporting.export([commands(total, group=str(group)) for group, total in enumerate(totals)])
    if rises:
        assert [recorder.counters[NAME, str(group)] for group in (0, 1)] == [
            total or BORN for total in totals
        ]


def test_groups_that_are_named_no_more_are_not_counted_again(
    exporting: MetricsExport, recorder: Recorder
) -> None:
    exporting.export([commands(10, "1"), commands(20, "2")])
    exporting.export([commands(33, "all")])
    exporting.export([commands(40, "all")])
    exporting.export([commands(15, "1"), commands(27, "2")])
    exporting.export([commands(16, "1"), commands(27, "2"), commands(2, "3")])
    assert recorder.counters == {
        (NAME, "1"): 11,
        (NAME, "2"): 20,
        (NAME, "all"): 7,
        (NAME, "3"): 2,
    }
    # All but what was counted between two exports that name differently.
    assert sum(recorder.counters.values()) == 45 - (33 - 30) - (42 - 40)


def test_gauges_that_are_gone(exporting: MetricsExport, recorder: Recorder) -> None:
    def told(group: int) -> list[Sample]:
        return samples_of(state("learner", (group,)), report("learner"), SETTINGS)

    exporting.export(told(1))
    segments, applied = catalogue.SEGMENTS.name, catalogue.APPLIED.name
    assert (recorder.gauges[segments, "1"], recorder.gauges[applied, "1"]) == (2, 28)
    exporting.export(told(2))
    assert recorder.gauges[segments, "1"] == 0, "sums are right at once"
    assert recorder.gauges[applied, "1"] == 28, "no wrong position: Ray forgets it by itself"
    del recorder.gauges[segments, "1"]
    exporting.export(told(2))
    assert (segments, "1") not in recorder.gauges, "once, or it would stay for ever"


def test_a_process_that_stops_serves_nothing(exporting: MetricsExport, recorder: Recorder) -> None:
    exporting.export(member_samples(2, SETTINGS))
    serving = catalogue.ROLE_SERVING.name
    assert {recorder.gauges[serving, role] for role in ROLES} == {1}
    exporting.export([])
    assert {recorder.gauges[serving, role] for role in ROLES} == {0}
    assert recorder.gauges[catalogue.IS_MASTER.name, "1"] == 0


def test_what_stopped_for_a_while_goes_on_from_what_it_was(
    exporting: MetricsExport, recorder: Recorder
) -> None:
    serving = catalogue.ROLE_SERVING.name
    exporting.export([*member_samples(2, SETTINGS), commands(7, "9")])
    exporting.export([])
    exporting.export([*member_samples(2, SETTINGS), commands(9, "9")])
    assert recorder.counters[NAME, "9"] == 9
    assert {recorder.gauges[serving, role] for role in ROLES} == {1}


def seconds(counts: list[int]) -> Sample:
    told = HistogramCounts(tuple(counts), 0.0)
    return Sample(catalogue.FSYNC_SECONDS, told, role="acceptor")


def test_histograms_are_observed_within_their_bounds(
    exporting: MetricsExport, recorder: Recorder
) -> None:
    counts = [each % 5 for each in range(len(SECONDS) + 1)]
    exporting.export([seconds(counts)])
    exporting.export([seconds(counts)])
    (found,) = recorder.observed.values()
    assert found.counts == counts
    exporting.export([seconds([count + 1 for count in counts])])
    assert found.counts == [count + 1 for count in counts]
    # Another life of the role.
    exporting.export([seconds([1, *counts[1:]])])
    assert found.counts == [2, *(2 * count + 1 for count in counts[1:])]


def test_no_export_observes_more_than_its_share(
    exporting: MetricsExport, recorder: Recorder
) -> None:
    counts = [0] * (len(SECONDS) + 1)
    for _ in range(200):
        counts[3] += 99_900
        counts[8] += 90
        counts[12] += 10
        exporting.export([seconds(counts)])
    (found,) = recorder.observed.values()
    assert found.count <= 200 * (OBSERVATIONS_MAX + 3)
    true = Histogram(SECONDS, counts)
    for share in (0.5, 0.99, 0.999):
        assert found.quantile(share) == pytest.approx(true.quantile(share), rel=0.05)
    assert found.counts[12] == 2, "what is rare comes up as often as it should"


@given(st.lists(st.integers(0, 5_000), min_size=1, max_size=16))
def test_a_spread_is_all_or_about_as_much_as_is_allowed(counts: list[int]) -> None:
    owed = [0.0] * len(counts)
    found = spread(counts, owed)
    if sum(counts) <= OBSERVATIONS_MAX:
        assert found == counts
    else:
        assert OBSERVATIONS_MAX - len(counts) <= sum(found) <= OBSERVATIONS_MAX
        assert all(-1e-6 < rest < 1 for rest in owed)


def test_middles_are_within_their_bounds() -> None:
    for metric in METRICS:
        if metric.kind is Kind.HISTOGRAM:
            found = Histogram(metric.bounds)
            for value in middles(metric.bounds):
                found.observe(value)
            assert found.counts == [1] * (len(metric.bounds) + 1)


def test_where_no_metrics_are_wanted_none_are_exported(recorder: Recorder) -> None:
    settings = ObservingSettings(exports_metrics=False)
    MetricsExport("demo", "m1", settings, instruments=recorder).export([commands(1)])
    assert recorder.calls == 0


def test_failing_metrics_disturb_nobody_and_are_tried_again(
    exporting: MetricsExport, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    samples = member_samples(2, SETTINGS)
    recorder.fails_at = {metric.name for metric in METRICS}
    with caplog.at_level(logging.WARNING):
        exporting.export(samples)
        exporting.export(samples)
        exporting.export([])
    assert len(caplog.records) == 1, "it is told once"
    assert "no metrics agent" in caplog.text
    recorder.fails_at = {catalogue.IS_MASTER.name}
    exporting.export([*samples, commands(7, "9")])
    assert recorder.counters[NAME, "9"] == 7
    assert {name for name, *_ in recorder.gauges} == {
        metric.name
        for metric in METRICS
        if metric.kind is Kind.GAUGE and metric is not catalogue.IS_MASTER
    }
    recorder.fails_at = set()
    exporting.export([*samples, commands(7, "9")])
    assert recorder.gauges[catalogue.IS_MASTER.name, "1"] == 1
    assert recorder.counters[NAME, "9"] == 7


def test_a_counter_that_ray_did_not_take_goes_with_the_next_export(
    exporting: MetricsExport, recorder: Recorder
) -> None:
    exporting.export([commands(2)])
    recorder.fails_at = {NAME}
    exporting.export([commands(5)])
    recorder.fails_at = set()
    exporting.export([commands(6)])
    assert recorder.counters == {(NAME, "1"): 6}


UNCONNECTED = """
import warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", module="ray")
warnings.filterwarnings("ignore", category=DeprecationWarning)
from ray_paxos.actors.metrics_export import MetricsExport
from ray_paxos.observability.settings import ObservingSettings
from tests.unit.observed_roles import member_samples
import ray
settings = ObservingSettings()
for member in ("m1", "m2"):
    exporting = MetricsExport("demo", member, settings)
    for count in (1, 3):
        exporting.export(member_samples(2, settings, count))
    exporting.export([])
assert not ray.is_initialized()
print("whole")
"""


def test_a_process_that_is_connected_to_no_ray_goes_on(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNCONNECTED],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("whole\n", 0), done.stderr
    assert "metrics are not exported" not in done.stderr


def test_instruments_of_ray_are_made_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    made: defaultdict[str, int] = defaultdict(int)

    class Played:
        def __init__(self, name: str, meaning: str, *_more: object) -> None:
            made[name] += 1
            assert meaning

        def inc(self, amount: float, tags: Tags) -> None:
            assert amount > 0

        def set(self, value: float, tags: Tags) -> None:
            pass

        def observe(self, value: float, tags: Tags) -> None:
            pass

    ray_instruments = metrics_export.RayInstruments
    for name in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(metrics_export, name, Played)
    for kept in ("_counters", "_gauges", "_histograms"):
        monkeypatch.setattr(ray_instruments, kept, {})
    for member in ("m1", "m2"):
        MetricsExport("demo", member, SETTINGS).export(member_samples(3, SETTINGS))
    assert made == dict.fromkeys((metric.name for metric in METRICS), 1)

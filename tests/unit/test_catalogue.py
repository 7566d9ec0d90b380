"""The catalogue of metrics keeps Prometheus' conventions."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from ray_paxos.observability import catalogue
from ray_paxos.observability.catalogue import BY_NAME, METRICS, Aggregation, Kind, Metric
from ray_paxos.observability.histogram import COUNTS, SECONDS

ALL = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
LABELS = {"", "role", "event", "reason", "message"}
WRONG_UNITS = ("_ms", "_milliseconds", "_ns", "_us", "_mb", "_kb", "_megabytes", "_percent")


def test_there_are_metrics_and_each_has_its_own_name() -> None:
    assert len(METRICS) > 40
    assert [name for name, count in Counter(m.name for m in METRICS).items() if count > 1] == []
    assert {name: BY_NAME[name] for name in BY_NAME} == {m.name: m for m in METRICS}


def test_every_metric_of_the_module_is_listed() -> None:
    found = [value for value in vars(catalogue).values() if isinstance(value, Metric)]
    assert list(METRICS) == found


@ALL
def test_a_name_is_one_that_prometheus_allows(metric: Metric) -> None:
    assert re.fullmatch(r"paxos(_[a-z0-9]+)+", metric.name)
    assert metric.exported_name == f"ray_{metric.name}"


@ALL
def test_counters_and_nothing_else_are_totals(metric: Metric) -> None:
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    for reserved in ("_bucket", "_count", "_sum", "_info"):
        assert not metric.name.endswith(reserved), "Prometheus gives these names itself"


@ALL
def test_units_are_the_base_ones_and_come_last(metric: Metric) -> None:
    unit = metric.name.removesuffix("_total")
    assert not unit.endswith(WRONG_UNITS)
    for base in ("seconds", "bytes"):
        # `paxos_disk_free_bytes` and not `paxos_bytes_free`.
        assert f"_{base}_" not in f"{unit}_" or unit.endswith(f"_{base}")


@ALL
def test_only_histograms_have_bounds_and_times_have_those_of_times(metric: Metric) -> None:
    if metric.kind is not Kind.HISTOGRAM:
        assert not metric.bounds
    elif metric.name.endswith("_seconds"):
        assert tuple(metric.bounds) == SECONDS
    else:
        assert tuple(metric.bounds) == COUNTS


@ALL
def test_the_meaning_is_one_sentence(metric: Metric) -> None:
    assert re.fullmatch(r"[A-Z1][^.\n]*[^.\s]\.", metric.meaning), metric.meaning
    assert len(metric.meaning) < 100


@ALL
def test_labels_are_few_and_named_once(metric: Metric) -> None:
    assert metric.label in LABELS
    assert metric.labels[:2] == ("cluster", "member")
    assert len(set(metric.labels)) == len(metric.labels)
    assert ("group" in metric.labels) == metric.is_of_group
    assert not (metric.is_of_group and metric.label), "groups times labels would be too many series"


@ALL
def test_what_is_counted_is_summed_over_groups(metric: Metric) -> None:
    if metric.kind is not Kind.GAUGE:
        assert metric.aggregation is Aggregation.SUM


@ALL
def test_histograms_are_not_of_groups(metric: Metric) -> None:
    """Each would be some twenty series a group."""
    assert not (metric.kind is Kind.HISTOGRAM and metric.is_of_group)

"""What panels of the Grafana dashboard are, and what their expressions are made of.

Rules:

1. Every expression is of the chosen cluster and members, and of the chosen groups where the metric
   has any. Each aggregates over Ray's own labels, of which `WorkerId` changes when a role is
   started again.
2. Rates come from counters, quantiles from histograms: these hold a sample where there is much.
"""

from __future__ import annotations

from dataclasses import dataclass

from ray_paxos.observability.catalogue import Kind, Metric

INTERVAL = "$__rate_interval"
"""Grafana's: long enough for a rate at the resolution that is shown."""
SERIES_MAX = 20
"""So many series a panel shows where each group would be one."""
HALF, NEARLY_ALL = 0.5, 0.99


@dataclass(frozen=True, slots=True)
class Query:
    """One expression of a panel.

    Attributes:
        expression: In PromQL, with Grafana's variables.
        legend: How each series is called; labels in double braces.
    """

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        title: What it shows.
        description: What to know of it.
        queries: What it is made of.
        unit: Grafana's id of the unit.
        kind: Grafana's id of the panel's type.
        width: Of 24 columns.
        bad_above: Of one that shows one number: what is above this is shown red; None for none.
    """

    title: str
    description: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    bad_above: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a title."""

    title: str
    panels: tuple[Panel, ...]


# What expressions are made of.


def selected(metric: Metric, suffix: str = "") -> str:
    """Series of what is chosen at the top of the dashboard."""
    group = ',group=~"$group"' if metric.is_of_group else ""
    return f'{metric.exported_name}{suffix}{{cluster="$cluster",member=~"$member"{group}}}'


def value(metric: Metric) -> str:
    """A gauge, one series for each of its own labels."""
    labels = ", ".join(label for label in metric.labels if label != "cluster")
    return f"max by ({labels}) ({selected(metric)})"


def rate(metric: Metric, by: str) -> str:
    """Of a counter, in a second, one series for each value of labels."""
    assert metric.kind is Kind.COUNTER
    return f"sum by ({by}) (rate({selected(metric)}[{INTERVAL}]))"


def rise(metric: Metric, by: str) -> str:
    """Of what is rare: how often it was within each interval."""
    assert metric.kind is Kind.COUNTER
    return f"sum by ({by}) (increase({selected(metric)}[{INTERVAL}]))"


def quantile(share: float, metric: Metric, by: str = "") -> str:
    """Of a histogram: up to which value a share of all lie."""
    assert metric.kind is Kind.HISTOGRAM
    labels = f"{by}, le" if by else "le"
    buckets = f"rate({selected(metric, '_bucket')}[{INTERVAL}])"
    return f"histogram_quantile({share:g}, sum by ({labels}) ({buckets}))"


def most(expression: str) -> str:
    """Of many series, those that are highest."""
    return f"topk({SERIES_MAX}, {expression})"


def half_and_nearly_all(metric: Metric, by: str = "member") -> tuple[Query, ...]:
    """The median and the 99th percentile of a histogram."""
    return tuple(
        Query(quantile(share, metric, by), f"{{{{{by}}}}} p{share * 100:g}")
        for share in (HALF, NEARLY_ALL)
    )


def by_member(metric: Metric) -> Query:
    """The rate of a counter, one series for each member."""
    return Query(rate(metric, "member"), "{{member}}")


def number(
    title: str,
    description: str,
    expression: str,
    unit: str = "short",
    *,
    bad_above: float | None = None,
    width: int = 4,
) -> Panel:
    """A panel that shows one number."""
    query = (Query(expression, ""),)
    return Panel(title, description, query, unit, "stat", width, bad_above)

"""What an alert is, when it is raised, and what its expression is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray_paxos.observability.catalogue import Metric
from ray_paxos.observability.samples import ALL_GROUPS

CRITICAL = "critical"
WARNING = "warning"


@dataclass(frozen=True, slots=True)
class AlertLimits:
    """When an alert is raised.

    Attributes:
        hold_scale: By how much the time is multiplied for which something has to be so before it
            is told (`for`). Above 1, a cluster whose nodes often stand still for a while raises
            fewer alerts, each of them later; below 1, all of them come earlier.
        gone_window_s: A member that was there so long ago, or later, is missed; one that was
            removed on purpose, too, so that its alert ends by itself after this.
        count_window_s: Damage and differing checksums are told for so long after they were found.
        election_window_s: Reigns are counted over this.
        elections_max: More reigns of one group than this within the window are too many.
        lag_instances: A member that is further behind is told.
        disk_free_bytes: Less room on a member's disk than this is little.
        disk_full_within_s: A disk that will be full by then, going on as in the last hour, too.
        fsync_s: Where one append in a hundred takes longer, the disk is slow.
        fsync_window_s: Over which that is looked at.
    """

    hold_scale: float = 1.0
    gone_window_s: int = 3_600
    count_window_s: int = 900
    election_window_s: int = 600
    elections_max: int = 5
    lag_instances: int = 10_000
    disk_free_bytes: int = 5_000_000_000
    disk_full_within_s: int = 14_400
    fsync_s: float = 0.1
    fsync_window_s: int = 300


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert.

    Attributes:
        name: As Prometheus shows it.
        expression: In PromQL; gives one series for each thing that is wrong.
        hold_s: For how long it has to be so.
        severity: `critical` or `warning`.
        summary: What is wrong, in one line.
        description: What it means, and what to do.
    """

    name: str
    expression: str
    hold_s: float
    severity: str
    summary: str
    description: str

    def rule(self, scale: float) -> dict[str, Any]:
        """As it stands in a rule file."""
        return {
            "alert": self.name,
            "expr": self.expression,
            "for": duration(self.hold_s * scale),
            "labels": {"severity": self.severity, "component": "ray_paxos"},
            "annotations": {"summary": self.summary, "description": self.description},
        }


def duration(seconds: float) -> str:
    """As Prometheus reads it, to the millisecond."""
    milliseconds = round(seconds * 1_000)
    return f"{milliseconds}ms" if milliseconds % 1_000 else f"{milliseconds // 1_000}s"


def named(metric: Metric) -> str:
    """Its series of groups that are named."""
    return f'{metric.exported_name}{{group!="{ALL_GROUPS}"}}'


def aggregated(metric: Metric) -> str:
    """Its series of all groups of members that name none."""
    return f'{metric.exported_name}{{group="{ALL_GROUPS}"}}'


def rose(series: str, labels: str, window_s: int) -> str:
    """Where a counter has risen within a window, or was born above 0 in it.

    Args:
        series: Its selector.
        labels: That the answer has.
        window_s: The window.
    """
    window = f"{window_s}s"
    return (
        f"sum by ({labels}) (increase({series}[{window}])) > 0.5\n"
        f"or sum by ({labels}) ({series} unless {series} offset {window}) > 0.5"
    )

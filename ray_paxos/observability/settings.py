"""How much of itself a cluster tells."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ObservingSettings:
    """Of every role of a cluster.

    Attributes:
        is_on: Whether anything is counted, timed and remembered, until it is switched; logs are
            written in any case.
        exports_metrics: Whether counts and times go to Ray's metrics, and so to Prometheus.
        export_interval_s: From one export to the next.
        groups_max: Up to so many groups a member's metrics name each group; with more, metrics of
            groups are of all of them together (`group="all"`).
        events_kept: The last events of each role that are remembered.
        writes_events: Whether events are written to the role's folder, too, as JSON lines.
        event_file_bytes: At this size the file of events is begun anew, and one older one kept.
        slow_ms: A command that takes as long, or longer, is remembered as slow.
        slow_kept: So many of them, of each role.
    """

    is_on: bool = True
    exports_metrics: bool = True
    export_interval_s: float = 5.0
    groups_max: int = 50
    events_kept: int = 500
    writes_events: bool = False
    event_file_bytes: int = 16_000_000
    slow_ms: float = 50.0
    slow_kept: int = 200

"""The section of what a cluster tells of itself."""

from __future__ import annotations

from pydantic import Field

from ray_paxos.config.section import Section, bytes_field, milliseconds_field, whole_field
from ray_paxos.observability.settings import ObservingSettings

_OBSERVING = ObservingSettings()
_MS_NS = 1_000_000
EXPORT_INTERVAL_MAX_MS = 10_000


class ObservabilityConfiguration(Section):
    """What is counted, timed and remembered, and who is told."""

    enabled: bool = Field(
        _OBSERVING.is_on,
        description="Whether anything is counted, timed and remembered; logs are written in any "
        "case.",
        json_schema_extra={"allowed": "true or false"},
    )
    metrics: bool = Field(
        _OBSERVING.exports_metrics,
        description="Whether it goes to Ray's metrics, which Prometheus scrapes.",
        json_schema_extra={"allowed": "true or false"},
    )
    metrics_interval_ms: float = milliseconds_field(
        round(_OBSERVING.export_interval_s * 1_000 * _MS_NS),
        "How often it does: Ray forgets what it has not been told for 20 s.",
        low=100,
        high=EXPORT_INTERVAL_MAX_MS,
    )
    metrics_groups_max: int = whole_field(
        _OBSERVING.groups_max,
        0,
        10_000,
        "Up to so many groups of a member its metrics name each; with more, they are of all of "
        "them together.",
    )
    events_kept: int = whole_field(
        _OBSERVING.events_kept, 1, 100_000, "The last events of each role that are remembered."
    )
    event_files: bool = Field(
        _OBSERVING.writes_events,
        description="Whether events are written to `events.jsonl` in each role's folder, too.",
        json_schema_extra={"allowed": "true or false"},
    )
    event_file_bytes: int = bytes_field(
        _OBSERVING.event_file_bytes,
        10_000,
        1_000_000_000,
        "At this size that file is begun anew; one older one stays.",
    )
    slow_ms: float = milliseconds_field(
        round(_OBSERVING.slow_ms * _MS_NS),
        "A command that takes as long is remembered with the time of each hop.",
        low=0,
    )
    slow_kept: int = whole_field(_OBSERVING.slow_kept, 1, 10_000, "So many of them, by each role.")

    def settings(self) -> ObservingSettings:
        """As observers take them."""
        return ObservingSettings(
            is_on=self.enabled,
            exports_metrics=self.metrics,
            export_interval_s=self.metrics_interval_ms / 1_000,
            groups_max=self.metrics_groups_max,
            events_kept=self.events_kept,
            writes_events=self.event_files,
            event_file_bytes=self.event_file_bytes,
            slow_ms=self.slow_ms,
            slow_kept=self.slow_kept,
        )

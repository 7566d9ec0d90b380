"""States and reports of roles as shells give them, by hand: what tests of metrics export."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ray_paxos.observability import catalogue
from ray_paxos.observability.histogram import COUNTS, SECONDS
from ray_paxos.observability.report import Counted, HistogramCounts, RoleReport
from ray_paxos.observability.samples import Sample, samples_of
from ray_paxos.observability.settings import ObservingSettings

ROLES = ("proposer", "acceptor", "learner", "checkpointer")

GROUPS: dict[str, dict[str, Any]] = {
    "proposer": {
        "phase": "leading",
        "is_serving": True,
        "master_id": 1,
        "lease_ms": 1_500,
        "queued_requests": 3,
        "queued_bytes": 300,
        "open_instances": 2,
    },
    "acceptor": {"floor": 11, "votes": 4, "storage_full": False},
    "learner": {
        "learned_through": 30,
        "applied_through": 28,
        "known_through": 30,
        "durable_through": 20,
        "log_floor": 5,
        "stopped": "",
        "is_full": False,
        "storage_full": False,
        "segments": 2,
        "sessions": 1,
    },
    "checkpointer": {
        "checkpoints": [10, 20],
        "sealed_through": 25,
        "scrubbed_files": 6,
        "damaged_files": 0,
    },
}
COUNTED: Mapping[str, Mapping[str, int]] = {
    catalogue.EVENTS.name: {"X": 1},
    catalogue.MESSAGES_RECEIVED.name: {"accept": 1},
}
HISTOGRAMS: dict[str, tuple[catalogue.Metric, ...]] = {
    "proposer": (
        catalogue.BATCH_COMMANDS,
        catalogue.COMMAND_SECONDS,
        catalogue.QUEUE_SECONDS,
        catalogue.ACCEPT_SECONDS,
        catalogue.CHOSEN_SECONDS,
        catalogue.PREPARE_SECONDS,
    ),
    "acceptor": (catalogue.FSYNC_SECONDS, catalogue.FSYNC_RECORDS),
    "learner": (catalogue.APPLY_SECONDS, catalogue.SEAL_SECONDS),
    "checkpointer": (),
}


def state(role: str, groups: Iterable[int] = (0, 1), **changes: Any) -> dict[str, Any]:
    """A role that serves so many groups, all alike, with changes to the whole state."""
    return {
        "member": "m1",
        "role": role,
        "phase": "serving",
        "reason": "",
        "error": "",
        "pid": 1,
        "incarnation": 1,
        "stopped_groups": {},
        "groups": {group: dict(GROUPS[role]) for group in groups},
        **changes,
    }


def histogram(bounds: int, count: int = 1) -> HistogramCounts:
    """One with so many bounds that counted something in the third."""
    return HistogramCounts(tuple(count if each == 2 else 0 for each in range(bounds + 1)), 0.5)


def report(
    role: str,
    by_group: Mapping[str, Mapping[int, int]] | None = None,
    counts: Mapping[str, Mapping[str, int]] | None = None,
    count: int = 1,
) -> RoleReport:
    """What a role tells that has counted that, and `count` in each of its histograms."""
    histograms = {
        metric.name: histogram(len(COUNTS if metric.bounds is COUNTS else SECONDS), count)
        for metric in HISTOGRAMS[role]
    }
    counted = Counted(
        counts={k: dict(v) for k, v in (counts or COUNTED).items()},
        by_group={k: dict(v) for k, v in (by_group or {}).items()},
        histograms=histograms,
    )
    gauges: dict[str, dict[str, float]] = {catalogue.DISK_BYTES.name: {role: 1e6}}
    if role == "acceptor":
        gauges[catalogue.DISK_FREE_BYTES.name] = {"": 1e9}
    return RoleReport(at_ms=1, incarnation=1, counted=counted, gauges=gauges)


def member_samples(groups: int, settings: ObservingSettings, count: int = 1) -> list[Sample]:
    """Of all four roles of a member with so many groups."""
    return [
        sample
        for role in ROLES
        for sample in samples_of(state(role, range(groups)), report(role, count=count), settings)
    ]

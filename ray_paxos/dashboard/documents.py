"""What the page fetches, as JSON; small also with 1,000 groups.

Groups and spans of time come as tables, the names of the columns once; where each member is in a
group is in the group's own document. A document is encoded and compressed once for each view, for
however many browsers.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ray_paxos.dashboard.collector import Seen
from ray_paxos.dashboard.summary import SIGNS, gravest_first, is_served, meaning, summarize
from ray_paxos.observability.cluster_view import ClusterView, GroupView, Health
from ray_paxos.observability.event_record import EventRecord

EVENTS_MAX = 200
DETAILS_MAX = 100
"""Events that are details, beside the others: they are many, and would leave no room for them."""
COMPRESSED_FROM_BYTES = 1_000
COMPRESSION_LEVEL = 5
GROUP_COLUMNS = (
    "group",
    "health",
    "master",
    "voters",
    "followers",
    "voters_up",
    "majority",
    "applied",
    "lag",
    "commands_per_s",
    "since_ms",
)
SPAN_COLUMNS = ("end_ms", "commands_per_s", "p50_ms", "p99_ms")


@dataclass(frozen=True, slots=True)
class Encoded:
    """A document as it is sent.

    Attributes:
        plain: JSON.
        compressed: The same by gzip; None where it is not worth it.
        tag: Names its content.
    """

    plain: bytes
    compressed: bytes | None
    tag: str


def encode(document: dict[str, Any]) -> Encoded:
    """Encode a document."""
    # A path that is no UTF-8, as a reason may have one, comes as lone surrogates.
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    plain = text.encode(errors="replace")
    is_long = len(plain) >= COMPRESSED_FROM_BYTES
    compressed = gzip.compress(plain, COMPRESSION_LEVEL, mtime=0) if is_long else None
    return Encoded(plain, compressed, hashlib.blake2b(plain, digest_size=12).hexdigest())


def view_document(seen: Seen, interval_s: float) -> dict[str, Any]:
    """All that the page shows at a glance."""
    return {
        "summary": asdict(summarize(seen)),
        "problem": asdict(seen.problem) if seen.problem is not None else None,
        "interval_ms": round(interval_s * 1_000),
        "view": _plain_view(seen.view) if seen.view is not None else None,
    }


def group_document(view: ClusterView, group: GroupView) -> dict[str, Any]:
    """All about one group."""
    health = group.health
    plain = {**asdict(group), "health": health.value}
    return {"at_ms": view.at_ms, **plain, **_words(health)}


def find_group(view: ClusterView, number: int) -> GroupView | None:
    """A group by its number."""
    return next((group for group in view.groups if group.group == number), None)


def _plain_view(view: ClusterView) -> dict[str, Any]:
    return {
        "at_ms": view.at_ms,
        "cluster": view.cluster,
        "commands_per_s": view.commands_per_s,
        "p50_ms": view.p50_ms,
        "p99_ms": view.p99_ms,
        "hops_p99_ms": {hop: _short(ms) for hop, ms in view.hops_p99_ms.items()},
        "members": [asdict(member) for member in view.members],
        "healths": {health.value: _words(health) for health in reversed(gravest_first())},
        "groups_served": sum(is_served(group) for group in view.groups),
        "groups": {
            "columns": GROUP_COLUMNS,
            "rows": [_group_row(group) for group in view.groups],
        },
        "history": {
            "columns": SPAN_COLUMNS,
            "rows": [[_short(getattr(span, c)) for c in SPAN_COLUMNS] for span in view.history],
        },
        "events": [
            {
                "at_ms": event.at_ms,
                "level": event.level,
                "member": event.member,
                "role": event.role,
                "group": event.group,
                "kind": event.kind,
                "text": event.text,
            }
            for event in _shown_events(view.events)
        ],
    }


def _shown_events(events: Sequence[EventRecord]) -> Iterator[EventRecord]:
    """The newest first, as they are given."""
    left = {True: DETAILS_MAX, False: EVENTS_MAX}
    for event in events:
        is_detail = event.level == "DEBUG"
        if left[is_detail]:
            left[is_detail] -= 1
            yield event


def _group_row(group: GroupView) -> list[Any]:
    row = {column: getattr(group, column) for column in GROUP_COLUMNS}
    row |= {"health": group.health.value, "commands_per_s": _short(group.commands_per_s)}
    return list(row.values())


def _words(health: Health) -> dict[str, str]:
    """All words that the page has for how a group is; the script has none of its own."""
    return {"sign": SIGNS[health], "meaning": meaning(health)}


def _short(number: float | None) -> float | None:
    """Three digits after the point: nobody reads more."""
    return round(number, 3) if isinstance(number, float) else number

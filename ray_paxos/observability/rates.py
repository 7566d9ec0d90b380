"""What happened between two looks at a cluster, and in its last 15 minutes.

Rules:

1. Counts of a role only rise within one life (one incarnation), and begin at 0 in each. So what
   happened since the look before is the difference within a life, and all that there is in a new
   one: never less than nothing.
2. Time between two looks is that of the role's own clock, within a life. A new life may be on
   another node, where that clock began at another time: there the wall clock is taken, and so it is
   for a role of an older release, which tells no other one. Times of two members are never
   subtracted.
3. Spans of several members that end at the same time are added. A member's spans are remembered for
   as long as they are shown: those of one that died would be gone otherwise.
4. Spans carry the wall clocks of members, of which one may be far ahead. So what is too old is
   seen by the watcher's clock, or by the newest span where that is earlier; and a member whose
   clock was set back tells by its newest span which of its older ones never were.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from ray_paxos.observability.catalogue import Metric
from ray_paxos.observability.cluster_view import SpanView
from ray_paxos.observability.histogram import SECONDS, Histogram
from ray_paxos.observability.report import Counted, HistogramCounts, RoleReport, Span

HISTORY_MS = 900_000
"""So much of the past is shown."""
SPANS_MAX = 90
"""Of one member: as many as members keep themselves."""
SECOND_MS = 1_000
SECOND_NS = 1_000_000_000


class Between:
    """What one role did between two looks.

    Attributes:
        seconds: From the one to the other; None where there was none before, or where the role did
            not observe: how much it did then nobody knows, and no rate is made of it.
    """

    __slots__ = ("_after", "_before", "_is_first", "seconds")

    def __init__(self, before: RoleReport | None, after: RoleReport) -> None:
        """Compare two reports of one role."""
        self.seconds: float | None = None
        self._is_first = before is None
        self._after = after.counted
        self._before: Counted | None = None
        if before is None:
            return
        # A role that has stopped tells no incarnation, and goes on counting from where it was.
        is_same_life = after.incarnation in (before.incarnation, 0)
        if is_same_life:
            self._before = before.counted
        if not (before.is_observing and after.is_observing):
            return
        if is_same_life and 0 < before.clock_ns < after.clock_ns:
            self.seconds = (after.clock_ns - before.clock_ns) / SECOND_NS
        elif after.at_ms > before.at_ms:
            self.seconds = (after.at_ms - before.at_ms) / SECOND_MS

    def by_group(self, metric: Metric) -> dict[int, int]:
        """How much of something there was, by group; groups with nothing are left out."""
        if self._is_first:
            return {}
        after = self._after.by_group.get(metric.name, {})
        before = self._before.by_group.get(metric.name, {}) if self._before is not None else {}
        return {
            group: count - before.get(group, 0)
            for group, count in after.items()
            if count > before.get(group, 0)
        }

    def histogram(self, metric: Metric) -> Histogram | None:
        """Times of that kind; None where there are none, or by other bounds than ours."""
        if self._is_first:
            return None
        after = _histogram(metric, self._after)
        if after is None:
            return None
        before = _histogram(metric, self._before) if self._before is not None else None
        found = after.since(before)
        return found if found.count > 0 and min(found.counts) >= 0 else None


def _histogram(metric: Metric, counted: Counted) -> Histogram | None:
    found = counted.histograms.get(metric.name)
    if found is None or len(found.counts) != len(metric.bounds) + 1:
        return None
    return Histogram(metric.bounds, found.counts, found.total)


def together(histograms: Iterable[Histogram | None]) -> Histogram | None:
    """Several of the same bounds as one; None where there are none."""
    found = None
    for each in histograms:
        if each is None:
            continue
        if found is None:
            found = Histogram(each.bounds, each.counts, each.total)
        else:
            found.add(each)
    return found


def quantile_ms(histogram: Histogram | None, share: float) -> float | None:
    """Up to how many milliseconds a share of them took; None where there are none."""
    seconds = histogram.quantile(share) if histogram is not None else None
    return None if seconds is None else round(seconds * SECOND_MS, 3)


class History:
    """The last 15 minutes of all members.

    Invariant: of each member it knows, it keeps `SPANS_MAX` spans at most.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._spans: defaultdict[str, dict[int, Span]] = defaultdict(dict)

    def take(self, member: str, spans: Iterable[Span], at_ms: int) -> None:
        """A member's proposer tells its spans.

        Args:
            member: Its name.
            spans: Those that it keeps; none where it tells nothing.
            at_ms: The watcher's wall clock, in milliseconds since 1970.
        """
        known = self._spans[member]
        told = {span.end_ms: span for span in spans}
        if told:
            newest = max(told)
            for end_ms in [each for each in known if each > newest]:
                del known[end_ms]
        known.update(told)
        oldest = min(max(known, default=0), at_ms) - HISTORY_MS
        kept = set(sorted(each for each in known if each > oldest)[-SPANS_MAX:])
        for end_ms in [each for each in known if each not in kept]:
            del known[end_ms]

    def keep_only(self, members: Mapping[str, int]) -> None:
        """Forget those that are no members any more."""
        for name in [each for each in self._spans if each not in members]:
            del self._spans[name]

    def spans(self, at_ms: int) -> tuple[SpanView, ...]:
        """The oldest first; a time that no member tells of is left out.

        Args:
            at_ms: The watcher's wall clock, in milliseconds since 1970.
        """
        by_end: defaultdict[int, list[Span]] = defaultdict(list)
        for known in self._spans.values():
            for end_ms, span in known.items():
                by_end[end_ms].append(span)
        newest = min(max(by_end, default=0), at_ms)
        ends = sorted(end_ms for end_ms in by_end if end_ms > newest - HISTORY_MS)
        return tuple(_view(end_ms, by_end[end_ms]) for end_ms in ends)


def _view(end_ms: int, spans: Iterable[Span]) -> SpanView:
    seconds = max(span.seconds for span in spans)
    latency = together(_of_span(span.latency) for span in spans)
    commands = sum(span.commands for span in spans)
    return SpanView(
        end_ms=end_ms,
        seconds=seconds,
        commands_per_s=round(commands / seconds, 3) if seconds > 0 else 0.0,
        p50_ms=quantile_ms(latency, 0.5),
        p99_ms=quantile_ms(latency, 0.99),
    )


def _of_span(counts: HistogramCounts | None) -> Histogram | None:
    if counts is None or len(counts.counts) != len(SECONDS) + 1:
        return None
    return Histogram(SECONDS, counts.counts, counts.total)

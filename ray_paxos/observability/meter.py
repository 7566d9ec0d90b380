"""What one role has counted and timed, in this life: from its events, and from its shell's clock.

Events are counted by kind (`paxos_events_total`) but for the three of every instance (chosen,
applied, answered), which have metrics of their own.

Everything is a plain number in memory, so that counting costs next to nothing where it happens: an
instance costs its master some 4 ms of processor, of which its counts and times are 0.02. What they
come to is made up only when somebody asks (`counted`).

Times of commands weigh as many times as there are commands in a request, since each of them took as
long. The last 15 minutes are kept in spans of ten seconds that end at whole tens of seconds of the
wall clock, so that those of several members fit together. No span is of a time in which the meter
was paused, or of a part of it: a rate over a span is one of seconds in which all of it was taken.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection
from typing import Any

from ray_paxos.core.events import (
    AcceptRejected,
    AcceptResent,
    ApplyingStopped,
    CandidacyEnded,
    CatchUpUnanswered,
    CaughtUp,
    ChainsDiffered,
    CheckpointDamaged,
    CheckpointFailed,
    CheckpointPublished,
    ChunkDiffered,
    CommandsAnswered,
    Event,
    InstanceApplied,
    InstanceChosen,
    MajorityPromised,
    MasterStarted,
    MasterStopped,
    NackReceived,
    PrepareResent,
    PrepareStarted,
    PromiseGranted,
    RequestRedirected,
    RequestRefused,
    SegmentDamageFound,
    SegmentRepaired,
)
from ray_paxos.core.intake import Request
from ray_paxos.core.messages import Message
from ray_paxos.core.values import CommandBatch
from ray_paxos.observability import catalogue
from ray_paxos.observability.catalogue import Metric
from ray_paxos.observability.histogram import Histogram
from ray_paxos.observability.report import Counted, HistogramCounts, Span

SECOND_NS = 1_000_000_000
ACCEPT, PREPARE, LEARN_REQUEST = "accept", "prepare", "learn_request"
"""Messages that are sent again: values of a label."""
REDIRECTED = "redirected"
"""Why a request was not taken that a proposer that does not lead sent on: a value of a label."""
SPAN_MS = 10_000
SPANS_MAX = 90
"""Fifteen minutes."""

_HOT = (InstanceChosen, InstanceApplied, CommandsAnswered)
"""Of every instance: not counted by kind."""
_ONE_OF_GROUP: dict[type[Any], Metric] = {
    MasterStarted: catalogue.REIGNS,
    MasterStopped: catalogue.REIGNS_ENDED,
    CandidacyEnded: catalogue.CANDIDACIES_ENDED,
    PrepareStarted: catalogue.PREPARES,
    InstanceChosen: catalogue.INSTANCES,
    PromiseGranted: catalogue.PROMISES,
    ChunkDiffered: catalogue.CHAINS_DIFFERED,
    ChainsDiffered: catalogue.CHAINS_DIFFERED,
    CheckpointPublished: catalogue.CHECKPOINTS,
    CheckpointFailed: catalogue.CHECKPOINTS_FAILED,
    CheckpointDamaged: catalogue.DAMAGED,
    SegmentDamageFound: catalogue.DAMAGED,
    SegmentRepaired: catalogue.REPAIRED,
    ApplyingStopped: catalogue.APPLYING_STOPS,
}


def commands_of(request: Request) -> int:
    """How many commands a request holds; none where it opens a session."""
    count = 0
    for entry in request.entries:
        if isinstance(entry, CommandBatch):
            count += len(entry.commands)
    return count


class Meter:
    """The counts and times of one role.

    Not for several threads at once: its observer sees to that.

    Invariants: numbers only rise; at most `SPANS_MAX` spans are kept; labels come from the code,
    never from users.

    Attributes:
        received: Messages that the role took in, by their class.
    """

    def __init__(self, wall_ms: int) -> None:
        """Start with nothing.

        Args:
            wall_ms: The wall clock, in milliseconds since 1970.
        """
        self.received: defaultdict[type[Message], int] = defaultdict(int)
        self._counts: defaultdict[str, defaultdict[str, int]] = defaultdict(
            lambda: defaultdict(int)
        )
        self._by_group: defaultdict[str, defaultdict[int, int]] = defaultdict(
            lambda: defaultdict(int)
        )
        self._histograms: dict[str, Histogram] = {}
        self._spans: deque[Span] = deque(maxlen=SPANS_MAX)
        self._has_spans = False
        self._is_paused = False
        self._begin_spans(wall_ms)

    def pause(self, wall_ms: int) -> None:
        """Nothing more is taken until `go_on`; the span that is open comes to nothing.

        Args:
            wall_ms: The wall clock, in milliseconds since 1970.
        """
        if self._has_spans:
            self._roll(wall_ms)
        self._is_paused = True

    def go_on(self, wall_ms: int) -> None:
        """What is taken from here on is of a span that begins here.

        Args:
            wall_ms: The wall clock, in milliseconds since 1970.
        """
        self._is_paused = False
        if self._spans and wall_ms < self._spans[-1].end_ms:
            # The clock was set back meanwhile: spans would be of times that others are of already.
            self._begin_spans(wall_ms)
        else:
            self._begin_span(wall_ms)

    def take(self, event: Event, wall_ms: int) -> None:
        """Count what an event stands for.

        Args:
            event: What happened.
            wall_ms: The wall clock, in milliseconds since 1970.
        """
        kind = type(event)
        if kind not in _HOT:
            self._counts[catalogue.EVENTS.name][kind.__name__] += 1
        metric = _ONE_OF_GROUP.get(kind)
        if metric is not None:
            self._by_group[metric.name][event.group] += 1  # type: ignore[union-attr]
        special = _SPECIAL.get(kind)
        if special is not None:
            special(self, event, wall_ms)

    def add(self, metric: Metric, count: int, label: str = "") -> None:
        """Count something that is no event."""
        self._counts[metric.name][label] += count

    def observe(self, metric: Metric, value: float, times: int = 1) -> None:
        """Take a time, in seconds, or a size, so many times."""
        self._histogram(metric).observe(value, times)

    def _histogram(self, metric: Metric) -> Histogram:
        histogram = self._histograms.get(metric.name)
        if histogram is None:
            histogram = self._histograms[metric.name] = Histogram(metric.bounds)
        return histogram

    def keep_groups(self, groups: Collection[int]) -> None:
        """Forget what was counted of other groups: the role has them no more."""
        for by_group in self._by_group.values():
            for group in [each for each in by_group if each not in groups]:
                del by_group[group]

    def counted(self, wall_ms: int) -> Counted:
        """All of it, as of now."""
        if self._has_spans and not self._is_paused:
            self._roll(wall_ms)
        counts = {name: dict(by_label) for name, by_label in self._counts.items()}
        received = {_tag_of(kind): count for kind, count in self.received.copy().items()}
        if received:
            counts[catalogue.MESSAGES_RECEIVED.name] = received
        return Counted(
            counts=counts,
            by_group={name: dict(by_group) for name, by_group in self._by_group.items()},
            histograms={name: _counts_of(each) for name, each in self._histograms.items()},
            spans=tuple(self._spans),
        )

    # What single events come to.

    def _on_answered(self, event: CommandsAnswered, wall_ms: int) -> None:
        self._look_at_spans(wall_ms)
        answered_ns, opened_ns = event.answered_ns, event.opened_ns
        answered = self._histogram(catalogue.COMMAND_SECONDS).observe
        queued = self._histogram(catalogue.QUEUE_SECONDS).observe
        commands = 0
        for request in event.requests:
            count = commands_of(request)
            commands += count
            answered((answered_ns - request.arrived_ns) / SECOND_NS, count)
            queued((opened_ns - request.arrived_ns) / SECOND_NS, count)
        self.observe(catalogue.ACCEPT_SECONDS, (event.chosen_ns - event.opened_ns) / SECOND_NS)
        self.observe(catalogue.CHOSEN_SECONDS, (event.answered_ns - event.chosen_ns) / SECOND_NS)
        if commands:
            self.observe(catalogue.BATCH_COMMANDS, commands)
            self._by_group[catalogue.COMMANDS.name][event.group] += commands
            self._by_group[catalogue.COMMAND_BYTES.name][event.group] += event.byte_count

    def _on_refused(self, event: RequestRefused, wall_ms: int) -> None:
        self.add(catalogue.REFUSED, 1, event.code.name.lower())

    def _on_redirected(self, event: RequestRedirected, wall_ms: int) -> None:
        self.add(catalogue.REFUSED, 1, REDIRECTED)

    def _on_nack(self, event: NackReceived, wall_ms: int) -> None:
        self.add(catalogue.NACKS_RECEIVED, 1, event.reason.name.lower())

    def _on_rejected(self, event: AcceptRejected, wall_ms: int) -> None:
        self.add(catalogue.NACKS_SENT, 1, event.reason.name.lower())

    def _on_caught_up(self, event: CaughtUp, wall_ms: int) -> None:
        self._by_group[catalogue.CAUGHT_UP.name][event.group] += event.count

    def _on_promised(self, event: MajorityPromised, wall_ms: int) -> None:
        self.observe(catalogue.PREPARE_SECONDS, event.after_ns / SECOND_NS)

    def _on_resent(self, event: Event, wall_ms: int) -> None:
        self.add(catalogue.RESENT, 1, _RESENT[type(event)])

    # Spans.

    def _look_at_spans(self, wall_ms: int) -> None:
        """Whatever is taken next belongs to the span that is open then."""
        self._has_spans = True
        if wall_ms < self._span_start_ms - SPAN_MS:
            # The clock was far ahead, and is set right: what was noted by it is of no use.
            self._begin_spans(wall_ms)
        elif wall_ms >= self._span_end_ms:
            self._roll(wall_ms)

    def _begin_spans(self, start_ms: int) -> None:
        self._spans.clear()
        self._begin_span(start_ms)

    def _begin_span(self, start_ms: int) -> None:
        self._span_start_ms = start_ms
        self._span_end_ms = _span_end(start_ms)
        # What had been taken when it began: what is in it is what has come since.
        taken = self._histograms.get(catalogue.COMMAND_SECONDS.name)
        self._before_span = taken.since(None) if taken is not None else None

    def _roll(self, wall_ms: int) -> None:
        """End the spans that are over; what lies between was without a command."""
        if wall_ms - self._span_end_ms > SPANS_MAX * SPAN_MS:
            # None of those that are kept is of use any more.
            self._begin_spans(_span_end(wall_ms) - (SPANS_MAX + 1) * SPAN_MS)
        while wall_ms >= self._span_end_ms:
            seconds = (self._span_end_ms - self._span_start_ms) / 1_000
            answered = self._histogram(catalogue.COMMAND_SECONDS)
            latency = answered.since(self._before_span)
            count = latency.count
            counts = _counts_of(latency) if count else None
            self._spans.append(Span(self._span_end_ms, seconds, count, counts))
            self._before_span = answered.since(None)
            self._span_start_ms = self._span_end_ms
            self._span_end_ms += SPAN_MS


_RESENT: dict[type[Any], str] = {
    AcceptResent: ACCEPT,
    PrepareResent: PREPARE,
    CatchUpUnanswered: LEARN_REQUEST,
}
_SPECIAL: dict[type[Any], Callable[[Meter, Any, int], None]] = {
    CommandsAnswered: Meter._on_answered,
    RequestRefused: Meter._on_refused,
    RequestRedirected: Meter._on_redirected,
    NackReceived: Meter._on_nack,
    AcceptRejected: Meter._on_rejected,
    CaughtUp: Meter._on_caught_up,
    MajorityPromised: Meter._on_promised,
    AcceptResent: Meter._on_resent,
    PrepareResent: Meter._on_resent,
    CatchUpUnanswered: Meter._on_resent,
}


def _tag_of(kind: type[Message]) -> str:
    return str(kind.__struct_config__.tag)


def _span_end(wall_ms: int) -> int:
    return (wall_ms // SPAN_MS + 1) * SPAN_MS


def _counts_of(histogram: Histogram) -> HistogramCounts:
    return HistogramCounts(tuple(histogram.counts), histogram.total)

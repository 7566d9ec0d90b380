"""What a role's shell tells everything to: events, and how long its disk and its machines took.

Rules:

1. Nothing here changes what the role does, and nothing here may break it: whatever is raised in a
   turn ends the role, so a mistake in observing ends here, and the log says so, once.
2. Events are counted (`Meter` says how). Those that matter by themselves are also recorded, as far
   as they do not come too fast: in memory for watchers, in the log, and in the role's file of
   events where one is wanted.
3. Threads of the shell and those of watchers come here at the same time; the lock is held for as
   long as numbers are added or copied, and never over a file.
4. An event has its number once watchers can see it: who asks for what is above a number misses
   none.
5. Observing may be switched while the role works, in memory only: a later life of the role begins
   as its settings say. While it is off nothing is counted, timed or remembered, just as of a role
   that began so, and events go to the log alone. What was counted and remembered before stays, is
   told as it was, and is gone on with when observing is on again; what was measured is not told.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice, takewhile
from operator import attrgetter
from typing import Any, Concatenate, ParamSpec

from ray_paxos.core.events import CommandsAnswered, Event, InstanceApplied, InstanceChosen
from ray_paxos.core.intake import Request
from ray_paxos.core.messages import Message
from ray_paxos.core.values import CommandBatch
from ray_paxos.observability import catalogue
from ray_paxos.observability.catalogue import Metric
from ray_paxos.observability.event_file import EventFile
from ray_paxos.observability.event_kinds import (
    describe,
    fields_of,
    is_recorded,
    kind_of,
    level_of,
)
from ray_paxos.observability.event_limit import EventLimit
from ray_paxos.observability.event_log import EventLog
from ray_paxos.observability.event_record import EventRecord
from ray_paxos.observability.meter import Meter, commands_of
from ray_paxos.observability.report import RoleReport
from ray_paxos.observability.settings import ObservingSettings
from ray_paxos.observability.slow_commands import APPLY, FSYNC, SlowCommands, SlowInstance, SlowStep

MILLISECOND_NS = 1_000_000
EVENTS_OF_A_LIFE = 1 << 24
"""Numbers of events rise over all lives of a role: each life has so many of its own."""
STEP_INSTANCES_MAX = 16
"""So many of the instances that a slow write or apply was for are named."""
MACHINE_LENGTH_MAX = 100
"""So many characters of a machine's name are remembered: clients may have sent any text."""

_ARRIVED = attrgetter("arrived_ns")
_OF_INSTANCES = (InstanceChosen, CommandsAnswered)
"""Of every instance: counted, and recorded by nobody."""

WallClock = Callable[[], int]
"""Milliseconds since 1970, for people."""
Clock = Callable[[], int]
"""Nanoseconds, never falling: the role's own."""


Arguments = ParamSpec("Arguments")
_logger = logging.getLogger(__name__)


def _harmless(
    told: Callable[Concatenate[Observer, Arguments], None],
) -> Callable[Concatenate[Observer, Arguments], None]:
    """Whatever a method raises ends with it (rule 1): no other place knows what may go wrong."""

    @functools.wraps(told)
    def harmless(observer: Observer, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        try:
            told(observer, *args, **kwargs)
        except Exception:
            observer.note_mistake()

    return harmless


class Observer:
    """Of one role."""

    def __init__(
        self,
        cluster: str,
        member: str,
        role: str,
        settings: ObservingSettings,
        *,
        clock: Clock,
        wall_ms: WallClock,
        names: Mapping[int, str],
    ) -> None:
        """Observe nothing yet.

        Args:
            cluster: Its name; empty where it is not known yet.
            member: Whose role it is.
            role: Which.
            settings: How much is remembered, and whether it begins on.
            clock: The role's.
            wall_ms: For people.
            names: Of the members, by member_id.
        """
        self._log = EventLog(cluster, member, role)
        self._is_on = settings.is_on
        self._clock = clock
        self._wall_ms = wall_ms
        self._names = names
        self._file: EventFile | None = None
        self._place = (cluster, member, role)
        self._lock = threading.Lock()
        self._meter = Meter(wall_ms())
        self._limit = EventLimit()
        self._recent: deque[EventRecord] = deque(maxlen=settings.events_kept)
        self._sequence = 0
        self._slow = SlowCommands(settings.slow_kept)
        self._slow_ns = round(settings.slow_ms * MILLISECOND_NS)
        self._gauges: dict[str, dict[str, float]] = {}
        self._has_mistake = False

    def begin(self, incarnation: int, file: EventFile | None) -> None:
        """The role was opened.

        Args:
            incarnation: Of its folder; events are numbered above those of earlier lives.
            file: Takes recorded events from here on; None for no file.
        """
        with self._lock:
            self._sequence += incarnation * EVENTS_OF_A_LIFE
            self._file = file

    def switch(self, is_on: bool) -> None:
        """Observe from here on, or not (rule 5); nothing changes where it is so already.

        What another thread has begun to tell meanwhile may still be counted.
        """
        with self._lock:
            if is_on == self._is_on:
                return
            if is_on:
                self._meter.go_on(self._wall_ms())
            else:
                self._meter.pause(self._wall_ms())
                self._gauges.clear()
            self._is_on = is_on

    def close(self) -> None:
        """Let go of the file of events."""
        if self._file is not None:
            self._file.close()

    def note_mistake(self) -> None:
        """Something was raised here: the log says what, once."""
        if not self._has_mistake:
            self._has_mistake = True
            place = "/".join(filter(None, self._place))
            _logger.exception("%s: a mistake in observing, which is a bug", place)

    # What the shell tells.

    @_harmless
    def observe(self, event: Event) -> None:
        """Something happened."""
        kind = type(event)
        if kind is InstanceApplied:
            # Of every instance at every member, and counted by `note_apply`.
            return
        if self._is_on:
            wall_ms = self._wall_ms()
            with self._lock:
                self._meter.take(event, wall_ms)
            if kind is CommandsAnswered:
                assert isinstance(event, CommandsAnswered)
                self._look_for_slow(event, wall_ms)
        if kind not in _OF_INSTANCES and is_recorded(kind):
            self._record(event)

    def warn(self, text: str) -> None:
        """Write something that is no event to the log."""
        self._log.warn(text)

    @_harmless
    def note_received(self, messages: Sequence[Message]) -> None:
        """The role took in messages, in one turn."""
        if self._is_on:
            # Without the lock: one thread at a time has a turn, and nobody else adds to these.
            received = self._meter.received
            for message in messages:
                received[type(message)] += 1

    @_harmless
    def note_write(
        self, duration_ns: int, records: int, instances: Iterable[tuple[int, int]]
    ) -> None:
        """The acceptor made an append durable.

        Args:
            duration_ns: How long it took.
            records: How many it held.
            instances: (group, instance_id) of the votes among them; looked at only where it was
                slow.
        """
        if not self._is_on:
            return
        with self._lock:
            self._meter.observe(catalogue.FSYNC_SECONDS, duration_ns / 1e9)
            self._meter.observe(catalogue.FSYNC_RECORDS, records)
        self._note_slow(FSYNC, duration_ns, instances)

    @_harmless
    def note_apply(self, duration_ns: int, instances: Sequence[tuple[int, int]]) -> None:
        """The learner did a step in which it applied; each instance counts with its share of it."""
        if not self._is_on or not instances:
            return
        share_s = duration_ns / len(instances) / 1e9
        with self._lock:
            self._meter.observe(catalogue.APPLY_SECONDS, share_s, len(instances))
        self._note_slow(APPLY, duration_ns, instances)

    @_harmless
    def note_seal(self, duration_ns: int) -> None:
        """The learner wrote a segment and made it durable."""
        if self._is_on:
            with self._lock:
                self._meter.observe(catalogue.SEAL_SECONDS, duration_ns / 1e9)

    def set_gauge(self, metric: Metric, value: float, label: str = "") -> None:
        """What was measured just now, and is not of a group."""
        with self._lock:
            if self._is_on:
                self._gauges.setdefault(metric.name, {})[label] = value

    def keep_groups(self, groups: Collection[int]) -> None:
        """The role has these groups now; what was counted of others is forgotten (R10)."""
        with self._lock:
            self._meter.keep_groups(groups)

    # What watchers get.

    def report(
        self, incarnation: int, *, events_after: int = 0, with_slow: bool = False
    ) -> RoleReport:
        """What the role tells now.

        Args:
            incarnation: Of the role's folder.
            events_after: The last event that the watcher knows, of this incarnation; 0 for none.
            with_slow: Whether what was slow is wanted, too.
        """
        wall_ms = self._wall_ms()
        with self._lock:
            is_on, counted = self._is_on, self._meter.counted(wall_ms)
            newest = takewhile(lambda each: each.sequence > events_after, reversed(self._recent))
            events = tuple(newest)[::-1]
            slow = self._slow.all() if with_slow else ()
            gauges = {name: dict(values) for name, values in self._gauges.items()}
            last = self._sequence
        return RoleReport(
            at_ms=wall_ms,
            clock_ns=self._clock(),
            incarnation=incarnation,
            is_observing=is_on,
            counted=counted,
            gauges=gauges,
            events=events,
            last_sequence=last,
            slow_instances=tuple(each for each in slow if isinstance(each, SlowInstance)),
            slow_steps=tuple(each for each in slow if isinstance(each, SlowStep)),
        )

    # Events.

    def _record(self, event: Event) -> None:
        cluster, member, role = self._place
        kind, group, now_ns = kind_of(event), getattr(event, "group", None), self._clock()
        with self._lock:
            left_out = self._limit.take(kind, group, now_ns)
            if left_out is None:
                if self._is_on:
                    self._meter.add(catalogue.EVENTS_LEFT_OUT, 1, role)
                return
        text, fields = self._words(event)
        if left_out:
            text = f"{text} (and {left_out} more like it before)"
            fields["left_out"] = left_out
        with self._lock:
            self._sequence += 1
            record = EventRecord(
                sequence=self._sequence,
                at_ms=self._wall_ms(),
                cluster=cluster,
                member=member,
                role=role,
                group=group,
                kind=kind,
                level=level_of(type(event)),
                text=text,
                fields=fields,
            )
            if self._is_on:
                self._recent.append(record)
        if self._is_on and self._file is not None:
            self._file.write(record, now_ns)
        self._log.write(record)

    def _words(self, event: Event) -> tuple[str, dict[str, Any]]:
        """Its sentence and its fields; that it happened is told even where these cannot be made."""
        try:
            return describe(event, self._names), fields_of(event)
        except Exception as error:
            self.note_mistake()
            return f"cannot be described: {error!r}", {}

    # What is slow.

    def _look_for_slow(self, event: CommandsAnswered, wall_ms: int) -> None:
        slowest = min(event.requests, key=_ARRIVED, default=None)
        if slowest is None or event.answered_ns - slowest.arrived_ns < self._slow_ns:
            return
        slow = SlowInstance(
            at_ms=wall_ms,
            group=event.group,
            instance_id=event.instance_id,
            commands=sum(map(commands_of, event.requests)),
            byte_count=event.byte_count,
            machine=_machine_of(slowest),
            total_ms=_ms(event.answered_ns - slowest.arrived_ns),
            queue_ms=_ms(event.opened_ns - slowest.arrived_ns),
            accept_ms=_ms(event.chosen_ns - event.opened_ns),
            chosen_ms=_ms(event.answered_ns - event.chosen_ns),
            votes_ms={member: _ms(at_ns - event.opened_ns) for member, at_ns in event.votes},
        )
        with self._lock:
            self._slow.add(slow)

    def _note_slow(self, what: str, duration_ns: int, instances: Iterable[tuple[int, int]]) -> None:
        if duration_ns < self._slow_ns:
            return
        named = tuple(islice(instances, STEP_INSTANCES_MAX))
        step = SlowStep(
            at_ms=self._wall_ms(), what=what, duration_ms=_ms(duration_ns), instances=named
        )
        with self._lock:
            self._slow.add(step)


def _machine_of(request: Request) -> str:
    """The machine that the first command of a request is for."""
    for entry in request.entries:
        if isinstance(entry, CommandBatch):
            return entry.machine[:MACHINE_LENGTH_MAX]
    return ""


def _ms(duration_ns: int) -> float:
    return round(duration_ns / MILLISECOND_NS, 3)

"""A master's open instances, and the chosen values it still keeps.

```
      backlog ──▶ open ── majority of votes ──▶ retained ── own learner durable ──▶ gone
   (adopted, no-ops,  (window_max at most)     (sent to learners; re-sent to the own
    master record)                              learner if it lost them)
```
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.genesis import Configuration
from ray_paxos.core.intake import Request
from ray_paxos.core.learner_messages import ChosenValue
from ray_paxos.core.traces import join_texts


@dataclass(slots=True)
class OpenInstance:
    """One instance that the master proposes in.

    Attributes:
        instance_id: Which.
        value: Encoded.
        requests: Of clients, whose entries the value holds; in order.
        sent_ns: When the accept was last sent.
        opened_ns: When it was opened.
        votes: By voter (replica_id), when its accepted came in: a reply counts once.
        chosen_ns: When the majority's last came in; 0 before.
        trace: Of the users whose commands the value holds.
    """

    instance_id: int
    value: bytes
    requests: tuple[Request, ...]
    sent_ns: int
    opened_ns: int
    votes: dict[int, int] = field(default_factory=dict)
    chosen_ns: int = 0
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A value that waits for an instance in the backlog of a new master."""

    value: bytes
    is_master_record: bool = False


class Pipeline:
    """The instances of one reign, from the first one not learned when it began.

    Invariants: instances are opened in order without gaps; one is open, or retained, or gone;
    `chosen_through` is the end of the contiguous chosen prefix; those that are gone are the
    contiguous prefix through `_gone_through`.
    """

    def __init__(self, ballot: Ballot, configuration: Configuration, learned_through: int) -> None:
        """Begin a reign.

        Args:
            ballot: The master's.
            configuration: Whose votes count.
            learned_through: Everything up to it is learned by the master's learner.
        """
        self.ballot = ballot
        self.configuration = configuration
        self.next_instance = learned_through + 1
        self.chosen_through = learned_through
        self.backlog: deque[Proposal] = deque()
        self.master_record_instance: int | None = None
        self.open: OrderedDict[int, OpenInstance] = OrderedDict()
        self.retained: OrderedDict[int, ChosenValue] = OrderedDict()
        self.retained_bytes = 0
        self._gone_through = learned_through
        self.awaiting: dict[int, OpenInstance] = {}
        self.unanswered: list[Request] = []

    def start(self, value: bytes, requests: tuple[Request, ...], now_ns: int) -> OpenInstance:
        """Open the next instance for a value; the caller sends the accepts."""
        instance = OpenInstance(self.next_instance, value, requests, now_ns, now_ns)
        traces = [request.trace for request in requests if request.trace]
        if traces:
            instance.trace = join_texts(traces)
        self.next_instance += 1
        self.open[instance.instance_id] = instance
        return instance

    def count(self, instance_id: int, replica_id: int, now_ns: int) -> ChosenValue | None:
        """Count one voter's accepted, given at this ballot and under this configuration.

        Args:
            instance_id: Of the accept.
            replica_id: The voter.
            now_ns: The clock.

        Returns:
            The chosen value, the moment a majority has accepted it; else None.
        """
        instance = self.open.get(instance_id)
        if instance is None:
            return None
        instance.votes.setdefault(replica_id, now_ns)
        if len(instance.votes) < self.configuration.majority:
            return None
        instance.chosen_ns = now_ns
        return self._close(instance)

    def awaited_trace(self, instance_id: int) -> str:
        """Of the users who wait for the results of a chosen instance."""
        instance = self.awaiting.get(instance_id)
        return instance.trace if instance is not None else ""

    def _close(self, instance: OpenInstance) -> ChosenValue:
        del self.open[instance.instance_id]
        chosen = ChosenValue(instance.instance_id, self.ballot, instance.value)
        self._retain(chosen)
        if instance.requests:
            self.awaiting[instance.instance_id] = instance
        while self.chosen_through + 1 in self.retained:
            self.chosen_through += 1
        return chosen

    def _retain(self, chosen: ChosenValue) -> None:
        self.retained[chosen.instance_id] = chosen
        self.retained_bytes += len(chosen.value)

    def release_durable(self, durable_through: int) -> None:
        """The own learner holds everything up to here in durable segments.

        Only the contiguous chosen prefix may go, since `chosen_through` walks over it.
        """
        # Reported with every instance, so it must not cost anything for those that stay.
        limit = min(durable_through, self.chosen_through)
        while self._gone_through < limit:
            self._gone_through += 1
            self.retained_bytes -= len(self.retained.pop(self._gone_through).value)

    def first_kept(self) -> int:
        """The lowest instance whose value this pipeline can still give."""
        return self._gone_through + 1

    def retained_from(self, instance_id: int, bytes_max: int) -> list[ChosenValue]:
        """Retained values from an instance on, ascending, as many as fit (at least one)."""
        values: list[ChosenValue] = []
        byte_count = 0
        for kept in sorted(i for i in self.retained if i >= instance_id):
            chosen = self.retained[kept]
            byte_count += len(chosen.value)
            if values and byte_count > bytes_max:
                break
            values.append(chosen)
        return values

    def resend_due_ns(self, retransmit_ns: int) -> int | None:
        """When the accept that waits longest is to be sent again; None with nothing open."""
        for instance in self.open.values():
            return instance.sent_ns + retransmit_ns
        return None

    def resend_due(self, before_ns: int) -> list[OpenInstance]:
        """Open instances whose accepts were last sent at or before a time."""
        return [instance for instance in self.open.values() if instance.sent_ns <= before_ns]

    def note_sent(self, instance: OpenInstance, now_ns: int) -> None:
        """The accepts of an instance were sent again."""
        instance.sent_ns = now_ns
        self.open.move_to_end(instance.instance_id)

    def take_requests(self) -> list[Request]:
        """All requests that are not answered yet, in order; the reign is over."""
        pending = [*self.awaiting.values(), *self.open.values()]
        self.awaiting.clear()
        self.open.clear()
        unanswered, self.unanswered = self.unanswered, []
        for instance in sorted(pending, key=lambda each: each.instance_id):
            unanswered.extend(instance.requests)
        return unanswered

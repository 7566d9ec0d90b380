"""What a read must have seen, judged at its answer (R8).

An answer names the instance that it is as of. Three things follow from that alone:

1. It is what the plain execution of the log gives as of that instance.
2. A linearizable read is as of an instance at or above all that any client had heard of when it was
   called: acknowledged commands, opened sessions, and answers to earlier linearizable reads.
3. A read of bounded staleness is as of an instance at or above all that any client had heard of so
   long before the learner answered. The bound holds on the learner's clock, which may be fast: in
   true time it is longer by the drift.

The history of each key is checked for linearizability in the end, too (`recording`): that needs no
instances, and so finds a wrong instance in an answer.
"""

from __future__ import annotations

from bisect import bisect_left

from ray_paxos.core.client_messages import Consistency, QueryResult
from ray_paxos.core.lease import MILLION
from ray_paxos.core.messages import Address, RoleName
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.testing.clock import Scheduler
from ray_paxos.testing.log_watch import LogWatch
from ray_paxos.testing.reads import Read
from ray_paxos.testing.violation import Violation


class ReadWatch:
    """Judges the reads of one group.

    Attributes:
        acknowledged_through: The highest instance that any client has had an acknowledgement of.
    """

    def __init__(self, group: int, log: LogWatch, drift_ppm: int, scheduler: Scheduler) -> None:
        """Start before anything was acknowledged.

        Args:
            group: Whose reads.
            log: What was applied.
            drift_ppm: By how much any clock may be fast or slow.
            scheduler: True time.
        """
        self.acknowledged_through = 0
        self._group = group
        self._log = log
        self._drift_ppm = drift_ppm
        self._scheduler = scheduler
        self._seen_through = 0
        # When `acknowledged_through` rose, and to what; both ascending.
        self._acknowledged_ns: list[int] = []
        self._acknowledged: list[int] = []
        self._served_ns: dict[tuple[Address, int], int] = {}

    def acknowledged(self, instance_id: int) -> None:
        """A client has heard of an instance."""
        if instance_id <= self.acknowledged_through:
            return
        self.acknowledged_through = instance_id
        self._acknowledged_ns.append(self._scheduler.now_ns)
        self._acknowledged.append(instance_id)

    def served(self, client: Address, request_id: int) -> None:
        """A learner answers a client, now."""
        self._served_ns[client, request_id] = self._scheduler.now_ns

    def called(self, read: Read) -> None:
        """A read is about to be sent for the first time."""
        read.sees = max(self.acknowledged_through, self._seen_through)

    def answered(self, read: Read, answer: QueryResult) -> None:
        """A read was answered."""
        at, reference = answer.applied_through, self._log.reference
        what = f"group {self._group}: a {read.consistency.name} read as of {at}"
        if at < read.at_least:
            raise Violation("R8", f"{what}, at least {read.at_least} was asked")
        if at > reference.applied_through:
            raise Violation("R8", f"{what}, which nobody has applied")
        found, expected = self._log.answer(read.machine, read.request, at, answer.result)
        if found != expected:
            raise Violation("R8", f"{what}: {found}, and it is {expected}")
        if read.consistency >= Consistency.LEASE:
            if at < read.sees:
                raise Violation("R8", f"{what}, called when {read.sees} had been heard of")
            self._seen_through = max(self._seen_through, at)
        if read.max_staleness_ms is not None:
            self._check_age(read, answer, what)

    def _check_age(self, read: Read, answer: QueryResult, what: str) -> None:
        assert read.max_staleness_ms is not None
        bound_ns = read.max_staleness_ms * MILLISECOND_NS * MILLION // (MILLION - self._drift_ppm)
        client = Address(read.client, RoleName.CLIENT)
        as_of_ns = self._served_ns[client, answer.request_id] - bound_ns - 1
        count = bisect_left(self._acknowledged_ns, as_of_ns)
        least = self._acknowledged[count - 1] if count else 0
        if answer.applied_through < least:
            age = f"at most {read.max_staleness_ms} ms old"
            raise Violation("R8", f"{what}, {age}: {least} had been acknowledged before that")

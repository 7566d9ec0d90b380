"""What entitles a master to answer: its rounds of heartbeats, its lease, and reads' rounds.

```
                 ┌─ regular, every heartbeat_interval ─▶ acceptors, proposers, learners
 a round begins ─┤
                 └─ for reads, at once ────────────────▶ a bare majority of the acceptors
      │
      ▼  confirmed by a majority
 the lease runs from the round's beginning ─▶ notice to the own learner
 reads that arrived before it began ────────▶ their index
```

A vote confirms a round, too: the newest that had begun when its accept left. So a busy master's
lease goes on without heartbeats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from ray_paxos.core.client_messages import QueryFailed, QueryProblem, ReadIndexConfirmed
from ray_paxos.core.effects import Effects
from ray_paxos.core.genesis import Voter
from ray_paxos.core.heartbeat import HeartbeatRounds
from ray_paxos.core.learner_messages import ChainPoint
from ray_paxos.core.messages import (
    Address,
    HeardFrom,
    Heartbeat,
    LeaseNotice,
    RoleName,
)
from ray_paxos.core.read_rounds import PendingRead, ReadRounds
from ray_paxos.core.seat import Seat
from ray_paxos.core.settings import MILLISECOND_NS

READ_WIDEN_NS = 10 * MILLISECOND_NS


@dataclass(frozen=True, slots=True)
class Position:
    """How far the master is, as its heartbeats tell it.

    Attributes:
        read_index: What a read has to see: everything chosen, and at least the own master record;
            None before that is applied.
        chosen_through: Every instance up to it is chosen.
        majority_durable: Every instance up to it is durable in a majority's segments.
        point: Chains of the own learner.
    """

    read_index: int | None
    chosen_through: int
    majority_durable: int
    point: ChainPoint


class Authority:
    """The rounds of one reign, and what follows from them.

    Invariants: a read is answered only after a round that began after it arrived, or under the
    lease; notices stop for good once `is_ending` is set.

    Attributes:
        is_ending: The lease is about to be given up: it is not told of any more.
        noticed_until_ns: Until when the own learner may believe in the lease.
    """

    def __init__(
        self, seat: Seat, reads: ReadRounds, position: Callable[[], Position], now_ns: int
    ) -> None:
        """Begin a reign.

        Args:
            seat: Whose.
            reads: The proposer's, with none waiting.
            position: Says how far the master is.
            now_ns: The clock.
        """
        self.is_ending = False
        self.noticed_until_ns = 0
        self._seat = seat
        self._reads = reads
        self._position = position
        self._rounds = HeartbeatRounds(seat.configuration, now_ns)
        self._learner_incarnation = 0
        self._confirmed_ns: dict[int, int] = {seat.member_id: now_ns}
        self._heard: dict[int, HeardFrom] = {}
        self._widen_ns: int | None = None

    @property
    def sequence(self) -> int:
        """The newest round that has begun."""
        return self._rounds.sequence

    @property
    def lease_ms(self) -> int:
        """For how long acceptors are asked to promise nobody else anything."""
        return self._seat.settings.lease_ns // MILLISECOND_NS

    @property
    def lease_until_ns(self) -> int:
        """Until when no other member can lead, on this host's clock; 0 for no lease."""
        if not self.lease_ms or not self._rounds.confirmed_sequence:
            return 0
        return self._rounds.confirmed_ns + self.lease_ms * MILLISECOND_NS

    @property
    def deadline_ns(self) -> int:
        """When `on_deadline` is due."""
        due_ns = self._rounds.due_ns
        return due_ns if self._widen_ns is None else min(due_ns, self._widen_ns)

    def is_beat_due(self, now_ns: int) -> bool:
        """Whether it is time for the next regular round."""
        return now_ns >= self._rounds.due_ns

    def missing(self, now_ns: int) -> str:
        """Why this master may not go on, if it may not."""
        settings = self._seat.settings
        if now_ns - self._rounds.confirmed_ns > settings.election_timeout_ns:
            return "no majority confirms"
        if now_ns - self._confirmed_ns[self._seat.member_id] > settings.disk_stall_ns:
            return "the own acceptor confirms nothing: its disk stalls, or it is gone"
        return ""

    # Rounds.

    def beat(self, now_ns: int, effects: Effects) -> None:
        """Send a regular round to everybody."""
        seat, interval_ns = self._seat, self._seat.settings.heartbeat_interval_ns
        confirmed = self._rounds.is_confirmed
        # All groups of a member beat at the same times, so that their heartbeats share calls.
        due_ns = (now_ns // interval_ns + 1) * interval_ns
        position = self._position()
        heartbeat = self._heartbeat(self._rounds.begin_regular(now_ns, due_ns), confirmed, position)
        seat.send_to_acceptors(heartbeat, effects)
        self._widen_ns = None
        for member_id in seat.members:
            told, heard = heartbeat, self._heard.get(member_id)
            if heard is not None and position.read_index is not None:
                told = msgspec.structs.replace(heartbeat, heard=heard)
            seat.send(Address(member_id, RoleName.LEARNER), told, effects)
            if member_id != seat.member_id:
                seat.send(Address(member_id, RoleName.PROPOSER), heartbeat, effects)

    def _heartbeat(self, sequence: int, confirmed: bool, position: Position) -> Heartbeat:
        return Heartbeat(
            self._seat.ballot,
            sequence,
            confirmed,
            position.chosen_through,
            position.majority_durable,
            position.point,
            self._rounds.confirmed_sequence,
            self.lease_ms,
        )

    def on_deadline(self, now_ns: int, effects: Effects) -> None:
        """Ask everybody, where those that a read's round asked did not answer soon."""
        if self._widen_ns is None or now_ns < self._widen_ns:
            return
        self._widen_ns = None
        if self._rounds.sequence > self._rounds.confirmed_sequence:
            self._seat.send_to_acceptors(self._read_heartbeat(now_ns), effects)

    def count(self, voter: Voter, sequence: int, now_ns: int, effects: Effects) -> None:
        """A voter confirmed a round of this reign."""
        self._confirmed_ns[voter.member_id] = now_ns
        if not self._rounds.count(sequence, voter.replica_id):
            return
        if self._rounds.confirmed_sequence == self._rounds.sequence:
            self._widen_ns = None
        self.tell_lease(now_ns, effects)
        for read in self._reads.take_confirmed(self._rounds.confirmed_sequence):
            confirmed = ReadIndexConfirmed(read.request_id, read.index, self._seat.ballot)
            self._seat.send(read.client, confirmed, effects)
        if self._reads.needs_round_after(self._rounds.sequence):
            self._begin_read_round(now_ns, effects)

    def note_own_answer(self, now_ns: int) -> None:
        """The own acceptor answered at this ballot, if only that it may not confirm yet."""
        own = self._seat.member_id
        self._confirmed_ns[own] = max(self._confirmed_ns[own], now_ns)

    # The lease.

    def note_heard(self, member_id: int, incarnation: int, sent_ns: int) -> None:
        """A member's learner sent a status, at a time of its own clock."""
        known = self._heard.get(member_id)
        if known is None or (incarnation, sent_ns) > (known.incarnation, known.sent_ns):
            self._heard[member_id] = HeardFrom(incarnation, sent_ns)

    def note_own_learner(self, incarnation: int) -> bool:
        """The own learner sent something; False where that was an earlier life of it."""
        if incarnation > self._learner_incarnation:
            # What the life before was told of the lease means nothing to this one.
            self._learner_incarnation = incarnation
            self.noticed_until_ns = 0
        return incarnation == self._learner_incarnation

    def tell_lease(self, now_ns: int, effects: Effects) -> None:
        """Tell the own learner how long it may answer reads, where that is news."""
        until_ns, seat = self.lease_until_ns, self._seat
        is_news = until_ns >= self.noticed_until_ns + seat.settings.heartbeat_interval_ns // 2
        index = self._position().read_index if is_news and not self.is_ending else None
        if index is None or not self._learner_incarnation or until_ns <= now_ns:
            return
        self.noticed_until_ns = until_ns
        notice = LeaseNotice(seat.ballot, self._learner_incarnation, until_ns, index)
        seat.send(seat.own_learner, notice, effects)

    # Reads.

    def on_read_index(
        self, client: Address, request_id: int, now_ns: int, effects: Effects
    ) -> None:
        """A client wants to read what is linearizable now."""
        index, seat = self._position().read_index, self._seat
        if index is None:
            why = "the master does not serve yet"
            failed = QueryFailed(request_id, 0, why, QueryProblem.NOT_MASTER)
            seat.send(client, failed, effects)
            return
        if now_ns < self.lease_until_ns:
            self._reads.answered += 1
            seat.send(client, ReadIndexConfirmed(request_id, index, seat.ballot), effects)
            return
        if not self._reads.add(PendingRead(client, request_id, index, self._rounds.sequence + 1)):
            why = f"{len(self._reads)} reads wait"
            failed = QueryFailed(request_id, 0, why, QueryProblem.OVERLOADED)
            seat.send(client, failed, effects)
        elif self._rounds.sequence == self._rounds.confirmed_sequence:
            self._begin_read_round(now_ns, effects)

    def _begin_read_round(self, now_ns: int, effects: Effects) -> None:
        """Ask a bare majority, those that confirmed last; the others only if it does not answer.

        Calls are what a read costs: each takes some 0.35 ms of processor time at either side.
        """
        self._reads.rounds += 1
        heartbeat, configuration = self._read_heartbeat(now_ns), self._seat.configuration
        by_recency = sorted(configuration.voters, key=self._recency)
        for voter in by_recency[: configuration.majority]:
            self._seat.send(Address(voter.member_id, RoleName.ACCEPTOR), heartbeat, effects)
        self._widen_ns = now_ns + READ_WIDEN_NS

    def _recency(self, voter: Voter) -> tuple[bool, int]:
        """Sorts the own acceptor first, then who confirmed last."""
        is_other = voter.member_id != self._seat.member_id
        return is_other, -self._confirmed_ns.get(voter.member_id, 0)

    def _read_heartbeat(self, now_ns: int) -> Heartbeat:
        sequence = self._rounds.begin(now_ns)
        return self._heartbeat(sequence, self._rounds.is_confirmed, self._position())

"""The word that an acceptor gave: kept apart from what the acceptor itself remembers of it.

A grant is a word given to one member for a time (`core.lease`). It binds the acceptor's later
lives, too, which remember nothing of it. What was granted is read off the answers: whoever confirms
a round that asks for a lease has granted it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.driver import Action as Order
from ray_paxos.core.driver import Write
from ray_paxos.core.lease import held_ms
from ray_paxos.core.messages import (
    Accept,
    Accepted,
    Envelope,
    Heartbeat,
    HeartbeatConfirmed,
    LeaseRelease,
    Message,
    Prepare,
)
from ray_paxos.core.records import PromiseMade
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.testing.trace import name_member
from ray_paxos.testing.violation import Violation


@dataclass
class Word:
    """What one acceptor has promised not to do.

    Attributes:
        given: By member, for which ballot at most and until when on the acceptor's clock.
        released: By member, the highest ballot that it gave up.
    """

    given: dict[int, tuple[Ballot, int]] = field(default_factory=dict)
    released: dict[int, Ballot] = field(default_factory=dict)

    def heard(self, envelope: Envelope) -> None:
        """A request arrives; it may give a lease back."""
        match envelope.message:
            case LeaseRelease(ballot=ballot) if ballot.member_id == envelope.sender.member_id:
                self._release(ballot)
            case Prepare(released=Ballot() as ballot):
                self._release(ballot)
            case _:
                pass

    def _release(self, ballot: Ballot) -> None:
        known = self.released.get(ballot.member_id)
        if known is None or ballot > known:
            self.released[ballot.member_id] = ballot
        given = self.given.get(ballot.member_id)
        if given is not None and given[0] <= ballot:
            del self.given[ballot.member_id]

    def answered(
        self, request: Message, answers: Iterable[Message], now_ns: int, drift_ppm: int
    ) -> None:
        """Answers leave; some of them are grants.

        Args:
            request: What is answered.
            answers: What leaves.
            now_ns: The acceptor's clock.
            drift_ppm: By how much clocks may be wrong.
        """
        if not isinstance(request, Heartbeat | Accept) or not request.lease_ms:
            return
        ballot = request.ballot
        released = self.released.get(ballot.member_id)
        if released is not None and ballot <= released:
            return
        for answer in answers:
            if isinstance(answer, HeartbeatConfirmed) or (
                isinstance(answer, Accepted) and answer.sequence
            ):
                end_ns = now_ns + held_ms(request.lease_ms, drift_ppm) * MILLISECOND_NS
                known = self.given.get(ballot.member_id, (ballot, 0))
                self.given[ballot.member_id] = max(ballot, known[0]), max(end_ns, known[1])

    def judge(self, orders: Iterable[Order], now_ns: int) -> None:
        """The driver gives orders.

        Raises:
            Violation: One is to write a promise to another member than the one that has the word.
        """
        writes = [order.records for order in orders if isinstance(order, Write)]
        for record in chain.from_iterable(writes):
            if not isinstance(record, PromiseMade):
                continue
            for member_id, (ballot, end_ns) in self.given.items():
                if member_id != record.ballot.member_id and end_ns > now_ns:
                    what = f"promises {record.ballot} while its grant to {name_member(member_id)} "
                    raise Violation("lease", what + f"at {ballot} runs")

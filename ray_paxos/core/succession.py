"""How a master hands over to another member without waiting for its own lease to end.

```
 DRAINING    takes no more requests, until all it has proposed is chosen, applied and answered
 REVOKING    its own learner forgets the lease, for good: acknowledged, or the lease ran out
 released    acceptors drop their grants; the target is asked to lead; this ballot is dead
```

The order is what keeps reads right: an acceptor that is free to promise another master must not be
freed while any learner still answers by the old lease.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from ray_paxos.core.client_messages import MasterTransferred, RefusalCode, Refused
from ray_paxos.core.companions import Companions
from ray_paxos.core.effects import Effects
from ray_paxos.core.messages import Address, LeaseRelease, RevokeLease, RoleName, TakeOver
from ray_paxos.core.seat import Seat

STANDBY_LAG_MAX = 1_000
"""A member that is further behind, in instances, is not handed the lead."""


class HandoverPhase(enum.Enum):
    """See the module."""

    DRAINING = "draining"
    REVOKING = "revoking"


@dataclass
class Handover:
    """One handover on its way.

    Attributes:
        target: The member to lead next; 0 where none can be asked.
        stands_back: Whether this member is not to stand for a while.
        deadline_ns: While draining, when it is given up.
        asked_by: Clients (and their requests) to be told.
        phase: How far it is.
    """

    target: int
    stands_back: bool
    deadline_ns: int
    asked_by: list[tuple[Address, int]] = field(default_factory=list)
    phase: HandoverPhase = HandoverPhase.DRAINING


class Succession:
    """Who leads after this reign, where that is decided by it.

    Invariants: a release leaves once, after the own learner's acknowledgement or the end of what it
    was told; `is_released` then stays set, and the reign ends.

    Attributes:
        handover: What is on its way.
        is_released: Whether the lease was released.
        companions: What is known of the other voters.
    """

    def __init__(self, seat: Seat, priorities: Mapping[int, int]) -> None:
        """Begin a reign; `priorities` are of the members that have another one than 1."""
        self.handover: Handover | None = None
        self.is_released = False
        self.companions = Companions(dict(priorities))
        self._seat = seat

    @property
    def successor(self) -> int:
        """The member that was asked to lead next; 0 for none."""
        return self.handover.target if self.is_released and self.handover is not None else 0

    @property
    def stands_back(self) -> bool:
        """Whether this member leaves the lead to others for a while."""
        return self.is_released and self.handover is not None and self.handover.stands_back

    @property
    def silence_ns(self) -> int:
        """A member that told nothing for so long does not keep up."""
        return self._seat.settings.election_timeout_ns

    # Beginning.

    def ask(
        self,
        client: Address,
        request_id: int,
        target: int,
        *,
        is_serving: bool,
        chosen_through: int,
        now_ns: int,
        effects: Effects,
    ) -> None:
        """A client wants another member to lead: any other where `target` is 0."""
        if target == self._seat.member_id and self.handover is None and is_serving:
            self._seat.send(client, MasterTransferred(request_id, target), effects)
            return
        why_not = self._why_not(target, is_serving, chosen_through, now_ns)
        if why_not:
            self._refuse(client, request_id, why_not, effects)
            return
        if self.handover is None:
            voters = self._seat.other_voters
            chosen = target or self.companions.best(voters, now_ns, self.silence_ns)
            self._begin(chosen, now_ns, stands_back=not target)
        assert self.handover is not None
        if (client, request_id) not in self.handover.asked_by:
            self.handover.asked_by.append((client, request_id))

    def leave(self, now_ns: int) -> bool:
        """Begin to hand over to whoever is fittest, since this member is to vote no more.

        Returns:
            False where no other voter was heard of lately: nothing begins.
        """
        target = self.companions.best(self._seat.other_voters, now_ns, self.silence_ns)
        if target:
            self._begin(target, now_ns, stands_back=True)
        return bool(target)

    def _begin(self, target: int, now_ns: int, *, stands_back: bool) -> None:
        deadline_ns = now_ns + self._seat.settings.transfer_timeout_ns
        self.handover = Handover(target, stands_back, deadline_ns)

    def _why_not(self, target: int, is_serving: bool, chosen_through: int, now_ns: int) -> str:
        handover = self.handover
        if handover is not None and target and handover.target != target:
            return f"it is being handed over to member {handover.target} already"
        if handover is not None and len(handover.asked_by) >= self._seat.settings.reads_max:
            return "too many ask for it at once"
        if not is_serving:
            return "the master does not serve yet; try again"
        if not target:
            return ""
        if target not in self._seat.other_voters:
            return f"member {target} is not another voter of the group"
        if not self.companions.is_heard(target, now_ns, self.silence_ns):
            return f"member {target} does not answer, or has stopped applying"
        lag = chosen_through - self.companions.learned.get(target, 0)
        return f"member {target} is {lag} instances behind" if lag > STANDBY_LAG_MAX else ""

    def prefer(self, now_ns: int) -> None:
        """Begin to hand over to a member of higher priority that has kept up for long."""
        if self.handover is not None:
            return
        target = self.companions.preferred(
            self._seat.other_voters,
            self._seat.member_id,
            now_ns,
            self.silence_ns,
            self._seat.settings.preferred_settled_ns,
        )
        if target:
            self._begin(target, now_ns, stands_back=False)

    # Going on.

    def due_ns(self, noticed_until_ns: int) -> int | None:
        """When `go_on` is due; None with nothing on its way."""
        if self.handover is None:
            return None
        is_draining = self.handover.phase is HandoverPhase.DRAINING
        return self.handover.deadline_ns if is_draining else noticed_until_ns

    def go_on(
        self,
        *,
        is_drained: bool,
        is_revoked: bool,
        noticed_until_ns: int,
        now_ns: int,
        effects: Effects,
    ) -> str:
        """Do the next step that may be done.

        Args:
            is_drained: Everything proposed is chosen, applied and answered.
            is_revoked: The own learner has acknowledged that it forgot the lease.
            noticed_until_ns: Until when it may believe in the lease, as far as it was told.
            now_ns: The clock.
            effects: Takes what is to be sent.

        Returns:
            Why the reign ends: the lease is released; else nothing.
        """
        handover = self.handover
        if handover is None:
            return ""
        if handover.phase is HandoverPhase.DRAINING:
            if not is_drained:
                if now_ns >= handover.deadline_ns:
                    why = "what was proposed could not be finished in time; the master goes on"
                    self.give_up(why, effects)
                return ""
            handover.phase = HandoverPhase.REVOKING
            self.revoke(effects)
        if is_revoked or now_ns >= noticed_until_ns:
            return self._release(handover, effects)
        return ""

    def revoke(self, effects: Effects) -> None:
        """Ask the own learner, again where it was asked before, to forget the lease."""
        if self.handover is not None and self.handover.phase is HandoverPhase.REVOKING:
            self._seat.send(self._seat.own_learner, RevokeLease(self._seat.ballot), effects)

    def _release(self, handover: Handover, effects: Effects) -> str:
        self.is_released = True
        self._seat.send_to_acceptors(LeaseRelease(self._seat.ballot), effects)
        if handover.target:
            successor = Address(handover.target, RoleName.PROPOSER)
            self._seat.send(successor, TakeOver(self._seat.ballot), effects)
        for client, request_id in handover.asked_by:
            transferred = MasterTransferred(request_id, handover.target)
            self._seat.send(client, transferred, effects)
        return f"handed over to member {handover.target}" if handover.target else "dropped"

    def give_up(self, why: str, effects: Effects) -> None:
        """End a handover that was not finished, and tell those who asked for it."""
        if self.handover is None or self.is_released:
            return
        # A member of higher priority has to keep up anew before it is tried again.
        self.companions.settled_ns.pop(self.handover.target, None)
        asked_by, self.handover = self.handover.asked_by, None
        for client, request_id in asked_by:
            self._refuse(client, request_id, why, effects)

    def _refuse(self, client: Address, request_id: int, why: str, effects: Effects) -> None:
        refused = Refused(request_id, RefusalCode.NOT_TRANSFERRED, why, 0)
        self._seat.send(client, refused, effects)

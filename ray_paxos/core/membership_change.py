"""How a master changes who has its group and who votes, one member at a time.

```
 asked ─▶ DRAINING   takes no more requests, until all it has proposed is chosen and answered
             │
             ▼       the entry, alone: nothing is proposed above it
          PROPOSED   chosen, told to all, learned here: the reign is over
             │
             ▼       a new ballot, promised by a majority of the new configuration (R5)
          answered, and the next reign goes on with the requests that waited
```

A follower is made a voter once its log has come, durably, to where it was added: before that it may
not have the group, or have it by an earlier part that it is about to leave.

The parent keeps its promises over a change, so that two proposers, each with a majority of another
set, can both be right (its fault S4). Here no promise outlives one.
"""

from __future__ import annotations

from dataclasses import dataclass

from ray_paxos.core.client_messages import Redirected, RefusalCode, Refused
from ray_paxos.core.companions import Companions
from ray_paxos.core.effects import Effects
from ray_paxos.core.genesis import Configuration
from ray_paxos.core.membership import change_refused, changed
from ray_paxos.core.membership_messages import ChangeMembership, MembershipChanged
from ray_paxos.core.messages import Address
from ray_paxos.core.seat import Seat
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.core.values import MembershipEntry, MembershipKind

PROMOTION_LAG_MAX = 1_000
"""A follower that is further behind, in instances, is not made a voter."""


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why a change is not made now.

    Attributes:
        why: For a person.
        is_passing: Whether the same order makes sense again soon.
    """

    why: str
    is_passing: bool = False


@dataclass(frozen=True, slots=True)
class _Asked:
    """One change on its way: who asked for what, and until when it may drain."""

    client: Address
    message: ChangeMembership
    deadline_ns: int


class MembershipChange:
    """The changes of one reign: one at a time, and the last thing that the reign does.

    Attributes:
        instance_id: Of the membership entry that the reign has proposed, its own or one that it
            adopted; None before. Nothing is proposed above it.
    """

    def __init__(self, seat: Seat, companions: Companions) -> None:
        """Have none asked for.

        Args:
            seat: Who leads what.
            companions: What is known of the other members.
        """
        self.instance_id: int | None = None
        self._seat = seat
        self._companions = companions
        self._asked: _Asked | None = None

    @property
    def bars_requests(self) -> bool:
        """Whether nothing else may be proposed any more."""
        return self._asked is not None or self.instance_id is not None

    @property
    def draining_until_ns(self) -> int | None:
        """When it is given up, if what was proposed before is not finished by then."""
        is_draining = self._asked is not None and self.instance_id is None
        return self._asked.deadline_ns if self._asked is not None and is_draining else None

    def ask(
        self, client: Address, message: ChangeMembership, chosen_through: int, now_ns: int
    ) -> Unfit | None:
        """A client asks for a change; the reign serves, and is not being handed over.

        Returns:
            Why it is refused; None where it is on its way.
        """
        asked = self._asked
        if asked is not None and (asked.client, asked.message) == (client, message):
            return None
        if self.bars_requests:
            why = "another change of the group's members is on its way; try again after it"
            return Unfit(why, is_passing=True)
        refused = change_refused(self._seat.configuration, message.entry)
        if refused:
            return Unfit(refused)
        unfit = self._unfit(message.entry, chosen_through, now_ns)
        if unfit is None:
            deadline_ns = now_ns + self._seat.settings.transfer_timeout_ns
            self._asked = _Asked(client, message, deadline_ns)
        return unfit

    def _unfit(self, entry: MembershipEntry, chosen_through: int, now_ns: int) -> Unfit | None:
        """Why the group could not go on after an entry that changes its voters."""
        configuration, member_id = self._seat.configuration, entry.member_id
        after = changed(configuration, entry, configuration.config_id + 1)
        if after.voters == configuration.voters:
            return None
        if entry.kind is MembershipKind.PROMOTE:
            if not self._is_heard(member_id, now_ns):
                why = f"member {member_id} does not answer, or has stopped applying"
                return Unfit(why, is_passing=True)
            lag = chosen_through - self._companions.learned.get(member_id, 0)
            if lag > PROMOTION_LAG_MAX:
                return Unfit(f"member {member_id} is {lag} instances behind", is_passing=True)
            if member_id not in self._companions.arrived:
                # What answers may be what is left of an earlier part: it leaves by the entry that
                # removed that, and nobody would give the group to a voter again.
                why = f"the log of member {member_id} has not come to where it was added"
                return Unfit(why, is_passing=True)
        heard = [v.member_id for v in after.voters if self._is_heard(v.member_id, now_ns)]
        if len(heard) < after.majority:
            why = f"of the {len(after.voters)} voters that there would be, only {len(heard)} answer"
            # Each change begins another reign, and that one has heard of nobody yet.
            return Unfit(f"{why}: the group would stand still", is_passing=True)
        return None

    def _is_heard(self, member_id: int, now_ns: int) -> bool:
        silence_ns = self._seat.settings.election_timeout_ns
        is_own = member_id == self._seat.member_id
        return is_own or self._companions.is_heard(member_id, now_ns, silence_ns)

    def take_entry(self, instance_id: int) -> MembershipEntry | None:
        """What to propose now, in this instance, since all before it is finished; None for none."""
        if self._asked is None or self.instance_id is not None:
            return None
        self.instance_id = instance_id
        return self._asked.message.entry

    def give_up(self, why: str, effects: Effects) -> None:
        """End a change that is not proposed yet, and tell who asked for it."""
        if self._asked is not None and self.instance_id is None:
            unfit = Unfit(why, is_passing=True)
            refuse_change(self._seat, self._asked.client, self._asked.message, unfit, effects)
            self._asked = None

    def end(self, configuration: Configuration, effects: Effects) -> None:
        """The reign is over: tell who asked what came of it, where that is known here.

        Args:
            configuration: That the own learner has come to.
            effects: Takes the answer.
        """
        asked, self._asked = self._asked, None
        if asked is None:
            return
        request_id = asked.message.request_id
        answer: MembershipChanged | Redirected
        if configuration.config_id == self.instance_id:
            answer = MembershipChanged(request_id, configuration)
        else:
            retry_after_ms = self._seat.settings.heartbeat_interval_ns // MILLISECOND_NS
            answer = Redirected(request_id, None, retry_after_ms)
        self._seat.send(asked.client, answer, effects)


def refuse_change(
    seat: Seat, client: Address, message: ChangeMembership, unfit: Unfit, effects: Effects
) -> None:
    """Tell a client that this call has proposed nothing.

    An earlier copy of the order may have been carried out: then the configuration is another one.
    """
    retry_after_ms = seat.settings.heartbeat_interval_ns // MILLISECOND_NS
    refused = Refused(
        message.request_id,
        RefusalCode.NOT_CHANGED,
        unfit.why,
        retry_after_ms if unfit.is_passing else 0,
    )
    seat.send(client, refused, effects)

"""The master's lease: for how long no other member can be promised anything.

```
 proposer                         acceptors                        own learner
  asked ─── heartbeat, accept ──▶ grant: no promise to others
    │  ◀─── confirmed ─────────── until (their clock) + lease + drift
    │ a majority has confirmed
    └─────── notice: until asked + lease (one host, one clock) ───▶ reads until then, without
                                                                    asking anybody
```

Why two masters never serve reads at once ("Paxos Made Live", section 5.2; Gray and Cheriton,
"Leases"): the holder counts from before it asked, each granter from after it was asked, and longer
by what two clocks may drift apart. While the holder believes in its lease, a majority of the
acceptors promises nobody else, so nobody else can have a value chosen. Only elapsed time counts,
of clocks that run on through a suspend; what time of day it is means nothing here.

An acceptor that restarts has forgotten whom it granted what. It knows the longest it ever granted,
which was durable before, and promises nothing for so long.
"""

from __future__ import annotations

from dataclasses import dataclass

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.settings import MILLISECOND_NS

MILLION = 1_000_000


def held_ms(lease_ms: int, clock_drift_ppm: int) -> int:
    """How long a granter keeps its word, by its own clock, in milliseconds.

    Args:
        lease_ms: What the holder asked for, by its clock.
        clock_drift_ppm: By how much any clock may be fast or slow, in parts in a million.

    Returns:
        At least the time that passes for a granter whose clock is fast while the holder's, slow,
        shows `lease_ms`; rounded up.
    """
    return -(-lease_ms * (MILLION + clock_drift_ppm) // (MILLION - clock_drift_ppm))


@dataclass(frozen=True, slots=True)
class Grant:
    """A word given to a master, or kept of one.

    Attributes:
        ballot: The highest of that member's that it was given for.
        end_ns: Until when, on the granter's clock.
    """

    ballot: Ballot
    end_ns: int


class LeaseGrants:
    """What one acceptor has granted in one group. Not durable: see the module.

    Invariants: one member has a grant at a time; a released ballot is granted nothing any more.
    """

    def __init__(self) -> None:
        """Start with nothing granted."""
        self._grant: Grant | None = None
        self._released: dict[int, Ballot] = {}
        self._barred_until_ns = 0
        self._heard: Grant | None = None

    def opened(self, now_ns: int, longest_ms: int) -> None:
        """A life begins that does not know what an earlier one granted.

        Args:
            now_ns: The clock.
            longest_ms: What an earlier life kept its word for at most; 0 for never.
        """
        self._barred_until_ns = now_ns + longest_ms * MILLISECOND_NS if longest_ms else 0

    def barred_ns(self, now_ns: int) -> int:
        """For how long nobody is promised anything yet, since an earlier life may have granted."""
        return max(self._barred_until_ns - now_ns, 0)

    def bars_promise_ns(self, member_id: int, now_ns: int) -> int:
        """For how long a member can be promised nothing yet; 0 where it can.

        Args:
            member_id: Who wants a promise.
            now_ns: The clock.
        """
        return max(self._granted_ns(member_id, now_ns), self.barred_ns(now_ns))

    def bars_pre_vote_ns(self, member_id: int, now_ns: int) -> int:
        """As `bars_promise_ns`, and while a confirmed master is heard of, with or without lease."""
        heard, heard_ns = self._heard, 0
        if heard is not None and heard.ballot.member_id != member_id:
            heard_ns = heard.end_ns - now_ns
        return max(self.bars_promise_ns(member_id, now_ns), heard_ns)

    def bars_grant_ns(self, ballot: Ballot, promise: Ballot | None, now_ns: int) -> int:
        """For how long nothing can be confirmed or granted at a ballot yet; 0 where it can.

        Args:
            ballot: Of a heartbeat or accept, at or above the promise.
            promise: The acceptor's when this life began. What earlier lives granted was granted at
                or below it, and, at the promise itself, to this very ballot.
            now_ns: The clock.
        """
        wait_ns = self._granted_ns(ballot.member_id, now_ns)
        if ballot != promise:
            wait_ns = max(wait_ns, self.barred_ns(now_ns))
        return wait_ns

    def _granted_ns(self, member_id: int, now_ns: int) -> int:
        grant = self._grant
        if grant is None or grant.ballot.member_id == member_id:
            return 0
        return max(grant.end_ns - now_ns, 0)

    def heard(self, ballot: Ballot, until_ns: int) -> None:
        """A master said that a majority confirms it: nobody else needs to stand until then."""
        self._heard = Grant(ballot, until_ns)

    def may_grant(self, ballot: Ballot) -> bool:
        """Whether a ballot is not one whose holder has given up its lease."""
        released = self._released.get(ballot.member_id)
        return released is None or ballot > released

    def grant(self, ballot: Ballot, end_ns: int) -> None:
        """Promise nobody else anything until `end_ns`.

        A newer ballot of the same member takes the place of the older one; the end is the later of
        the two, since what was granted before is still believed in.
        """
        grant = self._grant
        if grant is not None and grant.ballot.member_id == ballot.member_id:
            ballot, end_ns = max(ballot, grant.ballot), max(end_ns, grant.end_ns)
        self._grant = Grant(ballot, end_ns)

    def release(self, ballot: Ballot) -> None:
        """The holder of a ballot no longer believes in a lease at it, or at any ballot below.

        A grant at a later ballot of that member stays: a release may be delayed into a later reign.
        """
        member_id = ballot.member_id
        self._released[member_id] = max(ballot, self._released.get(member_id, ballot))
        if self._grant is not None and not self.may_grant(self._grant.ballot):
            self._grant = None
        if self._heard is not None and not self.may_grant(self._heard.ballot):
            self._heard = None


@dataclass(frozen=True, slots=True)
class Notice:
    """What a proposer told its own member's learner about its lease.

    Attributes:
        ballot: At which it leads.
        config_id: Under which its grants were counted.
        until_ns: The lease's end, on the host's clock.
        chosen_through: Reads have to see at least this much.
    """

    ballot: Ballot
    config_id: int
    until_ns: int
    chosen_through: int


class LeaseView:
    """What a learner may believe about its own member's lease.

    Messages between the two processes can be delayed and change places, and either can restart.
    So a notice names the life of both, and is void for ever once a revocation at or above its
    ballot was seen, or a later life of the proposer.

    Invariants: `proposer_incarnation` and `revoked` only rise.
    """

    def __init__(self, incarnation: int) -> None:
        """Start believing nothing.

        Args:
            incarnation: Of the learner's folder.
        """
        self.proposer_incarnation = 0
        self.revoked: Ballot | None = None
        self._incarnation = incarnation
        self._notice: Notice | None = None

    def heard(self, proposer_incarnation: int) -> None:
        """A message of the own member's proposer came: what its earlier lives said is void."""
        if proposer_incarnation > self.proposer_incarnation:
            self.proposer_incarnation = proposer_incarnation
            self._notice = None

    def noticed(self, notice: Notice, proposer_incarnation: int, learner_incarnation: int) -> None:
        """The proposer told of its lease.

        Args:
            notice: What it said.
            proposer_incarnation: Which life of it.
            learner_incarnation: The life of the learner that it was meant for.
        """
        held = self._notice
        if (
            proposer_incarnation < self.proposer_incarnation
            or learner_incarnation != self._incarnation
            or (self.revoked is not None and notice.ballot <= self.revoked)
            or (held is not None and notice.ballot < held.ballot)
        ):
            return
        # Of two notices of one reign the later one says more, whichever comes first.
        is_same_reign = held is not None and held.ballot == notice.ballot
        if held is None or not is_same_reign or notice.until_ns > held.until_ns:
            self._notice = notice

    def revoke(self, ballot: Ballot) -> None:
        """Believe no notice at or below a ballot any more."""
        if self.revoked is None or ballot > self.revoked:
            self.revoked = ballot
        if self._notice is not None and self._notice.ballot <= self.revoked:
            self._notice = None

    def read_point(self, now_ns: int, config_id: int, learned: Ballot | None) -> int | None:
        """From which instance on a read may be answered now, without asking anybody.

        Args:
            now_ns: The clock, read after the request arrived.
            config_id: The configuration that the learner follows.
            learned: The highest ballot that it learned anything at.

        Returns:
            The instance that has to be applied; None where no lease is known to hold.
        """
        notice = self._notice
        if notice is None or now_ns >= notice.until_ns or notice.config_id != config_id:
            return None
        if learned is not None and learned > notice.ballot:
            return None
        return notice.chosen_through

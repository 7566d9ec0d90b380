"""Who may believe in a lease, judged by true time, from messages and from what roles would do.

No clock of any member counts here. From the messages the watch knows when each round was begun,
when each acceptor was asked and what it answered; that alone says how long a master may believe
and for how long each acceptor is bound. Of the roles it asks only what they would do now:

1. At no time do two members believe: a proposer that it holds the lease, or a learner that it may
   answer a linearizable read by itself.
2. A proposer believes, and tells its learner, no longer than a majority's answers allow, counted
   from the beginning of the round that they confirm. A notice names whatever was acknowledged.
3. An acceptor that has answered promises no other member a higher ballot for as long as the
   slowest clock of a holder may take for the lease, over restarts, too: unless it was released.
   (A holder's own acceptor reads the holder's clock, which may jump: for it the first rule does.)
4. A lease is released only once the own learner no longer believes in it, which then never does
   again; nothing but the release is ever sent at that ballot afterwards.
"""

from __future__ import annotations

from collections import defaultdict

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.learner import Learner
from ray_paxos.core.lease import MILLION
from ray_paxos.core.messages import (
    Accept,
    Accepted,
    Address,
    Envelope,
    Heartbeat,
    HeartbeatConfirmed,
    LeaseNotice,
    LeaseRelease,
    Message,
    Nack,
    NackReason,
    Prepare,
    Promise,
    RoleName,
    TakeOver,
)
from ray_paxos.core.proposer import Proposer
from ray_paxos.core.role import Role
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.testing.clock import MachineClock, Scheduler
from ray_paxos.testing.coverage import PRE_VOTE_REFUSED, RELEASED, SeedCoverage
from ray_paxos.testing.trace import name_address, name_member
from ray_paxos.testing.violation import Violation
from ray_paxos.testing.votes import VoteLedger

ROUNDING_NS = 1_000


class LeaseWatch:
    """Follows the leases of one group.

    Invariant: `_believers` are the proposers and learners that are up now.
    """

    def __init__(
        self,
        group: int,
        ledger: VoteLedger,
        drift_ppm: int,
        scheduler: Scheduler,
        coverage: SeedCoverage,
    ) -> None:
        """Start before anything was granted.

        Args:
            group: Whose leases.
            ledger: Knows who votes at which ballot.
            drift_ppm: By how much any clock may be fast or slow.
            scheduler: True time.
            coverage: Counts what was seen.
        """
        self._group = group
        self._ledger = ledger
        self._drift_ppm = drift_ppm
        self._scheduler = scheduler
        self._coverage = coverage
        self._believers: dict[Address, tuple[Proposer | Learner, MachineClock]] = {}
        # What proposers did: on the holder's clock, when each round began; the ballot they lead at.
        self._rounds: dict[tuple[Ballot, int], int] = {}
        self._leads_at: dict[int, Ballot] = {}
        self._lease_ns: dict[Ballot, int] = {}
        self._noticed: dict[int, Ballot] = {}
        self._released: dict[int, Ballot] = {}
        self._prepared: set[Ballot] = set()
        # What acceptors did, by member.
        self._asked: dict[tuple[int, Ballot, int, int], int] = {}
        self._bound_ns: dict[tuple[int, int], int] = {}
        self._confirmed: dict[Ballot, dict[int, int]] = defaultdict(dict)
        self._grants: dict[int, dict[Ballot, int]] = defaultdict(dict)
        self._promised: dict[int, tuple[Ballot, int]] = {}
        self._voted_at: dict[int, Ballot] = {}

    # Lives.

    def opened(self, address: Address, role: Role, clock: MachineClock) -> None:
        """A proposer's or learner's life begins."""
        if isinstance(role, Proposer | Learner):
            self._believers[address] = (role, clock)

    def ended(self, address: Address) -> None:
        """A process is no more, or answers no more."""
        self._believers.pop(address, None)

    def removed(self, member_id: int) -> None:
        """A member's acceptor votes no more: its word was one replica's, which is gone.

        Whoever leads after the entry that removed it has the promises of a majority without it.
        """
        self._grants.pop(member_id, None)
        self._promised.pop(member_id, None)
        self._voted_at.pop(member_id, None)
        for granter, holder in [key for key in self._bound_ns if key[0] == member_id]:
            del self._bound_ns[granter, holder]

    # Messages.

    def receiving(self, to: Address, envelope: Envelope) -> None:
        """A process is about to handle a message."""
        if to.role is not RoleName.ACCEPTOR:
            return
        message = envelope.message
        if isinstance(message, Heartbeat | Accept) and message.sequence and message.lease_ms:
            instance_id = message.instance_id if isinstance(message, Accept) else 0
            key = (to.member_id, message.ballot, message.sequence, instance_id)
            self._asked.setdefault(key, self._scheduler.now_ns)
            asked_ns = message.lease_ms * MILLISECOND_NS
            self._lease_ns[message.ballot] = max(asked_ns, self._lease_ns.get(message.ballot, 0))
            held_ns = self._held_ns(message.ballot) + ROUNDING_NS
            holder = message.ballot.member_id
            self._bound_ns[to.member_id, holder] = self._scheduler.now_ns + held_ns

    def sending(self, sender: Address, message: Message, acknowledged_through: int) -> None:
        """A process's message leaves now.

        Args:
            sender: Which process.
            message: What it says.
            acknowledged_through: The highest instance of which any client has heard.
        """
        match message:
            case Heartbeat() | Accept() | Prepare() | LeaseNotice():
                self._proposer_sends(sender, message, acknowledged_through)
            case LeaseRelease(ballot=ballot) | TakeOver(released=ballot):
                self._releases(sender, ballot)
            case HeartbeatConfirmed(ballot=ballot, sequence=sequence):
                self._confirms(sender.member_id, ballot, sequence, 0)
            case Accepted(ballot=ballot, instance_id=instance_id, sequence=sequence):
                known = self._voted_at.get(sender.member_id)
                self._voted_at[sender.member_id] = ballot if known is None else max(known, ballot)
                if sequence:
                    self._confirms(sender.member_id, ballot, sequence, instance_id)
            case Promise(ballot=ballot):
                self._promises(sender.member_id, ballot)
            case Nack(reason=NackReason.LEASED, ballot=ballot):
                if ballot not in self._prepared and self.grants_of_others(sender.member_id):
                    self._coverage.seen[PRE_VOTE_REFUSED] += 1
            case _:
                pass

    # Proposers.

    def _proposer_sends(
        self,
        sender: Address,
        message: Heartbeat | Accept | Prepare | LeaseNotice,
        acknowledged_through: int,
    ) -> None:
        member_id, ballot = sender.member_id, message.ballot
        if self._released.get(member_id) == ballot:
            what = f"{name_address(sender)} sends {type(message).__name__} at {ballot}, of which"
            raise self._violation(f"{what} it has released the lease")
        if isinstance(message, Heartbeat):
            self._leads_at[member_id] = ballot
            if (ballot, message.sequence) not in self._rounds:
                self._rounds[ballot, message.sequence] = self._local_ns(sender)
        elif isinstance(message, Prepare):
            self._prepared.add(ballot)
            released = message.released
            if released is not None and self._released.get(released.member_id) != released:
                what = f"{name_address(sender)} prepares for a release of {released}, which"
                raise self._violation(f"{what} its holder never released")
        elif isinstance(message, LeaseNotice):
            known = self._noticed.get(member_id)
            self._noticed[member_id] = ballot if known is None else max(known, ballot)
            self._check_end(sender, ballot, message.until_ns)
            if message.chosen_through < acknowledged_through:
                what = f"{name_address(sender)} tells of its lease, as of {message.chosen_through};"
                raise self._violation(f"{what} {acknowledged_through} is acknowledged")

    def _check_end(self, proposer: Address, ballot: Ballot, until_ns: int) -> None:
        """A proposer believes until then; by the answers of a majority it may."""
        sequences = sorted(self._confirmed[ballot].values(), reverse=True)
        majority = self._ledger.majority(ballot)
        if len(sequences) < majority:
            what = f"{name_address(proposer)} believes in a lease at {ballot}, which "
            raise self._violation(what + f"{len(sequences)} acceptors have granted")
        began_ns = self._rounds[ballot, sequences[majority - 1]]
        end_ns = began_ns + self._lease_ns[ballot]
        if until_ns > end_ns:
            what = f"{name_address(proposer)} believes in its lease at {ballot} until {until_ns}, "
            raise self._violation(what + f"a majority has granted it until {end_ns}")

    def _releases(self, sender: Address, ballot: Ballot) -> None:
        member_id = sender.member_id
        if self._released.get(member_id) != ballot:
            self._coverage.seen[RELEASED] += 1
        self._released[member_id] = ballot
        learner = Address(member_id, RoleName.LEARNER)
        if self._noticed.get(member_id, ballot) <= ballot and self.believes(learner):
            what = f"{name_address(sender)} releases {ballot} while its learner believes in it"
            raise self._violation(what)

    # Acceptors.

    def _confirms(self, member_id: int, ballot: Ballot, sequence: int, instance_id: int) -> None:
        confirmed = self._confirmed[ballot]
        confirmed[member_id] = max(confirmed.get(member_id, 0), sequence)
        if ballot not in self._lease_ns:
            return
        who = f"{name_member(member_id)}'s acceptor"
        asked_ns = self._asked.get((member_id, ballot, sequence, instance_id))
        if asked_ns is None:
            raise self._violation(f"{who} confirms round {sequence} of {ballot} unasked")
        released = self._released.get(ballot.member_id)
        if ballot.member_id == member_id or (released is not None and ballot <= released):
            return
        end_ns = asked_ns + self._held_ns(ballot)
        promised = self._promised.get(member_id)
        if promised is not None:
            other, at_ns = promised
            is_higher = other > ballot and other.member_id != ballot.member_id
            if is_higher and asked_ns < at_ns < end_ns:
                raise self._violation(f"{who} granted {ballot} a lease, then promised {other}")
        grants = self._grants[member_id]
        grants[ballot] = max(grants.get(ballot, 0), end_ns)

    def _held_ns(self, ballot: Ballot) -> int:
        """How long, in true time, the slowest clock of a holder takes for its lease."""
        return self._lease_ns[ballot] * MILLION // (MILLION - self._drift_ppm) - ROUNDING_NS

    def _promises(self, member_id: int, ballot: Ballot) -> None:
        now_ns = self._scheduler.now_ns
        voted_at = self._voted_at.get(member_id)
        if voted_at is not None and voted_at >= ballot:
            # It has voted at that ballot, which no lease bars, and tells its promise again.
            return
        self._promised[member_id] = (ballot, now_ns)
        for granted, end_ns in self._grants[member_id].items():
            if granted < ballot and self._is_bound(granted, end_ns, ballot.member_id):
                left_ms = (end_ns - now_ns) / MILLISECOND_NS
                what = f"{name_member(member_id)}'s acceptor promises {ballot}, and has granted "
                raise self._violation(f"{what}{granted} a lease for another {left_ms:.3f} ms")

    def _is_bound(self, granted: Ballot, end_ns: int, member_id: int) -> bool:
        """Whether a grant still bars a promise to that member."""
        released = self._released.get(granted.member_id)
        return (
            granted.member_id != member_id
            and end_ns > self._scheduler.now_ns
            and (released is None or granted > released)
        )

    def is_bound(self, member_id: int) -> bool:
        """Whether a member's acceptor may have granted, or is granting, another one something."""
        now_ns = self._scheduler.now_ns
        return any(
            granter == member_id != holder and end_ns > now_ns
            for (granter, holder), end_ns in self._bound_ns.items()
        )

    def grants_of_others(self, member_id: int) -> list[Ballot]:
        """The ballots of other members to which this one's acceptor is bound now."""
        grants = self._grants[member_id]
        return [b for b, end_ns in grants.items() if self._is_bound(b, end_ns, member_id)]

    # What roles believe.

    def stepped(self, address: Address) -> None:
        """A proposer or learner has handled something: only then can it begin to believe."""
        if not self.believes(address):
            return
        role, _ = self._believers[address]
        member_id = address.member_id
        if isinstance(role, Proposer):
            self._check_end(address, self._leads_at[member_id], role.lease_until_ns)
        elif member_id in self._released and self._noticed[member_id] <= self._released[member_id]:
            what = f"{name_address(address)} believes in a lease that was released"
            raise self._violation(what)
        for other in self._believers:
            if other.member_id != member_id and self.believes(other):
                what = f"{name_address(address)} and {name_address(other)} believe in a lease each"
                raise self._violation(what)

    def believes(self, address: Address) -> bool:
        """Whether a proposer or learner would act on a lease of its own now."""
        known = self._believers.get(address)
        if known is None:
            return False
        role, clock = known
        local_ns = clock.read(self._scheduler.now_ns)
        if isinstance(role, Proposer):
            return role.lease_until_ns > local_ns
        return role.lease_point(local_ns) is not None

    def _local_ns(self, address: Address) -> int:
        return self._believers[address][1].read(self._scheduler.now_ns)

    def _violation(self, what: str) -> Violation:
        return Violation("lease", f"group {self._group}: {what}")

"""One attempt of a proposer to lead its group: from asking around to a majority's promises.

```
 Probing     asks its own learner how far it is, and the acceptors whether they would promise
    │        a majority would, the own acceptor answers, the own learner knows this life
    ▼
 Preparing   one prepare for the whole open log, at a ballot of its own
    │        promises of a majority
    ▼
 Learning    up to the highest vote floor among them
    │
    ▼        Won: `Reign` begins
```

The pre-vote changes nothing anywhere: a member that comes back from a cut raises no ballot and
unseats nobody while a majority follows a master (Ongaro's thesis, section 9.6). It asks about
leases and heartbeats, never about positions in the log: whoever leads learns what it misses. The
own acceptor has to answer, whatever it says: a member whose disk stalls or is full must not lead.

A master that hands over sends its successor straight to preparing.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.effects import Effects, Send
from ray_paxos.core.events import MajorityPromised, PrepareResent, PrepareStarted
from ray_paxos.core.genesis import GENESIS_CONFIG_ID, Configuration, Voter
from ray_paxos.core.learner_messages import (
    CatchUp,
    LearnerStatus,
    who_has,
)
from ray_paxos.core.messages import (
    Address,
    Message,
    Nack,
    NackReason,
    Prepare,
    PreVote,
    PreVoteGranted,
    Promise,
    RoleName,
)
from ray_paxos.core.phase_one import PhaseOne
from ray_paxos.core.settings import MILLISECOND_NS, ProposerSettings

CONFIGURATION_WAIT_NS = 20 * MILLISECOND_NS
"""After how long to ask an acceptor again whose member has not learned the configuration yet."""


class Step(enum.Enum):
    """How far an attempt is; see the picture above."""

    PROBING = "probing"
    PREPARING = "preparing"
    LEARNING = "learning"


@dataclass(frozen=True, slots=True)
class Won:
    """A majority has promised, and the own learner has what lies below the floors.

    Attributes:
        phase_one: The promises.
        status: Of the own learner.
        learned_through: By it.
    """

    phase_one: PhaseOne
    status: LearnerStatus
    learned_through: int


@dataclass(frozen=True, slots=True)
class Lost:
    """The attempt is over.

    Attributes:
        reason: Why.
        wait_ns: After how long another one makes sense; 0 for an election timeout.
    """

    reason: str
    wait_ns: int = 0


@dataclass
class _PreVotes:
    """Who would promise a ballot; `refused` says after how long a voter might."""

    ballot: Ballot
    granted: set[int] = field(default_factory=set)
    refused: dict[int, int] = field(default_factory=dict)


class Candidacy:
    """One attempt; made anew for the next.

    Invariants: a ballot is used for one prepare; every prepare's ballot is above every ballot this
    proposer has seen or used.

    Attributes:
        step: How far it is.
        ballot: Of the latest prepare, or what it will be at least.
    """

    def __init__(
        self,
        *,
        group: int,
        member_id: int,
        incarnation: int,
        replica_id: int,
        configuration: Configuration,
        settings: ProposerSettings,
        round_seen: int,
        released: Ballot | None,
        asks_around: bool,
        now_ns: int,
    ) -> None:
        """Prepare to stand; `begin`, or `prepare`, sends the first messages.

        Args:
            group: Whose log.
            member_id: Of this member.
            incarnation: Of the proposer.
            replica_id: This member's identity as a voter.
            configuration: Who votes.
            settings: Times.
            round_seen: The highest round of a ballot heard of, or used.
            released: A ballot whose holder has asked this member to lead; None for none.
            asks_around: Whether to ask first who would promise.
            now_ns: The clock.
        """
        self.step = Step.PROBING
        self.ballot = Ballot(round_seen + 1, member_id, incarnation)
        self._group = group
        self._member_id = member_id
        self._replica_id = replica_id
        self._configuration = configuration
        self._settings = settings
        self._released = released
        self._own_learner = Address(member_id, RoleName.LEARNER)
        self._pre_votes = _PreVotes(self.ballot) if asks_around else None
        self._knows_own_disk = asks_around
        self._status: LearnerStatus | None = None
        self._phase_one: PhaseOne | None = None
        self._retry_ns = now_ns + settings.retransmit_ns
        self._end_ns = now_ns + settings.election_timeout_ns
        self._prepared_ns = now_ns

    @property
    def asks_around(self) -> bool:
        """Whether it gives way to any master that a majority confirms."""
        return self._pre_votes is not None

    @property
    def deadline_ns(self) -> int:
        """When `on_deadline` is due."""
        return min(self._retry_ns, self._end_ns)

    # Probing.

    def begin(self, effects: Effects) -> None:
        """Ask the own learner, and the acceptors."""
        self._send(self._own_learner, CatchUp(0, ()), effects)
        self._ask_pre_votes(effects)

    def _ask_pre_votes(self, effects: Effects) -> None:
        if self._pre_votes is None:
            return
        for voter in self._configuration.voters:
            if voter.replica_id not in self._pre_votes.granted:
                acceptor = Address(voter.member_id, RoleName.ACCEPTOR)
                self._send(acceptor, PreVote(self._pre_votes.ballot), effects)

    def _tell_silent(self, effects: Effects) -> None:
        """An acceptor that says nothing may not have the group: its learner is to hear of it.

        One that does not know that it votes may know nobody who could tell it.
        """
        pre_votes, configuration = self._pre_votes, self._configuration
        if pre_votes is None or configuration.config_id == GENESIS_CONFIG_ID:
            return
        own_id = self.ballot.member_id
        has_it = who_has(configuration, (own_id,))
        answered = pre_votes.granted | pre_votes.refused.keys()
        for voter in configuration.voters:
            if voter.replica_id not in answered and voter.member_id != own_id:
                self._send(Address(voter.member_id, RoleName.LEARNER), has_it, effects)

    def _ask_above(self, round_seen: int, effects: Effects) -> None:
        """Ask at a higher ballot, where one of that round is in use already."""
        ballot = self.ballot
        if round_seen < ballot.round:
            return
        self.ballot = Ballot(round_seen + 1, ballot.member_id, ballot.incarnation)
        if self._pre_votes is not None:
            self._pre_votes = _PreVotes(self.ballot)
            self._ask_pre_votes(effects)

    def on_pre_vote(
        self, voter: Voter, granted: PreVoteGranted, now_ns: int, effects: Effects
    ) -> Won | Lost | None:
        """An acceptor would promise."""
        pre_votes = self._pre_votes
        if pre_votes is None or granted.ballot != pre_votes.ballot:
            return None
        pre_votes.granted.add(voter.replica_id)
        pre_votes.refused.pop(voter.replica_id, None)
        return self._prepare_if_welcome(now_ns, effects)

    def _prepare_if_welcome(self, now_ns: int, effects: Effects) -> Won | Lost | None:
        pre_votes, status = self._pre_votes, self._status
        if self.step is not Step.PROBING or status is None:
            return None
        if pre_votes is not None:
            majority = self._configuration.majority
            own_answered = self._replica_id in pre_votes.granted | pre_votes.refused.keys()
            if len(pre_votes.granted) < majority:
                return self._lost_if_hopeless(pre_votes)
            if not own_answered:
                return None
        if status.stopped:
            return Lost(f"the own learner stopped: {status.stopped}")
        # Whatever an earlier life told the learner about a lease is void from here on.
        if status.proposer_incarnation != self.ballot.incarnation:
            return None
        self.prepare(status, now_ns, effects)
        return None

    def _lost_if_hopeless(self, pre_votes: _PreVotes) -> Lost | None:
        """Whether so many refused that no majority can be left; says when one might be."""
        voters = self._configuration.voters
        majority = self._configuration.majority
        if len(voters) - len(pre_votes.refused) >= majority:
            return None
        waits = sorted(
            0
            if voter.replica_id in pre_votes.granted
            else pre_votes.refused.get(voter.replica_id, self._settings.election_timeout_ns)
            for voter in voters
        )
        return Lost("a majority follows a master, or may", max(waits[majority - 1], 1))

    # Preparing.

    def prepare(self, status: LearnerStatus, now_ns: int, effects: Effects) -> None:
        """Ask a majority to promise, from where the own learner is."""
        if self._phase_one is not None:
            self.ballot = Ballot(
                self.ballot.round + 1, self.ballot.member_id, self.ballot.incarnation
            )
        self.step = Step.PREPARING
        self._status = status
        self._pre_votes = None
        self._prepared_ns = now_ns
        self._retry_ns = now_ns + self._settings.retransmit_ns
        self._end_ns = now_ns + self._settings.election_timeout_ns
        from_instance = max(status.learned_through, self._configuration.config_id) + 1
        self._phase_one = PhaseOne(self.ballot, from_instance, self._configuration)
        effects.events.append(PrepareStarted(self._group, self.ballot, from_instance))
        self._send_prepares(self._phase_one, effects)

    def _send_prepares(self, phase_one: PhaseOne, effects: Effects) -> None:
        for voter in self._configuration.voters:
            self._send_prepare(phase_one, voter, effects)

    def _send_prepare(self, phase_one: PhaseOne, voter: Voter, effects: Effects) -> None:
        page = phase_one.next_page(voter.replica_id)
        if page is not None:
            acceptor = Address(voter.member_id, RoleName.ACCEPTOR)
            self._send(acceptor, Prepare(phase_one.ballot, page, self._released), effects)

    def on_promise(
        self, voter: Voter, promise: Promise, now_ns: int, effects: Effects
    ) -> Won | Lost | None:
        """A page of a voter's promise."""
        phase_one = self._phase_one
        if phase_one is None or promise.ballot != phase_one.ballot:
            return None
        if phase_one.add(voter.member_id, voter.replica_id, promise) is not None:
            self._send_prepare(phase_one, voter, effects)
        if self.step is not Step.PREPARING or not phase_one.is_promised:
            return None
        if not self._knows_own_disk and self._replica_id not in phase_one.complete:
            # It asked around for nothing, so it does not know yet whether its own disk works.
            return None
        self.step = Step.LEARNING
        after_ns = now_ns - self._prepared_ns
        effects.events.append(MajorityPromised(self._group, phase_one.ballot, after_ns))
        self._retry_ns = now_ns + self._settings.retransmit_ns
        self._end_ns = now_ns + self._settings.election_timeout_ns
        outcome = self._learn_or_win(now_ns, effects)
        if outcome is None and self._phase_one is phase_one:
            self._send_catch_up(phase_one, effects)
        return outcome

    # Learning.

    def _send_catch_up(self, phase_one: PhaseOne, effects: Effects) -> None:
        # Never in answer to a status, which is the answer to this: the learner tells by itself
        # how it comes on, and two answers to one question would double for ever.
        catch_up = CatchUp(phase_one.floor - 1, phase_one.floor_sources)
        self._send(self._own_learner, catch_up, effects)

    def _learn_or_win(self, now_ns: int, effects: Effects) -> Won | None:
        phase_one, status = self._phase_one, self._status
        assert phase_one is not None and status is not None
        learned_through = max(status.learned_through, self._configuration.config_id)
        if learned_through < phase_one.from_instance - 1:
            # The learner restarted behind what was asked about: the votes in between are unknown.
            self.prepare(status, now_ns, effects)
            return None
        if learned_through < phase_one.floor - 1:
            return None
        return Won(phase_one, status, learned_through)

    def on_status(self, status: LearnerStatus, now_ns: int, effects: Effects) -> Won | Lost | None:
        """The own learner told how far it is."""
        learned_before = self._status.learned_through if self._status is not None else 0
        self._status = status
        if status.stopped:
            return Lost(f"the own learner stopped: {status.stopped}")
        if self.step is Step.PROBING:
            if status.ballot is not None:
                self._ask_above(status.ballot.round, effects)
            return self._prepare_if_welcome(now_ns, effects)
        if self.step is Step.LEARNING:
            if learned_before < status.learned_through:
                self._end_ns = now_ns + self._settings.election_timeout_ns
            return self._learn_or_win(now_ns, effects)
        return None

    # Refusals and time.

    def on_nack(
        self, voter: Voter, nack: Nack, round_seen: int, now_ns: int, effects: Effects
    ) -> Won | Lost | None:
        """An acceptor refused a pre-vote or a prepare of this attempt.

        Args:
            voter: Who.
            nack: Why.
            round_seen: The highest round heard of by now.
            now_ns: The clock.
            effects: Takes what is to be done.
        """
        pre_votes = self._pre_votes
        if pre_votes is not None and nack.ballot == pre_votes.ballot:
            return self._on_pre_vote_refused(pre_votes, voter, nack, round_seen, now_ns, effects)
        phase_one = self._phase_one
        if phase_one is None or nack.ballot != phase_one.ballot:
            return None
        if nack.reason is NackReason.PROMISED:
            return Lost("an acceptor has promised a higher ballot")
        if nack.reason is NackReason.STORAGE_FULL and voter.replica_id == self._replica_id:
            return Lost("the own disk is full")
        if nack.reason is NackReason.CONFIGURATION_NEW:
            # Its member learns of the configuration just now.
            self._retry_ns = min(self._retry_ns, now_ns + CONFIGURATION_WAIT_NS)
        if nack.reason is NackReason.LEASED:
            # Granted since its pre-vote, or to the master that is handing over: again, soon.
            again_ns = now_ns + nack.wait_ms * MILLISECOND_NS
            self._retry_ns = min(self._retry_ns, max(again_ns, now_ns + MILLISECOND_NS))
        return None

    def _on_pre_vote_refused(
        self,
        pre_votes: _PreVotes,
        voter: Voter,
        nack: Nack,
        round_seen: int,
        now_ns: int,
        effects: Effects,
    ) -> Won | Lost | None:
        if nack.reason is NackReason.PROMISED:
            self._ask_above(round_seen, effects)
            return None
        is_own = voter.replica_id == self._replica_id
        if nack.reason is NackReason.STORAGE_FULL and is_own:
            return Lost("the own disk is full")
        # Also of one that counts a later configuration: the others may hold the votes for its
        # entry, and choose that under this one. The own learner asks for it meanwhile.
        wait_ns = self._settings.election_timeout_ns
        if nack.reason is NackReason.LEASED:
            wait_ns = nack.wait_ms * MILLISECOND_NS
        elif nack.reason is NackReason.CONFIGURATION_NEW:
            wait_ns = CONFIGURATION_WAIT_NS
        pre_votes.refused[voter.replica_id] = wait_ns
        return self._prepare_if_welcome(now_ns, effects) or self._lost_if_hopeless(pre_votes)

    def on_deadline(self, now_ns: int, effects: Effects) -> Lost | None:
        """Ask again what was not answered, or give up."""
        if now_ns >= self._end_ns:
            return Lost("no majority answered in time")
        if now_ns < self._retry_ns:
            return None
        self._retry_ns = now_ns + self._settings.retransmit_ns
        phase_one = self._phase_one
        if self.step is Step.PROBING or phase_one is None:
            self.begin(effects)
            self._tell_silent(effects)
        elif self.step is Step.PREPARING:
            effects.events.append(PrepareResent(self._group, phase_one.ballot))
            self._send_prepares(phase_one, effects)
        else:
            self._send_catch_up(phase_one, effects)
        return None

    def _send(self, to: Address, message: Message, effects: Effects) -> None:
        effects.sends_now.append(Send(to, self._group, message))

"""Reads by a quorum of acceptors: one hop, and no word of the master's proposer.

```
 client ── QuorumRead ────▶ acceptors, a majority: the highest instance that each has accepted
        ── Query, STALE ──▶ learner of the member that seems to lead: its state, as it is
```

(Paxos Quorum Reads: Charapko, Ailijiang, Demirbas, HotStorage 2019.) The highest instance told is
the *index*. The learner's answer is linearizable (R8) where all of this holds:

- (a) a majority of one configuration told the index, each voter counted once;
- (b) the learner has applied the index;
- (c) it follows that same configuration;
- (d) the highest ballot at which it has learned anything is of its own member.

Why. Of a command that was acknowledged before the read began a majority of its configuration has a
vote, which leaves only as the vote floor passes it. Of the same configuration as (a): the two
majorities meet, and the index covers the command. Of an older one: the command is at or below the
entry that made the newer one, which its acceptors name at least. Of a newer one: that entry was
accepted by a majority of the older one, so the index covers it, and a learner that has applied it
fails (c). What another quorum read has shown was chosen, too.

And reads by a lease, or by a master's index, at another member B, which come after a quorum read at
the learner of A has shown something? By (d) all of it was chosen at or below a ballot b of A's.
A later ballot of B's: its prepare has seen all that, and B serves at or above its own master
record only. An earlier one: a majority had promised b before the learner answered, so B gets no
round confirmed any more, and its lease is over: a grant that ran would have barred that promise.
Without (d) a learner may show what B has chosen, and B's own learner, under B's lease, not yet.
"""

from __future__ import annotations

import enum

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.client_messages import QueryResult, QuorumReadAnswer
from ray_paxos.core.genesis import Configuration, Voter
from ray_paxos.core.messages import Address, Envelope, RoleName


class Verdict(enum.Enum):
    """What the answers to a quorum read come to."""

    INCOMPLETE = "incomplete"
    """A majority, or the learner, has not answered yet."""
    COUNTS = "counts"
    """The learner's answer is linearizable."""
    BEHIND = "behind"
    """It will be, once the learner has applied the index."""
    INCONCLUSIVE = "inconclusive"
    """Nothing more comes of it: the read has to go another way."""


class QuorumAnswers:
    """The answers to one quorum read.

    Invariants: `index` stays once it is there; no voter is counted twice.

    Attributes:
        member_id: Whose learner was asked.
        index: The highest instance that a majority has accepted; None until one has answered.
        answer: The learner's; None while it is awaited.
    """

    def __init__(self, member_id: int) -> None:
        """Wait for all of them.

        Args:
            member_id: Whose learner was asked.
        """
        self.member_id = member_id
        self.index: int | None = None
        self.answer: QueryResult | None = None
        self._learner = Address(member_id, RoleName.LEARNER)
        self._learner_config_id = 0
        self._configuration: Configuration | None = None
        self._accepted_through: dict[Voter, int] = {}
        self._is_over = False

    def take(self, envelope: Envelope) -> None:
        """Take in an answer to a message of this read; its call was made after the read began.

        Args:
            envelope: As it came, repeated ones, too.
        """
        message = envelope.message
        if isinstance(message, QuorumReadAnswer):
            self._on_accepted_through(envelope, message)
        elif isinstance(message, QueryResult) and envelope.sender == self._learner:
            self.answer, self._learner_config_id = message, envelope.config_id
        else:
            self._is_over = True

    def _on_accepted_through(self, envelope: Envelope, answer: QuorumReadAnswer) -> None:
        configuration = Configuration(envelope.config_id, answer.voters)
        if self._configuration is None:
            self._configuration = configuration
        elif configuration != self._configuration:
            self._is_over = True
            return
        voter = self._voter(envelope, configuration)
        if voter is None or self.index is not None:
            return
        self._accepted_through.setdefault(voter, answer.accepted_through)
        if len(self._accepted_through) >= configuration.majority:
            self.index = max(self._accepted_through.values())

    def _voter(self, envelope: Envelope, configuration: Configuration) -> Voter | None:
        voter = configuration.voter(envelope.sender.member_id)
        return voter if voter is not None and voter.replica_id == envelope.replica_id else None

    def verdict(self) -> Verdict:
        """What there is so far comes to."""
        if self._is_over:
            return Verdict.INCONCLUSIVE
        if self.index is None or self.answer is None:
            return Verdict.INCOMPLETE
        if not self._is_of_own_reign(self.answer.learned) or not self._is_under_one_configuration():
            return Verdict.INCONCLUSIVE
        return Verdict.COUNTS if self.answer.applied_through >= self.index else Verdict.BEHIND

    def _is_under_one_configuration(self) -> bool:
        assert self._configuration is not None, "the index is of one"
        return self._learner_config_id == self._configuration.config_id

    def _is_of_own_reign(self, learned: Ballot | None) -> bool:
        return learned is not None and learned.member_id == self.member_id

    def ask_again(self) -> int:
        """After `BEHIND`: forget the learner's answer; returns what the next one has to hold."""
        assert self.index is not None, "behind an index"
        self.answer = None
        return self.index

"""Keeping the own acceptor in step with the log: what it votes as, and under which configuration.

```
 learned and sealed through the entry ── FollowConfiguration ─▶ own acceptor: as replica r, under i
                                         ◀─ ConfigurationFollowed ─┘
 it still votes as a replica that the log does not name any more:
     CatchUp ─▶ voters' learners ── status ─▶ a majority holds entry i durably?
     RemoveGroup ─▶ own acceptor, a tombstone ── OrderDone ─▶ FollowConfiguration, again
 it votes no more, as the log says: RemoveGroup all the same, for orders that are on their way
```

A removed voter's votes may be all that is left of what was chosen through the entry that removes
it: an older proposer may still ask for them. So it goes on answering until a majority of the new
voters holds that entry, and with it everything before it, durably (design 9, R5).

An acceptor is told of no configuration before everything through its entry is durable in this
member's log: one that outlived its entry would refuse the old configuration's proposers, and nobody
could teach them the new one. Where damage has cut the log short of what the acceptor follows,
nothing is ordered of it before the log has come there again: by an older configuration it may look
removed, and is not. But it is told where the log ends: from there on it answers older proposers
again, who may find in votes alone what the log had. By the genesis nobody is told anything; that
its acceptor is ahead of that a learner hears of its own proposer, which the acceptor refuses.
"""

from __future__ import annotations

from ray_paxos.core.genesis import GENESIS_CONFIG_ID, Configuration, Voter
from ray_paxos.core.learner_messages import CatchUp, LearnerStatus
from ray_paxos.core.membership_messages import ConfigurationFollowed, FollowConfiguration
from ray_paxos.core.messages import Address, Envelope, Message, OrderDone, RemoveGroup, RoleName
from ray_paxos.core.settings import LearnerSettings


class VotingPart:
    """What the own acceptor is in one group, and what it has to become.

    Attributes:
        due_ns: When to ask again; None where no answer is waited for.
        ahead_through: The own acceptor follows a configuration of this instance, which the log does
            not reach: it was cut short by damage since. 0 for none.
    """

    def __init__(self, member_id: int, settings: LearnerSettings) -> None:
        """Know nothing of the acceptor yet.

        Args:
            member_id: Of this member.
            settings: For how long to wait for an answer.
        """
        self.due_ns: int | None = None
        self.ahead_through = 0
        self._member_id = member_id
        self._acceptor = Address(member_id, RoleName.ACCEPTOR)
        self._retry_ns = settings.catch_up_retry_ns
        # The configuration that the acceptor is known to be in step with.
        self._followed_id = GENESIS_CONFIG_ID
        # What is to be removed there: the replica that it still is and the log does not name any
        # more, or every one that an order on its way might still make it.
        self._outlived = 0
        self._is_known_gone = False
        # Voters that hold everything through this configuration's entry durably.
        self._durable_at: set[Voter] = set()
        self._configuration_id = GENESIS_CONFIG_ID

    def is_in_step(self, configuration: Configuration) -> bool:
        """Whether the acceptor is known to be what the configuration says."""
        config_id = configuration.config_id
        return config_id == self._followed_id and config_id >= self.ahead_through

    def note_ahead(self, config_id: int) -> None:
        """The own acceptor may follow a configuration of this instance: ask it."""
        if config_id > self.ahead_through:
            self.ahead_through = config_id
            self.due_ns = None

    def take_due(
        self, configuration: Configuration, durable_through: int, now_ns: int
    ) -> list[tuple[Address, Message]]:
        """What is to be asked of whom now.

        Args:
            configuration: That the log has come to.
            durable_through: What is durable at this member.
            now_ns: The clock.
        """
        config_id = configuration.config_id
        if self.is_in_step(configuration) or durable_through < config_id:
            self.due_ns = None
            return []
        if self.due_ns is not None and now_ns < self.due_ns:
            return []
        self._note_configuration(configuration)
        self.due_ns = now_ns + self._retry_ns
        if not self._outlived:
            cut_short_of = self.ahead_through if self.ahead_through > config_id else 0
            return [(self._acceptor, FollowConfiguration(configuration, cut_short_of))]
        if self._is_known_gone or len(self._durable_at) >= configuration.majority:
            return [(self._acceptor, RemoveGroup(self._outlived, config_id))]
        return [
            (Address(voter.member_id, RoleName.LEARNER), CatchUp(0, ()))
            for voter in configuration.voters
            if voter not in self._durable_at
        ]

    def on_followed(
        self, sender: Address, message: ConfigurationFollowed, configuration: Configuration
    ) -> None:
        """The own acceptor told what it answers under."""
        if sender != self._acceptor or message.asked_id != configuration.config_id:
            return
        self._note_configuration(configuration)
        if message.config_id > configuration.config_id:
            self.note_ahead(message.config_id)
            return
        # Whatever was heard of it before.
        self.ahead_through = 0
        voter = configuration.voter(self._member_id)
        if voter is not None and message.replica_id == voter.replica_id:
            if message.config_id == configuration.config_id:
                self._followed_id = configuration.config_id
        elif message.replica_id:
            self._outlived, self._is_known_gone = message.replica_id, False
            self.due_ns = None
        elif voter is None:
            # An order on its way must not make it a voter of an older configuration.
            self._outlived = _given_before(configuration, self._member_id)
            self._is_known_gone = True
            self.due_ns = None

    def on_status(
        self, envelope: Envelope, status: LearnerStatus, configuration: Configuration
    ) -> None:
        """A voter's learner told how far it is."""
        self._note_configuration(configuration)
        voter = Voter(envelope.sender.member_id, envelope.replica_id)
        if not self._outlived or voter not in configuration.voters:
            return
        if status.durable_through >= configuration.config_id and voter not in self._durable_at:
            self._durable_at.add(voter)
            if len(self._durable_at) >= configuration.majority:
                self.due_ns = None

    def on_order_done(
        self, sender: Address, message: OrderDone, configuration: Configuration
    ) -> None:
        """The own acceptor has forgotten the replica, or says why not."""
        if sender != self._acceptor or message.replica_id != self._outlived:
            return
        self._outlived = 0
        if message.refused:
            # It is another by now than it has told, or cannot: it is asked again, in a while.
            return
        self.due_ns = None
        if self._is_known_gone and self._configuration_id == configuration.config_id:
            self._followed_id = configuration.config_id

    def _note_configuration(self, configuration: Configuration) -> None:
        """What was found out under another one counts for nothing."""
        if configuration.config_id != self._configuration_id:
            self._configuration_id = configuration.config_id
            self._outlived = 0
            self._is_known_gone = False
            self._durable_at.clear()


def _given_before(configuration: Configuration, member_id: int) -> int:
    """The highest replica_id as which one that does not vote may have been meant to vote."""
    follower = configuration.follower(member_id)
    return follower.replica_id if follower is not None else configuration.replicas_given

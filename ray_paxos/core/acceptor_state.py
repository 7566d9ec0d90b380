"""What an acceptor knows: the fold of its journal's records.

The live acceptor and recovery use the same `apply`, so that what is rebuilt from disk is what was
there. A promise never falls: `apply` takes the higher of two (R2).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.genesis import Configuration
from ray_paxos.core.messages import Vote
from ray_paxos.core.records import (
    ConfigurationSet,
    GroupCreated,
    GroupOpening,
    GroupRemoved,
    JournalOpening,
    JournalRecord,
    LeaseLengthened,
    PromiseMade,
    VoteCast,
    VoteFloorSet,
)


@dataclass
class GroupVotes:
    """One group's part of an acceptor.

    Invariants: `promise` is at least the ballot of every vote; every vote's instance is at or
    above `floor`; `voted_through` is the highest of them, or `floor` - 1 where that is higher.
    """

    replica_id: int
    configuration: Configuration
    floor: int
    promise: Ballot | None = None
    longest_lease_ms: int = 0
    votes: dict[int, Vote] = field(default_factory=dict)
    voted_through: int = field(init=False)

    def __post_init__(self) -> None:
        self.voted_through = max([self.floor - 1, *self.votes])

    @property
    def accepted_through(self) -> int:
        """Nothing that it has ever accepted, or that an older configuration has, is above this."""
        return max(self.voted_through, self.configuration.config_id)

    def cast(self, vote: Vote) -> None:
        """Hold a vote at or above the floor, in place of an older one."""
        self.votes[vote.instance_id] = vote
        self.voted_through = max(self.voted_through, vote.instance_id)

    def raise_floor(self, floor: int) -> None:
        """Drop the votes below a floor, where it is higher."""
        for instance_id in [i for i in self.votes if i < floor]:
            del self.votes[instance_id]
        self.floor = max(self.floor, floor)
        self.voted_through = max(self.voted_through, self.floor - 1)

    def raise_promise(self, ballot: Ballot) -> None:
        """Promise `ballot`, or keep the higher one."""
        if self.promise is None or ballot > self.promise:
            self.promise = ballot


@dataclass
class AcceptorState:
    """All groups of an acceptor, and the tombstones of those it left."""

    groups: dict[int, GroupVotes] = field(default_factory=dict)
    tombstones: dict[int, int] = field(default_factory=dict)

    def apply(self, record: JournalRecord) -> None:
        """Take one record in; records arrive in the order in which they were emitted.

        Raises:
            KeyError: A record of a group that no record created: the journal is damaged.
        """
        match record:
            case VoteCast(group=group, instance_id=instance_id, ballot=ballot, value=value):
                votes = self.groups[group]
                votes.raise_promise(ballot)
                if instance_id >= votes.floor:
                    votes.cast(Vote(instance_id, ballot, value))
            case PromiseMade(group=group, ballot=ballot):
                self.groups[group].raise_promise(ballot)
            case VoteFloorSet(group=group, floor=floor):
                self.groups[group].raise_floor(floor)
            case LeaseLengthened(group=group, held_ms=held_ms):
                votes = self.groups[group]
                votes.longest_lease_ms = max(votes.longest_lease_ms, held_ms)
            case ConfigurationSet(group=group, configuration=configuration):
                self.groups[group].configuration = configuration
            case GroupCreated(group=group):
                self.groups[group] = GroupVotes(
                    record.replica_id, record.configuration, record.floor
                )
            case GroupRemoved(group=group, replica_id=replica_id):
                self.groups.pop(group, None)
                self.tombstones[group] = max(self.tombstones.get(group, 0), replica_id)

    def opening(self) -> JournalOpening:
        """All but the votes, as the first record of a new journal file."""
        groups = tuple(
            GroupOpening(
                group,
                votes.replica_id,
                votes.configuration,
                votes.promise,
                votes.floor,
                votes.longest_lease_ms,
            )
            for group, votes in sorted(self.groups.items())
        )
        return JournalOpening(groups, tuple(sorted(self.tombstones.items())))

    def restore(self, opening: JournalOpening) -> None:
        """Take in the opening record of a later file of the same journal.

        Votes read from earlier files stay; a group that the opening no longer lists is gone.
        """
        listed = {group.group for group in opening.groups}
        for group in [g for g in self.groups if g not in listed]:
            del self.groups[group]
        for entry in opening.groups:
            votes = self.groups.get(entry.group)
            if votes is None or votes.replica_id != entry.replica_id:
                votes = GroupVotes(entry.replica_id, entry.configuration, entry.floor)
                self.groups[entry.group] = votes
            votes.configuration = entry.configuration
            votes.longest_lease_ms = max(votes.longest_lease_ms, entry.longest_lease_ms)
            if entry.promise is not None:
                votes.raise_promise(entry.promise)
            votes.raise_floor(entry.floor)
        self.tombstones.update(opening.tombstones)

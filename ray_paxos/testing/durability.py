"""What is durable, kept apart from what roles and driver believe.

An acceptor's watch folds the records that were handed to the store and synced since, and nothing
else, into a state of its own. What the acceptor says must be in that state at that moment (R3), and
what the next life opens must hold everything that is in it (R2). A learner's watch does the same
for sealed segments, and together they say which vote floors are covered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ray_paxos.core.acceptor_state import AcceptorState
from ray_paxos.core.ballot import Ballot
from ray_paxos.core.genesis import Configuration
from ray_paxos.core.invariants import (
    acceptor_forgot,
    is_below,
    votes_contradict,
    vouches_too_early,
)
from ray_paxos.core.messages import Message
from ray_paxos.core.records import (
    GroupCreated,
    GroupRemoved,
    JournalRecord,
    Record,
    SealSegment,
)
from ray_paxos.testing.trace import name_member
from ray_paxos.testing.violation import Violation


def copy_state(state: AcceptorState) -> AcceptorState:
    """A copy that shares nothing mutable."""
    groups = {
        group: replace(votes, votes=dict(votes.votes)) for group, votes in state.groups.items()
    }
    return AcceptorState(groups, dict(state.tombstones))


class AcceptorWatch:
    """What one acceptor has made durable, over all its lives.

    Invariant: `_durable` is what the journal must give if the power goes now, or more.
    """

    def __init__(self, member_id: int) -> None:
        """Start before the first opening."""
        self._member = name_member(member_id)
        self._durable: AcceptorState | None = None
        self._unsynced: list[JournalRecord] = []
        self._held: dict[int, tuple[int, Ballot | None, int]] = {}
        self._replicas: dict[int, int] = {}
        self._created: dict[int, int] = {}

    @property
    def has_unsynced(self) -> bool:
        """Whether records were written that no sync has covered yet."""
        return bool(self._unsynced)

    def floor(self, group: int) -> int:
        """The durable vote floor."""
        votes = self._durable.groups.get(group) if self._durable is not None else None
        return votes.floor if votes is not None else 1

    def replica(self, group: int) -> int:
        """As which it votes, durably; 0 for not."""
        votes = self._durable.groups.get(group) if self._durable is not None else None
        return votes.replica_id if votes is not None else 0

    def opened(self, state: AcceptorState) -> None:
        """A new life found this on disk, and made it durable by copying it."""
        if self._durable is not None:
            forgot = acceptor_forgot(self._durable, state)
            if forgot:
                raise Violation("R2", f"{self._member} forgot over a restart: {forgot}")
        for votes in state.groups.values():
            self._check(votes_contradict(votes))
        self._durable = copy_state(state)
        self._unsynced = []
        self._held = {}
        self._created = {group: votes.replica_id for group, votes in state.groups.items()}
        self._replicas.update(self._created)
        self.stepped(state)

    def writing(self, records: Sequence[Record]) -> None:
        """Records are about to be handed to the store."""
        for record in records:
            assert isinstance(record, JournalRecord)
            if isinstance(record, GroupCreated):
                self._create(record)
            elif record.group not in self._created and not isinstance(record, GroupRemoved):
                what = f"{self._member} wrote {type(record).__name__} of a group that no order made"
                raise Violation("groups", f"group {record.group}: {what}")

    def _create(self, record: GroupCreated) -> None:
        """A replica begins to vote: once in all its lives, and above the entry that made it one."""
        latest = self._replicas.get(record.group, 0)
        if record.replica_id <= latest and self._created.get(record.group) != record.replica_id:
            what = f"{self._member} makes replica {record.replica_id} after {latest}"
            raise Violation("groups", f"group {record.group}: {what}")
        if record.floor <= record.configuration.config_id:
            what = f"{self._member} votes from {record.floor} on under configuration "
            what += str(record.configuration.config_id)
            raise Violation("R5", f"group {record.group}: {what}")
        self._created[record.group] = record.replica_id

    def wrote(self, records: Sequence[Record]) -> None:
        """Records were handed to the store."""
        for record in records:
            assert isinstance(record, JournalRecord)
            self._unsynced.append(record)

    def synced(self) -> None:
        """The store says that all of them are durable."""
        assert self._durable is not None
        for record in self._unsynced:
            self._durable.apply(record)
            if isinstance(record, GroupCreated):
                self._replicas[record.group] = record.replica_id
        self._unsynced = []

    def sending(self, group: int, message: Message, replica_id: int) -> None:
        """The acceptor's message, said as this replica, leaves now (R3)."""
        assert self._durable is not None
        votes = self._durable.groups.get(group)
        if replica_id and self._durable.tombstones.get(group, 0) >= replica_id:
            # Said before it was removed, and durable before that; nobody needs it any more.
            return
        if votes is None:
            what = f"{self._member} answers with {type(message).__name__} for a group that it "
            raise Violation("R3", f"group {group}: {what}has not durably")
        early = vouches_too_early(message, votes)
        if early:
            raise Violation("R3", f"group {group}: {self._member} {early}")

    def stepped(self, state: AcceptorState) -> None:
        """After every step: the state in memory never goes back either."""
        for group, votes in state.groups.items():
            replica_id, promise, floor = self._held.get(group, (0, None, 0))
            if replica_id != votes.replica_id:
                promise, floor = None, 0
            elif votes.promise is promise and votes.floor == floor:
                continue
            if promise is not None and is_below(votes.promise, promise):
                what = f"promise {promise} became {votes.promise}"
                raise Violation("R2", f"group {group}: {self._member}: {what}")
            if votes.floor < floor:
                raise Violation("R2", f"group {group}: {self._member}: the vote floor fell")
            self._held[group] = (votes.replica_id, votes.promise, votes.floor)

    def _check(self, wrong: str) -> None:
        if wrong:
            raise Violation("R2", f"{self._member}: {wrong}")


class SegmentWatch:
    """What one learner has sealed durably, by group, over all its lives."""

    def __init__(self, member_id: int) -> None:
        """Start with nothing sealed."""
        self._member = name_member(member_id)
        self._through: dict[int, int] = {}
        self._forgotten: dict[int, int] = {}
        self._unsynced: list[SealSegment] = []

    @property
    def has_unsynced(self) -> bool:
        """Whether segments were written that no sync has covered yet."""
        return bool(self._unsynced)

    def durable_through(self, group: int) -> int:
        """Every instance up to it is durable in this member's segments."""
        return self._through.get(group, 0)

    def was_durable_through(self, group: int) -> int:
        """As `durable_through`, with what a scenario has destroyed since."""
        return max(self.durable_through(group), self._forgotten.get(group, 0))

    def forget(self, group: int) -> None:
        """The segments were destroyed, by no fault of the code."""
        self._forgotten[group] = self.was_durable_through(group)
        self._through[group] = 0

    def left(self, group: int) -> None:
        """The member has the group no more: its segments are no loss."""
        self._through.pop(group, None)
        self._forgotten.pop(group, None)
        self._unsynced = [record for record in self._unsynced if record.group != group]

    def opened(self, group: int, durable_through: int, whole_through: int | None = None) -> None:
        """A new life found segments up to here, and synced their folder.

        Args:
            group: Whose.
            durable_through: The end of what it found, and all before.
            whole_through: The end of what is whole, where something was damaged on purpose: that
                much is all that the code answers for.
        """
        before = self.durable_through(group)
        expected = before if whole_through is None else min(before, whole_through)
        if durable_through < expected:
            what = f"{self._member} had sealed through {expected}, and opened {durable_through}"
            raise Violation("R3", f"group {group}: {what}")
        if durable_through < before:
            self.forget(group)
        self._through[group] = durable_through
        self._unsynced = [record for record in self._unsynced if record.group != group]

    def installed(self, group: int, instance_id: int) -> None:
        """The learner goes on from a checkpoint in its member's folder."""
        before = self.durable_through(group)
        unsynced = [record for record in self._unsynced if record.group == group]
        if instance_id <= before or unsynced:
            what = f"{self._member} installed {instance_id}, durable through {before}"
            raise Violation("R6", f"group {group}: {what}, with {len(unsynced)} unsynced")
        self._through[group] = instance_id

    def wrote(self, records: Sequence[Record]) -> None:
        """Records were handed to the store."""
        for record in records:
            if isinstance(record, SealSegment):
                self._unsynced.append(record)

    def synced(self) -> None:
        """The store says that all of them are durable."""
        for record in self._unsynced:
            first = record.instances[0].chosen.instance_id
            if first != self.durable_through(record.group) + 1:
                what = f"{self._member} sealed from {first} on, after "
                what += str(self.durable_through(record.group))
                raise Violation("R6", f"group {record.group}: {what}")
            self._through[record.group] = record.instances[-1].chosen.instance_id
        self._unsynced = []

    def vouching(self, group: int, durable_through: int) -> None:
        """The learner says that it is durable through an instance."""
        if durable_through > self.durable_through(group):
            what = f"{self._member} says it is durable through {durable_through}, and is through "
            what += str(self.durable_through(group))
            raise Violation("R3", f"group {group}: {what}")


def floor_uncovered(
    group: int,
    floor: int,
    own: SegmentWatch,
    watches: Mapping[int, SegmentWatch],
    configurations: Sequence[Configuration],
) -> str:
    """Why a vote floor must not be there: what is below is not durable here, or at no majority.

    Args:
        group: Whose.
        floor: The floor.
        own: Of the acceptor's member.
        watches: Of all members.
        configurations: That there have been; a majority of any of them will do, since each goes on
            from the one before. A new voter begins right above the entry of one.
    """
    if own.was_durable_through(group) < floor - 1:
        return f"vote floor {floor}, own segments through {own.durable_through(group)}"
    if any(configuration.config_id == floor - 1 for configuration in configurations):
        return ""
    for configuration in configurations:
        if is_durable_at_majority(group, floor - 1, watches, configuration):
            return ""
    return f"vote floor {floor}, below it durable at a majority of no configuration"


def is_durable_at_majority(
    group: int, through: int, watches: Mapping[int, SegmentWatch], configuration: Configuration
) -> bool:
    """Whether a majority of a configuration's voters have been durable through an instance."""
    voters = [watches[voter.member_id] for voter in configuration.voters]
    covered = sum(1 for watch in voters if watch.was_durable_through(group) >= through)
    return 2 * covered > len(voters)

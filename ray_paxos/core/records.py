"""What roles make durable: the acceptor's journal records, the learner's segment orders.

Records are data; who writes them, and how, is storage's business. `AcceptorState` is the sum of
an acceptor's records: recovery folds the journal through the same `apply` as the live acceptor.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.genesis import Configuration
from ray_paxos.core.learner_messages import ChosenValue
from ray_paxos.core.parts import PartRecord


class GroupCreated(msgspec.Struct, frozen=True, array_like=True, tag="created"):
    """The member takes part in a group as this replica, from `floor` on."""

    group: int
    replica_id: int
    configuration: Configuration
    floor: int


class GroupRemoved(msgspec.Struct, frozen=True, array_like=True, tag="removed"):
    """Tombstone: no order for a replica_id at or below this one makes the group here again."""

    group: int
    replica_id: int


class PromiseMade(msgspec.Struct, frozen=True, array_like=True, tag="promised"):
    """The acceptor promised `ballot` for the whole log of the group."""

    group: int
    ballot: Ballot


class VoteCast(msgspec.Struct, frozen=True, array_like=True, tag="voted"):
    """The acceptor voted; it thereby promised `ballot`, too."""

    group: int
    instance_id: int
    ballot: Ballot
    value: bytes


class VoteFloorSet(msgspec.Struct, frozen=True, array_like=True, tag="floor"):
    """Votes below `floor` are no longer held."""

    group: int
    floor: int


class LeaseLengthened(msgspec.Struct, frozen=True, array_like=True, tag="lease"):
    """The acceptor may from now on grant leases that it keeps its word for up to so long.

    Attributes:
        group: Which.
        held_ms: By the acceptor's clock, with the margin for drift.
    """

    group: int
    held_ms: int


class ConfigurationSet(msgspec.Struct, frozen=True, array_like=True, tag="configured"):
    """The acceptor answers under this configuration from here on, as the replica that it was."""

    group: int
    configuration: Configuration


JournalRecord: TypeAlias = (
    GroupCreated
    | GroupRemoved
    | PromiseMade
    | VoteCast
    | VoteFloorSet
    | LeaseLengthened
    | ConfigurationSet
)


class GroupOpening(msgspec.Struct, frozen=True, array_like=True):
    """Everything but the votes that an acceptor holds about one group.

    Attributes:
        group: Which.
        replica_id: The acceptor's identity in it.
        configuration: As taken from the genesis or the log.
        promise: None before the first.
        floor: The vote floor, from 1.
        longest_lease_ms: What it ever kept its word for at most, with the margin; 0 for never.
    """

    group: int
    replica_id: int
    configuration: Configuration
    promise: Ballot | None
    floor: int
    longest_lease_ms: int


class JournalOpening(msgspec.Struct, frozen=True, array_like=True):
    """First record of every journal file: the acceptor's whole state but for the votes.

    Attributes:
        groups: Ascending by group.
        tombstones: (group, highest replica_id ever removed there), ascending.
    """

    groups: tuple[GroupOpening, ...]
    tombstones: tuple[tuple[int, int], ...]


class SealedInstance(msgspec.Struct, frozen=True, array_like=True):
    """One instance on its way into a segment, and out of it.

    Attributes:
        chosen: Instance, ballot and encoded value.
        chain: Value chain after it.
        result_chain: Result chain after it; None where it was not applied when sealed.
    """

    chosen: ChosenValue
    chain: bytes
    result_chain: bytes | None


class SealSegment(msgspec.Struct, frozen=True):
    """Order to make contiguous instances durable as one segment of the chosen log."""

    group: int
    instances: tuple[SealedInstance, ...]


Record: TypeAlias = JournalRecord | SealSegment | PartRecord

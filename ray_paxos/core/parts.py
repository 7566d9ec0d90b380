"""Which groups a member has, and how it comes to have one more or one less.

```
 master of the group ── TakePart: the group's genesis, the entry that added the member ─▶ learner
    learner: not below a tombstone? ── PartTaken, durable ── the group's folder, its learner
                                          └── PartsChanged ─▶ own proposer, own checkpointer:
                                              they read what is durable, and open what is new
 own learner: the log names this member no more, and its acceptor votes no more
    ── PartLeft, durable: a tombstone ── the folders go ── PartsChanged, as above
```

A group is made at a member by that order alone, never by a message about it (design 9): what a
delayed message tells of a group that was here once must not bring it back without its votes. An
order names the replica that the member is to be. Of every group that it has left the member knows
the highest replica that may ever have been meant for it: an order that is not above is an old one.

A member that was away while it was removed, and those that it knows with it, hears of it from
nobody: those that have the group now do not count it among themselves. So it asks on, and those
that have left tell it who has the group instead (`Parts.left`).

Beside its parts a member keeps the names of those members that joined the cluster after its
genesis, as configurations tell them (`Configuration.joined`), so that all its roles know how to
reach them, also after a restart at which nobody can be asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from ray_paxos.core.genesis import Configuration, Genesis, GroupSpec, MemberSpec, Voter


class Part(msgspec.Struct, frozen=True, array_like=True):
    """One member's part in one group, as it was ordered.

    Attributes:
        replica_id: The member's identity in it, by `configuration`.
        spec: What the group starts from.
        configuration: Of the entry that added the member, or the group's first one.
    """

    replica_id: int
    spec: GroupSpec
    configuration: Configuration

    @property
    def group(self) -> int:
        """The group's number."""
        return self.spec.group


class PartTaken(msgspec.Struct, frozen=True, array_like=True, tag="part_taken"):
    """The member has the group from here on."""

    group: int
    part: Part


class PartLeft(msgspec.Struct, frozen=True, array_like=True, tag="part_left"):
    """Tombstone: no order for a replica_id at or below this one brings the group back here.

    Attributes:
        group: Which was left.
        replica_id: The highest that may have been meant for this member.
        configuration: Who has the group instead; None where nobody has, since it was dropped.
    """

    group: int
    replica_id: int
    configuration: Configuration | None = None


class MembersMet(msgspec.Struct, frozen=True, array_like=True, tag="members_met"):
    """Members outside the genesis that this one has to do with from here on.

    Attributes:
        group: The system's own, whichever group named them.
        members: Their names and ids.
    """

    group: int
    members: tuple[MemberSpec, ...]


PartRecord: TypeAlias = PartTaken | PartLeft | MembersMet


@dataclass
class Parts:
    """All parts of one member: the fold of its records.

    Attributes:
        version: Counts the changes.
        parts: By group.
        tombstones: By group that was left, the highest replica_id that an old order may name.
        joined: Names, by member_id, of members outside the genesis that this one has met. A name is
            one member's for ever, so that none has to be forgotten.
        left: By group that was left, and is not here again, who has it instead: whoever was away
            meanwhile may ask this member for it, and knows nobody else.
    """

    version: int = 0
    parts: dict[int, Part] = field(default_factory=dict)
    tombstones: dict[int, int] = field(default_factory=dict)
    joined: dict[int, str] = field(default_factory=dict)
    left: dict[int, Configuration] = field(default_factory=dict)

    def apply(self, record: PartRecord) -> None:
        """Take one record in."""
        self.version += 1
        group = record.group
        match record:
            case PartTaken(part=part):
                self.parts[group] = part
                self.left.pop(group, None)
                self._meet(part.configuration.joined)
            case PartLeft(replica_id=replica_id, configuration=configuration):
                self.parts.pop(group, None)
                self.tombstones[group] = max(self.tombstones.get(group, 0), replica_id)
                self.left.pop(group, None)
                if configuration is not None:
                    self.left[group] = configuration
            case MembersMet(members=members):
                self._meet(members)

    def _meet(self, members: Iterable[MemberSpec]) -> None:
        self.joined.update((each.member_id, each.name) for each in members)

    def copy(self) -> Parts:
        """Another one, to be changed by itself."""
        return Parts(
            self.version,
            dict(self.parts),
            dict(self.tombstones),
            dict(self.joined),
            dict(self.left),
        )

    def refusal(self, member_id: int, part: Part) -> str:
        """Why an order for a part is not followed; empty where it is, or was already.

        Args:
            member_id: Of this member.
            part: What is ordered.
        """
        group, configuration = part.group, part.configuration
        held = self.parts.get(group)
        if held is not None and held.replica_id != part.replica_id:
            return f"group {group} is here already, as replica {held.replica_id}"
        if part.replica_id <= self.tombstones.get(group, 0):
            return f"replica {part.replica_id} of group {group} has left; a new one is above it"
        if Voter(member_id, part.replica_id) not in (
            *configuration.voters,
            *configuration.followers,
        ):
            return f"its configuration does not name this member its replica {part.replica_id}"
        return ""


def first_parts(genesis: Genesis, member_id: int) -> Parts:
    """A member's parts in the groups of the genesis."""
    parts = Parts()
    for spec in genesis.groups:
        configuration = spec.configuration
        own = configuration.voter(member_id) or configuration.follower(member_id)
        if own is not None:
            parts.parts[spec.group] = Part(own.replica_id, spec, configuration)
    return parts

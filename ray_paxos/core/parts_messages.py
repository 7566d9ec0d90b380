"""Orders about which groups a member has, and what its roles tell each other of it.

```
Proposer of the group's master, or a client ── TakePart ─▶ Learner ── OrderDone ─▶
A client ── DropPart ─▶ Learner ── OrderDone ─▶
Learner ── CreateGroup, RemoveGroup ─▶ Acceptor (own) ── OrderDone ─▶ Learner
Learner ── PartsChanged ─▶ Proposer, Checkpointer (own) ── PartsFollowed ─▶ Learner
```
"""

from __future__ import annotations

import msgspec

from ray_paxos.core.parts import Part

DROPPED = (1 << 62) - 1
"""Above every replica_id that was ever given."""


class TakePart(msgspec.Struct, frozen=True, array_like=True, tag="take_part"):
    """The explicit order that brings a group to a member; the only thing that does (design 9)."""

    part: Part


class DropPart(msgspec.Struct, frozen=True, array_like=True, tag="drop_part"):
    """The group is given up everywhere, with its data: let go of it, now and for ever.

    Answered by an `OrderDone` of the replica `DROPPED`, once its tombstone is durable: no order
    brings a group of that number back here. Whoever orders this has it from group 0.
    """


class PartsChanged(msgspec.Struct, frozen=True, array_like=True, tag="parts_changed"):
    """The member's parts are on the disk as of this version."""

    version: int


class PartsFollowed(msgspec.Struct, frozen=True, array_like=True, tag="parts_followed"):
    """The roles of all groups of this version of the parts are open; answers `PartsChanged`."""

    version: int

"""Orders about which groups a member has, and what its roles tell each other of it.

```
Proposer of the group's master, or a client ── TakePart ─▶ Learner ── OrderDone ─▶
Learner ── CreateGroup ─▶ Acceptor (own) ── OrderDone ─▶ Learner
Learner ── PartsChanged ─▶ Proposer, Checkpointer (own) ── PartsFollowed ─▶ Learner
```
"""

from __future__ import annotations

import msgspec

from ray_paxos.core.parts import Part


class TakePart(msgspec.Struct, frozen=True, array_like=True, tag="take_part"):
    """The explicit order that brings a group to a member; the only thing that does (design 9)."""

    part: Part


class PartsChanged(msgspec.Struct, frozen=True, array_like=True, tag="parts_changed"):
    """The member's parts are on the disk as of this version."""

    version: int


class PartsFollowed(msgspec.Struct, frozen=True, array_like=True, tag="parts_followed"):
    """The roles of all groups of this version of the parts are open; answers `PartsChanged`."""

    version: int

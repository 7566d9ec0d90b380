"""Messages about who has a group and who votes in it.

```
Client  ── ChangeMembership ─▶ Proposer ── MembershipChanged, Redirected, Refused ─▶ Client
Learner ── FollowConfiguration, RemoveGroup ─▶ Acceptor (own)
        ◀─ ConfigurationFollowed, OrderDone ──
```
"""

from __future__ import annotations

import msgspec

from ray_paxos.core.genesis import Configuration
from ray_paxos.core.values import MembershipEntry


class ChangeMembership(msgspec.Struct, frozen=True, array_like=True, tag="change_membership"):
    """A client asks the master to change who has its group.

    Attributes:
        request_id: The client's own.
        entry: What is to be chosen.
    """

    request_id: int
    entry: MembershipEntry


class MembershipChanged(msgspec.Struct, frozen=True, array_like=True, tag="membership_changed"):
    """The entry is chosen, and applied at the master.

    Attributes:
        request_id: Of the request.
        configuration: In force from here on.
    """

    request_id: int
    configuration: Configuration


class FollowConfiguration(msgspec.Struct, frozen=True, array_like=True, tag="follow"):
    """A learner tells its own acceptor the configuration that its log has come to.

    Everything through the entry that made it is durable in this member's log.

    Attributes:
        configuration: It.
        cut_short_of: What the acceptor said that it follows, where that is a later one: damage has
            cut the log short of it since. 0 for nothing.
    """

    configuration: Configuration
    cut_short_of: int = 0


class ConfigurationFollowed(msgspec.Struct, frozen=True, array_like=True, tag="followed"):
    """What an acceptor answers under, durably; answers `FollowConfiguration`.

    Attributes:
        config_id: Of its configuration; 0 where it does not vote in the group.
        replica_id: As which it votes; 0 for not.
        asked_id: Of the configuration that it was told.
    """

    config_id: int
    replica_id: int
    asked_id: int

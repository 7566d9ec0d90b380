"""The actors of a cluster's members, as clients call them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray_paxos.actors.found_actor import FoundActor
from ray_paxos.actors.names import actor_name
from ray_paxos.actors.roster import Roster
from ray_paxos.core.messages import RoleName

EXCHANGES: Mapping[RoleName, str] = {
    RoleName.PROPOSER: "exchange",
    RoleName.LEARNER: "exchange_queries",
}
"""What a role's line calls: a fused member has one actor for both."""


class FoundRoles:
    """Of one cluster; see `role_line.RoleActors`."""

    def __init__(self, roster: Roster, *, is_fused: bool) -> None:
        """Call those of the members that are known.

        Args:
            roster: Knows the members.
            is_fused: Whether the roles of a member are one actor.
        """
        self._roster = roster
        self._is_fused = is_fused

    def known(self) -> tuple[int, ...]:
        """Those of the roster."""
        return tuple(self._roster.names)

    def find(self, member_id: int, role: RoleName) -> FoundActor:
        """Look the actor up, anew; waits for Ray."""
        cluster, member = self._roster.genesis.cluster, self._roster.names[member_id]
        name = actor_name(cluster, member, role, is_fused=self._is_fused)
        return self._roster.actors.look_up(name)

    def look(self) -> tuple[int, ...]:
        """Look for further members, too; waits for Ray."""
        self._roster.look()
        return self.known()

    def call(self, proposer: FoundActor, batch: bytes) -> Any:
        """Call the actor's `submit`."""
        return proposer.call("submit", batch)

    def exchange(self, found: FoundActor, role: RoleName, line: int, batch: bytes) -> Any:
        """Call the role's way of exchanging requests for answers."""
        return found.call(EXCHANGES[role], line, batch)

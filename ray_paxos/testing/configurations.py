"""Who really votes where, by what is chosen: the judge's own account of a group's membership.

It shares no code with the one that roles go by. Every chosen value is looked at in the order of the
log; the configurations that come of it say whose votes may choose each later instance (R5).
"""

from __future__ import annotations

import msgspec

from ray_paxos.core.genesis import Configuration, MemberSpec, Voter
from ray_paxos.core.values import MembershipEntry, MembershipKind, decode_value
from ray_paxos.testing.violation import Violation


class ConfigurationLedger:
    """The configurations of one group.

    Attributes:
        current: After all that is chosen without a hole.
    """

    def __init__(self, genesis: Configuration) -> None:
        """Begin with the group's first one."""
        self.current = genesis
        self._by_id = {genesis.config_id: genesis}
        self._given = max(each.replica_id for each in (*genesis.voters, *genesis.followers))
        # Names that were given with an order to add somebody; of those that are there they count.
        self._named: dict[int, str] = {}

    def __getitem__(self, config_id: int) -> Configuration:
        found = self._by_id.get(config_id)
        if found is None:
            raise Violation("R5", f"somebody counts configuration {config_id}, which nobody chose")
        return found

    @property
    def latest_ids(self) -> list[int]:
        """Of the current one, and of the one before it."""
        return list(self._by_id)[-2:]

    def given_at(self, replica_id: int) -> int:
        """The configuration that first named a replica."""
        return next(
            each.config_id
            for each in self.known()
            if any(replica_id == one.replica_id for one in (*each.voters, *each.followers))
        )

    def known(self) -> tuple[Configuration, ...]:
        """All there ever was, in their order."""
        return tuple(self._by_id.values())

    def chosen(self, instance_id: int, encoded: bytes) -> None:
        """All through this instance is chosen, and this is its value."""
        try:
            entries = decode_value(encoded).entries
        except msgspec.DecodeError:
            return
        if len(entries) == 1 and isinstance(entries[0], MembershipEntry):
            self._change(instance_id, entries[0])

    def _change(self, instance_id: int, entry: MembershipEntry) -> None:
        if entry.expected_config_id != self.current.config_id:
            return
        voters = {v.member_id: v for v in self.current.voters}
        followers = {v.member_id: v for v in self.current.followers}
        member_id, fresh = entry.member_id, Voter(entry.member_id, self._given + 1)
        if entry.kind is MembershipKind.ADD:
            if member_id in voters or member_id in followers:
                return
            followers[member_id] = fresh
            self._named.pop(member_id, None)
            if entry.name:
                self._named[member_id] = entry.name
        elif entry.kind is MembershipKind.PROMOTE:
            if followers.pop(member_id, None) is None:
                return
            voters[member_id] = fresh
        else:
            was_voter = voters.pop(member_id, None)
            was_follower = followers.pop(member_id, None)
            is_demotion = entry.kind is MembershipKind.DEMOTE
            if not voters or (was_voter is None and (is_demotion or was_follower is None)):
                return
            if is_demotion:
                followers[member_id] = fresh
        self._given += 1
        self.current = Configuration(
            instance_id,
            tuple(voters[m] for m in sorted(voters)),
            tuple(followers[m] for m in sorted(followers)),
            self._given,
            tuple(
                MemberSpec(name, member)
                for member, name in sorted(self._named.items())
                if member in voters or member in followers
            ),
        )
        self._by_id[instance_id] = self.current

"""One group of a running cluster: which members have it, and who votes.

```python
group = cluster.group(1)
group.members()                 # .voters, .followers, .version
group.add("m4")                 # follows: learns, and serves reads
group.promote("m4")             # votes, once it has caught up
group.remove("m1")              # leaves; a master hands over first
group.move("m1", "m4")          # all of that
```
"""

from __future__ import annotations

from collections.abc import Callable

from ray_paxos.actors.memberships import GroupMembers, Memberships
from ray_paxos.core.values import MembershipKind
from ray_paxos.errors import ConfigurationError, MembershipError


class Group:
    """Made by `Cluster.group`.

    Every change goes through the group's own log, one member at a time, and while it is made the
    group takes no commands for as long as an election without a wait takes. Each method raises
    `ConfigurationError` where the cluster has no such member, and `MembershipError` where the
    change was refused, or no master took it in time. What is so already is not changed, and no
    error.

    Attributes:
        number: Its number.
    """

    def __init__(
        self,
        number: int,
        memberships: Memberships,
        checked: Callable[[str], str],
        check_may_join: Callable[[str], None],
    ) -> None:
        """Stand for a group of a cluster.

        Args:
            number: Its number.
            memberships: Asks and orders the members.
            checked: Gives the name of a member back, or raises `ConfigurationError`.
            check_may_join: Raises `MembershipError` for one that may not be given a group yet.
        """
        self.number = number
        self._memberships = memberships
        self._checked = checked
        self._check_may_join = check_may_join

    def __repr__(self) -> str:
        return f"Group({self.number})"

    def members(self) -> GroupMembers:
        """Who has it, as far as any member that answers has learned.

        Raises:
            MembershipError: No member that has it answers.
        """
        found = self._memberships.latest(self.number)
        if found is None:
            raise MembershipError(f"no member that has group {self.number} answers")
        return found

    def add(self, member: str, *, timeout_s: float = 30.0) -> GroupMembers:
        """Give it to a member, as a follower: it learns and serves reads, and does not vote.

        Args:
            member: Name of the member.
            timeout_s: How long to try.

        Returns:
            Who has the group from there on.
        """
        self._check_may_join(self._checked(member))
        return self._change(MembershipKind.ADD, member, timeout_s)

    def promote(self, member: str, *, timeout_s: float = 30.0) -> GroupMembers:
        """Let a follower that has caught up vote; arguments and result as of `add`."""
        return self._change(MembershipKind.PROMOTE, member, timeout_s)

    def demote(self, member: str, *, timeout_s: float = 30.0) -> GroupMembers:
        """Make a voter a follower; arguments and result as of `add`.

        A master hands over first. The last voter stays.
        """
        return self._change(MembershipKind.DEMOTE, member, timeout_s)

    def remove(self, member: str, *, timeout_s: float = 30.0) -> GroupMembers:
        """Take it from a member; arguments and result as of `demote`.

        The member deletes what it has of the group once a majority of the voters that are left
        holds everything durably.
        """
        return self._change(MembershipKind.REMOVE, member, timeout_s)

    def move(self, source: str, target: str, *, timeout_s: float = 60.0) -> GroupMembers:
        """Have a member take another one's place: it joins, catches up, votes; the other leaves.

        Called again after it broke off it goes on where it was.

        Args:
            source: Name of the member that leaves.
            target: Name of the member that joins.
            timeout_s: For all of it.

        Returns:
            Who has the group in the end.

        Raises:
            ConfigurationError: No such member, or both are the same.
            MembershipError: A step was refused, or not carried out in time; those before it stand.
        """
        if source == target:
            raise ConfigurationError(f"source and target: group {self.number} is at {source}")
        self._checked(source)
        self._check_may_join(self._checked(target))
        return self._memberships.move(self.number, source, target, timeout_s=timeout_s)

    def _change(self, kind: MembershipKind, member: str, timeout_s: float) -> GroupMembers:
        self._checked(member)
        return self._memberships.change(self.number, kind, member, timeout_s=timeout_s)

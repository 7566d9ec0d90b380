"""Who has a group and who votes in it, as a driver sees and changes it.

A change is an entry of the group's log, proposed by its master: one member at a time, and only of
the configuration that whoever orders it has seen. So an order that is given twice, or comes late,
does nothing: where its answer is lost, the log itself says whether it was carried out.

```
 move from A to B:  B joins as a follower ─▶ catches up ─▶ votes ─▶ A leaves
```
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

from ray_paxos.actors.administration import Administration, ask_all
from ray_paxos.actors.orders import PAUSE_S, give_order
from ray_paxos.core.client_messages import Redirected, RefusalCode, Refused
from ray_paxos.core.membership_messages import ChangeMembership, MembershipChanged
from ray_paxos.core.messages import Address, RoleName
from ray_paxos.core.values import MembershipEntry, MembershipKind
from ray_paxos.errors import MembershipError

LOOK_TIMEOUT_S = 1.5


@dataclass(frozen=True, slots=True)
class GroupMembers:
    """Who has a group, from one instance of its log on.

    Attributes:
        version: The instance of the entry that made it so; 0 for the group's beginning. Of two the
            later one is higher.
        voters: Names of the members that vote, sorted.
        followers: Names of those that learn and serve reads without voting, sorted.
    """

    version: int
    voters: tuple[str, ...]
    followers: tuple[str, ...]


class Memberships:
    """Asks and orders one cluster's members about who has which group."""

    def __init__(self, administration: Administration) -> None:
        """Ask the members that are known."""
        self._administration = administration
        self._roster = administration.roster

    @property
    def _ids(self) -> dict[str, int]:
        return self._roster.ids

    def latest(self, group: int) -> GroupMembers | None:
        """The latest configuration that any member that answers has learned; None where none does.

        A later one may have been chosen since; whoever changes it says which one he has seen.
        """
        answers = ask_all(
            {name: partial(self._ask_learner, name, group) for name in self._ids}, LOOK_TIMEOUT_S
        )
        # Who has not the group, or does not answer, is an error of Ray's here.
        found = [answer for answer in answers.values() if isinstance(answer, tuple)]
        if not found:
            return None
        version, voters, followers = max(found)
        return GroupMembers(version, self._named(voters), self._named(followers))

    def _ask_learner(self, name: str, group: int) -> Any:
        return self._administration.call(name, RoleName.LEARNER, "configuration", group)

    def _named(self, member_ids: tuple[int, ...]) -> tuple[str, ...]:
        return tuple(sorted(map(self._roster.name, member_ids)))

    def change(
        self,
        group: int,
        kind: MembershipKind,
        member: str,
        *,
        timeout_s: float,
        version: int | None = None,
    ) -> GroupMembers:
        """Have the master of a group make one change.

        Args:
            group: Whose members.
            kind: What is to become of the member.
            member: Its name.
            timeout_s: How long to try.
            version: Of the configuration that is to be changed; by default whichever there is.

        Returns:
            Who has the group from there on. Where it was as ordered already, nothing was changed.

        Raises:
            MembershipError: It was refused, or no master took it in time.
        """
        deadline = time.monotonic() + timeout_s
        problem = "no member of the group answers"
        asked = ""
        while time.monotonic() < deadline:
            before = self.latest(group)
            if before is None:
                time.sleep(PAUSE_S)
                continue
            if _is_so(before, kind, member):
                return before
            if version is not None and before.version != version:
                raise MembershipError(
                    f"group {group} has other members since instance {before.version}; the change "
                    f"was meant for those since instance {version}"
                )
            entry = self._entry(kind, member, before.version)
            candidates = before.voters
            asked = asked if asked in candidates else candidates[0]
            reply = give_order(
                self._administration,
                self._roster.genesis,
                member=asked,
                group=group,
                address=Address(secrets.randbits(62) | 1, RoleName.CLIENT),
                order=ChangeMembership(1, entry),
                deadline=deadline,
            )
            match reply:
                case MembershipChanged(configuration=configuration):
                    return self._wait_for(group, configuration.config_id, deadline)
                case Refused(code=RefusalCode.UNKNOWN_GROUP, message=message):
                    # It has the group no more, or not yet; others of them have.
                    problem = f"member {asked}: {message}"
                case Refused(message=message, retry_after_ms=retry_after_ms):
                    after = self.latest(group)
                    if after is not None and after.version > before.version:
                        # Somebody else's change came first, or this one, whose answer was lost.
                        continue
                    if not retry_after_ms:
                        raise MembershipError(f"the members of group {group} stay: {message}")
                    problem = message
                    time.sleep(retry_after_ms / 1e3)
                    continue
                case Redirected(master=int(master)) if self._roster.name(master) in candidates:
                    problem, asked = f"member {asked} does not lead", self._roster.name(master)
                    continue
                case Redirected():
                    problem = "no master is known"
                case str(text):
                    problem = text
            asked = candidates[(candidates.index(asked) + 1) % len(candidates)]
            time.sleep(PAUSE_S)
        raise MembershipError(
            f"the order to {kind.name.lower()} member {member} in group {group} was not carried "
            f"out within {timeout_s:g} s, and may be still: {problem}"
        )

    def _entry(self, kind: MembershipKind, member: str, version: int) -> MembershipEntry:
        member_id = self._ids[member]
        is_joined = any(each.member_id == member_id for each in self._roster.joined)
        name = member if is_joined and kind is MembershipKind.ADD else ""
        return MembershipEntry(kind, member_id, version, name)

    def move(self, group: int, source: str, target: str, *, timeout_s: float) -> GroupMembers:
        """Give a group to another member, and have it vote in the place of one that has it.

        What is done already is not done again, so an interrupted move goes on where it was.

        Args:
            group: Which.
            source: The member that leaves.
            target: The member that joins.
            timeout_s: For all of it.

        Returns:
            Who has the group in the end.

        Raises:
            MembershipError: A step was refused, or not carried out in time; those before it stand.
        """
        deadline = time.monotonic() + timeout_s

        def left_s() -> float:
            return max(deadline - time.monotonic(), 0.001)

        found = self.latest(group)
        if found is not None and target not in (*found.voters, *found.followers):
            self.change(group, MembershipKind.ADD, target, timeout_s=left_s())
        self.change(group, MembershipKind.PROMOTE, target, timeout_s=left_s())
        return self.change(group, MembershipKind.REMOVE, source, timeout_s=left_s())

    def _wait_for(self, group: int, version: int, deadline: float) -> GroupMembers:
        """What is made so is so; but whoever asks next is to see it."""
        while True:
            found = self.latest(group)
            if found is not None and found.version >= version:
                return found
            if time.monotonic() >= deadline:
                raise MembershipError(
                    f"group {group} has other members from instance {version} on; no member has "
                    "told so yet"
                )
            time.sleep(PAUSE_S)


def _is_so(found: GroupMembers, kind: MembershipKind, member: str) -> bool:
    """Whether a member is already what it is to become."""
    match kind:
        case MembershipKind.ADD:
            return member in (*found.voters, *found.followers)
        case MembershipKind.PROMOTE:
            return member in found.voters
        case MembershipKind.DEMOTE:
            return member in found.followers
        case MembershipKind.REMOVE:
            return member not in (*found.voters, *found.followers)

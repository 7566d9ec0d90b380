"""Members and groups that come and go: what an operator orders of a running cluster.

```python
operations = cluster.operations
operations.add_member("m4", node="8c1f")      # on that Ray node; has no group yet
operations.create_group(7, voters=3)
operations.place_group(7, ["m1", "m3", "m4"])
operations.replace_member("m2", "m5")         # m5 takes over all that m2 has; m2 ends
operations.spread()                           # all members get equally many groups
operations.observe(False)                     # nothing is counted, timed or remembered any more
```

Each of them, but for the last one, first says in group 0 what is wanted, and then has it done
(`reconciler`), also where a controller runs, which does the same. So an order that breaks off
stands: whoever gives it again, or the controller, goes on where it was.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from ray_paxos.actors import folders
from ray_paxos.actors.administration import ANSWER_TIMEOUT_S, Administration
from ray_paxos.actors.launching import wait_until_serving
from ray_paxos.actors.member_making import check_new_member, new_member
from ray_paxos.actors.memberships import Memberships
from ray_paxos.actors.placement import Pin, RayNode, choose_nodes
from ray_paxos.actors.reconciler import Reconciler, Round
from ray_paxos.actors.spec import ClusterSpec
from ray_paxos.config import GroupConfiguration
from ray_paxos.core.genesis import GroupSpec, first_voters
from ray_paxos.core.reconciliation import Seen, is_let_go
from ray_paxos.core.spreading import spread
from ray_paxos.core.wanted import (
    GroupState,
    MemberState,
    Wanted,
    WantedGroup,
    WantedMember,
)
from ray_paxos.core.wanted_changes import (
    Change,
    DrainMember,
    DropGroup,
    JoinMember,
    LeaveMember,
    MakeGroup,
    MemberJoined,
    PlaceGroup,
    StayMember,
    changed_wanted,
)
from ray_paxos.errors import (
    ClusterError,
    CommandError,
    ConfigurationError,
    MembershipError,
    PaxosError,
)
from ray_paxos.system_group import SystemGroup

VOTERS_DEFAULT = 3
PAUSE_S = 0.2
GONE_TIMEOUT_S = 1.0
"""So long group 0 is asked who has left for ever; those who have are not reached, either."""


class Operations:
    """Made by `Cluster.operations`.

    Every method but `observe` raises `ConfigurationError` for what means nothing, `MembershipError`
    where what is ordered does not fit what is there, or was not done in time (then it still stands,
    and is done by the next order or the controller), and `RequestError` where group 0 does not
    answer.
    """

    def __init__(
        self,
        spec: ClusterSpec,
        administration: Administration,
        memberships: Memberships,
        system: SystemGroup,
    ) -> None:
        """Order nothing yet.

        Args:
            spec: The cluster's.
            administration: Asks its members.
            memberships: Changes who has a group.
            system: Group 0.
        """
        self._spec = spec
        self._administration = administration
        self._memberships = memberships
        self._system = system

    def wanted(self) -> Wanted:
        """What is wanted of the cluster: its members and groups."""
        return self._system.wanted()

    def look(self) -> Seen:
        """What is there: who answers, and who has which group, in one call to each member."""
        return self._reconciler(spreads=False).look()

    # Members.

    def add_member(
        self,
        name: str,
        *,
        node: str = "",
        labels: Mapping[str, str] | None = None,
        resource: str = "",
        timeout_s: float = 60.0,
    ) -> None:
        """Make a new member, which has no group at first.

        Args:
            name: Its name; one that no member of the cluster ever had.
            node: Ray's id of its node, or the beginning of it; by default one that `labels` and
                `resource` allow, and that has no member where there is one.
            labels: Node labels that pin it to its disk.
            resource: Custom resource that pins it to its disk.
            timeout_s: How long until its roles serve.

        Raises:
            PlacementError: No such node.
            BootstrapError: A folder of that name is there, or a node does not answer.
        """
        wanted = self._system.wanted()
        before = wanted.members.get(name)
        if before is None:
            nodes = folders.live_nodes()
            pin = Pin(dict(labels or {}), resource or None)
            node_id = node or self._choose_node(name, pin, nodes)
            chosen = check_new_member(self._spec, name, node_id, nodes)
            member = new_member(name, chosen.node_id, labels=labels, resource=resource)
            self._change(JoinMember(member))
        elif before.state is not MemberState.JOINING:
            raise MembershipError(
                f"member {name} exists ({before.state.name.lower()}); a name is never used again"
            )
        deadline = time.monotonic() + timeout_s
        self._until(_state_of(name, MemberState.PRESENT), f"member {name} to join", timeout_s)
        left_s = max(deadline - time.monotonic(), 1.0)
        wait_until_serving(self._spec, (name,), left_s, is_strict=False)

    def remove_member(self, name: str, *, timeout_s: float = 120.0) -> None:
        """Give a member's groups to others, end its actors and delete its folder.

        Where fewer members are left than a group has voters, it goes on with fewer.

        Args:
            name: The member.
            timeout_s: For all of it.
        """
        if not _is_ending(self._system.wanted(), name):
            self._change(LeaveMember(name))
        self._until(_state_of(name, MemberState.GONE), f"member {name} to leave", timeout_s)

    def replace_member(
        self,
        name: str,
        successor: str,
        *,
        node: str = "",
        labels: Mapping[str, str] | None = None,
        resource: str = "",
        timeout_s: float = 180.0,
    ) -> None:
        """Have a new member take over what another one has; the other ends.

        Args:
            name: The member that goes.
            successor: Name of the new one; arguments as of `add_member`.
            node: See there.
            labels: See there.
            resource: See there.
            timeout_s: For all of it.

        Raises:
            PlacementError: As `add_member`.
            BootstrapError: As `add_member`.
        """
        deadline = time.monotonic() + timeout_s
        wanted = self._system.wanted()
        there = wanted.members.get(successor)
        is_new = there is None or there.state is MemberState.JOINING
        _check_may_leave(wanted, name, successor)
        if is_new:
            self.add_member(
                successor, node=node, labels=labels, resource=resource, timeout_s=timeout_s
            )
        self.remove_member(name, timeout_s=max(deadline - time.monotonic(), 1.0))

    def drain_member(self, name: str, *, timeout_s: float = 120.0) -> None:
        """Give a member's groups to others; it stays, without a group, until it is told to stay.

        Args:
            name: The member.
            timeout_s: For all of it.
        """
        self._change(DrainMember(name))

        def is_drained(outcome: Round) -> bool:
            return is_let_go(outcome.wanted, outcome.seen, name)

        self._until(is_drained, f"member {name} to be drained", timeout_s)

    def keep_member(self, name: str) -> None:
        """Let a member that was drained, or is leaving, have groups again."""
        self._change(StayMember(name))

    # Groups.

    def create_group(
        self,
        group: int,
        *,
        voters: int = VOTERS_DEFAULT,
        machines: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> tuple[str, ...]:
        """Make a new group.

        Args:
            group: Its number; one that no group of the cluster ever had.
            voters: How many members vote in it.
            machines: Its state machines, name and kind; by default one of each kind.
            timeout_s: How long until it has been made.

        Returns:
            Names of its voters.
        """
        wanted = self._system.wanted()
        before = wanted.groups.get(group)
        if before is None:
            spec = self._new_group(wanted, group, voters, machines)
            self._change(MakeGroup(WantedGroup(spec, GroupState.MAKING, voters)))
        elif before.state is not GroupState.MAKING:
            state = before.state.name.lower()
            raise MembershipError(f"group {group} exists ({state}); a number is never used again")

        def is_made(outcome: Round) -> bool:
            made = outcome.wanted.groups.get(group)
            return made is not None and made.state is GroupState.PRESENT

        outcome = self._until(is_made, f"group {group} to be made", timeout_s)
        names = {m.spec.member_id: m.spec.name for m in outcome.wanted.members.values()}
        return tuple(sorted(names[v.member_id] for v in outcome.wanted.groups[group].spec.voters))

    def drop_group(self, group: int, *, timeout_s: float = 60.0) -> None:
        """Take a group from all members, with its data, for ever.

        Args:
            group: Its number.
            timeout_s: How long until no member has it.
        """
        self._change(DropGroup(group))

        def is_dropped(outcome: Round) -> bool:
            return outcome.wanted.groups[group].state is GroupState.GONE

        self._until(is_dropped, f"group {group} to be dropped", timeout_s)

    def place_group(
        self, group: int, members: Sequence[str], *, timeout_s: float = 120.0
    ) -> tuple[str, ...]:
        """Have just these members vote in a group, and keep it so.

        Args:
            group: Its number.
            members: Their names; none: whoever spreads the groups may choose, from here on.
            timeout_s: How long until it is so.

        Returns:
            Names of the voters.
        """
        placed = tuple(sorted(members))
        self._change(PlaceGroup(group, placed))
        if not placed:
            return self._memberships_of(group)

        def is_placed(outcome: Round) -> bool:
            seen = outcome.seen.groups.get(group)
            return seen is not None and seen.voters == placed

        self._until(is_placed, f"group {group} to be at {', '.join(placed)}", timeout_s)
        return placed

    def spread(self, *, timeout_s: float = 300.0) -> int:
        """Move groups until all members have equally many, to within one.

        Args:
            timeout_s: For all of it.

        Returns:
            How many changes it took.
        """
        changes = 0

        def is_even(outcome: Round) -> bool:
            nonlocal changes
            changes += len(outcome.taken)
            return outcome.is_settled

        self._until(is_even, "the groups to be spread", timeout_s, spreads=True)
        return changes

    # Observing.

    def observe(self, is_on: bool, *, timeout_s: float = ANSWER_TIMEOUT_S) -> tuple[str, ...]:
        """Have all roles count, time and remember what they do from here on, or not.

        It is in the roles' memory only: one that starts again, and a member that joins, does as
        `observability.enabled` says. It needs no majority of anything, and writes nothing.

        Args:
            is_on: Whether they are to.
            timeout_s: For all of them together.

        Returns:
            Names of the members, all of whose roles do as ordered.

        Raises:
            ClusterError: Some were not reached, and are named; all others do as ordered. Who was
                only late may do so yet.
        """
        roster = self._administration.roster
        roster.look(at_once=True)
        gone: set[str] = set()
        with suppress(PaxosError):
            wanted = self._system.last_known(timeout_s=GONE_TIMEOUT_S)
            members = wanted.members.values()
            gone = {each.spec.name for each in members if each.state is MemberState.GONE}
        names = tuple(name for name in roster.ids if name not in gone)
        missed = self._administration.observe(names, is_on, timeout_s)
        if missed:
            problems = "; ".join(f"{place}: {why}" for place, why in missed.items())
            raise ClusterError(
                f"observing was switched {'on' if is_on else 'off'}, but not everywhere: "
                f"{problems}. What starts again does as observability.enabled says: give the order "
                "again once it serves"
            )
        return names

    # Helpers.

    def _memberships_of(self, group: int) -> tuple[str, ...]:
        found = self._memberships.latest(group)
        if found is None:
            raise MembershipError(f"no member that has group {group} answers")
        return found.voters

    def _new_group(
        self, wanted: Wanted, group: int, voters: int, machines: Mapping[str, str] | None
    ) -> GroupSpec:
        checked = _checked_group(group, voters, machines)
        seen = self.look()
        present = {member.spec.name: member.spec for member in wanted.present}
        able = present.keys() - seen.going
        places = {name: place for name, place in seen.places.items() if name in able}
        if voters > len(places):
            raise MembershipError(
                f"group {group}: {voters} voters; there are {len(places)} members that answer and "
                "may have it, and each votes once"
            )
        held = Counter(name for each in seen.groups.values() for name in each.voters)
        specs = [present[name] for name in spread({group: voters}, places, held)[group]]
        of_genesis = {each.member_id for each in self._spec.decoded_genesis().members}
        joined = tuple(spec for spec in specs if spec.member_id not in of_genesis)
        return GroupSpec(
            group, first_voters(specs), checked.machine_specs(wanted.cluster_version), joined=joined
        )

    def _choose_node(self, name: str, pin: Pin, nodes: Sequence[RayNode]) -> str:
        members = self._administration.statuses()
        used = {m.name: m.roles["learner"].node_id for m in members if m.roles["learner"].node_id}
        staying = [node for node in nodes if not node.is_going]
        free = [node for node in staying if node.node_id not in used.values()]
        candidates = [n for n in free if pin.allows(n)] or [n for n in staying if pin.allows(n)]
        return choose_nodes({name: pin}, candidates or nodes)[name]

    def _change(self, change: Change) -> None:
        try:
            self._system.change(change)
        except CommandError as error:
            raise MembershipError(f"{error}; nothing was changed") from error

    def _reconciler(self, *, spreads: bool) -> Reconciler:
        settings = dataclasses.replace(self._spec.controller, spreads=spreads, grows=False)
        return Reconciler(
            self._spec, self._administration, self._memberships, self._system, settings
        )

    def _until(
        self,
        holds: Callable[[Round], bool],
        what: str,
        timeout_s: float,
        *,
        spreads: bool = False,
    ) -> Round:
        """Run rounds until something holds.

        Raises:
            MembershipError: It did not in time.
        """
        reconciler = self._reconciler(spreads=spreads)
        deadline = time.monotonic() + timeout_s
        while True:
            outcome = reconciler.run_round()
            if holds(outcome):
                return outcome
            if time.monotonic() >= deadline:
                why = "; ".join(sorted(set(outcome.failed.values()))) or "nothing can be done now"
                raise MembershipError(
                    f"waited {timeout_s:g} s for {what}, which still stands and is gone on with "
                    f"when it is ordered again: {why}"
                )
            if not outcome.taken:
                time.sleep(PAUSE_S)


def _state_of(name: str, state: MemberState) -> Callable[[Round], bool]:
    def holds(outcome: Round) -> bool:
        member: WantedMember | None = outcome.wanted.members.get(name)
        return member is not None and member.state is state

    return holds


def _is_ending(wanted: Wanted, name: str) -> bool:
    """Whether an earlier order has got so far that the member can stay no more: it is gone on with.

    To leave would be refused by then, for it is not there any more.
    """
    member = wanted.members.get(name)
    return member is not None and member.state is MemberState.ENDING


def _check_may_leave(wanted: Wanted, name: str, successor: str) -> None:
    """Refuse, before a successor is made, what would be refused afterwards."""
    if _is_ending(wanted, name):
        return
    try:
        if successor not in wanted.members:
            wanted = changed_wanted(wanted, JoinMember(new_member(successor, "")))
        if wanted.members[successor].state is MemberState.JOINING:
            wanted = changed_wanted(wanted, MemberJoined(successor))
        changed_wanted(wanted, LeaveMember(name))
    except CommandError as error:
        raise MembershipError(f"{error}; nothing was changed") from error


def _checked_group(
    group: int, voters: int, machines: Mapping[str, str] | None
) -> GroupConfiguration:
    """A new group, as a configuration file would have it."""
    fields: dict[str, Any] = {"group": group, "voters": voters}
    if machines is not None:
        fields["machines"] = dict(machines)
    try:
        return GroupConfiguration(**fields)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigurationError("; ".join(problems)) from error

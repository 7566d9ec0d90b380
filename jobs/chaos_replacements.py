"""Faults that a reconciler gets over: members replaced for good, and its controller killed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from chaos_account import Account
from chaos_changes import CHANGE_S, ChangedCluster, Changes, give_again
from chaos_cluster import CONTROLLER, Members
from chaos_gaps import SECOND_NS
from chaos_plan import FaultKind, PlannedFault, choose_group, choose_member
from chaos_voters import Change
from chaos_waiting import Waiting
from ray_paxos.core.wanted import MemberState

MIDDLE_S = 3.0
"""Within so long after an order its controller is killed: what is ordered takes about as long."""


class Replacements:
    """Members that replace others, and the controller that carries it out."""

    def __init__(
        self,
        account: Account,
        cluster: ChangedCluster,
        members: Members,
        groups: Sequence[int],
        changes: Changes,
        waiting: Waiting,
        *,
        is_replacing: bool,
    ) -> None:
        """Replace members of a cluster.

        Args:
            account: Of faults.
            cluster: Whose members they are.
            members: To kill the controller.
            groups: Whose masters are aimed at.
            changes: Makes them while other faults go on.
            waiting: Does what is to be done later.
            is_replacing: Whether members may be replaced.
        """
        self._account = account
        self._cluster = cluster
        self._members = members
        self._groups = groups
        self._changes = changes
        self._waiting = waiting
        self._is_replacing = is_replacing
        self._used: set[str] = set()
        self._under_way = ""

    def avoid(self, names: Collection[str]) -> None:
        """Give no new member one of these names: they were used before."""
        self._used.update(names)

    def replace(self, fault: PlannedFault) -> bool:
        """Order that a new member takes over what another has; False where none can now."""
        account, voters = self._account, self._account.voters
        if self._under_way:
            return False
        harmed, cuts = account.harmed, account.cuts
        successor = self._new_name()
        choices = {
            member: self._choices(member, successor)
            for member in voters.members
            if member not in harmed and not voters.is_changing(member)
        }
        allowed = [
            member
            for member, changes in choices.items()
            if voters.may_change(changes, {*harmed, successor}, cuts)
        ]
        master = account.masters.get(choose_group(fault, self._groups))
        member = choose_member(fault, allowed, master=master)
        if member is None:
            return False
        start_ns = account.clock_ns()
        self._used.add(successor)
        self._under_way = f"{member} is replaced by {successor}"
        account.site_of[successor] = account.site(member)
        voters.replace(member, successor)
        self._changes.begin(
            FaultKind.REPLACE_MEMBER,
            f"{member}{account.leads(member)} by {successor}",
            start_ns,
            choices[member],
            lambda: give_again(lambda: self._order(member, successor), self._changes.is_over),
            on_done=lambda: self._end(member, successor),
        )
        account.watch()
        return True

    def _choices(self, member: str, successor: str) -> list[Change]:
        """What may come of it: whoever has not a group may be given it, and the new one first."""
        voters = self._account.voters
        return [
            Change(group, joins=name, leaves=member)
            for group in voters.groups_of(member)
            for name in (successor, *voters.members)
            if name not in voters.of(group)
        ]

    def _new_name(self) -> str:
        number = 1
        while (name := f"r{number}") in self._used:
            number += 1
        return name

    def _order(self, member: str, successor: str) -> None:
        """In a thread; again where it broke off."""
        operations = self._cluster.operations
        pinned = operations.wanted().members[member]
        if pinned.state is MemberState.GONE:
            # The controller went on with an order that had too little time.
            return
        operations.replace_member(
            member,
            successor,
            labels=dict(pinned.labels),
            resource=pinned.resource,
            timeout_s=CHANGE_S,
        )

    def _end(self, member: str, successor: str) -> None:
        self._account.voters.has_replaced(member, successor)
        self._account.watch()
        self._under_way = ""

    def kill_controller(self, fault: PlannedFault) -> bool:
        """Kill the controller, or order something and kill it then; False where none is there."""
        account = self._account
        if CONTROLLER not in account.sight.lives:
            return False
        if self._is_replacing and fault.is_transfer and self.replace(fault):
            due_ns = account.clock_ns() + int(fault.draw * MIDDLE_S * SECOND_NS)
            self._waiting.later(due_ns, lambda: self._kill_in_the_middle())
            return True
        return self._kill()

    def _kill_in_the_middle(self) -> None:
        self._account.look()
        if not self._kill():
            start_ns = self._account.clock_ns()
            refusal = "it was being started"
            self._account.note(FaultKind.KILL_CONTROLLER, "", start_ns, refusal=refusal)

    def _kill(self) -> bool:
        account = self._account
        life = account.sight.lives.get(CONTROLLER)
        start_ns = account.clock_ns()
        if life is None or not self._members.kill([life]):
            return False
        account.bury([life])
        what = f"while {self._under_way}" if self._under_way else "at any moment"
        account.note(FaultKind.KILL_CONTROLLER, what, start_ns, places=[CONTROLLER])
        return True

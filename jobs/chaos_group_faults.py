"""Faults of groups: who leads one, who has one, and a member that all have to do without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from chaos_account import Account, of_member
from chaos_changes import ChangedCluster, Changes
from chaos_cluster import Members
from chaos_plan import (
    VOTERS_MIN,
    PlannedFault,
    choose_group,
    choose_member,
    choose_successor,
)
from chaos_voters import Change
from ray_paxos.errors import PaxosError, TransferError

TRANSFER_S = 5.0


class LedCluster(ChangedCluster, Protocol):
    """What this module needs of a `ray_paxos.Cluster`."""

    @property
    def members(self) -> Sequence[str]:
        """Their names."""

    def drop_master(self, group: int, *, timeout_s: float) -> str | None:
        """Have the master give up the lead."""

    def transfer_master(self, member: str, group: int, *, timeout_s: float) -> None:
        """Have the master hand over."""


class GroupFaults:
    """Who leads a group, and who has it."""

    def __init__(
        self,
        account: Account,
        cluster: LedCluster,
        members: Members,
        groups: Sequence[int],
        changes: Changes,
    ) -> None:
        """Change these groups.

        Args:
            account: Of faults.
            cluster: Whose groups they are.
            members: Of the cluster.
            groups: Their numbers.
            changes: Makes them while other faults go on.
        """
        self._account = account
        self._cluster = cluster
        self._members = members
        self._groups = groups
        self._changes = changes
        self.wiped: list[str] = []

    def drop_master(self, fault: PlannedFault) -> bool:
        """Have a group's master give up the lead."""
        group = choose_group(fault, self._groups)
        master = self._account.masters.get(group)
        voters = [m for m in self._account.voters.members if m in self._account.voters.of(group)]
        successor = choose_successor(fault, voters, master)
        what = f"{master or 'the master'} to {successor or 'anybody'}"
        if len(self._groups) > 1:
            what = f"group {group}: {what}"
        start_ns = self._account.clock_ns()
        refusal = ""
        try:
            if successor is None:
                self._cluster.drop_master(group, timeout_s=TRANSFER_S)
            else:
                self._cluster.transfer_master(successor, group, timeout_s=TRANSFER_S)
        except TransferError as error:
            refusal = str(error)
        except PaxosError as error:
            refusal = f"{type(error).__name__}: {error}"
        self._account.note(fault.kind, what, start_ns, refusal=refusal)
        return True

    def change(self, fault: PlannedFault) -> bool:
        """Begin a change of a group's members; False where there can be one only later."""
        account = self._account
        chosen = account.voters.choose_change(
            fault,
            self._groups,
            whole={m for m in account.voters.members if account.is_member_whole(m)}
            - account.voters.replaced,
            harmed=account.harmed,
            cuts=account.cuts,
            masters=account.masters,
        )
        if chosen is None:
            return False
        start_ns = account.clock_ns()
        if isinstance(chosen, str):
            account.note(fault.kind, "no group", start_ns, refusal=chosen)
            return True
        self._changes.make(fault.kind, f"{chosen}", start_ns, [chosen])
        return True

    def wipe(self, fault: PlannedFault) -> bool:
        """Kill a member, delete its folder, and have the others remove it from its groups."""
        account, voters = self._account, self._account.voters
        spare = [m for m in voters.members if voters.can_spare(m, VOTERS_MIN)]
        if not spare:
            text = f"a group of every member would have fewer than {VOTERS_MIN} voters"
            account.note(fault.kind, "no member", account.clock_ns(), refusal=text)
            return True
        harmed = account.harmed
        allowed = [
            m for m in spare
            if m not in harmed
            and voters.may_harm({*harmed, m}, account.cuts)
            and not voters.is_changing(m)
        ]  # fmt: skip
        master = account.masters.get(choose_group(fault, self._groups))
        member = choose_member(fault, allowed, master=master)
        if member is None:
            return False
        start_ns = account.clock_ns()
        lives = [life for place, life in account.killable().items() if place[0] == member]
        what = f"{member}{account.leads(member)}"
        if not self._members.wipe(member, lives):
            return False
        account.bury(lives)
        account.forget_pauses(of_member(member))
        changes = [Change(group, leaves=member) for group in voters.groups_of(member)]
        voters.lose(member)
        self.wiped.append(member)
        self._changes.make(fault.kind, what, start_ns, changes)
        return True

    def stay_out(self) -> list[str]:
        """What is wrong with members whose folders are gone: they are to refuse, by name."""
        sight = self._account.sight
        problems = []
        for member in self.wiped:
            place = member, "acceptor"
            reason = sight.refusals.get(place) or sight.stopped.get(f"{member}/acceptor")
            if place in sight.lives:
                problems.append(f"{member} votes again, though its folder was deleted")
            elif not reason:
                problems.append(f"{member} does not say why it stays out")
        return problems

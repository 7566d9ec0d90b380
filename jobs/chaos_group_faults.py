"""Faults of groups: who leads one, who has one, and a member that all have to do without.

Changes of members take a while, so they are made in threads, while other faults go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future
from typing import Protocol

from chaos_account import Account, OpenFault, of_member
from chaos_cluster import Members
from chaos_plan import (
    VOTERS_MIN,
    FaultKind,
    PlannedFault,
    choose_group,
    choose_member,
    choose_successor,
)
from chaos_voters import Change
from ray_paxos.errors import PaxosError, TransferError

TRANSFER_S = 5.0
CHANGE_S = 60.0


class NamedMembers(Protocol):
    """What this module needs of `ray_paxos.actors.memberships.GroupMembers`."""

    @property
    def voters(self) -> tuple[str, ...]:
        """Their names."""

    @property
    def followers(self) -> tuple[str, ...]:
        """Their names."""


class ChangedGroup(Protocol):
    """What this module needs of a `ray_paxos.Group`."""

    def members(self) -> NamedMembers:
        """Who has it."""

    def add(self, member: str, *, timeout_s: float) -> NamedMembers:
        """Give it to a member, as a follower."""

    def promote(self, member: str, *, timeout_s: float) -> NamedMembers:
        """Let a follower vote."""

    def remove(self, member: str, *, timeout_s: float) -> NamedMembers:
        """Take it from a member."""

    def move(self, source: str, target: str, *, timeout_s: float) -> NamedMembers:
        """Have a member take another one's place."""


class LedCluster(Protocol):
    """What this module needs of a `ray_paxos.Cluster`."""

    @property
    def members(self) -> Sequence[str]:
        """Their names."""

    def drop_master(self, group: int, *, timeout_s: float) -> str | None:
        """Have the master give up the lead."""

    def transfer_master(self, member: str, group: int, *, timeout_s: float) -> None:
        """Have the master hand over."""

    def group(self, group: int) -> ChangedGroup:
        """One group, to see and change who has it."""


class GroupFaults:
    """Who leads a group, and who has it."""

    def __init__(
        self,
        account: Account,
        cluster: LedCluster,
        members: Members,
        groups: Sequence[int],
        executor: Executor,
    ) -> None:
        """Change these groups.

        Args:
            account: Of faults.
            cluster: Whose groups they are.
            members: Of the cluster.
            groups: Their numbers.
            executor: Makes changes while other faults go on.
        """
        self._account = account
        self._cluster = cluster
        self._members = members
        self._groups = groups
        self._executor = executor
        self._under_way: list[tuple[OpenFault, list[int], Future[None]]] = []
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
            whole={m for m in account.voters.members if account.is_member_whole(m)},
            harmed=account.harmed,
            masters=account.masters,
        )
        if chosen is None:
            return False
        start_ns = account.clock_ns()
        if isinstance(chosen, str):
            account.note(fault.kind, "no group", start_ns, refusal=chosen)
            return True
        self._begin(fault.kind, f"{chosen}", start_ns, [chosen])
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
            if m not in harmed and voters.may_harm({*harmed, m}) and not voters.is_changing(m)
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
        self._begin(fault.kind, what, start_ns, changes)
        return True

    def _begin(self, kind: FaultKind, what: str, start_ns: int, changes: Sequence[Change]) -> None:
        opened = self._account.note(kind, what, start_ns, is_done=False)
        for change in changes:
            self._account.voters.begin(change)
        future = self._executor.submit(self._make, list(changes))
        self._under_way.append((opened, [change.group for change in changes], future))

    def _make(self, changes: Sequence[Change]) -> None:
        """In a thread of the executor."""
        for change in changes:
            group = self._cluster.group(change.group)
            if change.joins is not None and change.leaves is not None:
                group.move(change.leaves, change.joins, timeout_s=CHANGE_S)
            elif change.joins is not None:
                group.add(change.joins, timeout_s=CHANGE_S)
                group.promote(change.joins, timeout_s=CHANGE_S)
            elif change.leaves is not None:
                group.remove(change.leaves, timeout_s=CHANGE_S)

    def settle(self) -> None:
        """Take note of the changes that have ended."""
        for each in [each for each in self._under_way if each[2].done()]:
            self._under_way.remove(each)
            opened, groups, future = each
            refusal = ""
            try:
                future.result()
            except PaxosError as error:
                refusal = f"{type(error).__name__}: {error}"
                self._account.tell(opened, refusal)
            for group in groups:
                self._see(group, is_sure=not refusal)
            opened.is_done = True

    def _see(self, group: int, *, is_sure: bool) -> None:
        voters = self._account.voters
        try:
            seen = self._cluster.group(group).members().voters
        except PaxosError:
            seen, is_sure = tuple(voters.of(group)), False
        voters.end(group, seen, is_sure=is_sure)

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

"""Changes of who has which group, made in threads while other faults go on.

Each is made *directly*, by the group's own master, or *ordered*: where a reconciler runs, it would
undo what it was not told of. An order places the group and then gives it free again, by which as
many voters stay wanted as it has; it is given again until it is done, as it stands meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from chaos_account import Account, OpenFault
from chaos_plan import FaultKind
from chaos_voters import Change
from ray_paxos.core.wanted import MemberState
from ray_paxos.errors import PaxosError

CHANGE_S = 60.0
ORDERS_S = 300.0
"""How long an order is given again and again."""
AGAIN_S = 0.5


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


class PinnedMember(Protocol):
    """What this module needs of a `ray_paxos.core.wanted.WantedMember`."""

    @property
    def labels(self) -> tuple[tuple[str, str], ...]:
        """Of the node with its disk."""

    @property
    def resource(self) -> str:
        """The custom resource of that node."""

    @property
    def state(self) -> MemberState:
        """How far it is."""


class WantedCluster(Protocol):
    """What this module needs of a `ray_paxos.core.wanted.Wanted`."""

    @property
    def members(self) -> Mapping[str, PinnedMember]:
        """All that there ever were, by name."""


class Orders(Protocol):
    """What this module needs of `ray_paxos.Operations`."""

    def wanted(self) -> WantedCluster:
        """What is wanted of the cluster."""

    def place_group(
        self, group: int, members: Sequence[str], *, timeout_s: float
    ) -> tuple[str, ...]:
        """Have just these members vote in a group; none: as many as do."""

    def replace_member(
        self,
        name: str,
        successor: str,
        *,
        labels: Mapping[str, str] | None,
        resource: str,
        timeout_s: float,
    ) -> None:
        """Have a new member take over what another one has."""


class ChangedCluster(Protocol):
    """What this module needs of a `ray_paxos.Cluster`."""

    def group(self, group: int) -> ChangedGroup:
        """One group, to see and change who has it."""

    @property
    def operations(self) -> Orders:
        """Takes orders."""


def give_again(order: Callable[[], object], is_over: threading.Event) -> None:
    """Give an order until it is done.

    Args:
        order: Gives it once.
        is_over: Set where it is not to be given again.

    Raises:
        PaxosError: It was not done in time.
    """
    deadline = time.monotonic() + ORDERS_S
    while True:
        try:
            order()
            return
        except PaxosError:
            if time.monotonic() >= deadline or is_over.wait(AGAIN_S):
                raise


def place(
    cluster: ChangedCluster,
    group: int,
    voters: Collection[str],
    is_over: threading.Event | None = None,
) -> None:
    """Order that these vote in a group, and no more and no fewer from then on.

    Args:
        cluster: Whose group it is.
        group: Its number.
        voters: Names.
        is_over: As of `give_again`.

    Raises:
        PaxosError: It was not done in time.
    """
    orders = cluster.operations
    for members in (sorted(voters), ()):
        order = partial(orders.place_group, group, members, timeout_s=CHANGE_S)
        give_again(order, is_over or threading.Event())


@dataclass
class _UnderWay:
    """One fault whose changes are being made."""

    opened: OpenFault
    groups: Collection[int]
    future: Future[None]
    on_done: Callable[[], None]


class Changes:
    """Those that are under way.

    Attributes:
        is_over: Set where orders are not to be given again.
    """

    def __init__(
        self, account: Account, cluster: ChangedCluster, executor: Executor, *, is_ordered: bool
    ) -> None:
        """Nothing is under way.

        Args:
            account: Of faults.
            cluster: Whose groups they are.
            executor: Makes changes while other faults go on.
            is_ordered: Whether a reconciler runs.
        """
        self._account = account
        self._cluster = cluster
        self._executor = executor
        self._is_ordered = is_ordered
        self._under_way: list[_UnderWay] = []
        self.is_over = threading.Event()

    def make(
        self, kind: FaultKind, what: str, start_ns: int, changes: Sequence[Change]
    ) -> OpenFault:
        """Begin to make changes, one after the other, each of another group."""
        voters = self._account.voters
        target = {
            change.group: list(change.steps(voters.of(change.group)))[-1] for change in changes
        }

        def work() -> None:
            for change in changes:
                if self._is_ordered:
                    place(self._cluster, change.group, target[change.group], self.is_over)
                else:
                    self._make_directly(change)

        return self.begin(kind, what, start_ns, changes, work)

    def begin(
        self,
        kind: FaultKind,
        what: str,
        start_ns: int,
        changes: Sequence[Change],
        work: Callable[[], None],
        *,
        on_done: Callable[[], None] = lambda: None,
    ) -> OpenFault:
        """Begin some work.

        Args:
            kind: Of the fault.
            what: For a person.
            start_ns: Of the fault.
            changes: What may come of it; several of one group are alternatives.
            work: Called in a thread; a `PaxosError` of it is a refusal.
            on_done: Called in the injector's thread where the work was done.
        """
        opened = self._account.note(kind, what, start_ns, is_done=False)
        self._account.voters.begin(*changes)
        groups = dict.fromkeys(change.group for change in changes)
        future = self._executor.submit(work)
        self._under_way.append(_UnderWay(opened, groups, future, on_done))
        return opened

    def _make_directly(self, change: Change) -> None:
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
        for each in [each for each in self._under_way if each.future.done()]:
            self._under_way.remove(each)
            is_sure = True
            try:
                each.future.result()
            except PaxosError as error:
                is_sure = False
                self._account.tell(each.opened, f"{type(error).__name__}: {error}")
            else:
                each.on_done()
            self._see(each.groups, is_sure=is_sure)
            each.opened.is_done = True

    def _see(self, groups: Iterable[int], *, is_sure: bool) -> None:
        voters = self._account.voters
        for group in groups:
            try:
                seen = self._cluster.group(group).members().voters
            except PaxosError:
                voters.end(group, voters.of(group), is_sure=False)
            else:
                voters.end(group, seen, is_sure=is_sure)

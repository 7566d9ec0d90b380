"""Who votes in which group while its members are changed, and who may be harmed then; pure.

While a change is under way, or when it is not known what became of it, a group may be in any of
several configurations: before it, after it, or at a step between. A member may be harmed, and a
link be cut, only if each of them can serve all the same (`chaos_cuts.can_serve`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from chaos_cuts import Pair, can_serve
from chaos_plan import VOTERS_MIN, FaultKind, PlannedFault, choose_group, choose_member

Voters = frozenset[str]


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one group's members.

    Attributes:
        group: Which.
        joins: The member that is to vote; None for none.
        leaves: The member that is to have the group no more; None for none.
    """

    group: int
    joins: str | None = None
    leaves: str | None = None

    def __str__(self) -> str:
        """For a person."""
        if self.joins is None:
            return f"group {self.group}: {self.leaves} leaves"
        if self.leaves is None:
            return f"group {self.group}: {self.joins} joins"
        return f"group {self.group}: from {self.leaves} to {self.joins}"

    def steps(self, voters: Voters) -> Iterator[Voters]:
        """The voters after each of its steps."""
        if self.joins is not None:
            voters = voters | {self.joins}
            yield voters
        if self.leaves is not None:
            yield voters - {self.leaves}


class GroupVoters:
    """The voters of all groups, as far as they are known.

    Invariant: of every group there is at least one configuration that it may be in.

    Attributes:
        replaced: Members that are being replaced, and those that replace them.
    """

    def __init__(self, members: Sequence[str], voters: Mapping[int, Collection[str]]) -> None:
        """Begin with these voters, by group."""
        self._members = tuple(members)
        self._possible = {group: [frozenset(names)] for group, names in voters.items()}
        self._changing: set[int] = set()
        self._gone: set[str] = set()
        self.replaced: set[str] = set()

    # What is so.

    @property
    def all_members(self) -> tuple[str, ...]:
        """All members, those that are gone for good included."""
        return self._members

    @property
    def members(self) -> tuple[str, ...]:
        """All members but those that are gone for good."""
        return tuple(name for name in self._members if name not in self._gone)

    def of(self, group: int) -> Voters:
        """The voters of a group, as they were known last."""
        return self._possible[group][-1]

    def groups_of(self, member: str) -> list[int]:
        """The groups that a member may vote in."""
        return [group for group, sets in self._possible.items() if any(member in v for v in sets)]

    def may_harm(self, harmed: Collection[str], cuts: Collection[Pair] = ()) -> bool:
        """Whether all these may be harmed together, while those pairs do not hear each other."""
        return all(
            can_serve(voters, harmed, cuts)
            for configurations in self._possible.values()
            for voters in configurations
        )

    def harmable(self, harmed: Collection[str], cuts: Collection[Pair] = ()) -> list[str]:
        """Those of whom one more may be harmed, or is already."""
        return [
            name for name in self.members if name in harmed or self.may_harm({*harmed, name}, cuts)
        ]

    def may_change(
        self, changes: Iterable[Change], harmed: Collection[str], cuts: Collection[Pair]
    ) -> bool:
        """Whether groups can serve after each step of each of these, with these harmed and cut."""
        return all(
            can_serve(voters, harmed, cuts)
            for change in changes
            for voters in change.steps(self.of(change.group))
        )

    def can_spare(self, member: str, voters_min: int) -> bool:
        """Whether all of its groups have so many voters without it."""
        return all(
            len(voters - {member}) >= voters_min
            for configurations in self._possible.values()
            for voters in configurations
            if member in voters
        )

    def is_changing(self, member: str) -> bool:
        """Whether a change of one of its groups is under way."""
        return any(group in self._changing for group in self.groups_of(member))

    # What changes.

    def begin(self, *changes: Change) -> None:
        """A change of each of these groups is under way; of one group it may be any of several."""
        before = {change.group: self.of(change.group) for change in changes}
        self._changing |= before.keys()
        for change in changes:
            self._possible[change.group] += change.steps(before[change.group])

    def end(self, group: int, voters: Collection[str], *, is_sure: bool) -> None:
        """A change has ended.

        Args:
            group: Whose.
            voters: As they were seen last.
            is_sure: Whether an order of it cannot be carried out any more.
        """
        self._changing.discard(group)
        seen = frozenset(voters)
        self._possible[group] = [seen] if is_sure else [*self._possible[group], seen]

    def lose(self, member: str) -> None:
        """A member is gone for good, and harmed for ever in the groups that it still votes in."""
        self._gone.add(member)

    def replace(self, member: str, successor: str) -> None:
        """A new member comes, which votes nowhere yet, to take the place of another one."""
        self._members = (*self._members, successor)
        self.replaced |= {member, successor}

    def has_replaced(self, member: str, successor: str) -> None:
        """The other one has ended, and has no group any more."""
        self._members = tuple(name for name in self._members if name != member)
        self.replaced -= {member, successor}

    # What may be changed next.

    def choose_change(
        self,
        fault: PlannedFault,
        groups: Iterable[int],
        *,
        whole: Collection[str],
        harmed: Collection[str],
        cuts: Collection[Pair] = (),
        masters: Mapping[int, str],
    ) -> Change | str | None:
        """The change that a fault makes.

        Args:
            fault: Of `OF_GROUPS`.
            groups: That may be changed.
            whole: Members whose roles all serve.
            harmed: Members that are not whole.
            cuts: Pairs of members that do not hear each other.
            masters: Who leads, by group.

        Returns:
            The change; why there is none for this fault; or None where there may be one later.
        """
        possible = {group: self._changes(fault.kind, group) for group in groups}
        if not any(possible.values()):
            return _why_not(fault.kind)
        now = {
            group: [c for c in changes if self._is_possible_now(c, whole, harmed, cuts)]
            for group, changes in possible.items()
            if group not in self._changing
        }
        open_groups = [group for group, changes in now.items() if changes]
        if not open_groups:
            return None
        group = choose_group(fault, open_groups)
        return _choose(fault, now[group], masters.get(group))

    def _changes(self, kind: FaultKind, group: int) -> list[Change]:
        voters = self.of(group)
        joining = [name for name in self.members if name not in voters]
        leaving = [name for name in self.members if name in voters]
        if kind is FaultKind.ADD_MEMBER:
            return [Change(group, joins=name) for name in joining]
        if kind is FaultKind.REMOVE_MEMBER:
            has_room = len(voters) > VOTERS_MIN
            return [Change(group, leaves=name) for name in leaving] if has_room else []
        return [Change(group, joins=j, leaves=name) for name in leaving for j in joining]

    def _is_possible_now(
        self,
        change: Change,
        whole: Collection[str],
        harmed: Collection[str],
        cuts: Collection[Pair],
    ) -> bool:
        if change.joins is not None and change.joins not in whole:
            return False
        return self.may_change((change,), harmed, cuts)


def _choose(fault: PlannedFault, changes: Sequence[Change], master: str | None) -> Change:
    leaving = sorted({change.leaves for change in changes if change.leaves is not None})
    leaves = choose_member(fault, leaving, master=master)
    matching = [change for change in changes if change.leaves == leaves]
    # Another draw than the one above would be better spread, but not more telling.
    return matching[int(fault.draw * len(matching))]


def _why_not(kind: FaultKind) -> str:
    if kind is FaultKind.REMOVE_MEMBER:
        return f"no group has more than {VOTERS_MIN} voters"
    return "every member has every group"

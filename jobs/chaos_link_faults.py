"""Faults of links between hosts, of a Ray cluster whose hosts the run made itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence

from chaos_account import Account, OpenFault, of_members
from chaos_cluster import Links
from chaos_cuts import Directions, Pair, choose_cut
from chaos_gaps import SECOND_NS
from chaos_plan import PlannedFault, choose_group
from chaos_waiting import Waiting

CUT_S_MAX = 15.0
"""Ray gives up a node that the head has not heard of for longer (`chaos_hosts`)."""


class LinkFaults:
    """What happens to links."""

    def __init__(
        self,
        account: Account,
        links: Links,
        groups: Sequence[int],
        waiting: Waiting,
        *,
        lease_s: float,
        down: Collection[str],
    ) -> None:
        """Aim at the hosts of the masters of these groups.

        Args:
            account: Of faults.
            links: Between hosts.
            groups: Their numbers.
            waiting: Does what is to be done later.
            lease_s: For how long a master believes in its lease.
            down: Nodes that are not there: none of them can be started where it is cut off.
        """
        self._account = account
        self._links = links
        self._groups = groups
        self._waiting = waiting
        self._lease_s = lease_s
        self._down = down
        self._lost: dict[int, Directions] = {}
        """By fault: what is lost now."""

    def hit(self, fault: PlannedFault) -> bool:
        """Cut links, and mend them later; False where none may be cut now."""
        account = self._account
        sites = list(dict.fromkeys(map(account.site, account.voters.members)))
        master = account.masters.get(choose_group(fault, self._groups))
        cut = choose_cut(
            fault,
            sites,
            master=None if master is None else account.site(master),
            can_serve=self._can_serve,
            is_head_allowed=lambda site: site not in self._down,
        )
        if cut is None:
            return False
        start_ns = account.clock_ns()
        cut_s = min(fault.pause_s * self._lease_s, CUT_S_MAX)
        aimed = "" if master is None else f"; {master}{account.leads(master)}"
        opened = account.note(
            fault.kind,
            f"{cut.what} for {cut_s:.1f} s{aimed}",
            start_ns,
            places=of_members(self._members_at(cut.harmed)),
            is_done=False,
        )
        opened.cuts = self._members_of(cut.pairs)
        if cut.is_from_head:
            opened.unreachable = frozenset(self._members_at(cut.harmed))
        self._lose(opened, cut.steps[0])
        step_ns = int(cut_s / len(cut.steps) * SECOND_NS)
        for number, lost in enumerate(cut.steps[1:], 1):
            self._waiting.later(start_ns + number * step_ns, self._losing(opened, lost))
        end_ns = start_ns + int(cut_s * SECOND_NS)
        self._waiting.later(end_ns, lambda: self._mend(opened))
        return True

    def _losing(self, opened: OpenFault, lost: Directions) -> Callable[[], None]:
        return lambda: self._lose(opened, lost)

    def _lose(self, opened: OpenFault, lost: Directions) -> None:
        self._lost[id(opened)] = lost
        self._links.lose(frozenset().union(*self._lost.values()))

    def _mend(self, opened: OpenFault) -> None:
        self._lose(opened, frozenset())
        opened.unreachable = frozenset()
        # Of those that could be seen: whoever is furthest was not cut off.
        furthest: dict[int, int] = {}
        learned = self._account.sight.learned
        for (_, group), through in learned.items():
            furthest[group] = max(furthest.get(group, 0), through)
        opened.learned = {
            (member, group): through
            for member in self._account.voters.members
            for group, through in furthest.items()
        }
        opened.is_done = True

    def _can_serve(self, harmed: Collection[str], cuts: Collection[Pair]) -> bool:
        return self._account.can_harm(self._members_at(harmed), self._members_of(cuts))

    def _members_at(self, sites: Collection[str]) -> list[str]:
        return [member for site in sites for member in self._account.members_at(site)]

    def _members_of(self, pairs: Collection[Pair]) -> frozenset[Pair]:
        """The pairs of members at pairs of sites."""
        return frozenset(
            frozenset((a, b))
            for first, second in map(tuple, pairs)
            for a, b in itertools.product(
                self._account.members_at(first), self._account.members_at(second)
            )
        )

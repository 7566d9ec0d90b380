"""Whether what was held was held by no more than may hold it; pure.

1. At one time no more units are known to be held than there are: a holding counts from after it was
   granted until its holder last knew to hold it.
2. No token is given twice. Of two grants, of whatever resource of the group, of which one was told
   before the other was asked for, the later one has the higher token.
3. A holder that knows to hold its resource alone, and writes in that time, is taken by a store that
   refuses lower tokens.
4. Of an election: each epoch has one leader for ever. Who leads, as somebody was told, is who knew
   to lead all that time; and epochs never fall.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from operator import attrgetter

from chaos_checks import some
from chaos_judge_order import highest_before
from chaos_recipe_records import Holding, LeaderSeen, StoreWrite
from ray_paxos.testing.history import History, HistoryRecorder, merge_histories


def check_capacity(holdings: Iterable[Holding], capacities: Mapping[str, int]) -> list[str]:
    """Rule 1.

    Args:
        holdings: Of any resources.
        capacities: Of each resource; of one that is not named, 1.
    """
    by_resource: dict[str, list[Holding]] = defaultdict(list)
    for holding in holdings:
        if holding.known_until_ns > holding.granted_ns:
            by_resource[holding.resource].append(holding)
    found: list[str] = []
    for resource, of_it in by_resource.items():
        capacity = capacities.get(resource, 1)
        held: dict[int, Holding] = {}
        # What ends in the very moment in which another begins does not overlap it.
        edges = sorted(
            [(each.granted_ns, 1, number) for number, each in enumerate(of_it)]
            + [(each.known_until_ns, 0, number) for number, each in enumerate(of_it)]
        )
        for _, begins, number in edges:
            if not begins:
                held.pop(number, None)
                continue
            held[number] = of_it[number]
            if sum(each.units for each in held.values()) > capacity:
                tokens = ", ".join(f"{each.token} of {each.client}" for each in held.values())
                found.append(f"{resource}, tokens {tokens}")
    return some("held at one time by more than may hold it", found)


def check_tokens(holdings: Sequence[Holding]) -> list[str]:
    """Rule 2."""
    owners: dict[int, Holding] = {}
    twice = []
    for holding in holdings:
        other = owners.setdefault(holding.token, holding)
        if other is not holding:
            twice.append(f"{holding.token} to {other.client} and {holding.client}")
    told = [(each.granted_ns, each.token) for each in holdings]
    fallen = [
        f"{later.token} of {later.resource} to {later.client}, after {highest}"
        for later, highest in highest_before(told, [(each.asked_ns, each) for each in holdings])
        if later.token <= highest
    ]
    return [*some("tokens given twice", twice), *some("tokens that fell", fallen)]


def check_writes(writes: Iterable[StoreWrite]) -> list[str]:
    """Rule 3, and that the store did what it is for."""
    highest: dict[str, int] = {}
    refused, taken = [], []
    for write in writes:
        shown = f"{write.resource} by token {write.token}"
        before = highest.get(write.resource, 0)
        if write.is_taken and write.token < before:
            taken.append(f"{shown}, after {before}")
        if not write.is_taken and write.at_ns < write.known_until_ns:
            refused.append(f"{shown}, while it was known to be held")
        if write.is_taken:
            highest[write.resource] = max(before, write.token)
    return [
        *some("refused by token, and their writer was to be alone", refused),
        *some("taken, after a higher token", taken),
    ]


def check_leaders(leads: Sequence[Holding], seen: Sequence[LeaderSeen]) -> list[str]:
    """Rule 4.

    Args:
        leads: Whoever led.
        seen: Who leads, as others were told.
    """
    leaders: dict[tuple[str, int], str] = {}
    double = []
    named = [(lead.resource, lead.token, lead.client) for lead in leads]
    named += [(each.election, each.epoch, each.candidate) for each in seen if each.candidate]
    for election, epoch, candidate in named:
        other = leaders.setdefault((election, epoch), candidate)
        if other != candidate:
            double.append(f"{epoch} of {election}: {other} and {candidate}")
    return [
        *some("epochs with two leaders", double),
        *some("epochs that fell", _fallen_epochs(seen)),
        *some("leaders that nobody was told of", _unseen_leaders(leads, seen)),
    ]


def _fallen_epochs(seen: Sequence[LeaderSeen]) -> list[str]:
    found = []
    for election in sorted({each.election for each in seen}):
        of_it = [each for each in seen if each.election == election and each.candidate]
        told = [(each.told_ns, each.epoch) for each in of_it]
        found += [
            f"{later.epoch} of {election}, after {highest}"
            for later, highest in highest_before(told, [(each.asked_ns, each) for each in of_it])
            if later.epoch < highest
        ]
    return found


def _unseen_leaders(leads: Sequence[Holding], seen: Sequence[LeaderSeen]) -> list[str]:
    """Answers that name another one, or nobody, while somebody knew to lead all that time."""
    found = []
    for election in sorted({each.election for each in seen}):
        of_it = sorted(
            (lead for lead in leads if lead.resource == election), key=attrgetter("granted_ns")
        )
        position = 0
        latest: Holding | None = None
        for each in sorted(
            (each for each in seen if each.election == election), key=attrgetter("asked_ns")
        ):
            while position < len(of_it) and of_it[position].granted_ns < each.asked_ns:
                latest = of_it[position]
                position += 1
            if latest is None or each.told_ns >= latest.known_until_ns:
                continue
            if each.epoch != latest.token:
                found.append(f"epoch {latest.token} of {election}; told was {each.epoch}")
    return found


def check_epochs_of_watches(watches: Mapping[str, Sequence[LeaderSeen]]) -> list[str]:
    """Each watch tells of leaders in the order of their epochs, of each at most once."""
    found = []
    for name, told in watches.items():
        last = 0
        for each in told:
            if each.candidate is None:
                continue
            if each.epoch <= last:
                found.append(f"{name}: {each.epoch} after {last}")
            last = max(last, each.epoch)
    return some("epochs that a watch told out of order, or twice", found)


def history_of_locks(holdings: Iterable[Holding]) -> History:
    """What happened to locks, in the words of the checker's model `lock`.

    Each grant has an owner of its own. A lease that was not given back while it was held may have
    ended at any time after its owner last knew to hold it.
    """
    parts = []
    for number, holding in enumerate(holdings):
        recorder = HistoryRecorder()
        owner, lock = f"{holding.client}/{number}", holding.resource
        acquired = recorder.invoke(owner, "acquire", lock, now_ns=holding.asked_ns)
        recorder.ok(acquired, holding.token, now_ns=holding.granted_ns)
        if holding.was_held and holding.end_asked_ns is not None:
            recorder.invoke(owner, "release", lock, now_ns=holding.end_asked_ns)
        else:
            from_ns = max(holding.known_until_ns, holding.granted_ns)
            recorder.invoke(owner, "release", lock, now_ns=from_ns)
        parts.append(recorder.history())
    return merge_histories(parts)


def hand_overs_ns(holdings: Iterable[Holding]) -> list[int]:
    """From before each was given back until after the next one had it, who had waited for it."""
    by_resource: dict[str, list[Holding]] = defaultdict(list)
    for holding in holdings:
        by_resource[holding.resource].append(holding)
    found = []
    for of_it in by_resource.values():
        of_it.sort(key=attrgetter("token"))
        for before, after in pairwise(of_it):
            end_ns = before.end_asked_ns
            if before.was_held and end_ns is not None and after.asked_ns < end_ns:
                found.append(max(after.granted_ns - end_ns, 0))
    return found

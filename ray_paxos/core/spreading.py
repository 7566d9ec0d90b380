"""Which members vote in which groups: spread evenly, and moved as little as can be; pure.

Rules, in this order:

1. Nobody votes twice in a group, and only members that may be given groups are chosen.
2. Voters of one group are in as many zones as there are, and on machines of their own where there
   are enough: a *place* is a zone and a machine, and a group avoids the zones, then the machines,
   that it has already.
3. All members have equally many groups, to within one.
4. What is there stays. A voter is moved only off a member that is to have no groups, or where
   members differ by more than one group; each such move brings two of them nearer by one, so that
   there is no way with fewer.

Which of several equal members is taken is told by a hash of group and member (rendezvous hashing,
Thaler and Ravishankar 1998): it looks random, is the same for whoever computes it, and groups do
not all end up with the same neighbours.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where a member is.

    Attributes:
        zone: By its node's label; empty where there is none.
        machine: What fails as one with everything on it.
    """

    zone: str = ""
    machine: str = ""


@dataclass(frozen=True, slots=True)
class VoterMove:
    """One voter of a group gives its place to another member.

    Attributes:
        group: Which group.
        source: Who is to leave; empty where one is only missing.
        target: Who is to join; empty where one is only too many.
    """

    group: int
    source: str
    target: str


def rendezvous(group: int, member: str) -> bytes:
    """The weight of a member for a group: the lower, the rather it is taken."""
    return hashlib.blake2b(f"{group}/{member}".encode(), digest_size=8).digest()


def spread(
    groups: Mapping[int, int],
    places: Mapping[str, Place],
    held: Mapping[str, int] | None = None,
) -> dict[int, tuple[str, ...]]:
    """Place groups that nobody has yet.

    Args:
        groups: How many are to vote, by group; each gets as many as there are members, at most.
        places: Of the members.
        held: In how many groups members vote already.

    Returns:
        Names of the voters, sorted, by group.
    """
    load = Counter(dict.fromkeys(places, 0))
    load.update(held or {})
    spread_out: dict[int, tuple[str, ...]] = {}
    for group in sorted(groups):
        voters: list[str] = []
        while len(voters) < min(groups[group], len(places)):
            free = [name for name in places if name not in voters]
            voters.append(_best(group, voters, free, places, load))
            load[voters[-1]] += 1
        spread_out[group] = tuple(sorted(voters))
    return spread_out


def moves(
    voters: Mapping[int, Collection[str]],
    wanted: Mapping[int, int],
    places: Mapping[str, Place],
    *,
    full: Collection[str] = (),
    silent: Collection[str] = (),
    followers: Mapping[int, Collection[str]] | None = None,
    fixed: Collection[int] = (),
    going: Collection[str] = (),
) -> list[VoterMove]:
    """What has to be moved so that the rules hold.

    Args:
        voters: Names of who votes now, by group; also of members that are to have no groups.
        wanted: How many are to vote, by group.
        places: Of the members that may have groups.
        full: Those of them that keep what they have, and are given no more.
        silent: Those, of them and of others, that do not answer: where a voter has to go they are
            the first.
        followers: Who follows, by group: they are taken first, since they have most of it already.
        fixed: Groups that are not moved for the sake of evenness.
        going: Those that are to have no groups, but keep what nobody else can take: they are the
            last to leave a group.

    Returns:
        In the order in which they are best made: first those that a group's safety asks for.
    """
    state = {group: list(names) for group, names in voters.items()}
    load = Counter(dict.fromkeys(places, 0))
    for names in state.values():
        load.update(name for name in names if name in places)
    found = [
        *_replacements(state, wanted, places, load, full, silent, followers or {}, going),
        *_surplus(state, wanted, places, load, silent),
    ]
    taking = {name: place for name, place in places.items() if name not in full}
    return [*found, *_evened(state, taking, load, set(state) - set(fixed))]


def _replacements(
    state: Mapping[int, list[str]],
    wanted: Mapping[int, int],
    places: Mapping[str, Place],
    load: Counter[str],
    full: Collection[str],
    silent: Collection[str],
    followers: Mapping[int, Collection[str]],
    going: Collection[str],
) -> Iterable[VoterMove]:
    """Voters in the place of those that are to have no groups, and voters that are missing."""
    for group in sorted(state, key=lambda g: (sum(n in places for n in state[g]), g)):
        names = state[group]
        leaving = [name for name in names if name not in places]
        leaving.sort(key=lambda name: (name not in silent, name in going, name))
        while leaving or len(names) < wanted[group]:
            source = leaving.pop(0) if leaving else ""
            target = ""
            staying = [name for name in names if name in places]
            free = [name for name in places if name not in staying and name not in full]
            # One voter at a time: whose successor votes already leaves before another one joins.
            if free and len(names) <= wanted[group]:
                target = _best(group, staying, free, places, load, followers.get(group, ()))
                load[target] += 1
                names.append(target)
            if source:
                names.remove(source)
            if not source and not target:
                break
            if not target and len(names) < 1:
                # Nobody could take its place: better one that is to go than none at all.
                names.append(source)
                break
            yield VoterMove(group, source, target)


def _surplus(
    state: Mapping[int, list[str]],
    wanted: Mapping[int, int],
    places: Mapping[str, Place],
    load: Counter[str],
    silent: Collection[str],
) -> Iterable[VoterMove]:
    """Voters that are more than wanted: first those go that do not answer, or have most to do."""
    for group in sorted(state):
        names = state[group]
        while len(names) > max(wanted[group], 1):
            source = max(names, key=lambda n: (n in silent, _crowd(n, names, places), load[n], n))
            names.remove(source)
            load[source] -= 1
            yield VoterMove(group, source, "")


def _evened(
    state: Mapping[int, list[str]],
    places: Mapping[str, Place],
    load: Counter[str],
    movable: Collection[int],
) -> Iterable[VoterMove]:
    """Moves from those that have most groups to those that have least, until they differ by one."""
    held: dict[str, set[int]] = {name: set() for name in places}
    for group in movable:
        for name in state[group]:
            if name in held:
                held[name].add(group)
    while True:
        move = _next_even(state, places, load, held)
        if move is None:
            return
        names = state[move.group]
        names.remove(move.source)
        names.append(move.target)
        held[move.source].discard(move.group)
        held[move.target].add(move.group)
        load[move.source] -= 1
        load[move.target] += 1
        yield move


def _next_even(
    state: Mapping[int, Sequence[str]],
    places: Mapping[str, Place],
    load: Counter[str],
    held: Mapping[str, set[int]],
) -> VoterMove | None:
    ordered = sorted(places, key=lambda name: (load[name], name))
    for target in ordered:
        for source in reversed(ordered):
            if load[source] - load[target] < 2:
                break
            best: tuple[int, bytes, int] | None = None
            for group in held[source] - held[target]:
                others = [name for name in state[group] if name != source]
                if target in others:
                    continue
                crowd = _crowd_with(target, others, places)
                if crowd > _crowd_with(source, others, places):
                    # It would put two voters of one group where one failure takes both.
                    continue
                key = crowd, rendezvous(group, target), group
                best = key if best is None or key < best else best
            if best is not None:
                return VoterMove(best[2], source, target)
    return None


def _best(
    group: int,
    voters: Sequence[str],
    free: Iterable[str],
    places: Mapping[str, Place],
    load: Mapping[str, int],
    followers: Collection[str] = (),
) -> str:
    """Who of those that are free is to vote next in a group, beside these voters."""
    return min(
        free,
        key=lambda name: (
            _crowd_with(name, voters, places),
            name not in followers,
            load[name],
            rendezvous(group, name),
            name,
        ),
    )


def _crowd(name: str, voters: Sequence[str], places: Mapping[str, Place]) -> int:
    return _crowd_with(name, [each for each in voters if each != name], places)


def _crowd_with(name: str, others: Sequence[str], places: Mapping[str, Place]) -> int:
    """How badly a member stands to the others of a group: by shared machines, then by zones."""
    place = places.get(name)
    if place is None:
        return 0
    crowd = 0
    for other in others:
        beside = places.get(other)
        if beside is None:
            continue
        if place.machine and place.machine == beside.machine:
            crowd += 1_000
        if place.zone and place.zone == beside.zone:
            crowd += 1
    return crowd

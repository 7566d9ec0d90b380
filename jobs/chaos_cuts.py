"""Which links a fault cuts, and whether groups can serve over those that are left; pure.

*Sites* are what links join: the hosts of members, each named by the member that it was made for.

`partial` has a shape. Three are those of the OmniPaxos paper (section 2), in which a majority could
go on and some protocols do not; the fourth is the bridge of Jepsen's tests.

```
 quorum-loss            everybody reaches the hub, and nobody else
 constrained-election   the same, and the master nobody; the hub did not hear it for a while before
 chained                a line
 bridge                 two sides, and one that reaches both
```

Of a shape's links each is cut only if every group can still serve; so with groups at few of the
members only some of them are.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from chaos_plan import FaultKind, PlannedFault, choose_member, minority

HEAD = ""
"""In the place of a site: the host of the GCS, of this job and of its clients."""
HEAD_SHARE = 0.5
"""In so many partitions those that are cut off do not reach the head either."""
SHAPES = ("quorum-loss", "constrained-election", "chained", "bridge")

Direction: TypeAlias = tuple[str, str]
"""A site that sends, and one that hears nothing of it."""
Pair: TypeAlias = frozenset[str]
"""Two that do not hear each other both ways."""
Directions: TypeAlias = frozenset[Direction]
CanServe: TypeAlias = Callable[[Collection[str], Collection[Pair]], bool]
"""Whether all groups can serve with these sites harmed, and links between these cut, besides what
is harmed and cut already."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What a fault does to links.

    Attributes:
        what: For a person.
        harmed: Sites that count as harmed.
        steps: What is lost, in turn, each for an equal share of the time.
        is_from_head: Whether the harmed do not reach the head either.
    """

    what: str
    harmed: frozenset[str]
    steps: tuple[Directions, ...]
    is_from_head: bool = False

    @property
    def pairs(self) -> frozenset[Pair]:
        """All whose links are cut, at any time."""
        return frozenset(frozenset(each) for each in itertools.chain(*self.steps))


def can_serve(
    voters: Collection[str], harmed: Collection[str], cuts: Collection[Pair] = ()
) -> bool:
    """Whether a group has a voter that reaches a quorum of unharmed ones, itself among them.

    Args:
        voters: Of the group.
        harmed: Members that may be away.
        cuts: Pairs of members that do not hear each other.
    """
    alive = set(voters) - set(harmed)
    quorum = len(voters) - minority(len(voters))
    return any(
        sum(name == other or frozenset((name, other)) not in cuts for other in alive) >= quorum
        for name in alive
    )


def choose_cut(
    fault: PlannedFault,
    sites: Sequence[str],
    *,
    master: str | None,
    can_serve: CanServe,
    is_head_allowed: Callable[[str], bool],
) -> Cut | None:
    """The links that a fault cuts.

    Args:
        fault: Of `OF_LINKS`.
        sites: All of them, in order.
        master: The site of the master that it is aimed at, as far as is known.
        can_serve: Says what may be done to groups.
        is_head_allowed: Whether a site may be cut off from the head.

    Returns:
        The cut; None where there may be none now.
    """
    source = random.Random(fault.links_draw)
    if fault.kind is FaultKind.PARTITION:
        return _partition(fault, sites, master, can_serve, is_head_allowed, source)
    if fault.kind is FaultKind.ONE_WAY:
        return _one_way(fault, sites, master, can_serve, source)
    for shape in source.sample(SHAPES, len(SHAPES)):
        cut = _partial(shape, fault, sites, master, can_serve, source)
        if cut is not None:
            return cut
    return None


def _partition(
    fault: PlannedFault,
    sites: Sequence[str],
    master: str | None,
    can_serve: CanServe,
    is_head_allowed: Callable[[str], bool],
    source: random.Random,
) -> Cut | None:
    first = choose_member(fault, [s for s in sites if can_serve((s,), ())], master=master)
    if first is None:
        return None
    away = [first]
    most = source.randint(1, max(minority(len(sites)), 1))
    for site in source.sample(sites, len(sites)):
        if len(away) < most and site not in away and can_serve((*away, site), ()):
            away.append(site)
    is_from_head = source.random() < HEAD_SHARE and all(map(is_head_allowed, away))
    others = [site for site in sites if site not in away] + [HEAD] * is_from_head
    lost = both_ways(itertools.product(away, others))
    rest = "all others" if is_from_head else "all others but the head"
    what = f"{', '.join(sorted(away))} from {rest}"
    return Cut(what, frozenset(away), (lost,), is_from_head)


def _one_way(
    fault: PlannedFault,
    sites: Sequence[str],
    master: str | None,
    can_serve: CanServe,
    source: random.Random,
) -> Cut | None:
    site = choose_member(fault, [s for s in sites if can_serve((s,), ())], master=master)
    if site is None:
        return None
    others = [each for each in sites if each != site]
    chosen = sorted(source.sample(others, source.randint(1, len(others))))
    is_mute = source.random() < 0.5
    lost = frozenset((site, o) if is_mute else (o, site) for o in chosen)
    how = "is not heard by" if is_mute else "does not hear"
    return Cut(f"{site} {how} {', '.join(chosen)}", frozenset((site,)), (lost,))


def _partial(
    shape: str,
    fault: PlannedFault,
    sites: Sequence[str],
    master: str | None,
    can_serve: CanServe,
    source: random.Random,
) -> Cut | None:
    """A cut of one shape, as far as groups allow; None where they allow nothing of it."""
    order = source.sample(sites, len(sites))
    if fault.is_for_master and master in order:
        # At an end of a line, on a side of a bridge, and no hub.
        order.remove(master)
        order.insert(0, master)
    harmed: list[str] = []
    before: list[Direction] = []
    hub = order[-1]
    if shape == "chained":
        wanted = [(a, b) for a, b in itertools.combinations(order, 2)
                  if order.index(b) - order.index(a) > 1]  # fmt: skip
    elif shape == "bridge":
        half = (len(order) - 1) // 2
        wanted = list(itertools.product(order[:half], order[half:-1]))
    else:
        if shape == "constrained-election":
            gone, *order = order
            harmed, before = [gone], [(gone, hub), (hub, gone)]
        wanted = list(itertools.combinations(order[:-1], 2))
    if harmed and not can_serve(harmed, ()):
        return None
    cut: list[tuple[str, str]] = []
    for pair in source.sample(wanted, len(wanted)):
        if can_serve(harmed, [frozenset(each) for each in (*cut, pair)]):
            cut.append(pair)
    if not cut and not harmed:
        return None
    named = ", ".join(sorted("-".join(sorted(pair)) for pair in cut)) or "no link"
    what = f"{shape}: {named} cut" + (f", and {gone} from all" if harmed else "")
    others = [site for site in sites if site not in harmed]
    lost = both_ways((*cut, *itertools.product(harmed, others)))
    steps = (frozenset(before), lost) if before else (lost,)
    return Cut(what, frozenset(harmed), steps)


def both_ways(links: Iterable[tuple[str, str]]) -> Directions:
    """Both directions of each."""
    return frozenset(direction for a, b in links for direction in ((a, b), (b, a)))

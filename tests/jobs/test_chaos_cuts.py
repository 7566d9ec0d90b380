"""Which links are cut, and what groups can do over those that are left."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from chaos_cuts import HEAD, SHAPES, Cut, Pair, can_serve, choose_cut
from chaos_plan import OF_LINKS, FaultKind, minority
from tests.jobs.test_chaos_plan import planned

THREE = ("m1", "m2", "m3")
FIVE = ("m1", "m2", "m3", "m4", "m5")
DRAWS = [number / 200 for number in range(200)]


def pairs(*named: str) -> set[Pair]:
    return {frozenset(each.split("-")) for each in named}


def choose(
    kind: FaultKind,
    links_draw: float,
    *groups: Collection[str],
    harmed: Collection[str] = (),
    is_head_allowed: bool = True,
    **fields: object,
) -> Cut | None:
    """What is cut of five sites, with these groups at them."""

    def may(more: Collection[str], cuts: Collection[Pair]) -> bool:
        return all(can_serve(voters, {*harmed, *more}, cuts) for voters in groups or (FIVE,))

    return choose_cut(
        planned(kind, links_draw=links_draw, **fields),
        FIVE,
        master="m2",
        can_serve=may,
        is_head_allowed=lambda site: is_head_allowed,
    )


def test_a_group_serves_while_one_voter_reaches_a_quorum() -> None:
    assert can_serve(THREE, {"m1"})
    assert not can_serve(THREE, {"m1", "m3"})
    assert can_serve(THREE, (), pairs("m1-m2"))
    assert can_serve(THREE, (), pairs("m1-m2", "m4-m5"))
    assert not can_serve(THREE, (), pairs("m1-m2", "m2-m3", "m1-m3"))
    # Only m3 reaches others, and it is away.
    assert not can_serve(THREE, {"m3"}, pairs("m1-m2"))
    star = pairs("m1-m2", "m1-m3", "m1-m4", "m2-m3", "m2-m4", "m3-m4")
    assert can_serve(FIVE, {"m1", "m2"}, star)
    assert not can_serve(FIVE, {"m1", "m5"}, star)
    assert not can_serve(FIVE, {"m1", "m2"}, star | pairs("m3-m5"))


@pytest.mark.parametrize("kind", sorted(OF_LINKS, key=str))
def test_every_cut_leaves_each_group_a_quorum(kind: FaultKind) -> None:
    groups = (FIVE, FIVE[:3], FIVE[1:], ("m1", "m3", "m5"))
    found = 0
    for draw in DRAWS:
        for harmed in ((), ("m3",)):
            cut = choose(kind, draw, *groups, harmed=harmed)
            if cut is None:
                continue
            found += 1
            assert cut == choose(kind, draw, *groups, harmed=harmed)
            assert any(cut.steps)
            for step in cut.steps:
                lost = {frozenset(each) for each in step}
                for voters in groups:
                    assert can_serve(voters, {*harmed, *cut.harmed}, lost), cut
            assert cut.pairs == {frozenset(each) for step in cut.steps for each in step}
    assert found > 100


def test_a_partition_is_of_a_minority_and_sometimes_from_the_head() -> None:
    cuts = [cut for draw in DRAWS if (cut := choose(FaultKind.PARTITION, draw, draw=draw))]
    assert {len(cut.harmed) for cut in cuts} == {1, minority(5)}
    assert {site for cut in cuts for site in cut.harmed} == set(FIVE)
    assert 0.3 < sum(cut.is_from_head for cut in cuts) / len(cuts) < 0.7
    for cut in cuts:
        others = {*FIVE} - cut.harmed | ({HEAD} if cut.is_from_head else set())
        (lost,) = cut.steps
        assert lost == {(a, b) for a in cut.harmed for b in others} | {
            (b, a) for a in cut.harmed for b in others
        }
    allowed = [choose(FaultKind.PARTITION, draw, is_head_allowed=False) for draw in DRAWS]
    assert not any(cut.is_from_head for cut in allowed if cut is not None)


def test_one_way_is_one_way_and_harms_one() -> None:
    cuts = [cut for draw in DRAWS if (cut := choose(FaultKind.ONE_WAY, draw, draw=draw))]
    for cut in cuts:
        (lost,), (site,) = cut.steps, cut.harmed
        assert not lost & {(b, a) for a, b in lost}
        assert HEAD not in {name for direction in lost for name in direction}
        assert {a for a, _ in lost} == {site} or {b for _, b in lost} == {site}
    senders = {a for cut in cuts for a, _ in cut.steps[0] if cut.harmed == {a}}
    assert senders == set(FIVE)
    assert {len(cut.steps[0]) for cut in cuts} == {1, 2, 3, 4}
    aimed = choose(FaultKind.ONE_WAY, 0.1, is_for_master=True)
    assert aimed is not None
    assert aimed.harmed == {"m2"}


def test_partial_cuts_have_their_shapes() -> None:
    cuts = [cut for draw in DRAWS if (cut := choose(FaultKind.PARTIAL, draw))]
    by_shape = {shape: [c for c in cuts if c.what.startswith(shape)] for shape in SHAPES}
    assert all(by_shape.values())
    for cut in by_shape["quorum-loss"]:
        reach = degrees(cut)
        assert sorted(reach.values()) == [1, 1, 1, 1, 4]
        assert not cut.harmed
    for cut in by_shape["chained"]:
        assert sorted(degrees(cut).values()) == [1, 1, 2, 2, 2]
    for cut in by_shape["bridge"]:
        assert sorted(degrees(cut).values()) == [2, 2, 2, 2, 4]
    for cut in by_shape["constrained-election"]:
        before, lost = cut.steps
        (gone,) = cut.harmed
        assert {gone} < {name for direction in before for name in direction}
        assert before < lost
        # The hub reaches three others, they reach the hub, and nobody reaches the old master.
        assert sorted(degrees(cut).values()) == [0, 1, 1, 1, 3]


def degrees(cut: Cut) -> dict[str, int]:
    """How many others each site reaches in the end, both ways."""
    lost = {frozenset(each) for each in cut.steps[-1]}
    return {
        site: sum(frozenset((site, other)) not in lost for other in FIVE if other != site)
        for site in FIVE
    }


def test_the_master_that_is_aimed_at_is_no_hub_and_at_the_end_of_a_line() -> None:
    for draw in DRAWS:
        cut = choose(FaultKind.PARTIAL, draw, is_for_master=True)
        assert cut is not None
        assert degrees(cut)["m2"] < max(degrees(cut).values())
        if cut.what.startswith("chained"):
            assert degrees(cut)["m2"] == 1
        if cut.what.startswith("constrained"):
            assert cut.harmed == {"m2"}


@pytest.mark.parametrize("kind", [FaultKind.PARTITION, FaultKind.ONE_WAY])
def test_where_no_more_may_be_harmed_those_are_cut_off_that_are(kind: FaultKind) -> None:
    cuts = [cut for draw in DRAWS if (cut := choose(kind, draw, harmed=("m1", "m4"), draw=draw))]
    assert cuts
    assert all(cut.harmed <= {"m1", "m4"} for cut in cuts)


def test_links_stay_over_which_a_group_needs_to_serve() -> None:
    for draw in DRAWS:
        cut = choose(FaultKind.PARTIAL, draw, THREE, ("m3", "m4", "m5"), harmed=("m1", "m4"))
        assert cut is not None
        assert not cut.pairs & pairs("m2-m3", "m3-m5")
    assert choose(FaultKind.PARTIAL, 0.5, THREE, FIVE[2:], FIVE[1:4], harmed=FIVE[:3]) is None

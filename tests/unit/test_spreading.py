"""Who votes where: spread evenly, over zones and machines, and moved as little as can be."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.core import spreading
from ray_paxos.core.spreading import Place, VoterMove, moves, rendezvous, spread


def members(count: int) -> dict[str, Place]:
    """So many, each on a machine of its own."""
    return {f"m{n:03}": Place("", f"machine{n}") for n in range(count)}


def in_zones(zones: str) -> dict[str, Place]:
    """One member for each letter, which is its zone."""
    return {f"m{n}": Place(zone, f"machine{n}") for n, zone in enumerate(zones)}


def load_of(voters: Mapping[int, Collection[str]], places: Iterable[str]) -> Counter[str]:
    load = Counter(dict.fromkeys(places, 0))
    for names in voters.values():
        load.update(name for name in names if name in load)
    return load


def unevenness(voters: Mapping[int, Collection[str]], places: Iterable[str]) -> int:
    load = load_of(voters, places)
    return max(load.values()) - min(load.values()) if load else 0


def applied(
    voters: Mapping[int, Collection[str]], found: Iterable[VoterMove]
) -> dict[int, tuple[str, ...]]:
    """Who votes after all moves; each of them is possible, and means something."""
    state = {group: list(names) for group, names in voters.items()}
    for move in found:
        names = state[move.group]
        assert move.source or move.target
        assert move.source != move.target
        if move.source:
            names.remove(move.source)
        if move.target:
            assert move.target not in names, "nobody votes twice"
            names.append(move.target)
    return {group: tuple(sorted(names)) for group, names in state.items()}


def zones_of(names: Iterable[str], places: Mapping[str, Place]) -> set[str]:
    return {places[name].zone for name in names if name in places}


# Groups that nobody has yet.


@given(
    st.integers(0, 9),
    st.dictionaries(st.integers(0, 200), st.integers(1, 6), max_size=40),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_new_groups_are_spread_evenly(count: int, groups: dict[int, int], is_told: bool) -> None:
    places = members(count) if is_told else dict.fromkeys(members(count), Place())
    voters = spread(groups, places)
    assert voters.keys() == groups.keys()
    for group, names in voters.items():
        assert len(names) == min(groups[group], count)
        assert list(names) == sorted(set(names)), "nobody votes twice"
        assert set(names) <= places.keys()
    assert unevenness(voters, places) <= 1


@given(st.permutations(range(8)), st.integers(1, 30), st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_it_is_the_same_whoever_computes_it(order: list[int], groups: int, voters: int) -> None:
    places = members(8)
    names = list(places)
    shuffled = {names[n]: places[names[n]] for n in order}
    counts = dict.fromkeys(range(groups), voters)
    assert spread(counts, places) == spread(dict(reversed(counts.items())), shuffled)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=10))
@settings(max_examples=150, deadline=None)
def test_new_groups_are_in_as_many_zones_and_machines_as_there_are(
    where: list[tuple[int, int]],
) -> None:
    places = {f"m{n}": Place(f"z{z}", f"z{z}-{m}") for n, (z, m) in enumerate(where)}
    zones = {place.zone for place in places.values()}
    machines = {place.machine for place in places.values()}
    for voters in (1, 3, 5):
        for names in spread(dict.fromkeys(range(6), voters), places).values():
            assert len(zones_of(names, places)) == min(voters, len(zones))
            assert len({places[name].machine for name in names}) == min(voters, len(machines))


def test_zones_come_before_an_even_load() -> None:
    places = in_zones("aaaab")
    voters = spread(dict.fromkeys(range(8), 2), places)
    assert all("m4" in names for names in voters.values()), "the only one in its zone"
    assert unevenness(voters, [name for name in places if name != "m4"]) <= 1


def test_no_zone_is_no_zone_that_is_shared() -> None:
    assert spread({1: 2}, {"a": Place(), "b": Place()}) == {1: ("a", "b")}
    places = {"a": Place("", "x"), "b": Place("", "x"), "c": Place("", "y")}
    for names in spread(dict.fromkeys(range(9), 2), places).values():
        assert "c" in names


def test_groups_do_not_all_have_the_same_neighbours() -> None:
    pairs = set(spread(dict.fromkeys(range(200), 2), members(6)).values())
    assert len(pairs) >= 14, "nearly all of the 15 pairs"


def test_the_weights_stay_as_they_are() -> None:
    """Two releases that run at once must not move a group to and fro."""
    assert rendezvous(7, "m1").hex() == "82c0d2f6a8bb33e9"
    assert len({rendezvous(group, name) for group in range(20) for name in "abc"}) == 60


# What is there is kept.


@given(st.integers(1, 9), st.dictionaries(st.integers(0, 99), st.integers(1, 5), max_size=30))
@settings(max_examples=100, deadline=None)
def test_what_is_spread_stays(count: int, groups: dict[int, int]) -> None:
    places = members(count)
    assert moves(spread(groups, places), groups, places) == []


@pytest.mark.parametrize("groups", [1, 4, 20, 100])
@pytest.mark.parametrize("voters", [1, 3, 5])
@pytest.mark.parametrize("count", [3, 5, 6, 10])
def test_a_new_member_gets_its_share_and_nothing_else_moves(
    count: int, voters: int, groups: int
) -> None:
    wanted = dict.fromkeys(range(groups), min(voters, count))
    before = spread(wanted, members(count))
    places = members(count + 1)
    (new,) = places.keys() - members(count).keys()
    found = moves(before, wanted, places)
    assert len(found) == groups * min(voters, count) // (count + 1)
    assert {move.target for move in found} <= {new}
    assert all(move.source for move in found)
    assert unevenness(applied(before, found), places) <= 1


@pytest.mark.parametrize("groups", [1, 4, 20, 100])
@pytest.mark.parametrize("voters", [1, 3])
@pytest.mark.parametrize("count", [4, 6, 10])
def test_of_a_lost_member_its_voters_move_and_nothing_else(
    count: int, voters: int, groups: int
) -> None:
    wanted = dict.fromkeys(range(groups), voters)
    before = spread(wanted, members(count))
    places = members(count)
    del places["m001"]
    found = moves(before, wanted, places, fixed=wanted)
    assert sorted(move.group for move in found) == [g for g in wanted if "m001" in before[g]]
    assert {move.source for move in found} <= {"m001"}
    after = applied(before, found)
    assert {len(names) for names in after.values()} == {voters}
    # Where the others cannot be even at once, few moves make them so.
    rest = moves(after, wanted, places)
    assert len(rest) <= len(found) // 4
    assert unevenness(applied(after, rest), places) <= 1


def test_a_voter_that_is_missing_is_found() -> None:
    found = moves({1: ("m000",), 2: ("m000", "m001")}, {1: 3, 2: 2}, members(3))
    assert [(move.group, move.source) for move in found] == [(1, ""), (1, "")]
    assert {move.target for move in found} == {"m001", "m002"}


def test_there_are_as_many_voters_as_members_at_most() -> None:
    assert moves({1: ("m000", "m001")}, {1: 5}, members(2)) == []
    (move,) = moves({1: ("m000", "m001", "x")}, {1: 3}, members(2))
    assert move == VoterMove(1, "x", "")


def test_the_last_voter_stays_until_another_is_there() -> None:
    assert moves({1: ("x",)}, {1: 3}, {}) == []
    assert moves({1: ("x",)}, {1: 3}, members(1)) == [VoterMove(1, "x", "m000")]
    (move,) = moves({1: ("x", "y")}, {1: 3}, {})
    assert move.target == ""


def test_one_too_many_goes_from_where_most_is() -> None:
    voters = {1: ("m000", "m001", "m002"), 2: ("m001",), 3: ("m002", "m001")}
    (move,) = moves(voters, {1: 2, 2: 1, 3: 2}, members(3))
    assert move == VoterMove(1, "m001", "")


def test_one_too_many_goes_from_where_it_is_crowded() -> None:
    places = in_zones("aab")
    voters = {1: ("m0", "m1", "m2"), 2: ("m2",), 3: ("m2",)}
    found = moves(voters, {1: 2, 2: 1, 3: 1}, places, fixed={2, 3})
    assert found[0] in (VoterMove(1, "m0", ""), VoterMove(1, "m1", ""))


def test_the_last_voter_is_never_too_many() -> None:
    assert moves({1: ("m000",)}, {1: 0}, members(1)) == []


def test_of_too_many_one_that_does_not_answer_goes_first() -> None:
    """The others are what the group lives by."""
    places = members(4)
    voters = {1: tuple(places), 2: ("m003",), 3: ("m003", "m002")}
    found = moves(voters, {1: 3, 2: 1, 3: 2}, places, silent={"m001"}, fixed=voters)
    assert found == [VoterMove(1, "m001", "")]


def test_another_voter_comes_only_when_none_is_too_many() -> None:
    """One voter of a group at a time: first the one leaves whose successor votes already."""
    places = members(4)
    found = moves({1: ("m000", "m001", "x", "y")}, {1: 3}, places, fixed={1})
    assert [bool(move.target) for move in found] == [False, True]
    assert applied({1: ("m000", "m001", "x", "y")}, found)[1] in (
        ("m000", "m001", "m002"),
        ("m000", "m001", "m003"),
    )


def test_groups_that_are_worst_off_come_first() -> None:
    voters = {1: ("m000", "m001", "x"), 2: ("m000", "x", "y"), 3: ("m000", "m001", "y")}
    found = moves(voters, dict.fromkeys(voters, 3), members(4), fixed=voters)
    assert [move.group for move in found] == [2, 2, 1, 3]


# Zones and machines of groups that move.


def test_a_lost_voter_is_replaced_in_its_zone() -> None:
    places = in_zones("aabbcc")
    wanted = dict.fromkeys(range(30), 3)
    before = spread(wanted, places)
    rest = {name: place for name, place in places.items() if name != "m0"}
    found = moves(before, wanted, rest, fixed=wanted)
    assert found
    assert {move.target for move in found} == {"m1"}


@given(st.integers(0, 2**32), st.integers(2, 4), st.integers(4, 9))
@settings(max_examples=60, deadline=None)
def test_evenness_puts_no_two_voters_where_one_failure_takes_both(
    seed: int, zone_count: int, count: int
) -> None:
    randomness = random.Random(seed)
    places = {f"m{n}": Place(f"z{randomness.randrange(zone_count)}") for n in range(count)}
    wanted = dict.fromkeys(range(12), 3)
    before = {group: tuple(randomness.sample(sorted(places), 3)) for group in wanted}
    voters: dict[int, tuple[str, ...]] = dict(before)
    for move in moves(before, wanted, places):
        was = len(zones_of(voters[move.group], places))
        voters = applied(voters, [move])
        assert len(zones_of(voters[move.group], places)) >= was


# What it is told to keep.


def test_followers_are_taken_first() -> None:
    places = members(6)
    voters = {1: ("m000", "m001", "x")}
    for name in ("m002", "m003", "m004", "m005"):
        (move,) = moves(voters, {1: 3}, places, followers={1: (name,)}, fixed=voters)
        assert move == VoterMove(1, "x", name)
    assert moves({}, {}, places, followers={9: ("m002",)}) == []


def test_a_follower_does_not_come_before_a_zone() -> None:
    places = in_zones("abbc")
    (move,) = moves({1: ("m0", "m1", "x")}, {1: 3}, places, followers={1: ("m2",)}, fixed={1})
    assert move.target == "m3"


def test_those_that_are_full_get_no_more_and_keep_what_they_have() -> None:
    places = members(4)
    voters = {n: ("m000", "m001", "x") for n in range(6)}
    wanted = dict.fromkeys(voters, 3)
    found = moves(voters, wanted, places, full={"m000", "m002"})
    assert {move.target for move in found} == {"m003"}
    assert {move.source for move in found} == {"x"}


def test_one_that_is_full_is_not_relieved_either() -> None:
    voters = {n: ("m000",) for n in range(6)}
    assert moves(voters, dict.fromkeys(voters, 1), members(2), full={"m000"}) == []


def test_fixed_groups_move_for_safety_only() -> None:
    voters = {n: ("m000",) for n in range(6)}
    wanted = dict.fromkeys(voters, 1)
    assert moves(voters, wanted, members(2), fixed=voters) == []
    found = moves(voters, wanted, members(2), fixed={0, 1, 2, 3})
    assert {move.group for move in found} == {4, 5}
    (move,) = moves({1: ("x",)}, {1: 1}, members(2), fixed={1})
    assert move.source == "x"


# Any state at all.


@st.composite
def situations(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(0, 7))
    zones = st.sampled_from(["", "z1", "z2", "z3"])
    machines = st.sampled_from(["", "x", "y", "z", "w"])
    places = {f"m{n}": Place(draw(zones), draw(machines)) for n in range(count)}
    known = [*places, "gone1", "gone2"]
    voters = draw(
        st.dictionaries(
            st.integers(0, 30), st.sets(st.sampled_from(known), min_size=1), max_size=12
        )
    )
    some = st.sets(st.sampled_from(known))
    return {
        "voters": {group: tuple(sorted(names)) for group, names in voters.items()},
        "wanted": {group: draw(st.integers(1, 5)) for group in voters},
        "places": places,
        "full": draw(some) & places.keys(),
        "followers": {group: draw(some) - names for group, names in voters.items()},
        "fixed": draw(st.sets(st.sampled_from(sorted(voters)))) if voters else set(),
    }


@given(situations())
@settings(max_examples=400, deadline=None)
def test_from_any_state_it_comes_to_one_that_stays(situation: dict[str, Any]) -> None:
    voters, places = situation.pop("voters"), situation.pop("places")
    wanted = situation["wanted"]
    found = moves(voters, situation.pop("wanted"), places, **situation)
    assert {move.target for move in found if move.target} <= places.keys() - situation["full"]
    after = applied(voters, found)
    assert moves(after, wanted, places, **situation) == []
    for group, names in after.items():
        assert names
        staying = set(voters[group]) & places.keys()
        possible = len((places.keys() - situation["full"]) | staying)
        assert len(names) == max(min(wanted[group], possible), 1)
        strangers = set(names) - places.keys()
        assert not strangers or len(names) == 1, "the last one only"


@given(situations())
@settings(max_examples=200, deadline=None)
def test_from_any_state_it_becomes_even_where_zones_do_not_matter(
    situation: dict[str, Any],
) -> None:
    places = {name: Place() for name in situation["places"]}
    voters, wanted = situation["voters"], situation["wanted"]
    after = applied(voters, moves(voters, wanted, places))
    assert unevenness(after, places) <= 1


@given(situations(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_moves_are_the_same_in_whatever_order_things_are_told(
    situation: dict[str, Any], randomness: random.Random
) -> None:
    found = moves(**situation)
    for key in ("voters", "wanted", "places", "followers"):
        entries = list(situation[key].items())
        randomness.shuffle(entries)
        situation[key] = dict(entries)
    situation["voters"] = {
        group: randomness.sample(names, len(names)) for group, names in situation["voters"].items()
    }
    assert moves(**situation) == found


# Work.


def work_of(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts what takes the time: hashes, and members that are compared."""
    counts: Counter[str] = Counter()
    for name in ("rendezvous", "_crowd_with"):
        real = getattr(spreading, name)

        def counted(*arguments: object, name: str = name, real=real):
            counts[name] += 1
            return real(*arguments)

        monkeypatch.setattr(spreading, name, counted)
    return counts


@pytest.mark.parametrize("zones", [0, 3])
def test_a_thousand_groups_on_a_hundred_members(
    zones: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {
        f"m{n:03}": Place(f"z{n % zones}" if zones else "", f"machine{n}") for n in range(101)
    }
    wanted = dict.fromkeys(range(1_000), 3)
    first = {name: place for name, place in places.items() if name != "m100"}
    before = spread(wanted, first)
    work = work_of(monkeypatch)
    assert moves(before, wanted, first) == []
    assert len(moves(before, wanted, places)) == 3_000 // 101, "one more"
    lost = {name: place for name, place in first.items() if name != "m007"}
    after = applied(before, moves(before, wanted, lost))
    for zone in {place.zone for place in lost.values()}:
        assert unevenness(after, [n for n, place in lost.items() if place.zone == zone]) <= 1
    assert work.total() < 300_000

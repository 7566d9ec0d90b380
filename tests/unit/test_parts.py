"""Which groups a member has: the fold of its records, and orders that are refused."""

from __future__ import annotations

import pytest

from ray_paxos.core.genesis import Configuration, Genesis, GroupSpec, MemberSpec, Voter
from ray_paxos.core.parts import Part, PartLeft, Parts, PartTaken, first_parts

ME = 4
SPEC = GroupSpec(7, (Voter(1, 1), Voter(2, 2), Voter(3, 3)), ())
ADDED = Configuration(10, SPEC.voters, (Voter(ME, 5),), 5)


def part(replica_id: int = 5, configuration: Configuration = ADDED) -> Part:
    return Part(replica_id, SPEC, configuration)


def added_as(replica_id: int) -> Part:
    configuration = Configuration(20, SPEC.voters, (Voter(ME, replica_id),), replica_id)
    return Part(replica_id, SPEC, configuration)


def test_an_order_that_names_this_member_is_followed() -> None:
    assert Parts().refusal(ME, part()) == ""


@pytest.mark.parametrize(
    "wrong", [part(4), part(5, Configuration(10, SPEC.voters, (Voter(9, 5),), 5))]
)
def test_an_order_whose_entry_does_not_name_this_replica_is_refused(wrong: Part) -> None:
    assert "does not name this member" in Parts().refusal(ME, wrong)


def test_the_same_order_again_is_no_other() -> None:
    parts = Parts()
    parts.apply(PartTaken(7, part()))
    assert parts.refusal(ME, part()) == ""
    assert "already, as replica 5" in parts.refusal(ME, added_as(6))


def test_an_old_order_never_brings_back_what_was_left() -> None:
    parts = Parts()
    parts.apply(PartTaken(7, part()))
    parts.apply(PartLeft(7, 6))
    assert 7 not in parts.parts
    for replica_id in (5, 6):
        assert "has left" in parts.refusal(ME, added_as(replica_id))
    assert parts.refusal(ME, added_as(7)) == ""
    parts.apply(PartTaken(7, added_as(7)))
    parts.apply(PartLeft(7, 2))
    assert "has left" in parts.refusal(ME, added_as(6)), "a tombstone never falls"


def test_every_change_has_a_version() -> None:
    parts = Parts()
    parts.apply(PartTaken(7, part()))
    parts.apply(PartLeft(7, 5))
    assert parts.version == 2


def test_a_member_begins_with_the_groups_of_the_genesis_that_name_it() -> None:
    specs = tuple(MemberSpec(f"m{n}", n) for n in (1, 2, 3, 4))
    followed = GroupSpec(8, SPEC.voters, (), followers=(Voter(ME, 4),))
    genesis = Genesis(1, "c", "0" * 32, specs, (SPEC, followed))
    assert first_parts(genesis, ME).parts == {8: Part(4, followed, followed.configuration)}
    assert sorted(first_parts(genesis, 2).parts) == [7, 8]

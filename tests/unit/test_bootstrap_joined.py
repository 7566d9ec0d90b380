"""Starts of a cluster that members have joined, and left, since its genesis."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ray_paxos.core.bootstrap import Activate, FolderFound, FolderState, Refuse, Start, decide
from ray_paxos.core.genesis import MemberSpec
from tests.unit.test_bootstrap import GENESIS, folder, node

JOINED = MemberSpec("d", 40)
ACTIVATED, STAGED = FolderState.ACTIVATED, FolderState.STAGED


def joined(state: FolderState = ACTIVATED) -> FolderFound:
    return replace(folder("d", state, member_id=JOINED.member_id), joined_as=JOINED.name)


def test_one_that_joined_is_started_with_the_others() -> None:
    members = [node(f"n-{name}", folder(name, ACTIVATED)) for name in "abc"]
    decision = decide("demo", [*members, node("n-d", joined())])
    assert isinstance(decision, Start)
    assert set(decision.places) == {"a", "b", "c", "d"}
    assert decision.joined == (JOINED,)
    assert decision.missing == {}


@pytest.mark.parametrize("state", [ACTIVATED, STAGED])
def test_where_one_has_joined_nothing_of_the_genesis_is_made_anew(state: FolderState) -> None:
    """The others are gone, or only staged: they may have voted, and lost it."""
    decision = decide("demo", [node("n-a", folder("a", STAGED)), node("n-d", joined(state))])
    assert isinstance(decision, Activate)
    assert set(decision.places) == {"a"}
    decision = decide("demo", [node("n-a"), node("n-d", joined(state))])
    assert isinstance(decision, Start)
    assert set(decision.missing) == {"a", "b", "c"}
    assert set(decision.places) == ({"d"} if state is ACTIVATED else set())


def test_all_of_the_genesis_may_be_gone() -> None:
    others = [
        replace(folder(name, ACTIVATED, member_id=number), joined_as=name)
        for number, name in enumerate("def", start=40)
    ]
    decision = decide("demo", [node(f"n-{each.member}", each) for each in others])
    assert isinstance(decision, Start)
    assert set(decision.places) == {"d", "e", "f"}


def test_one_that_is_only_staged_is_left_to_those_who_add_it() -> None:
    members = [node(f"n-{name}", folder(name, ACTIVATED)) for name in "abc"]
    decision = decide("demo", [*members, node("n-d", joined(STAGED))])
    assert isinstance(decision, Start)
    assert set(decision.places) == {"a", "b", "c"}
    assert decision.joined == ()


def test_a_renamed_folder_of_one_that_joined_is_refused() -> None:
    renamed = replace(joined(), member="e")
    decision = decide("demo", [node("n-a", folder("a", ACTIVATED)), node("n-e", renamed)])
    assert isinstance(decision, Refuse)
    assert "not the directory of member e" in decision.reason
    # Under a name of the genesis, too: that member is another one.
    usurper = replace(joined(), member="b", joined_as="b")
    decision = decide("demo", [node("n-a", folder("a", ACTIVATED)), node("n-b", usurper)])
    assert isinstance(decision, Refuse)


def test_it_runs_and_its_folders_are_found() -> None:
    decision = decide("demo", [node("n-d", joined())], running=GENESIS)
    assert isinstance(decision, Start)
    assert decision.joined == (JOINED,)

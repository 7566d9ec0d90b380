"""The order that a member leaves, given again where it broke off: the rest is gone on with."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ray_paxos.core.genesis import MemberSpec
from ray_paxos.core.wanted import MemberState, Wanted, WantedMember
from ray_paxos.core.wanted_changes import Change, changed_wanted
from ray_paxos.errors import MembershipError
from ray_paxos.operations import Operations


class PlayedSystem:
    """Group 0, as far as the orders ask it."""

    def __init__(self, **states: MemberState) -> None:
        members = {
            name: WantedMember(MemberSpec(name, number), state=state)
            for number, (name, state) in enumerate(states.items(), 1)
        }
        self._wanted = Wanted(1, members)
        self.changes: list[Change] = []

    def wanted(self) -> Wanted:
        return self._wanted

    def change(self, change: Change) -> None:
        self._wanted = changed_wanted(self._wanted, change)
        self.changes.append(change)


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What orders wait for."""
    waits: list[str] = []

    def until(self: Operations, holds: object, what: str, timeout_s: float, **_: object) -> None:
        waits.append(what)

    monkeypatch.setattr(Operations, "_until", until)
    return waits


def operations_on(system: PlayedSystem) -> Operations:
    nothing = cast(Any, None)
    return Operations(nothing, nothing, nothing, cast(Any, system))


@pytest.mark.parametrize(
    ("state", "changes"),
    [(MemberState.PRESENT, 1), (MemberState.LEAVING, 1), (MemberState.ENDING, 0)],
)
def test_a_member_that_is_on_its_way_out_is_waited_for(
    waited: list[str], state: MemberState, changes: int
) -> None:
    system = PlayedSystem(a=state, b=MemberState.PRESENT)
    operations_on(system).remove_member("a")
    assert waited == ["member a to leave"]
    assert len(system.changes) == changes


@pytest.mark.parametrize("state", [MemberState.LEAVING, MemberState.ENDING])
def test_so_is_one_whose_successor_is_there(waited: list[str], state: MemberState) -> None:
    system = PlayedSystem(a=state, b=MemberState.PRESENT)
    operations_on(system).replace_member("a", "b")
    assert waited == ["member a to leave"]


def test_one_that_is_gone_is_named(waited: list[str]) -> None:
    system = PlayedSystem(a=MemberState.GONE, b=MemberState.PRESENT)
    for order in (
        lambda: operations_on(system).remove_member("a"),
        lambda: operations_on(system).replace_member("a", "b"),
    ):
        with pytest.raises(MembershipError, match="member a is gone; nothing was changed"):
            order()
    assert waited == []

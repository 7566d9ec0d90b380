"""An order for the members of a group: whom it is given to, and what an answer means."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ray_paxos.actors import memberships
from ray_paxos.actors.memberships import GroupMembers, Memberships
from ray_paxos.core.client_messages import RefusalCode, Refused
from ray_paxos.core.genesis import Configuration, Voter
from ray_paxos.core.membership_messages import MembershipChanged
from ray_paxos.core.values import MembershipKind
from ray_paxos.errors import MembershipError

IDS = {"m1": 1, "m2": 2, "m3": 3}
BEFORE = GroupMembers(5, ("m1", "m2"), ("m3",))
AFTER = GroupMembers(6, ("m1", "m2", "m3"), ())
CHANGED = MembershipChanged(1, Configuration(6, (Voter(1, 1), Voter(2, 2), Voter(3, 3))))


class Played(Memberships):
    """Members that answer as the test says, one after the other."""

    def __init__(self, *answers: Any) -> None:
        roster: Any = SimpleNamespace(ids=IDS, joined=(), genesis=None)
        super().__init__(SimpleNamespace(roster=roster))  # type: ignore[arg-type]
        self.answers = list(answers)
        self.asked: list[str] = []
        self.found = BEFORE

    def latest(self, group: int) -> GroupMembers | None:
        return self.found

    def give_order(self, administration: object, genesis: object, **given: Any) -> Any:
        self.asked.append(given["member"])
        answer = self.answers.pop(0)
        if isinstance(answer, MembershipChanged):
            self.found = AFTER
        return answer

    def promote(self, monkeypatch: pytest.MonkeyPatch, timeout_s: float = 5.0) -> GroupMembers:
        monkeypatch.setattr(memberships, "give_order", self.give_order)
        monkeypatch.setattr(memberships, "PAUSE_S", 0.0)
        return self.change(1, MembershipKind.PROMOTE, "m3", timeout_s=timeout_s)


def test_one_that_has_not_the_group_says_nothing_about_the_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # It is said to have it by what others have learned: it has left meanwhile, or just joined.
    lacking = Refused(1, RefusalCode.UNKNOWN_GROUP, "group 1 is not at this member", 0)
    played = Played(lacking, CHANGED)
    assert played.promote(monkeypatch) == AFTER
    assert played.asked == ["m1", "m2"]


def test_what_nobody_could_be_asked_is_told_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lacking = Refused(1, RefusalCode.UNKNOWN_GROUP, "group 1 is not at this member", 0)
    played = Played(*[lacking] * 100_000)
    with pytest.raises(MembershipError, match=r"may be still: member m[12]: group 1 is not at"):
        played.promote(monkeypatch, timeout_s=0.05)


def test_a_refusal_of_the_master_is_final(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(Refused(1, RefusalCode.NOT_CHANGED, "it is too far behind", 0))
    with pytest.raises(MembershipError, match="the members of group 1 stay: it is too far behind"):
        played.promote(monkeypatch)

"""Handing over, as a driver asks for it: whom it asks first, and what it makes of the answers."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from ray_paxos.actors import masters, orders
from ray_paxos.actors.administration import Administration
from ray_paxos.actors.bootstrapping import make_genesis
from ray_paxos.actors.masters import Master, Masters, MasterWatch
from ray_paxos.actors.roster import Roster
from ray_paxos.config import parse_configuration
from ray_paxos.core.client_messages import (
    MasterTransferred,
    Redirected,
    RefusalCode,
    Refused,
    TransferMaster,
)
from ray_paxos.core.master_search import FOLLOWED_MAX
from ray_paxos.core.messages import Address, RoleName
from ray_paxos.errors import TransferError

GENESIS = make_genesis(parse_configuration("cluster: demo"))
IDS = {member.name: member.member_id for member in GENESIS.members}
SILENCE = "no answer"


class PlayedMasters(Masters):
    """Members that answer as the test says, and a log whose latest master it sets."""

    def __init__(self, *answers: Any, latest: Master | None = None) -> None:
        super().__init__(Administration(Roster(GENESIS)))
        self.answers = list(answers)
        self.asked: list[str] = []
        self.orders: list[TransferMaster] = []
        self.master = latest

    def latest(self, group: int) -> Master | None:
        return self.master

    def _order(
        self, member: str, group: int, address: Address, order: TransferMaster, deadline: float
    ) -> Any:
        self.asked.append(member)
        self.orders.append(order)
        answer = self.answers.pop(0)
        return answer(self) if callable(answer) else answer


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masters, "PAUSE_S", 0.0)


def test_the_latest_master_is_asked_first() -> None:
    played = PlayedMasters(MasterTransferred(1, IDS["m2"]), latest=Master("m3", 7))
    assert played.hand_over(1, None, 5.0) == "m2"
    assert played.asked == ["m3"]


def test_redirects_are_followed_and_a_target_that_leads_already_is_enough() -> None:
    played = PlayedMasters(Redirected(1, IDS["m3"], 0), MasterTransferred(2, IDS["m2"]))
    assert played.hand_over(1, "m2", 5.0) == "m2"
    assert played.asked == ["m1", "m3"]
    assert PlayedMasters(Redirected(1, IDS["m2"], 0)).hand_over(1, "m2", 5.0) == "m2"


def test_members_that_name_each_other_and_one_that_nobody_knows_are_left() -> None:
    def of_old(played: PlayedMasters) -> Redirected:
        return Redirected(1, IDS["m3" if played.asked[-1] == "m1" else "m1"], 0)

    followed = 2 * FOLLOWED_MAX + 1
    answers = (*[of_old] * followed, MasterTransferred(1, IDS["m3"]))
    played = PlayedMasters(*answers, latest=Master("m1", 7))
    assert played.hand_over(1, None, 5.0) == "m3"
    assert set(played.asked[:followed]) == {"m1", "m3"}
    assert played.asked[followed:] == ["m2"]
    answers = (Redirected(1, 99, 0), MasterTransferred(1, IDS["m3"]))
    played = PlayedMasters(*answers, latest=Master("m1", 7))
    assert played.hand_over(1, None, 5.0) == "m3"
    assert played.asked == ["m1", "m2"]


def test_an_order_that_was_carried_out_unheard_is_not_given_again() -> None:
    def carried_out(played: PlayedMasters) -> str:
        played.master = Master("m2", 9)
        return SILENCE

    played = PlayedMasters(carried_out, latest=Master("m1", 7))
    assert played.hand_over(1, None, 5.0) == "m2"
    assert played.asked == ["m1"]


def test_a_reign_is_ended_once_however_often_the_order_is_given() -> None:
    # The first try is carried out late; m2, which leads by then, must not be dropped, too.
    played = PlayedMasters(
        SILENCE,
        Redirected(2, IDS["m2"], 0),
        MasterTransferred(3, IDS["m2"]),
        latest=Master("m1", 7),
    )
    assert played.hand_over(1, None, 5.0) == "m2"
    assert played.orders == [TransferMaster(n, 0, 7) for n in (1, 2, 3)]


def test_a_target_may_take_over_from_whoever_leads() -> None:
    played = PlayedMasters(MasterTransferred(1, IDS["m2"]), latest=Master("m1", 7))
    assert played.hand_over(1, "m2", 5.0) == "m2"
    assert played.orders == [TransferMaster(1, IDS["m2"])]


def test_nobody_is_dropped_before_anybody_is_known_to_lead() -> None:
    class Later(PlayedMasters):
        def latest(self, group: int) -> Master | None:
            known, self.master = self.master, Master("m3", 4)
            return known

    played = Later(MasterTransferred(1, IDS["m2"]))
    assert played.hand_over(1, None, 5.0) == "m2"
    assert played.orders == [TransferMaster(1, 0, 4)]
    with pytest.raises(TransferError):
        PlayedMasters().hand_over(1, None, 0.01)


def test_one_silent_member_does_not_use_up_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    patience: list[float] = []

    def ask_all(calls: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        patience.append(timeout_s)
        return {name: TimeoutError(SILENCE) for name in calls}

    monkeypatch.setattr(orders, "ask_all", ask_all)
    asked = Masters(Administration(Roster(GENESIS)))._order(
        "m1",
        1,
        Address(1, RoleName.CLIENT),
        TransferMaster(1, 0),
        1e12,
    )
    assert SILENCE in str(asked)
    assert patience == [orders.ORDER_TRY_S]


def test_a_refusal_is_told() -> None:
    refused = Refused(1, RefusalCode.NOT_TRANSFERRED, "member 5 does not answer", 0)
    with pytest.raises(TransferError, match="does not answer"):
        PlayedMasters(refused).hand_over(1, "m2", 5.0)


def test_a_member_that_has_not_the_group_does_not_refuse_for_it() -> None:
    lacking = Refused(1, RefusalCode.UNKNOWN_GROUP, "group 1 is not at this member", 0)
    played = PlayedMasters(lacking, MasterTransferred(2, IDS["m2"]), latest=Master("m3", 7))
    assert played.hand_over(1, None, 5.0) == "m2"
    assert len(set(played.asked)) == 2


def test_a_watch_tells_of_the_latest_master_first_and_then_of_later_ones() -> None:
    heard: list[Master] = []
    later, told = [Master("m3", 12)], threading.Event()

    class Watched(PlayedMasters):
        def wait_for_later(self, group: int, known_version: int, timeout_s: float) -> Master | None:
            if later and later[0].version > known_version:
                return later.pop()
            told.wait(10)
            return None

    def note(master: Master) -> None:
        heard.append(master)
        if master.version == 12:
            told.set()

    with MasterWatch(Watched(latest=Master("m2", 9)), 1, note):
        assert told.wait(10)
    assert heard == [Master("m2", 9), Master("m3", 12)]

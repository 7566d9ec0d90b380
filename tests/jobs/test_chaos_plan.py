"""Which faults are drawn, and whom they may hit."""

from __future__ import annotations

from itertools import islice

import pytest

from chaos_plan import (
    DEFAULT_KINDS,
    PAUSE_S,
    ROLES,
    FaultKind,
    PlannedFault,
    check_members,
    choose_member,
    choose_successor,
    minority,
    parse_kinds,
    plan_faults,
)
from ray_paxos.errors import ConfigurationError

MEMBERS = ("m1", "m2", "m3")


def planned(kind: FaultKind = FaultKind.KILL_MEMBER, **fields: object) -> PlannedFault:
    defaults = {
        "kind": kind,
        "after_s": 1.0,
        "is_for_master": False,
        "draw": 0.0,
        "role": "learner",
        "pause_s": 1.0,
        "is_transfer": False,
    }
    return PlannedFault(**{**defaults, **fields})  # type: ignore[arg-type]


def test_a_seed_is_one_schedule_whatever_the_order_of_the_kinds() -> None:
    first = list(islice(plan_faults(DEFAULT_KINDS, 7, 4.0), 50))
    assert first == list(islice(plan_faults(DEFAULT_KINDS[::-1], 7, 4.0), 50))
    assert first != list(islice(plan_faults(DEFAULT_KINDS, 8, 4.0), 50))


def test_every_kind_comes_once_before_any_comes_again() -> None:
    kinds = [fault.kind for fault in islice(plan_faults(DEFAULT_KINDS, 3, 4.0), 50)]
    hands = [kinds[start : start + 5] for start in range(0, 50, 5)]
    assert all(set(hand) == set(DEFAULT_KINDS) for hand in hands)
    assert len({tuple(hand) for hand in hands}) > 1


def test_times_are_as_they_are_said_to_be() -> None:
    faults = list(islice(plan_faults(DEFAULT_KINDS, 3, 4.0), 2_000))
    pauses = [fault.after_s for fault in faults]
    assert 1.0 <= min(pauses) < max(pauses) <= 7.0
    assert 3.8 < sum(pauses) / len(pauses) < 4.2
    stops = [fault.pause_s for fault in faults]
    assert PAUSE_S[0] <= min(stops) < max(stops) <= PAUSE_S[1]
    assert {fault.role for fault in faults} == set(ROLES)
    assert 0.4 < sum(fault.is_for_master for fault in faults) / len(faults) < 0.6


def test_no_kinds_are_no_faults() -> None:
    assert list(plan_faults((), 1, 4.0)) == []


def test_kinds_are_read() -> None:
    assert parse_kinds("none") == ()
    assert parse_kinds("restart-all, pause-role") == (FaultKind.RESTART_ALL, FaultKind.PAUSE_ROLE)


@pytest.mark.parametrize(
    "text", ["", "kill", "kill-role,", "none,kill-role", "kill-role,kill-role"]
)
def test_what_is_no_list_of_kinds_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--faults"):
        parse_kinds(text)


def test_faults_need_a_quorum_that_stays() -> None:
    assert [minority(members) for members in (1, 2, 3, 4, 5)] == [0, 0, 1, 1, 2]
    check_members(DEFAULT_KINDS, 3)
    check_members((FaultKind.RESTART_ALL,), 1)
    with pytest.raises(ConfigurationError, match="kill-role, kill-member, pause-member leave"):
        check_members(DEFAULT_KINDS, 2)
    with pytest.raises(ConfigurationError, match="drop-master needs a second member"):
        check_members((FaultKind.DROP_MASTER,), 1)


def choose(fault: PlannedFault, harmed: set[str], able: set[str] | None = None) -> str | None:
    return choose_member(
        fault,
        MEMBERS,
        harmed=harmed,
        able=set(MEMBERS) if able is None else able,
        master="m2",
    )


def test_the_master_or_any_member_is_hit() -> None:
    assert choose(planned(is_for_master=True, draw=0.9), set()) == "m2"
    hit = [choose(planned(draw=draw), set()) for draw in (0.0, 0.34, 0.99)]
    assert hit == ["m1", "m2", "m3"]


def test_no_second_member_is_harmed_of_three() -> None:
    for draw in (0.0, 0.5, 0.99):
        for is_for_master in (False, True):
            fault = planned(draw=draw, is_for_master=is_for_master)
            assert choose(fault, {"m3"}) == "m3"
            assert choose(fault, {"m3"}, able={"m1", "m2"}) is None
            assert choose(fault, {"m1", "m3"}) in {"m1", "m3"}


def test_of_five_members_two_may_be_harmed() -> None:
    members = ("m1", "m2", "m3", "m4", "m5")
    for draw in (0.0, 0.3, 0.6, 0.9):
        fault = planned(draw=draw)
        free = choose_member(fault, members, harmed={"m1"}, able=members, master=None)
        full = choose_member(fault, members, harmed={"m1", "m5"}, able=members, master=None)
        assert free in members
        assert full in {"m1", "m5"}


def test_the_lead_goes_to_somebody_else_or_to_anybody() -> None:
    assert choose_successor(planned(is_transfer=False), MEMBERS, "m2") is None
    chosen = [choose_successor(planned(is_transfer=True, draw=d), MEMBERS, "m2") for d in (0, 0.9)]
    assert chosen == ["m1", "m3"]
    assert choose_successor(planned(is_transfer=True), ("m1",), "m1") is None

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
    check_nodes,
    choose_group,
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


def test_links_have_a_source_of_their_own() -> None:
    faults = list(islice(plan_faults(DEFAULT_KINDS, 3, 4.0), 50))
    assert len({fault.links_draw for fault in faults}) == 50
    # What a seed meant before there were links to cut.
    kinds = [fault.kind.value for fault in faults[:5]]
    assert kinds == ["drop-master", "kill-role", "pause-member", "restart-all", "kill-member"]
    assert round(faults[0].after_s, 6) == 4.754322


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


def test_changes_of_members_need_a_fourth_one() -> None:
    kinds = (FaultKind.MOVE_GROUP, FaultKind.WIPE_MEMBER)
    check_members(kinds, 4)
    with pytest.raises(ConfigurationError, match="move-group, wipe-member: a group keeps 3 voters"):
        check_members(kinds, 3)
    check_members((FaultKind.ROLLING_RESTART, FaultKind.KILL_GCS), 1)


def test_faults_of_nodes_need_nodes_of_the_jobs_own() -> None:
    kinds = (FaultKind.KILL_ROLE, FaultKind.KILL_NODE, FaultKind.KILL_GCS, FaultKind.FULL_DISK)
    check_nodes(kinds, 3, has_hosts=False)
    check_nodes(DEFAULT_KINDS, None, has_hosts=False)
    check_nodes((*kinds, FaultKind.PARTIAL), None, has_hosts=True)
    with pytest.raises(ConfigurationError, match="partial: only between hosts of the job's own"):
        check_nodes((FaultKind.PARTIAL, FaultKind.KILL_NODE), 3, has_hosts=False)
    with pytest.raises(ConfigurationError, match="kill-node, kill-gcs, full-disk: only where the"):
        check_nodes(kinds, None, has_hosts=False)


def test_the_master_or_any_member_is_hit() -> None:
    assert choose_member(planned(is_for_master=True, draw=0.9), MEMBERS, master="m2") == "m2"
    draws = (0.0, 0.34, 0.99)
    hit = [choose_member(planned(draw=draw), MEMBERS, master="m2") for draw in draws]
    assert hit == ["m1", "m2", "m3"]
    # A master that may not be hit is left alone.
    assert choose_member(planned(is_for_master=True), ("m1", "m3"), master="m2") == "m1"
    assert choose_member(planned(), (), master="m2") is None


def test_every_group_is_aimed_at() -> None:
    faults = list(islice(plan_faults(DEFAULT_KINDS, 3, 4.0), 200))
    assert {choose_group(fault, (1, 2, 7)) for fault in faults} == {1, 2, 7}


def test_the_lead_goes_to_somebody_else_or_to_anybody() -> None:
    assert choose_successor(planned(is_transfer=False), MEMBERS, "m2") is None
    chosen = [choose_successor(planned(is_transfer=True, draw=d), MEMBERS, "m2") for d in (0, 0.9)]
    assert chosen == ["m1", "m3"]
    assert choose_successor(planned(is_transfer=True), ("m1",), "m1") is None

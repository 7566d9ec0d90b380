"""What `status` tells a person, from what the roles say of themselves."""

from __future__ import annotations

from typing import Any

import pytest

from ray_paxos.core.settings import CheckpointerSettings
from ray_paxos.observability.alarms import FolderTrouble, cluster_alarms, member_alarms
from ray_paxos.observability.status import MemberStatus, RoleStatus

SETTINGS = CheckpointerSettings(checkpoint_instances=100)
LEARNER = {"durable_through": 500, "stopped": "", "storage_full": False, "alarms": []}
VOTES = {"floor": 401, "storage_full": False}
CHECKPOINTER = {"checkpoints": [400], "sealed_through": 500, "alarms": [], "damaged_files": 0}


def member(
    learner: dict[str, Any] | None = None,
    votes: dict[str, Any] | None = None,
    checkpointer: dict[str, Any] | None = None,
    **roles: RoleStatus,
) -> MemberStatus:
    """A member with nothing wrong but what is given."""
    serving = {
        "proposer": RoleStatus("serving", groups={1: {}}),
        "acceptor": RoleStatus("serving", groups={1: {**VOTES, **(votes or {})}}),
        "learner": RoleStatus("serving", groups={1: {**LEARNER, **(learner or {})}}),
        "checkpointer": RoleStatus("serving", groups={1: {**CHECKPOINTER, **(checkpointer or {})}}),
    }
    return MemberStatus("m2", 2, {**serving, **roles})


def texts(found: MemberStatus, trouble: FolderTrouble | None = None) -> list[str]:
    return [alarm.text for alarm in member_alarms(found, SETTINGS, trouble)]


def test_a_member_that_is_well_has_none() -> None:
    assert texts(member()) == []


def test_a_damaged_journal_says_that_the_member_does_not_vote_and_what_to_do() -> None:
    stopped = RoleStatus("stopped", "journal/7: damaged at byte 3", error="DamageError")
    (text,) = texts(member(acceptor=stopped))
    assert "does not vote" in text
    assert "journal/7: damaged at byte 3" in text
    assert "`ray-paxos members replace m2`" in text


def test_an_emptied_folder_says_that_the_member_never_votes_again_and_what_to_do() -> None:
    gone = RoleStatus("gone", "no such actor")
    everything = dict.fromkeys(("proposer", "acceptor", "learner", "checkpointer"), gone)
    trouble = FolderTrouble(True, "its folder is gone")
    (text,) = texts(MemberStatus("m2", 2, everything), trouble)
    assert "its folder is gone" in text
    assert "never votes again" in text
    assert "`ray-paxos members replace m2`" in text


def test_a_folder_that_cannot_be_used_is_told_with_the_reason() -> None:
    gone = RoleStatus("gone", "no such actor")
    everything = dict.fromkeys(("proposer", "acceptor", "learner", "checkpointer"), gone)
    trouble = FolderTrouble(False, "identity.json: damaged")
    (text,) = texts(MemberStatus("m2", 2, everything), trouble)
    assert "identity.json: damaged" in text
    assert "never votes again" not in text


def test_an_acceptor_that_stopped_for_another_reason_need_not_be_replaced() -> None:
    (text,) = texts(member(acceptor=RoleStatus("stopped", "fsync failed", error="StorageError")))
    assert text == "the acceptor stopped: fsync failed"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"learner": {"stopped": "machine kv"}}, "group 1: applying stopped: machine kv"),
        ({"learner": {"storage_full": True}}, "its learner makes nothing more durable until"),
        ({"votes": {"storage_full": True}}, "its acceptor votes on nothing more until its disk"),
        ({"learner": {"alarms": ["segment 7 is damaged"]}}, "group 1: segment 7 is damaged"),
        ({"learner": {"overdue_chunks": 3}}, "3 parts of the log were"),
        ({"learner": {"overdue_chunks": 1}}, "1 part of the log was"),
        ({"votes": {"floor": 502}}, "its log ends at instance 500"),
        ({"checkpointer": {"alarms": ["no room"]}}, "no room"),
        ({"checkpointer": {"sealed_through": 701}}, "301 instances old"),
        ({"checkpointer": {"damaged_files": 2}}, "2 damaged files"),
        ({"proposer": RoleStatus("gone", "killed")}, "the proposer does not answer: killed"),
        ({"proposer": RoleStatus("opening", "held")}, "the proposer is not open yet: held"),
    ],
)
def test_each_thing_that_may_be_wrong_is_told(parts: dict[str, Any], expected: str) -> None:
    (text,) = texts(member(**parts))
    assert expected in text


def _with_role(found: MemberStatus, learner: RoleStatus) -> MemberStatus:
    return MemberStatus(found.name, found.member_id, {**found.roles, "learner": learner})


@pytest.mark.parametrize(
    "parts",
    [
        {"votes": {"floor": 501}},
        {"checkpointer": {"sealed_through": 700}},
        # A burst, or a slow disk: it has room.
        {"learner": {"is_full": True}},
    ],
)
def test_what_is_within_bounds_is_not_told(parts: dict[str, Any]) -> None:
    assert texts(member(**parts)) == []


def test_a_stopped_group_is_told_with_its_reason() -> None:
    learner = RoleStatus("serving", stopped_groups={4: "no checkpoint is whole"}, groups={})
    (text,) = texts(_with_role(member(), learner))
    assert text == "group 4: stopped in the learner: no checkpoint is whole"


def test_the_gravest_of_all_members_comes_first() -> None:
    damaged = RoleStatus("stopped", "journal", error="DamageError")
    alarms = {
        "m1": member_alarms(member({"overdue_chunks": 1, "storage_full": True}), SETTINGS),
        "m2": member_alarms(member(acceptor=damaged), SETTINGS),
    }
    found = cluster_alarms(alarms, [1])
    assert [text.split()[0] for text in found] == ["m2:", "group", "m1:", "m1:"]
    assert found[1] == "group 1 has no master"
    assert "disk" in found[2]

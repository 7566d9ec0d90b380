"""What is refused of restarts and of raising the cluster's version, with nothing done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ray_paxos.actors import folders
from ray_paxos.config import GroupConfiguration
from ray_paxos.core.genesis import Genesis, MemberSpec
from ray_paxos.core.lease import LeaseGrants
from ray_paxos.core.releases import NEWEST, Release
from ray_paxos.errors import ConfigurationError, MembershipError, ReleaseError
from ray_paxos.machines.kv_machine import KeyValueMachine
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.observability.status import MemberStatus, RoleStatus
from ray_paxos.upgrades import Upgrades
from tests.unit.wanted_changes import FIRST, JOIN_D, after, group_spec

ROLES = ("proposer", "acceptor", "learner", "checkpointer")


def upgrades(monkeypatch: pytest.MonkeyPatch, **told: Any) -> Any:
    """Told by members, without any."""
    made: Any = object.__new__(Upgrades)
    for name, answer in told.items():
        monkeypatch.setattr(made, name, lambda *_, answer=answer: answer, raising=False)
    return made


def statuses(**phases: str) -> dict[str, MemberStatus]:
    return {
        name: MemberStatus(name, number, {role: RoleStatus(phase) for role in ROLES})
        for number, (name, phase) in enumerate(phases.items(), start=1)
    }


@pytest.mark.parametrize(
    ("voters", "silent", "is_refused"),
    [("abc", "", False), ("abc", "c", True), ("a", "bc", False), ("bc", "bc", False)],
)
def test_no_member_is_restarted_that_leaves_a_group_without_a_majority(
    monkeypatch: pytest.MonkeyPatch, voters: str, silent: str, is_refused: bool
) -> None:
    made = upgrades(monkeypatch, _voters={1: set(voters)})
    found = statuses(**{name: "gone" if name in silent else "serving" for name in "abc"})
    if not is_refused:
        made._check_may_end(FIRST, "a", found)
        return
    with pytest.raises(MembershipError, match=r"group 1 would have no majority.* c does not serve"):
        made._check_may_end(FIRST, "a", found)


@pytest.mark.parametrize("name", ["d", "e"])
def test_only_who_stays_is_restarted(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    made = upgrades(monkeypatch, _voters={})
    with pytest.raises(MembershipError, match=f"member {name} is (joining|unknown)"):
        made._check_may_end(after(FIRST, JOIN_D), name, statuses())


def test_the_version_is_raised_only_once_all_know_it(monkeypatch: pytest.MonkeyPatch) -> None:
    releases = {"a": Release(1, 2), "b": Release(1, 1), "c": None}
    made = upgrades(monkeypatch, _releases=releases)
    with pytest.raises(ReleaseError) as info:
        made._check_all_know(FIRST, 2)
    assert "member b knows cluster version 1; member c does not answer" in str(info.value)
    assert "member a" not in str(info.value)
    with pytest.raises(MembershipError, match="member d is joining"):
        made._check_all_know(after(FIRST, JOIN_D), 2)
    upgrades(monkeypatch, _releases=dict.fromkeys("abc", Release(1, 2)))._check_all_know(FIRST, 2)


def test_no_folder_is_made_on_a_node_whose_release_does_not_know_the_version(
    tmp_path: Path,
) -> None:
    genesis = Genesis(1, "demo", "1" * 32, (MemberSpec("a", 11),), (group_spec(0, "a"),))
    result = folders._stage("demo", str(tmp_path), genesis.encoded(), "d", 14, True, NEWEST + 1)
    kind, why = result["error"]
    assert kind == "ReleaseError"
    assert f"member d: cluster version {NEWEST + 1}; this release knows" in why
    assert list(tmp_path.iterdir()) == []


def test_a_machine_is_mounted_only_under_a_version_that_brought_it_in() -> None:
    class Later(KeyValueMachine):
        version = KeyValueMachine.version + 1
        since = 2

    registry = MachineRegistry((KeyValueMachine, Later))
    assert registry.newest_versions(1) == {"kv": KeyValueMachine.version}
    assert registry.newest_versions(2) == {"kv": Later.version}
    with pytest.raises(ConfigurationError, match="kv is not known to all members under cluster"):
        GroupConfiguration(group=1, machines={"kv": "kv"}).machine_specs(0)


def test_nobody_promises_until_the_longest_lease_of_an_earlier_life_is_over() -> None:
    """What a restarted member is waited for, before the next one ends."""
    grants = LeaseGrants()
    assert grants.barred_ns(5) == 0
    grants.opened(5, 2)
    assert grants.barred_ns(1_000_005) == 1_000_000
    assert grants.barred_ns(2_000_005) == 0

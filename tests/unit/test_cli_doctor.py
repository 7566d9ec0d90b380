"""`ray-paxos doctor`: every check, by facts that are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from ray_paxos.cli.doctor import CHECKS, examine
from ray_paxos.cli.doctor_facts import (
    DEFAULTS,
    DiskFacts,
    Finding,
    FolderFacts,
    MachineFacts,
    NodeFacts,
    Package,
    RayFacts,
    Status,
)
from ray_paxos.cli.doctor_looking import (
    look_at_machine,
    processors,
)
from ray_paxos.cli.doctor_machine import version_numbers
from tests.unit.doctor_support import (
    DATA,
    DISK,
    JOINED,
    MACHINE,
    NODE,
    NONE_RUNS,
    OK,
    PROBLEM,
    SETTINGS,
    WARNING,
    facts,
    found,
    status,
)


def test_a_good_machine_has_nothing_to_change() -> None:
    findings = examine(facts())
    assert {finding.status for _, finding in findings} == {OK}
    assert {name for name, _ in findings} == CHECKS.keys() - {"Ray keepalive"}, "it is silent"
    assert not any(finding.change for _, finding in findings)


def test_what_is_wrong_says_what_to_change() -> None:
    bad = facts(
        "cluster: demo\nmembers: 4",
        machine=MachineFacts("3.9", "3.10", (), 10, 10, 1, 1, 0.5, "hpet", False),
        disk=DiskFacts(DATA, DATA, "read-only", 1, "tmpfs", "/", (9.0,), False),
        folders=(FolderFacts(DATA / "demo/m1", "demo", "other", "1", "m1"),),
        ray=RayFacts("auto", "ray.address", "", "nothing answers", own={"RAY_AUTH_MODE": "token"}),
    )
    wrong = [finding for _, finding in examine(bad) if finding.status is not OK]
    assert len(wrong) >= 14
    assert [finding for finding in wrong if not finding.change] == [
        Finding(WARNING, "no Ray cluster answers: nothing can be told")
    ]


# the machine


def test_versions_are_compared_as_numbers() -> None:
    assert version_numbers("2.60.0rc1") == (2, 60, 0)
    assert version_numbers("2.9") < version_numbers("2.60"), "not as texts"
    assert version_numbers("") < version_numbers("0.1")
    assert status("Python", facts(machine=replace(MACHINE, python="3.9.18"))) is PROBLEM
    assert status("Python", facts(machine=replace(MACHINE, python_wanted=""))) is WARNING
    old = replace(MACHINE, packages=(Package("ray", "2.60", "2.9.3"),))
    assert found("packages", facts(machine=old)).change == (
        "pip install 'ray>=2.60', on every node"
    )
    absent = replace(MACHINE, packages=(Package("ray", "2.60", ""),))
    assert "ray is not installed" in found("packages", facts(machine=absent)).found
    assert status("packages", facts(machine=replace(MACHINE, packages=()))) is WARNING


def test_open_files_are_held_against_groups_and_members() -> None:
    many = "cluster: demo\nmembers: 3\ngroups: 1000"
    wrong = found("open files", facts(many))
    assert wrong.status is PROBLEM
    assert "`ulimit -n 4308`" in wrong.change, "256 + 4 * 1,001 + 16 * 3"
    assert "the hard limit is 4,096" in wrong.change
    enough = replace(MACHINE, open_files=4_308)
    assert status("open files", facts(many, machine=enough)) is OK


def test_memory_is_held_against_the_members_of_a_node() -> None:
    one_node = replace(JOINED, nodes=(NODE,))
    # 3 * (266 MB + 2 groups of 0.5 MB); on three nodes a third of it.
    tight = replace(MACHINE, memory_bytes=900_000_000, available_bytes=800_000_000)
    assert status("memory", facts(machine=tight)) is OK
    assert status("memory", facts(machine=tight, ray=one_node)) is WARNING
    small = replace(MACHINE, memory_bytes=800_000_000, available_bytes=800_000_000)
    assert status("memory", facts(machine=small, ray=one_node)) is PROBLEM
    assert "`roles: fused`" in found("memory", facts(machine=small, ray=one_node)).change
    assert status("memory", facts("cluster: demo\nroles: fused", machine=small)) is OK
    unknown = replace(MACHINE, memory_bytes=None)
    assert status("memory", facts(machine=unknown)) is WARNING


def test_processors_are_held_against_members_and_groups() -> None:
    one_node = replace(JOINED, nodes=(NODE,))
    two, one = replace(MACHINE, processors=2), replace(MACHINE, processors=1)
    assert status("processors", facts(machine=two, ray=one_node)) is OK, "as was measured"
    assert status("processors", facts(machine=one, ray=one_node)) is WARNING
    assert status("processors", facts(machine=one)) is OK, "one member a node"
    many = "cluster: demo\ngroups: 400"
    assert "fewer groups" in found("processors", facts(many, machine=one)).change
    assert processors(8, "max 100000\n") == 8
    assert processors(8, "150000 100000\n") == 1.5
    assert processors(8, "") == 8


def test_the_clock_is_the_one_that_leases_need() -> None:
    assert status("clock", facts(machine=replace(MACHINE, has_boottime=False))) is PROBLEM
    assert status("clock", facts(machine=replace(MACHINE, clock_source="hpet"))) is WARNING
    assert status("clock", facts(machine=replace(MACHINE, clock_source=""))) is OK
    assert look_at_machine().has_boottime


def test_what_is_doubtful_in_a_configuration_is_told() -> None:
    assert status("configuration", facts("cluster: demo\nmembers: 4")) is WARNING
    assert "odd number" in found("configuration", facts("cluster: demo\nmembers: 4")).change
    assert status("configuration", facts(error="demo.yaml:1: cluster: missing")) is PROBLEM
    assert "defaults" in found("configuration", facts(path="")).found


# the disk


def test_a_data_directory_takes_files_or_is_a_problem() -> None:
    assert (
        "can be made below /"
        in found("data directory", facts(disk=replace(DISK, place=Path("/")))).found
    )
    assert status("data directory", facts(disk=replace(DISK, error="read-only"))) is PROBLEM


def test_free_space_is_held_against_the_bound_of_the_configuration() -> None:
    def free(count: int | None, nodes: int = 3) -> Status:
        ray = replace(JOINED, nodes=(NODE,) * nodes)
        return status("free space", facts(disk=replace(DISK, free_bytes=count), ray=ray))

    # The defaults: 5.2 GB a member, 0.84 GB of it for votes.
    assert free(5_300_000_000) is OK
    assert free(5_100_000_000) is WARNING
    assert free(800_000_000) is PROBLEM
    assert free(5_300_000_000, nodes=1) is WARNING, "three members on one disk"
    assert free(None) is WARNING


@pytest.mark.parametrize("kind", ["tmpfs", "overlay", "nfs4", "fuse.sshfs", "9p", ""])
def test_a_disk_that_others_decide_on_is_doubtful(kind: str) -> None:
    assert status("file system", facts(disk=replace(DISK, file_system=kind))) is WARNING


def test_a_slow_disk_is_told() -> None:
    def of(*sync_ms: float) -> Status:
        return status("fdatasync", facts(disk=replace(DISK, sync_ms=sync_ms)))

    assert of(0.2, 0.3, 90.0) is OK, "the middle one counts"
    assert of(3.9, 3.9) is OK
    assert of(4.1, 4.1) is WARNING
    stall_ms = DEFAULTS.proposer.disk_stall_ms
    assert of(stall_ms, stall_ms) is PROBLEM
    assert of() is WARNING


def test_a_lock_that_does_not_hold_is_a_problem() -> None:
    assert status("flock", facts(disk=replace(DISK, lock_excludes=False))) is PROBLEM
    assert status("flock", facts(disk=replace(DISK, lock_excludes=None))) is WARNING


MINE = FolderFacts(DATA / "demo/m1", "demo", "demo", "1", "m1")


@pytest.mark.parametrize(
    ("folders", "expected", "text"),
    [
        ((MINE,), OK, "1 members of cluster demo"),
        ((replace(MINE, held_below="old", cluster="old"),), OK, "other clusters: old"),
        ((replace(MINE, cluster="other"),), PROBLEM, "is of cluster other"),
        ((replace(MINE, problem="m1: a copy"),), PROBLEM, "a copy"),
        ((replace(MINE, release_problem="cluster version 9"),), PROBLEM, "version 9"),
        ((MINE, replace(MINE, member="m2", cluster_id="2")), PROBLEM, "1 (m1), 2 (m2)"),
        ((replace(MINE, member="m9"),), WARNING, "m9"),
        (
            (replace(MINE, held_below="old", cluster="old", release_problem="version 9"),),
            WARNING,
            "version 9",
        ),
        (None, WARNING, "cannot be listed"),
    ],
)
def test_what_was_left_behind_is_told(
    folders: tuple[FolderFacts, ...] | None, expected: Status, text: str
) -> None:
    finding = found("folders", facts(folders=folders))
    assert finding.status is expected
    assert text in finding.found


# Ray


def test_a_ray_cluster_answers_or_need_not() -> None:
    none = RayFacts(error=NONE_RUNS, own={})
    assert status("Ray cluster", facts(ray=none)) is OK, "one is started"
    assert status("Ray settings", facts(ray=none)) is OK
    of_two = facts("cluster: demo\nray: {nodes_min: 2}", ray=none)
    assert status("Ray cluster", of_two) is PROBLEM, "that would be one of one node"
    pinned = facts("cluster: demo\nmembers: [{name: a, resource: d}]", ray=none)
    assert "what a are pinned to" in found("Ray cluster", pinned).change
    auto = facts("cluster: demo\nray: {address: auto}", ray=replace(none, source="ray.address"))
    assert status("Ray cluster", auto) is PROBLEM
    assert status("Ray settings", auto) is WARNING
    named = facts(ray=replace(none, own={"RAY_ADDRESS": "auto"}, source="$RAY_ADDRESS"))
    assert status("Ray cluster", named) is PROBLEM
    refused = facts(ray=replace(none, error="cannot connect: it asks for another token"))
    assert status("Ray cluster", refused) is PROBLEM, "one is there"
    assert status("Ray cluster", facts(ray=RayFacts("local", "$RAY_ADDRESS"))) is OK


def test_settings_of_ray_are_held_against_the_configuration() -> None:
    none: Mapping[int, Mapping[str, str]] = {}
    assert status("Ray settings", facts(ray=replace(JOINED, raylets=none))) is WARNING
    other = {**SETTINGS, "RAY_max_direct_call_object_size": "100000"}
    mixed = facts(ray=replace(JOINED, raylets={7: SETTINGS, 8: other}))
    finding = found("Ray settings", mixed)
    assert finding.found == "RAY_max_direct_call_object_size of the raylets here: 100000, 2000000"
    assert finding.change.startswith("RAY_max_direct_call_object_size=2000000 at `ray start`")
    for name in SETTINGS:
        without = {key: value for key, value in SETTINGS.items() if key != name}
        wrong = found("Ray settings", facts(ray=replace(JOINED, raylets={7: without})))
        assert wrong.status is WARNING
        assert wrong.found == f"{name} of the raylets here: not set"


def test_a_process_must_not_probe_more_often_than_the_servers() -> None:
    name = "RAY_grpc_client_keepalive_time_ms"

    def of(own: str, server: str | None) -> list[Finding]:
        raylet = {} if server is None else {name: server}
        given = facts(ray=replace(JOINED, own={name: own}, raylets={7: raylet}))
        return list(CHECKS["Ray keepalive"](given))

    assert of("1000", "1000") == of("2000", "1000") == []
    assert of("1000", "2000")[0].status is PROBLEM
    assert of("1000", None)[0].status is PROBLEM


@pytest.mark.parametrize(
    ("own", "raylet", "has_token", "expected"),
    [
        ("", "", False, OK),
        ("", "", True, WARNING),
        ("token", "", False, PROBLEM),
        ("token", "token", True, OK),
        ("disabled", "token", True, PROBLEM),
        ("disabled", "disabled", False, OK),
        ("", "token", False, PROBLEM),
    ],
)
def test_a_token_is_there_where_one_is_asked_for(
    own: str, raylet: str, has_token: bool, expected: Status
) -> None:
    ray = replace(
        JOINED,
        own={"RAY_AUTH_MODE": own} if own else {},
        raylets={7: {"RAY_AUTH_MODE": raylet}},
        has_token=has_token,
    )
    assert status("Ray token", facts(ray=ray)) is expected


def test_nodes_are_held_against_members_and_what_they_are_pinned_to() -> None:
    def of(text: str, *nodes: NodeFacts) -> Finding:
        return found("Ray nodes", facts(f"cluster: demo\n{text}", ray=replace(JOINED, nodes=nodes)))

    assert of("members: 3", NODE, NODE, NODE).status is OK
    assert of("members: 3", NODE).status is WARNING
    assert "up to 3" in of("members: 3", NODE).found
    assert of("ray: {nodes_min: 2}", NODE).status is PROBLEM
    pinned = "members: [{name: a, node_labels: {disk: x}}, {name: b, resource: d}]"
    right = NodeFacts("two", {"disk": "x"}, frozenset({"CPU", "d"}))
    assert "label disk=x, for a" in of(pinned, NODE, NODE).found
    assert of(pinned, NODE, right).status is OK
    unknown = replace(JOINED, nodes=None, error="no answer")
    assert status("Ray nodes", facts(ray=unknown)) is WARNING
    assert facts(f"cluster: demo\n{pinned}", ray=unknown).members_here == 1, "as they are pinned"
    assert facts(ray=unknown).members_here == 3

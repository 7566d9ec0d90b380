"""Members and groups that come and go while a cluster serves."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from click.testing import CliRunner, Result

import ray_paxos
from ray_paxos.actors.member_making import new_member
from ray_paxos.cli.main import main
from ray_paxos.config import parse_configuration
from ray_paxos.core.wanted import GroupState, MemberState
from ray_paxos.core.wanted_changes import JoinMember
from ray_paxos.errors import (
    BootstrapError,
    ConfigurationError,
    MembershipError,
    PlacementError,
    RequestError,
    TransferError,
)
from ray_paxos.machines import kv
from tests.ray.helpers import dump, put, read

TEXT = (
    "cluster: growing\nmembers: 3\nroles: fused\ngroups: {count: 3, voters: 3}\n"
    "logging: {level: WARNING}\n"
    # A member that is killed for good is replaced as soon as that is ordered.
    "controller: {replace_after_ms: 1000}\n"
)


@pytest.fixture(scope="module")
def growing(local_ray: None) -> Iterator[ray_paxos.Cluster]:
    """One cluster, which the tests here change one after the other."""
    started = ray_paxos.start(parse_configuration(TEXT))
    yield started
    started.stop(delete_data=True)


def hand_over(cluster: ray_paxos.Cluster, member: str, group: int) -> None:
    """One that votes since just now has to be heard of first."""
    deadline = time.monotonic() + 30
    while True:
        try:
            cluster.transfer_master(member, group)
            return
        except TransferError:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def state_of(cluster: ray_paxos.Cluster, member: str) -> MemberState:
    return cluster.operations.wanted().members[member].state


def test_what_cannot_be_is_refused_by_name(growing: ray_paxos.Cluster, home: Path) -> None:
    operations = growing.operations
    with pytest.raises(MembershipError, match="member m1 exists"):
        operations.add_member("m1")
    with pytest.raises(PlacementError, match="no live Ray node has the id beef"):
        operations.add_member("m9", node="beef")
    with pytest.raises(MembershipError, match="there is no member m9"):
        operations.remove_member("m9")
    with pytest.raises(MembershipError, match="there is no member m9"):
        operations.replace_member("m9", "m10")
    with pytest.raises(MembershipError, match="4 voters; there are 3 members"):
        operations.create_group(9, voters=4)
    with pytest.raises(MembershipError, match="group 1 exists"):
        operations.create_group(1)
    with pytest.raises(MembershipError, match="m9 is no member"):
        operations.place_group(1, ["m1", "m9"])
    with pytest.raises(MembershipError, match="group 0 is the system's own"):
        operations.drop_group(0)
    with pytest.raises(MembershipError, match="there is no group 99"):
        operations.drop_group(99)
    with pytest.raises(ConfigurationError, match="group: Input should be greater"):
        operations.create_group(-1)
    with pytest.raises(ConfigurationError, match=r"machines: .*allowed kinds: barriers, "):
        operations.create_group(9, machines={"own": "system"})
    operations.place_group(1, ["m1", "m2", "m3"])
    with pytest.raises(MembershipError, match="group 1 is placed at member m1"):
        operations.replace_member("m1", "m7")
    operations.place_group(1, [])
    # A folder that was there before may hold votes.
    used = home / "growing" / "m6"
    shutil.copytree(home / "growing" / "m3", used)
    with pytest.raises(BootstrapError, match="there is a folder of a member m6"):
        operations.add_member("m6")
    shutil.rmtree(used)
    assert set(operations.wanted().members) == {"m1", "m2", "m3"}, "nothing half done"


def run(*arguments: str) -> Result:
    """One command of the command line, in this process."""
    return CliRunner().invoke(main, list(arguments))


def test_the_command_line_tells_and_refuses(growing: ray_paxos.Cluster) -> None:
    listed = run("members", "list", "growing")
    assert listed.exit_code == 0
    assert "m1  present, serves; groups 0, 1, 2, 3" in listed.output
    document = json.loads(run("members", "list", "growing", "--json").stdout)
    assert [(each["name"], each["state"], each["groups"]) for each in document] == [
        (name, "present", [0, 1, 2, 3]) for name in ("m1", "m2", "m3")
    ]
    refused = run("members", "add", "growing", "m1")
    assert refused.exit_code == 1
    assert "member m1 exists" in refused.output
    wrong = run("members", "add", "growing", "m9", "--label", "nothing")
    assert wrong.exit_code == 2
    assert "'nothing' is no KEY=VALUE" in wrong.output
    made = run("groups", "create", "growing", "8", "--voters", "1", "--machine", "counts=kv")
    assert made.exit_code == 0, made.output
    placed = run("groups", "place", "growing", "8", "m3", "--json")
    assert json.loads(placed.stdout)["voters"] == ["m3"]
    assert "placed" in run("members", "drain", "growing", "m3").output
    assert run("groups", "drop", "growing", "8").output == "group 8: dropped\n"
    assert run("groups", "spread", "growing").output == "spread already\n"
    assert run("groups", "drop", "growing", "8").exit_code == 1


def test_groups_are_made_served_and_dropped(growing: ray_paxos.Cluster, home: Path) -> None:
    assert growing.operations.create_group(7, voters=1)
    with growing.client(7) as client:
        put(client, "seven", b"1")
        assert read(client, "seven").value == b"1"
        growing.operations.drop_group(7)
        with pytest.raises(RequestError):
            client.propose(kv.encode_put("seven", b"2"), timeout_s=5.0)
    assert growing.operations.wanted().groups[7].state is GroupState.GONE
    with pytest.raises(ConfigurationError, match="group: found 7"):
        ray_paxos.connect("growing").client(7)
    with pytest.raises(MembershipError, match="never used again"):
        growing.operations.create_group(7)
    assert not list((home / "growing").glob("*/learner/log/group=7"))


def test_groups_are_spread_and_drained_under_load(growing: ray_paxos.Cluster) -> None:
    over = threading.Event()
    failures: list[BaseException] = []
    counts = dict.fromkeys((1, 2, 3), 0)

    def work(group: int) -> None:
        try:
            with growing.client(group) as client:
                while not over.is_set():
                    put(client, f"load/{counts[group]}", b"x")
                    counts[group] += 1
        except BaseException as error:  # told to the test, which has to fail
            failures.append(error)

    threads = [threading.Thread(target=work, args=(group,)) for group in counts]
    for thread in threads:
        thread.start()
    try:
        growing.operations.add_member("m4")
        growing.operations.spread()
        voters = [growing.group(group).members().voters for group in (0, 1, 2, 3)]
        loads = [sum(name in each for each in voters) for name in ("m1", "m2", "m3", "m4")]
        assert loads == [3, 3, 3, 3]
        growing.operations.drain_member("m2")
        assert state_of(growing, "m2") is MemberState.DRAINED
        assert not any("m2" in growing.group(g).members().voters for g in (0, 1, 2, 3))
        growing.operations.keep_member("m2")
        assert state_of(growing, "m2") is MemberState.PRESENT
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert failures == []
    for group, count in counts.items():
        with growing.client(group) as client:
            assert len(dump(client, "load/")) == count


def test_a_member_whose_disk_is_lost_is_replaced(growing: ray_paxos.Cluster, home: Path) -> None:
    with growing.client(1) as client:
        put(client, "kept", b"1")
        ray.kill(ray.get_actor("growing/m2/member", namespace="ray_paxos"), no_restart=True)
        shutil.rmtree(home / "growing" / "m2")
        growing.operations.replace_member("m2", "m5")
        assert state_of(growing, "m2") is MemberState.GONE
        for group in (0, 1, 2, 3):
            voters = growing.group(group).members().voters
            assert len(voters) == 3
            assert "m2" not in voters
        put(client, "kept", b"2")
        assert read(client, "kept").value == b"2"


def test_a_member_whose_node_went_before_it_was_made_is_removed_and_another_one_added(
    growing: ray_paxos.Cluster,
) -> None:
    growing._system.change(JoinMember(new_member("m30", "beef")))
    # A node that is started again has another id.
    with pytest.raises(MembershipError, match=r"its node beef is gone.*; remove it, and add a"):
        growing.operations.add_member("m30", timeout_s=1.0)
    growing.operations.remove_member("m30")
    assert state_of(growing, "m30") is MemberState.GONE


def test_a_member_joins_takes_over_and_another_one_leaves(
    growing: ray_paxos.Cluster, home: Path
) -> None:
    with growing.client(1) as client:
        put(client, "join/before", b"1")
        growing.operations.add_member("m6")
        assert state_of(growing, "m6") is MemberState.PRESENT
        assert "m6" in growing.members
        assert growing.operations.place_group(1, ["m3", "m5", "m6"]) == ("m3", "m5", "m6")
        hand_over(growing, "m6", 1)
        # The client was opened before there was a member m6, which leads now.
        put(client, "join/after", b"2")
        assert read(client, "join/before").value == b"1"
        growing.operations.remove_member("m1")
        assert state_of(growing, "m1") is MemberState.GONE
        assert not (home / "growing" / "m1").exists()
        for group in (0, 1, 2, 3):
            assert "m1" not in growing.group(group).members().voters
            assert len(growing.group(group).members().voters) == 3
        put(client, "join/later", b"3")
        found = dump(client, "join/")
    assert {key: value for key, (value, _) in found.items()} == {
        "join/before": b"1",
        "join/after": b"2",
        "join/later": b"3",
    }
    # Whoever attaches finds it; and it comes back from its disk with the others.
    assert "m6" in ray_paxos.connect("growing").members
    growing.stop()
    again = ray_paxos.start(parse_configuration(TEXT))
    assert "m6" in again.members
    with again.client(1) as client:
        assert read(client, "join/later").value == b"3"
        put(client, "again", b"4")
    digests = {each.digest for each in again.member_digests(1).values()}
    assert len(digests) == 1

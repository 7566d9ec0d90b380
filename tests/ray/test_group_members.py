"""Who has a group and who votes in it, changed while clients write."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

import ray_paxos
from ray_paxos.cli.main import main
from ray_paxos.config import parse_configuration
from ray_paxos.errors import ConfigurationError, MembershipError
from tests.ray.helpers import put, read, wait_for
from tests.ray.test_masters import LEASE_S, Gaps

pytestmark = pytest.mark.fused_by_default

CONFIGURATION = "cluster: changing\nmembers: 4\nlogging: {level: WARNING}\n"


@pytest.fixture(scope="module")
def changing(local_ray: None, arrangement: str) -> Iterator[ray_paxos.Cluster]:
    """A cluster of four members whose groups these tests change."""
    text = f"{CONFIGURATION}roles: {arrangement}\n"
    started = ray_paxos.start(parse_configuration(text))
    yield started
    started.stop(delete_data=True)


def has_left(cluster: ray_paxos.Cluster, member: str, group: int = 1) -> bool:
    """Whether none of a member's roles has the group."""
    found = next(each for each in cluster.status().members if each.name == member)
    return not any(group in (role.groups or {}) for role in found.roles.values())


def test_a_member_leaves_and_comes_back(changing: ray_paxos.Cluster) -> None:
    group = changing.group()
    assert group.members().voters == ("m1", "m2", "m3", "m4")
    with changing.client() as client:
        put(client, "before", b"1")
        left = group.remove("m4")
        assert left.voters == ("m1", "m2", "m3")
        wait_for("m4 has left", lambda: has_left(changing, "m4"))
        put(client, "without", b"2")
        changing.flush(1)
        assert sorted(changing.checkpoint(1)) == ["m1", "m2", "m3"]
        assert sorted(changing.member_digests(1)) == ["m1", "m2", "m3"]
        for _ in range(8):
            assert read(client, "without", "stale").value == b"2"
        joined = group.add("m4")
        assert (joined.voters, joined.followers) == (("m1", "m2", "m3"), ("m4",))
        assert joined.version > left.version
        wait_for("m4 is back", lambda: not has_left(changing, "m4"))
        wait_for("m4 follows", lambda: changing.status().groups[1].positions["m4"].lag == 0)
        promoted = group.promote("m4")
        assert promoted.voters == ("m1", "m2", "m3", "m4")
        put(client, "after", b"3")
        assert read(client, "before").value == b"1"
        assert read(client, "without").value == b"2"
    digests = changing.member_digests()
    assert len({each.digest for each in digests.values()}) == 1
    assert sorted(digests) == ["m1", "m2", "m3", "m4"]


@pytest.mark.slow
def test_members_that_are_taken_back_at_once_have_the_group(changing: ray_paxos.Cluster) -> None:
    """They are added, and made voters, while they forget the earlier part.

    When what was left of that counted for the new follower, half of such runs ended within 25
    rounds: voters that had left the group, for good.
    """
    group = changing.group()
    names = ("m1", "m2", "m3", "m4")
    group.remove("m4")
    wait_for("m4 has left", lambda: has_left(changing, "m4"))
    for number in range(40):
        voters = group.members().voters
        out = voters[number % 3]
        spare = next(name for name in names if name not in voters)
        group.move(out, spare)
        group.add(out)
        group.promote(out)
        group.remove(spare)
    voters = group.members().voters
    assert sorted(changing.member_digests()) == sorted(voters)
    spare = next(name for name in names if name not in voters)
    group.add(spare)
    group.promote(spare)


def test_a_group_moves_while_clients_write(changing: ray_paxos.Cluster) -> None:
    group = changing.group()
    group.remove("m4")
    wait_for("m4 has left", lambda: has_left(changing, "m4"))
    master = changing.master()
    assert master is not None
    source = next(name for name in ("m1", "m2", "m3") if name != master.member)
    with Gaps(changing) as gaps:
        moved = group.move(source, "m4")
    assert "m4" in moved.voters
    assert source not in moved.voters
    assert gaps.waited_s < 2 * LEASE_S, "no longer than for a master that dies"
    group.move("m4", source)
    group.add("m4")
    group.promote("m4")


def test_a_master_that_leaves_hands_over_first(changing: ray_paxos.Cluster) -> None:
    group = changing.group()
    master = changing.master()
    assert master is not None
    with changing.client() as client:
        demoted = group.demote(master.member)
        assert demoted.followers == (master.member,)
        put(client, "demoted", b"1")
        later = changing.master()
        assert later is not None
        assert later.member != master.member
        group.promote(master.member)


def test_what_cannot_be_is_refused_by_name(changing: ray_paxos.Cluster) -> None:
    group = changing.group()
    with pytest.raises(ConfigurationError, match="found 'm9'; allowed: m1, m2, m3, m4"):
        group.add("m9")
    with pytest.raises(ConfigurationError, match="group 1 is at m1"):
        group.move("m1", "m1")
    before = group.members()
    assert group.add("m1") == before, "it has it already"
    system = changing.group(0)
    system.remove("m4")
    with pytest.raises(MembershipError, match="has not the group"):
        system.promote("m4")
    system.add("m4")


def test_the_command_line_shows_and_changes_it(changing: ray_paxos.Cluster) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["groups", *arguments])
        return done.exit_code, done.output

    assert run("demote", "changing", "1", "m4")[0] == 0
    status, text = run("list", "changing", "--json")
    assert status == 0
    listed = {each["group"]: each for each in json.loads(text)}
    assert listed[1]["voters"] == ["m1", "m2", "m3"]
    assert listed[1]["followers"] == ["m4"]
    status, text = run("promote", "changing", "1", "m4")
    assert status == 0
    assert text.startswith("group 1: voters m1, m2, m3, m4, since instance ")
    assert run("promote", "changing", "1", "m9") == (
        2,
        "Error: member: found 'm9'; allowed: m1, m2, m3, m4\n",
    )
    assert run("move", "changing", "7", "m1", "m2")[0] == 2
    assert "group 1 is at m1" in run("move", "changing", "1", "m1", "m1")[1]

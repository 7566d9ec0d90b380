"""A space of keys over the groups of a cluster, also while its groups move."""

from __future__ import annotations

import pickle
import random
import threading
from collections.abc import Iterator

import pytest
import ray
from click.testing import CliRunner, Result

import ray_paxos
from ray_paxos.cli.main import main
from ray_paxos.config import parse_configuration
from ray_paxos.core.spaces import owner_of, prefix_of
from ray_paxos.core.wanted import SpaceState, WantedSpace
from ray_paxos.errors import ClientClosedError, ConfigurationError, MembershipError
from ray_paxos.key_value import KeyValue, Versioned
from ray_paxos.machines.kv import Conflict, Renewed, Written
from tests.ray.helpers import PATIENCE_S, put, wait_for

TEXT = (
    "cluster: keyed\nmembers: 4\nroles: fused\ngroups: {count: 4, voters: 3}\n"
    "logging: {level: WARNING}\n"
)


@pytest.fixture(scope="module")
def keyed(local_ray: None) -> Iterator[ray_paxos.Cluster]:
    """One cluster of four members, with four groups of three voters."""
    started = ray_paxos.start(parse_configuration(TEXT))
    yield started
    started.stop(delete_data=True)


@pytest.fixture
def settings(keyed: ray_paxos.Cluster) -> KeyValue:
    """A space over all of its groups."""
    return keyed.kv("settings")


def test_keys_of_all_groups_are_one_space(settings: KeyValue) -> None:
    assert settings.groups == (1, 2, 3, 4)
    names = [f"user/{n:03}" for n in range(60)]
    assert {settings.group_of(name) for name in names} == {1, 2, 3, 4}
    for name in names:
        assert settings.put(name, name.encode()) == Written(1, False)
    assert settings.get("user/007") == Versioned(b"user/007", 1)
    assert settings.get("user/999") is None
    assert settings.cas("user/007", b"bond", expected_version=1) == Written(2, True)
    assert settings.cas("user/007", b"late", expected_version=1) == Conflict(2)
    assert settings.delete("user/008") == Written(2, True)
    assert settings.get("user/008") is None
    assert settings.read("user/008").version == 2
    found = settings.multi_get(names)
    assert list(found) == [name for name in names if name != "user/008"]
    scanned = list(settings.scan("user/", page_keys=4))
    assert [entry.key for entry in scanned] == list(found)
    assert {e.key: Versioned(e.value, e.version) for e in scanned} == found
    assert settings.get("user/007", consistency="follower") == Versioned(b"bond", 2)
    assert settings.get("user/007", consistency="lease") == Versioned(b"bond", 2)


def test_a_value_ends_by_itself_in_a_quiet_group_unless_it_is_renewed(settings: KeyValue) -> None:
    settings.put("lease/short", b"x", ttl_s=0.5)
    settings.put("lease/kept", b"x", ttl_s=0.5)
    assert settings.renew("lease/kept", ttl_s=600) == Renewed(1)
    wait_for("the value to end", lambda: settings.get("lease/short") is None)
    assert settings.read("lease/short").version == 2
    assert settings.renew("lease/short", ttl_s=600) == Conflict(2)
    assert settings.get("lease/kept") == Versioned(b"x", 1)
    settings.delete("lease/kept")


def run(*arguments: str) -> Result:
    """One command of the command line, in this process."""
    return CliRunner().invoke(main, ["kv", *arguments])


def test_the_command_line_reads_and_writes_the_same_keys(keyed: ray_paxos.Cluster) -> None:
    assert run("create", "keyed", "told").output == "told  groups 1, 2, 3, 4\n"
    space = keyed.kv("told", creates=False)
    assert run("put", "keyed", "told", "color", "green").output == "key color: version 1\n"
    assert space.get("color") == Versioned(b"green", 1)
    space.put("size", b"9")
    assert run("get", "keyed", "told", "size").output == "9"
    listed = run("scan", "keyed", "told").output
    assert listed == 'color  version 1  "green"\nsize  version 1  "9"\n'
    missing = run("get", "keyed", "told", "absent")
    assert (missing.exit_code, missing.stdout) == (1, "")
    unknown = run("get", "keyed", "tolled", "color")
    assert unknown.exit_code == 2
    assert "there is no space tolled; those that are there: " in unknown.stderr
    # The group of a space is kept until the space is dropped.
    keyed.operations.create_group(9, voters=1)
    assert run("create", "keyed", "ninth", "--group", "9").exit_code == 0
    with pytest.raises(MembershipError, match="keys of space ninth; drop the space first"):
        keyed.operations.drop_group(9)
    assert run("drop", "keyed", "ninth").exit_code == 0
    keyed.operations.drop_group(9)
    assert keyed.kv("settings").groups == (1, 2, 3, 4)


def test_drivers_that_open_a_space_at_once_get_the_same(keyed: ray_paxos.Cluster) -> None:
    drivers = [ray_paxos.connect("keyed") for _ in range(4)]
    barrier = threading.Barrier(len(drivers))
    opened: list[KeyValue] = []

    def open_space(driver: ray_paxos.Cluster) -> None:
        barrier.wait()
        opened.append(driver.kv("raced"))

    threads = [threading.Thread(target=open_space, args=(driver,)) for driver in drivers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [space.groups for space in opened] == [(1, 2, 3, 4)] * len(drivers)
    opened[0].put("a", b"1")
    assert [space.get("a") for space in opened] == [Versioned(b"1", 1)] * len(drivers)
    with pytest.raises(ConfigurationError, match=r"they never change, and are not 1$"):
        keyed.kv("raced", groups=[1])


def test_a_space_whose_keys_are_elsewhere_is_not_made(keyed: ray_paxos.Cluster) -> None:
    """As after a restore, which keeps the groups, and not what group 0 said of their spaces."""
    had = WantedSpace("lost", (1, 2), SpaceState.PRESENT)
    lost = [f"key/{n}" for n in range(20)]
    for key in lost:
        with keyed.client(owner_of(had, key)) as client:
            put(client, f"{prefix_of('lost')}{key}", b"found")
    with pytest.raises(ConfigurationError, match="holds keys of a space lost that was spread over"):
        keyed.kv("lost")
    again = keyed.kv("lost", groups=[1, 2])
    assert [entry.key for entry in again.scan()] == sorted(lost)
    assert set(again.multi_get(lost).values()) == {Versioned(b"found", 1)}


def test_a_space_goes_into_tasks_and_actors(settings: KeyValue) -> None:
    settings.put("handed", b"on")

    @ray.remote(num_cpus=0)
    def work(space: KeyValue) -> bytes:
        with space:
            before = space.get("handed")
            assert before is not None
            space.cas("handed", before.value + b", and back", before.version)
            return before.value

    assert ray.get(work.remote(settings), timeout=PATIENCE_S) == b"on"
    assert settings.get("handed") == Versioned(b"on, and back", 2)
    copy = pickle.loads(pickle.dumps(settings))
    with copy:
        assert copy.get("handed") == Versioned(b"on, and back", 2)
    with pytest.raises(ClientClosedError):
        copy.put("handed", b"")
    assert settings.put("handed", b"still") == Written(3, True)


class Load:
    """Writers and readers of a space, until it is over; what each key should be."""

    def __init__(self, space: KeyValue, count: int) -> None:
        self.written: list[dict[str, int]] = [{} for _ in range(count)]
        self.failures: list[BaseException] = []
        self._space = space
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(n,)) for n in range(count)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def goes_on(self, group: int) -> None:
        """Wait until more was written, to keys of a group, than now."""
        before = self._writes_of(group)
        wait_for(
            f"writes to group {group}",
            lambda: self.failures or self._writes_of(group) >= before + 3,
        )
        assert self.failures == []

    def _writes_of(self, group: int) -> int:
        return sum(
            version
            for each in self.written
            for key, version in each.copy().items()
            if self._space.group_of(key) == group
        )

    def _work(self, worker: int) -> None:
        """Each key is written by one worker alone, so its version counts that one's writes."""
        randomness = random.Random(worker)
        written = self.written[worker]
        try:
            while not self._over.is_set():
                key = f"load/{worker}/{randomness.randrange(25)}"
                version = written.get(key, 0) + 1
                made = self._space.put(key, b"%d" % version, timeout_s=PATIENCE_S)
                assert made == Written(version, version > 1), "once, and in order"
                written[key] = version
                found = self._space.get(key, timeout_s=PATIENCE_S)
                assert found == Versioned(b"%d" % version, version), "what was just written"
        except BaseException as error:  # told to the test, which has to fail
            self.failures.append(error)


def test_groups_move_under_a_load_of_puts_and_gets(
    keyed: ray_paxos.Cluster, settings: KeyValue
) -> None:
    """Away from the member that leads; and all to one that was not there when the load began."""
    members = {"m1", "m2", "m3", "m4"}
    with Load(settings, 4) as load:
        for group in settings.groups:
            load.goes_on(group)
            master = keyed.wait_for_master(group, timeout_s=PATIENCE_S)
            assert master is not None
            placed = tuple(sorted(members - {master.member}))
            keyed.operations.place_group(group, placed, timeout_s=PATIENCE_S)
            assert keyed.group(group).members().voters == placed
            load.goes_on(group)
        keyed.operations.add_member("m5", timeout_s=PATIENCE_S)
        keyed.operations.place_group(1, ["m5"], timeout_s=PATIENCE_S)
        load.goes_on(1)
    assert load.failures == []
    assert keyed.group(1).members().voters == ("m5",)
    expected = {key: version for each in load.written for key, version in each.items()}
    assert {settings.group_of(key) for key in expected} == set(settings.groups)
    found = settings.multi_get(expected, timeout_s=PATIENCE_S)
    assert found == {key: Versioned(b"%d" % v, v) for key, v in expected.items()}
    scanned = {entry.key: entry.version for entry in settings.scan("load/", page_keys=7)}
    assert scanned == expected


def test_a_space_is_there_again_after_a_stop(keyed: ray_paxos.Cluster, settings: KeyValue) -> None:
    settings.put("kept", b"1")
    groups = settings.groups
    keyed.stop()
    with pytest.raises(ClientClosedError):
        settings.put("kept", b"2")
    again = ray_paxos.start(parse_configuration(TEXT))
    found = again.kv("settings", creates=False)
    assert found.groups == groups
    assert found.get("kept", timeout_s=PATIENCE_S) == Versioned(b"1", 1)
    assert found.put("kept", b"2", timeout_s=PATIENCE_S) == Written(2, True)

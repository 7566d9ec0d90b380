"""The cluster version that a member keeps on its disk."""

from __future__ import annotations

from random import Random

import pytest

from ray_paxos.core.releases import NEWEST, OLDEST, Release
from ray_paxos.errors import DamageError, ReleaseError
from ray_paxos.storage import cluster_version
from ray_paxos.storage.cluster_version import (
    VERSION,
    read_cluster_version,
    write_cluster_version,
)
from ray_paxos.storage.identity import Identity
from ray_paxos.testing.disk import SimulatedDisk
from tests.storage.support import GENESIS

IDENTITY, OTHER = (Identity(GENESIS, each.member_id) for each in GENESIS.members[:2])


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk()


@pytest.fixture
def later_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_version, "THIS_RELEASE", Release(1, 3))


def test_a_member_that_has_heard_of_none_goes_by_the_oldest(disk: SimulatedDisk) -> None:
    assert read_cluster_version(disk, IDENTITY) == OLDEST
    write_cluster_version(disk, IDENTITY, OLDEST)
    assert not disk.exists(VERSION)


@pytest.mark.usefixtures("later_release")
def test_what_is_written_is_read_and_durable(disk: SimulatedDisk) -> None:
    for version in (2, 3):
        write_cluster_version(disk, IDENTITY, version)
        disk.power_loss(Random(version))
        assert read_cluster_version(disk, IDENTITY) == version


def test_a_release_that_does_not_know_it_does_not_open_the_folder(
    disk: SimulatedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as later:
        later.setattr(cluster_version, "THIS_RELEASE", Release(1, NEWEST + 1))
        write_cluster_version(disk, IDENTITY, NEWEST + 1)
    with pytest.raises(ReleaseError, match=rf"version\.json: cluster version {NEWEST + 1}"):
        read_cluster_version(disk, IDENTITY)


@pytest.mark.usefixtures("later_release")
def test_every_flipped_byte_is_damage(disk: SimulatedDisk) -> None:
    write_cluster_version(disk, IDENTITY, 2)
    whole = disk.read(VERSION)
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0x04
        disk.unlink(VERSION)
        file = disk.create(VERSION)
        file.write(bytes(damaged))
        file.close()
        with pytest.raises(DamageError):
            read_cluster_version(disk, IDENTITY)


@pytest.mark.usefixtures("later_release")
def test_another_members_is_damage(disk: SimulatedDisk) -> None:
    write_cluster_version(disk, OTHER, 2)
    with pytest.raises(DamageError, match="of another member"):
        read_cluster_version(disk, IDENTITY)

"""The cluster version that a member goes by, on its disk: `version.json` (`core.releases`, rule 4).

The learner alone writes it; all roles of the member read it before they open anything else. A
member that has not heard of a version has no such file.
"""

from __future__ import annotations

from ray_paxos.core.releases import OLDEST, THIS_RELEASE
from ray_paxos.errors import DamageError
from ray_paxos.storage.checked_files import read_fields, replace_fields
from ray_paxos.storage.disk import Disk, storage_errors
from ray_paxos.storage.identity import Identity, member_fields

VERSION = "version.json"


def read_cluster_version(disk: Disk, identity: Identity) -> int:
    """What the member went by last.

    Args:
        disk: The member's own folder; need not be there.
        identity: Of the member.

    Returns:
        A cluster version that this release knows; the oldest where nothing was recorded.

    Raises:
        ReleaseError: This release does not know it.
        DamageError: The file is damaged, or another member's.
        StorageError: The disk refuses.
    """
    where = disk.where(VERSION)
    with storage_errors(f"cannot read {where}"):
        if not disk.exists(VERSION):
            return OLDEST
        fields = read_fields(disk, VERSION)
    version = fields.pop("cluster_version", None)
    if fields != member_fields(identity) or not isinstance(version, int):
        raise DamageError(f"{where}: of another member")
    THIS_RELEASE.check(version, where)
    return version


def write_cluster_version(disk: Disk, identity: Identity, version: int) -> None:
    """Go by this one from here on, durably; writes nothing where that is recorded already.

    Raises:
        StorageError: The disk refuses; what was recorded stays.
    """
    if version == read_cluster_version(disk, identity):
        return
    with storage_errors(f"cannot write {disk.where(VERSION)}"):
        replace_fields(disk, VERSION, {**member_fields(identity), "cluster_version": version})

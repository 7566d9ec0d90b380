"""A member's folder: how it comes into being, and how it is found again.

```
<member>/
  place.json              where it lies: a copy of it is not the member (`place`)
  identity.json           cluster, genesis, member; written last when staged, never again
  activated.json          from here on the member takes part
  acceptor/ ...           one folder a role, each with
    lock                    flock held for the life of the process; says whose folder it is
    incarnation             raised durably by every opening, before the first message
learner/parts.json      which groups the member has, and which it has left (`parts`)
```

A folder comes into being in two explicit steps of bootstrap, never by a restart (R9):

1. `stage_member` makes all folders and files durably, the acceptor's empty journal included, and
   writes the identity last. Nothing can be opened yet, so no vote is possible.
2. `activate_member` adds the marker, and nothing else.

The empty journal is made by staging because staging refuses a folder that shows any trace of a
member without its identity, and makes nothing at all where the identity stands. A journal that
is lost later is thus damage for ever: neither activating again nor any restart makes one.

Both steps may be repeated after a crash at any point, and then finish what was begun.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ray_paxos.core.genesis import GENESIS_CONFIG_ID, Genesis
from ray_paxos.core.messages import RoleName
from ray_paxos.core.parts import first_parts
from ray_paxos.core.records import GroupOpening, JournalOpening
from ray_paxos.errors import DamageError, ForeignFolderError, StorageError
from ray_paxos.storage.checked_files import read_fields, replace_fields
from ray_paxos.storage.disk import Disk, LocalDisk, storage_errors
from ray_paxos.storage.identity import (
    ACTIVATED,
    IDENTITY,
    INCARNATION,
    LOCK,
    ROLE_FOLDERS,
    Identity,
    check_role,
    checkpointer_folder,
    identity_fields,
    is_activated,
    log_folder,
    member_fields,
    read_identity,
    role_fields,
)
from ray_paxos.storage.journal import create_journal
from ray_paxos.storage.journal_files import JOURNAL_FOLDER, check_journal, was_opened
from ray_paxos.storage.parts import read_parts, write_parts
from ray_paxos.storage.place import check_place, write_place


@dataclass(frozen=True, slots=True)
class FoundMember:
    """A member's folder that was found on a disk.

    Attributes:
        path: The folder.
        state: `unfinished` (staging broke off), `staged`, `activated`, or `damaged`.
        identity: Whose it is; None where that cannot be read.
        problem: What is wrong, for a person; empty where nothing is.
    """

    path: Path
    state: str
    identity: Identity | None
    problem: str


def stage_member(disk: Disk, genesis: Genesis, member_id: int, *, joined_as: str = "") -> None:
    """Make a member's folder, durably, for a cluster that starts, or that the member joins.

    Only bootstrap calls this, for a genesis that no other node's disk contradicts, and who adds a
    member, under an id that was never used before. One that joins has no group at first.

    Args:
        disk: The member's own folder; need not be there.
        genesis: What the cluster starts from.
        member_id: Which of its members; or, of one that joins, its new id.
        joined_as: The name of one that joins; empty for one of the genesis.

    Raises:
        ForeignFolderError: The folder is another's, or has data without an identity.
        DamageError: The folder was staged before and something of it is missing or wrong.
        StorageError: The disk refuses.

    Guarantee: everything is durable on return. Calling it again changes nothing; after a crash it
    finishes.
    """
    identity = Identity(genesis, member_id, joined_as)
    where = disk.where("")
    with storage_errors(f"cannot make the folder of member {identity.name} at {where}"):
        disk.make_folder("")
        if disk.exists(IDENTITY):
            _check_staged(disk, identity)
            return
        _refuse_traces(disk)
        for folder in _folders(identity):
            disk.make_folder(folder)
        for role, folder in ROLE_FOLDERS.items():
            replace_fields(disk, f"{folder}/{LOCK}", role_fields(identity, role))
            incarnation = {**role_fields(identity, role), "incarnation": 0}
            replace_fields(disk, f"{folder}/{INCARNATION}", incarnation)
        acceptor = ROLE_FOLDERS[RoleName.ACCEPTOR]
        write_parts(disk, identity, first_parts(genesis, member_id))
        create_journal(disk, acceptor, _journal_opening(identity), owner=identity.owner)
        write_place(disk, identity.owner)
        replace_fields(disk, IDENTITY, identity_fields(identity))


def activate_member(disk: Disk) -> None:
    """Let a staged member take part, durably.

    Raises:
        DamageError: The member is not staged, or something of it is missing or wrong.
        StorageError: The disk refuses.

    Guarantee: durable on return. Makes nothing but the marker; calling it again changes nothing.
    """
    identity = read_identity(disk)
    with storage_errors(f"cannot activate the member at {disk.where('')}"):
        if is_activated(disk, identity):
            # It may be there in the page cache only.
            disk.sync_folder("")
            return
        _check_staged(disk, identity)
        replace_fields(disk, ACTIVATED, member_fields(identity))


def find_members(cluster_root: str | Path) -> list[FoundMember]:
    """Look for members below `<data_dir>/<cluster>`.

    Args:
        cluster_root: The cluster's folder on this node; need not be there.

    Returns:
        Every folder there, by name, also those that are unfinished or damaged.

    Raises:
        StorageError: The folder cannot be listed.
    """
    root = Path(cluster_root)
    with storage_errors(f"cannot list {root}"):
        paths = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    return [_describe(path) for path in paths]


def _describe(path: Path) -> FoundMember:
    disk = LocalDisk(path)
    identity = None
    try:
        if not disk.exists(IDENTITY):
            _refuse_traces(disk)
            return FoundMember(path, "unfinished", None, "its first start did not finish")
        identity = read_identity(disk)
        check_place(disk, identity.owner)
        state = "activated" if is_activated(disk, identity) else "staged"
        return FoundMember(path, state, identity, "")
    except StorageError as error:
        return FoundMember(path, "damaged", identity, str(error))
    except OSError as error:
        return FoundMember(path, "damaged", identity, f"{path}: {error.strerror}")


def _check_staged(disk: Disk, identity: Identity) -> None:
    """All that staging made is there; makes it durable in case it is only in the page cache."""
    found = read_identity(disk)
    if found != identity:
        raise ForeignFolderError(
            f"{disk.where('')} belongs to member {found.member_id} of cluster "
            f"{found.genesis.cluster} ({found.genesis.cluster_id})"
        )
    check_place(disk, identity.owner)
    for folder in _folders(identity):
        if not disk.exists(folder):
            raise DamageError(f"{disk.where(folder)} is missing")
    for role, folder in ROLE_FOLDERS.items():
        for name in (LOCK, INCARNATION):
            path = f"{folder}/{name}"
            if not disk.exists(path):
                raise DamageError(f"{disk.where(path)} is missing")
            check_role(disk, path, identity, role)
    read_parts(disk, identity)
    check_journal(disk, ROLE_FOLDERS[RoleName.ACCEPTOR])
    disk.sync_folder("")


def _refuse_traces(disk: Disk) -> None:
    """Without an identity there must be nothing that an opened member would have left."""
    traces = [ACTIVATED] if disk.exists(ACTIVATED) else []
    acceptor = ROLE_FOLDERS[RoleName.ACCEPTOR]
    if disk.exists(f"{acceptor}/{JOURNAL_FOLDER}") and was_opened(disk, acceptor):
        traces.append(f"{acceptor}/{JOURNAL_FOLDER}")
    for role, folder in ROLE_FOLDERS.items():
        path = f"{folder}/{INCARNATION}"
        # Damaged counts as a trace, too: staging replaces this file atomically.
        if disk.exists(path) and read_fields(disk, path).get("incarnation") != 0:
            traces.append(path)
        if role is RoleName.LEARNER and disk.exists(f"{folder}/log"):
            for group in disk.list(f"{folder}/log"):
                names = disk.list(f"{folder}/log/{group}")
                traces += [f"{folder}/log/{group}/{name}" for name in names]
    if traces:
        raise ForeignFolderError(
            f"{disk.where(IDENTITY)} is missing, and {disk.where(traces[0])} shows that a member "
            "lived here; it can come back only as a new member, in an empty folder"
        )


def _folders(identity: Identity) -> Iterator[str]:
    yield from ROLE_FOLDERS.values()
    yield f"{ROLE_FOLDERS[RoleName.ACCEPTOR]}/{JOURNAL_FOLDER}"
    yield "learner/log"
    for group in identity.groups:
        yield log_folder(group)
        yield checkpointer_folder(group)


def _journal_opening(identity: Identity) -> JournalOpening:
    openings = []
    for spec in identity.genesis.groups:
        voter = spec.configuration.voter(identity.member_id)
        if voter is not None:
            floor = max(GENESIS_CONFIG_ID, spec.begins_after) + 1
            openings.append(
                GroupOpening(spec.group, voter.replica_id, spec.configuration, None, floor, 0)
            )
    return JournalOpening(tuple(sorted(openings, key=lambda o: o.group)), ())

"""Whose folder this is, and who holds it: identity, locks and incarnations.

Every file says cluster, member and role, so that a folder that was copied, renamed or swapped is
refused before anything in it is used (R9). None of them is ever made by opening: one that is
missing or damaged stays so. An incarnation that started over would let two lives of a proposer use
one ballot for two values.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from ray_paxos.core.genesis import Genesis, decode_genesis
from ray_paxos.core.messages import RoleName
from ray_paxos.errors import (
    DamageError,
    ForeignFolderError,
    NotActivatedError,
    PaxosError,
    StorageError,
)
from ray_paxos.storage.checked_files import Fields, read_fields, replace_fields
from ray_paxos.storage.disk import Disk, DiskLock, storage_errors
from ray_paxos.storage.place import check_place

FOLDER_FORMAT = 1
IDENTITY = "identity.json"
ACTIVATED = "activated.json"
LOCK = "lock"
INCARNATION = "incarnation"
ROLE_FOLDERS = {
    RoleName.PROPOSER: "proposer",
    RoleName.ACCEPTOR: "acceptor",
    RoleName.LEARNER: "learner",
    RoleName.CHECKPOINTER: "checkpointer",
}


def log_folder(group: int) -> str:
    """Where a group's chosen log lies."""
    return f"learner/log/group={group}"


def checkpointer_folder(group: int) -> str:
    """Where a group's checkpointer works."""
    return f"checkpointer/group={group}"


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose folder this is.

    Attributes:
        genesis: Of the cluster.
        member_id: Of the member.
        joined_as: The name of a member that joined the cluster after its genesis; empty for one of
            the genesis, which names it.
    """

    genesis: Genesis
    member_id: int
    joined_as: str = ""

    @property
    def name(self) -> str:
        """Of the member.

        Raises:
            KeyError: Neither it nor the genesis says.
        """
        return self.joined_as or self.genesis.member(self.member_id).name

    @property
    def groups(self) -> tuple[int, ...]:
        """The groups that the member has had from the genesis on, ascending."""
        return tuple(
            spec.group
            for spec in self.genesis.groups
            if self.member_id in spec.configuration.member_ids
        )

    @property
    def owner(self) -> bytes:
        """Stands for cluster and member in files that must not be taken for another's."""
        return self.genesis.hash() + self.member_id.to_bytes(8, "big")


def read_identity(disk: Disk) -> Identity:
    """Whose folder this is.

    Raises:
        DamageError: There is no identity, or it is damaged.
    """
    where = disk.where(IDENTITY)
    with storage_errors(f"cannot read {where}"):
        try:
            fields = read_fields(disk, IDENTITY)
        except FileNotFoundError as error:
            raise DamageError(f"{where} is missing: nobody knows whose folder this is") from error
    if fields.get("format") != FOLDER_FORMAT:
        message = f"{where}: format {fields.get('format')}; this release knows {FOLDER_FORMAT}"
        raise StorageError(message)
    try:
        genesis = decode_genesis(bytes.fromhex(str(fields["genesis"])))
        member_id = int(fields["member_id"])
        is_of_genesis = any(member.member_id == member_id for member in genesis.members)
        identity = Identity(genesis, member_id, "" if is_of_genesis else str(fields["name"]))
        if identity_fields(identity) != fields:
            raise DamageError(f"{where}: its parts contradict each other")
    except (KeyError, ValueError, msgspec.DecodeError) as error:
        raise DamageError(f"{where}: not an identity ({error})") from error
    return identity


def is_activated(disk: Disk, identity: Identity) -> bool:
    """Whether the member takes part.

    Raises:
        DamageError: The marker is there and damaged, or another member's.
    """
    if not disk.exists(ACTIVATED):
        return False
    if read_fields(disk, ACTIVATED) != member_fields(identity):
        raise DamageError(f"{disk.where(ACTIVATED)}: of another member")
    return True


def check_member(disk: Disk, genesis: Genesis, member_id: int) -> Identity:
    """Make sure that a folder is this member's and that it takes part.

    Raises:
        ForeignFolderError: It belongs to another cluster or member, or is a copy.
        NotActivatedError: It is staged only.
        DamageError: It is missing or damaged.
    """
    identity = read_identity(disk)
    if identity.genesis.hash() != genesis.hash():
        cluster = f"{identity.genesis.cluster} ({identity.genesis.cluster_id})"
        wanted = f"{genesis.cluster} ({genesis.cluster_id})"
        raise ForeignFolderError(f"{disk.where('')} belongs to cluster {cluster}, not to {wanted}")
    if identity.member_id != member_id:
        raise ForeignFolderError(
            f"{disk.where('')} belongs to member {identity.name} ({identity.member_id}), not to "
            f"{member_id}"
        )
    check_place(disk, identity.owner)
    with storage_errors(f"cannot read {disk.where(ACTIVATED)}"):
        activated = is_activated(disk, identity)
    if not activated:
        raise NotActivatedError(
            f"{disk.where('')} is staged and not activated: the cluster's first start did not "
            "finish; start it again while all members can be reached"
        )
    return identity


@dataclass(frozen=True, slots=True)
class RoleFolder:
    """A role's folder, held by this process.

    Attributes:
        path: Of the folder.
        incarnation: Of this opening; durable, and never given to another.
    """

    path: str
    incarnation: int
    _lock: DiskLock

    def release(self) -> None:
        """Let another process open it."""
        self._lock.release()


def open_role_folder(disk: Disk, identity: Identity, role: RoleName) -> RoleFolder:
    """Hold a role's folder and raise its incarnation.

    Raises:
        FolderHeldError: Another process holds it.
        ForeignFolderError: It is another role's or member's.
        DamageError: Lock or incarnation is missing or damaged: nothing is made anew, since an
            incarnation that starts over would let two lives of a proposer share a ballot.
        StorageError: The disk refuses.

    Guarantee: the raised incarnation is durable on return.
    """
    folder = ROLE_FOLDERS[role]
    path = f"{folder}/{INCARNATION}"
    with storage_errors(f"cannot open {disk.where(folder)}"):
        try:
            lock = disk.lock(f"{folder}/{LOCK}")
        except FileNotFoundError as error:
            raise DamageError(f"{disk.where(f'{folder}/{LOCK}')} is missing") from error
        try:
            check_role(disk, f"{folder}/{LOCK}", identity, role)
            fields = check_role(disk, path, identity, role)
            incarnation = fields.get("incarnation")
            if not isinstance(incarnation, int) or incarnation < 0:
                raise DamageError(f"{disk.where(path)}: no incarnation")
            replace_fields(disk, path, {**fields, "incarnation": incarnation + 1})
        except (OSError, PaxosError):
            lock.release()
            raise
    return RoleFolder(folder, incarnation + 1, lock)


def check_role(disk: Disk, path: str, identity: Identity, role: RoleName) -> Fields:
    """Read a role's lock or incarnation file.

    Raises:
        ForeignFolderError: It is another role's or member's.
        DamageError: It is missing or damaged.
    """
    try:
        fields = read_fields(disk, path)
    except FileNotFoundError as error:
        raise DamageError(f"{disk.where(path)} is missing; it is never made anew") from error
    expected = role_fields(identity, role)
    if {name: fields.get(name) for name in expected} != expected:
        raise ForeignFolderError(
            f"{disk.where(path)} is of the {fields.get('role')} of member "
            f"{fields.get('member_id')} (genesis {fields.get('genesis_hash')})"
        )
    return fields


def member_fields(identity: Identity) -> Fields:
    """What the marker of an activated member says."""
    return {
        "format": FOLDER_FORMAT,
        "genesis_hash": identity.genesis.hash().hex(),
        "member_id": identity.member_id,
    }


def role_fields(identity: Identity, role: RoleName) -> Fields:
    """What the lock of a role's folder says, and its incarnation file beside the number."""
    return {**member_fields(identity), "role": ROLE_FOLDERS[role]}


def identity_fields(identity: Identity) -> Fields:
    """What identity.json says."""
    genesis = identity.genesis
    return {
        **member_fields(identity),
        "cluster": genesis.cluster,
        "cluster_id": genesis.cluster_id,
        "name": identity.name,
        "genesis": genesis.encoded().hex(),
    }

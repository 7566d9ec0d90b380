"""Accepting a member's folder that was moved: by a person, never by itself.

What the files can tell is checked: nobody uses the folder, the one it was made as is not on this
machine any more, and, unless it is the very disk, the acceptor had stopped cleanly before it was
copied. What they cannot tell a person has to know: that the member has not run anywhere else
since. Were that wrong, votes would be forgotten, and what was acknowledged could be lost; to
replace the member is always safe.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ray_paxos.errors import DamageError, StorageError
from ray_paxos.storage.disk import Disk, LocalDisk, storage_errors
from ray_paxos.storage.identity import ROLE_FOLDERS, Identity, read_identity
from ray_paxos.storage.journal_reading import read_journal
from ray_paxos.storage.place import PLACE, is_same_disk, moved_how, read_place, write_place
from ray_paxos.storage.running import running_roles


@dataclass(frozen=True, slots=True)
class Adoption:
    """What accepting a folder would mean.

    Attributes:
        identity: Whose it is.
        moved: How it was moved, for a person; empty where it lies where it was made.
        refusal: Why it is not accepted; empty where it may be.
    """

    identity: Identity
    moved: str
    refusal: str


def plan_adoption(root: Path) -> Adoption:
    """Look whether a member's folder may be accepted where it is now; changes nothing.

    Raises:
        StorageError: The folder is no member's, or cannot be read.
    """
    disk = LocalDisk(root)
    identity = read_identity(disk)
    try:
        said = read_place(disk, identity.owner)
    except DamageError as error:
        moved, is_same, before = str(error), False, None
    else:
        moved, is_same = moved_how(disk, said), is_same_disk(disk, said)
        before = Path(str(said.get("path", "")))
    running = ", ".join(ROLE_FOLDERS[role] for role in running_roles(root))
    if running:
        refusal = f"a process uses it ({running}): stop that first"
    elif before is not None and not is_same and _is_member(before, identity):
        refusal = f"the member is at {before}, on this machine: this is a copy of it"
    elif moved and not is_same:
        refusal = _unclean(disk, identity)
    else:
        refusal = ""
    return Adoption(identity, moved, refusal)


def adopt(root: Path, adoption: Adoption) -> None:
    """Accept a folder where it is now, durably; raises StorageError."""
    disk = LocalDisk(root)
    with storage_errors(f"cannot write {disk.where(PLACE)}"):
        write_place(disk, adoption.identity.owner)


def _is_member(root: Path, identity: Identity) -> bool:
    try:
        return read_identity(LocalDisk(root)) == identity
    except StorageError:
        return False


def _unclean(disk: Disk, identity: Identity) -> str:
    """Why the journal does not show that the member had stopped before it was copied."""
    try:
        journal = read_journal(disk, "acceptor", owner=identity.owner)
    except StorageError as error:
        return f"its votes are damaged ({error}): replace the member"
    if not journal.is_ended:
        return (
            "its acceptor had not stopped cleanly when the folder was copied, so votes may be "
            "missing in it: replace the member"
        )
    return ""

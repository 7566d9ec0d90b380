"""Where a member's folder lies, so that a copy of it does not pass for the member.

```
place.json     the host, and the numbers of the folder and of files in it that nothing replaces
```

A copy of a folder holds the votes of the day on which it was made. Were it to vote, as a second
member of the same name or after the first is gone, what was acknowledged since could be lost
(R9, R11). So the folder says where it lies, by what a copy cannot take with it: the file system's
numbers (inodes) of the folder and of its locks, and the identity of the machine. `cp`, `rsync`,
`tar` and a restored backup give other numbers; a disk, or an image of one, in another machine
finds another machine there. A folder that is renamed within its file system stays itself.

What this cannot see: an image of a whole machine, which is that machine to itself. Inside one Ray
cluster a member has one name, and one set of actors; a start that finds two folders refuses.

A disk that was moved on purpose is accepted by `ray-paxos log adopt` (`adoption`), and by nothing
else.
"""

from __future__ import annotations

from ray_paxos.errors import DamageError, ForeignFolderError
from ray_paxos.storage.checked_files import Fields, read_fields, replace_fields
from ray_paxos.storage.disk import Disk, storage_errors

PLACE = "place.json"
PLACE_FORMAT = 1
FOLDER = "folder"

_ROLES = ("proposer", "acceptor", "learner", "checkpointer")
_NUMBERED = {FOLDER: "", **{role: f"{role}/lock" for role in _ROLES}}
"""What is numbered, by the field's name; staging makes these once, and nothing replaces them."""


def write_place(disk: Disk, owner: bytes) -> None:
    """Say, durably, that the folder lies where it is.

    Args:
        disk: The member's folder, with the locks of its roles.
        owner: Cluster and member.
    """
    replace_fields(disk, PLACE, {**_fields(disk), "owner": owner.hex(), "path": disk.where("")})


def check_place(disk: Disk, owner: bytes) -> None:
    """Make sure that a folder is where its member was made, and no copy.

    Args:
        disk: The member's folder.
        owner: Cluster and member.

    Raises:
        ForeignFolderError: It is a copy, or was moved, or is another member's.
        DamageError: The file that tells is missing or damaged.
        StorageError: The disk refuses.
    """
    said = read_place(disk, owner)
    problem = moved_how(disk, said)
    if problem:
        raise ForeignFolderError(
            f"{disk.where('')} is a copy or was moved: {problem}. A copy may have forgotten votes, "
            "so it does not take part. If this is the member's own disk, moved here, and the "
            f"folder at {said.get('path')} is gone for good: ray-paxos log adopt {disk.where('')}"
        )


def read_place(disk: Disk, owner: bytes) -> Fields:
    """What a folder says about where it lies.

    Raises:
        ForeignFolderError: It is another member's.
        DamageError: The file is missing or damaged.
    """
    where = disk.where(PLACE)
    with storage_errors(f"cannot read {where}"):
        try:
            said = read_fields(disk, PLACE)
        except FileNotFoundError as error:
            raise DamageError(
                f"{where} is missing: whether the folder is a copy cannot be told. If it is none: "
                f"ray-paxos log adopt {disk.where('')}"
            ) from error
    if said.get("owner") != owner.hex():
        raise ForeignFolderError(f"{where} is of another member")
    if said.get("format") != PLACE_FORMAT:
        message = f"{where}: format {said.get('format')}; this release knows {PLACE_FORMAT}"
        raise DamageError(message)
    return said


def moved_how(disk: Disk, said: Fields) -> str:
    """What is otherwise here than the folder says; empty where nothing is."""
    with storage_errors(f"cannot look at {disk.where('')}"):
        found = _fields(disk)
    if said.get("host") and said["host"] != found["host"]:
        return "it was made on another machine"
    # What is missing altogether (0) is for the opening to say: it is no sign of a copy.
    differing = [name for name in _NUMBERED if found[name] not in (0, said.get(name))]
    if differing:
        return f"{differing[0]} is not the file that was made with the member"
    return ""


def is_same_disk(disk: Disk, said: Fields) -> bool:
    """Whether all files are the very ones, whatever the machine: a disk moved, or its image."""
    found = _fields(disk)
    return all(said.get(name) == found[name] for name in _NUMBERED)


def _fields(disk: Disk) -> Fields:
    numbers: Fields = {name: disk.number(path) for name, path in _NUMBERED.items()}
    return {"format": PLACE_FORMAT, "host": disk.host(), **numbers}

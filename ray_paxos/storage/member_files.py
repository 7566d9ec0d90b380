"""What may lie in a member's folder, and what each name there is: for tools, which open no role.

```
identity.json  activated.json  place.json
<role>/        events.jsonl  events.jsonl.1  where events are written to files; nothing reads them
proposer/      lock  incarnation
acceptor/      lock  incarnation  current  journal/<number>.journal
learner/       lock  incarnation  log/group=<g>/<first>-<last>.parquet  set_aside/group=<g>/...
checkpointer/  lock  incarnation  group=<g>/merged-<range>.parquet  <instance>/  damaged-<instance>/
replaced/      what repairs took out of the way
```

A name is one of these; or a leftover, which a process that was killed has begun and which the
next one removes (`_...`, `....unfinished`); or unknown. Nothing ever reads an unknown name but as
damage, so it is told apart and reported: a renamed segment shows as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ray_paxos.core.checkpoint import MANIFEST, UNFINISHED_MANIFEST
from ray_paxos.core.messages import RoleName
from ray_paxos.errors import DamageError
from ray_paxos.storage.checked_files import UNFINISHED as UNFINISHED_FIELDS
from ray_paxos.storage.checkpoint_folders import DAMAGED
from ray_paxos.storage.checkpoints import CheckpointPlace
from ray_paxos.storage.disk import Disk
from ray_paxos.storage.identity import (
    ACTIVATED,
    IDENTITY,
    INCARNATION,
    LOCK,
    ROLE_FOLDERS,
    Identity,
    checkpointer_folder,
    log_folder,
)
from ray_paxos.storage.journal_files import CURRENT, JOURNAL_FOLDER
from ray_paxos.storage.parts import PARTS, held_groups
from ray_paxos.storage.place import PLACE
from ray_paxos.storage.segment_format import SegmentCodec
from ray_paxos.storage.segments import MERGED, UNFINISHED, SegmentPlace
from ray_paxos.storage.set_aside import set_aside_folder
from ray_paxos.storage.table_format import TableCodec

REPLACED = "replaced"
LOG = "log"
EVENTS = "events.jsonl"
OLDER_EVENTS = EVENTS + ".1"
SET_ASIDE = "set_aside"


@dataclass(frozen=True, slots=True)
class FileFormats:
    """The file formats of a member's data.

    Attributes:
        segments: Of the chosen logs.
        tables: Of the tables in checkpoints.
    """

    segments: SegmentCodec
    tables: TableCodec


@dataclass(slots=True)
class MemberFiles:
    """Names found in a member's folder, as paths below it.

    Attributes:
        merged: By group: merged segments that wait to be published.
        checkpoints: By group: instances of the published checkpoints, ascending.
        unfinished: Folders of checkpoints that are being saved or received; opening either goes
            on with one or removes it.
        set_aside: What a role found damaged and put out of the way; nothing reads it.
        leftovers: What was begun by a process that ended, and is removed by the next.
        unknown: What no role ever writes there.
        missing: Folders that staging made and that are gone.
    """

    merged: dict[int, list[str]] = field(default_factory=dict)
    checkpoints: dict[int, list[int]] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    set_aside: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def segment_place(disk: Disk, formats: FileFormats, identity: Identity, group: int) -> SegmentPlace:
    """Where a member's segments of one group lie."""
    genesis, log, work = identity.genesis.hash(), log_folder(group), checkpointer_folder(group)
    return SegmentPlace(disk, formats.segments, genesis, group, log, work)


def checkpoint_place(
    disk: Disk, formats: FileFormats, identity: Identity, group: int
) -> CheckpointPlace:
    """Where a member's checkpoints of one group lie."""
    genesis, folder = identity.genesis.hash(), checkpointer_folder(group)
    return CheckpointPlace(disk, formats.tables, genesis, group, folder)


def is_segment_name(place: SegmentPlace, name: str) -> bool:
    """Whether a published segment may have that name."""
    try:
        place.parse(name)
    except DamageError:
        return False
    return True


def list_segments(place: SegmentPlace) -> list[str]:
    """Paths of a group's published segments, by name alone; none where the folder is missing."""
    names = _names(MemberFiles(), place.disk, place.log)
    return [f"{place.log}/{name}" for name in names if is_segment_name(place, name)]


def survey(disk: Disk, formats: FileFormats, identity: Identity) -> MemberFiles:
    """List a member's folder; reads no file but the list of its groups.

    Raises:
        OSError: A folder cannot be listed.
    """
    found, groups = MemberFiles(), held_groups(disk, identity)
    top = {IDENTITY, ACTIVATED, PLACE, REPLACED, *ROLE_FOLDERS.values()}
    _sort(found, disk, "", top)
    for role, folder in ROLE_FOLDERS.items():
        known = {LOCK, INCARNATION, EVENTS, OLDER_EVENTS, *_own_names(groups, role)}
        _sort(found, disk, folder, known)
    learner = ROLE_FOLDERS[RoleName.LEARNER]
    _sort(found, disk, f"{learner}/{LOG}", _group_names(groups))
    if disk.exists(f"{learner}/{SET_ASIDE}"):
        _sort(found, disk, f"{learner}/{SET_ASIDE}", _group_names(groups))
    for group in groups:
        place = segment_place(disk, formats, identity, group)
        _survey_log(found, place)
        aside = set_aside_folder(place)
        if disk.exists(aside):
            found.set_aside += [f"{aside}/{name}" for name in disk.list(aside)]
        _survey_work(found, place, checkpoint_place(disk, formats, identity, group))
    return found


def _own_names(groups: Sequence[int], role: RoleName) -> set[str]:
    match role:
        case RoleName.ACCEPTOR:
            return {CURRENT, JOURNAL_FOLDER}
        case RoleName.LEARNER:
            return {LOG, SET_ASIDE, PARTS.rpartition("/")[2]}
        case RoleName.CHECKPOINTER:
            return _group_names(groups)
        case _:
            return set()


def _group_names(groups: Sequence[int]) -> set[str]:
    return {log_folder(group).rpartition("/")[2] for group in groups}


def _sort(found: MemberFiles, disk: Disk, folder: str, known: set[str]) -> None:
    for name in _names(found, disk, folder):
        path = f"{folder}/{name}" if folder else name
        if name in known:
            continue
        if name.endswith(UNFINISHED_FIELDS) and name.removesuffix(UNFINISHED_FIELDS) in known:
            found.leftovers.append(path)
        else:
            found.unknown.append(path)


def _survey_log(found: MemberFiles, place: SegmentPlace) -> None:
    for name in _names(found, place.disk, place.log):
        path = f"{place.log}/{name}"
        if name.startswith(UNFINISHED):
            found.leftovers.append(path)
        elif not is_segment_name(place, name):
            found.unknown.append(path)


def _survey_work(found: MemberFiles, place: SegmentPlace, checkpoints: CheckpointPlace) -> None:
    merged = found.merged.setdefault(place.group, [])
    instances = found.checkpoints.setdefault(place.group, [])
    disk = place.disk
    for name in _names(found, disk, place.work):
        path = f"{place.work}/{name}"
        instance_id = checkpoints.parse(name)
        if name.startswith(UNFINISHED):
            found.leftovers.append(path)
        elif name.startswith(MERGED) and is_segment_name(place, name.removeprefix(MERGED)):
            merged.append(path)
        elif instance_id is not None and disk.is_folder(path):
            unfinished = f"{path}/{UNFINISHED_MANIFEST}"
            if not disk.exists(f"{path}/{MANIFEST}"):
                found.unfinished.append(path)
                continue
            instances.append(instance_id)
            if disk.exists(unfinished):
                found.leftovers.append(unfinished)
        elif checkpoints.parse(name.removeprefix(DAMAGED)) is not None:
            found.set_aside.append(path)
        else:
            found.unknown.append(path)


def _names(found: MemberFiles, disk: Disk, folder: str) -> list[str]:
    try:
        return list(disk.list(folder))
    except (FileNotFoundError, NotADirectoryError):
        found.missing.append(folder)
        return []

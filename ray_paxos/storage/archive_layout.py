"""What lies where in an archive, and what its names say.

```
<archive>/<cluster>/<cluster_id>/genesis.json                     whose archive it is
    <member>/group=<g>/log/<first>-<last>.parquet                 the member's segments, as they are
    <member>/group=<g>/checkpoints/<instance_id>/manifest.json    and its checkpoints
                                                 host.msgpack ...
```

Rules:

1. A file whose name begins with "_" is unfinished. Any other one was read back after it was
   written and before it got that name; of a checkpoint the manifest comes last, and goes first.
2. There is no index: a name says a segment's range, the file's own footer whose it is and which
   chain it continues. A range inside another one's is what was left of a merge, and counts not.
3. Each member writes in its own folder only. The members' files of one instance hold the same
   value, so any one will do.
4. Nothing goes from a log's archive but parts that a merged segment, verified there, has replaced.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from ray_paxos.core.checkpoint import MANIFEST
from ray_paxos.core.genesis import Genesis, decode_genesis
from ray_paxos.errors import DamageError, ForeignFolderError
from ray_paxos.storage.archive_files import UNFINISHED, ArchiveFiles
from ray_paxos.storage.checked_files import Fields, decode_fields, encode_fields

ARCHIVE_FORMAT = 1
GENESIS = "genesis.json"
GENESIS_BYTES_MAX = 16_000_000
LOG = "log"
CHECKPOINTS = "checkpoints"

_GROUP = "group="
_DIGITS = 16

Range = tuple[int, int]
"""First and last instance."""


def cluster_folder(genesis: Genesis) -> str:
    """Where a cluster's archive lies."""
    return f"{genesis.cluster}/{genesis.cluster_id}"


@dataclass(frozen=True, slots=True)
class ArchivedGroup:
    """Where one group of one member lies.

    Attributes:
        member: The member's name.
        group: Which group.
        folder: Of both, in the archive.
        suffix: Of segments' names.
    """

    member: str
    group: int
    folder: str
    suffix: str

    @property
    def log(self) -> str:
        """The folder of the segments."""
        return f"{self.folder}/{LOG}"

    @property
    def checkpoints(self) -> str:
        """The folder of the checkpoints."""
        return f"{self.folder}/{CHECKPOINTS}"

    def segment(self, first: int, last: int) -> str:
        """Path of a segment."""
        return f"{self.log}/{first:0{_DIGITS}}-{last:0{_DIGITS}}{self.suffix}"

    def checkpoint(self, instance_id: int) -> str:
        """Folder of a checkpoint."""
        return f"{self.checkpoints}/{instance_id:0{_DIGITS}}"

    def parse_segment(self, name: str) -> Range | None:
        """The range that a name gives; None where it is no segment's."""
        numbers = name.removesuffix(self.suffix).split("-")
        if len(numbers) == 2 and all(number.isdecimal() for number in numbers):
            first, last = int(numbers[0]), int(numbers[1])
            if 1 <= first <= last and self.segment(first, last).endswith(f"/{name}"):
                return first, last
        return None

    def parse_checkpoint(self, name: str) -> int | None:
        """The instance that a folder's name gives; None where it is no checkpoint's."""
        if name.isdecimal() and name == f"{int(name):0{_DIGITS}}":
            return int(name)
        return None


def member_group(genesis: Genesis, member: str, group: int, suffix: str) -> ArchivedGroup:
    """Where a member archives one group."""
    folder = f"{cluster_folder(genesis)}/{member}/{_GROUP}{group}"
    return ArchivedGroup(member, group, folder, suffix)


@dataclass(slots=True)
class GroupListing:
    """What the names of one group of one member say.

    Attributes:
        place: Which group, of whom.
        segments: Their sizes in bytes, by range.
        checkpoints: Instances of those that have a manifest, ascending.
        unfinished: Paths of files, and folders of checkpoints, that are not finished.
        unknown: Paths that are nothing of an archive.
    """

    place: ArchivedGroup
    segments: dict[Range, int] = field(default_factory=dict)
    checkpoints: list[int] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def list_group(files: ArchiveFiles, place: ArchivedGroup) -> GroupListing:
    """List one group of one member; raises StorageError."""
    listing = GroupListing(place)
    for name, size in files.list(place.log).items():
        path = f"{place.log}/{name}"
        found = place.parse_segment(name)
        if size is not None and found is not None:
            listing.segments[found] = size
        elif name.startswith(UNFINISHED):
            listing.unfinished.append(path)
        else:
            listing.unknown.append(path)
    for name, size in files.list(place.checkpoints).items():
        path = f"{place.checkpoints}/{name}"
        instance_id = place.parse_checkpoint(name)
        if size is not None or instance_id is None:
            listing.unknown.append(path)
        elif files.list(path).get(MANIFEST) is not None:
            listing.checkpoints.append(instance_id)
        else:
            listing.unfinished.append(path)
    listing.checkpoints.sort()
    return listing


def list_members(
    files: ArchiveFiles, genesis: Genesis, suffix: str
) -> tuple[list[ArchivedGroup], list[str]]:
    """Find all groups of all members that have anything in a cluster's archive.

    Returns:
        Where they lie, and paths that are nothing of an archive.

    Raises:
        StorageError: The archive refuses.
    """
    found: list[ArchivedGroup] = []
    unknown: list[str] = []
    root = cluster_folder(genesis)
    for member, size in sorted(files.list(root).items()):
        if member == GENESIS or member.startswith(UNFINISHED):
            continue
        if size is not None:
            unknown.append(f"{root}/{member}")
            continue
        for name, inner in sorted(files.list(f"{root}/{member}").items()):
            number = name.removeprefix(_GROUP)
            if inner is None and name.startswith(_GROUP) and number.isdecimal():
                folder = f"{root}/{member}/{name}"
                found.append(ArchivedGroup(member, int(number), folder, suffix))
            else:
                unknown.append(f"{root}/{member}/{name}")
    return found, unknown


def encode_archived_genesis(genesis: Genesis) -> bytes:
    """The file that says whose archive it is."""
    return encode_fields(_genesis_fields(genesis))


def read_archived_genesis(files: ArchiveFiles, folder: str) -> Genesis:
    """Whose archive lies in a folder.

    Raises:
        DamageError: The file is missing or damaged.
        ForeignFolderError: It lies in another cluster's folder.
        StorageError: The archive refuses.
    """
    path = f"{folder}/{GENESIS}"
    where = files.where(path)
    data = b""
    for chunk in files.chunks(path):
        data += chunk
        if len(data) > GENESIS_BYTES_MAX:
            raise DamageError(f"{where} is too long")
    fields = decode_fields(data, where)
    if fields.get("format") != ARCHIVE_FORMAT:
        message = f"{where}: format {fields.get('format')}; this release knows {ARCHIVE_FORMAT}"
        raise DamageError(message)
    try:
        genesis = decode_genesis(bytes.fromhex(str(fields["genesis"])))
    except (KeyError, ValueError, msgspec.DecodeError) as error:
        raise DamageError(f"{where}: not a genesis ({error})") from error
    if _genesis_fields(genesis) != fields:
        raise DamageError(f"{where}: its parts contradict each other")
    if folder != cluster_folder(genesis):
        raise ForeignFolderError(f"{where} is of cluster {cluster_folder(genesis)}: it was mislaid")
    return genesis


def _genesis_fields(genesis: Genesis) -> Fields:
    return {
        "format": ARCHIVE_FORMAT,
        "cluster": genesis.cluster,
        "cluster_id": genesis.cluster_id,
        "members": ", ".join(member.name for member in genesis.members),
        "groups": ", ".join(str(spec.group) for spec in genesis.groups),
        "genesis": genesis.encoded().hex(),
    }


def runs_of(ranges: Iterable[Range]) -> list[Range]:
    """The instances that ranges cover, as ranges that do not touch each other, ascending."""
    runs: list[Range] = []
    for first, last in sorted(ranges):
        if runs and first <= runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], max(runs[-1][1], last))
        else:
            runs.append((first, last))
    return runs


def is_covered(ranges: Mapping[Range, int], wanted: Range) -> bool:
    """Whether one of the ranges holds all of another one."""
    if wanted in ranges:
        return True
    ordered = sorted(ranges)
    at = bisect.bisect_right(ordered, (wanted[0], 1 << 62))
    return any(last >= wanted[1] for _, last in ordered[:at])


def kept_checkpoints(
    runs: Sequence[Range], instances: Sequence[int], newest: int
) -> frozenset[int]:
    """Which archived checkpoints have to stay.

    Args:
        runs: What the archived log holds.
        instances: The checkpoints, ascending.
        newest: So many of the last stay in any case.

    Returns:
        Those, and for each run that nothing leads to the first one from which it goes on: without
        it no instance of the run could be restored.
    """
    kept = set(instances[-newest:])
    for first, last in runs:
        if first > 1:
            leading = [i for i in instances if first - 1 <= i <= last]
            kept.update(leading[:1])
    return frozenset(kept)

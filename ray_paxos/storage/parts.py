"""The file that says which groups a member has: `learner/parts.json`.

The learner alone writes it, whole, whenever something changes; the member's other roles read it
when they open, and when the learner tells them that it has changed. It is made when the member's
folder is staged, and never by a restart: without it nobody knows which groups were here and which
have left, and an old order could bring one back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeAlias, TypeVar

import msgspec

from ray_paxos.core.genesis import Configuration, MemberSpec
from ray_paxos.core.parts import Part, PartRecord, Parts, PartTaken
from ray_paxos.core.role import Role
from ray_paxos.core.tasks import PartsOpened
from ray_paxos.errors import CheckpointError, DamageError, StorageError
from ray_paxos.storage.checked_files import Fields, read_fields, replace_fields
from ray_paxos.storage.disk import Disk
from ray_paxos.storage.identity import Identity, checkpointer_folder, log_folder, member_fields

PARTS = "learner/parts.json"

Opened = TypeVar("Opened")
PartOpener: TypeAlias = Callable[[Part], tuple[Opened, Callable[[int], Role]]]
"""Opens what one role has of a group: what its store works with, and what makes the role itself,
at a time of the process's clock. Raises CheckpointError and DamageError where it is damaged."""

_Saved = tuple[tuple[Part, ...], tuple[tuple[int, int], ...], tuple[MemberSpec, ...]]
Introduce: TypeAlias = Callable[[Iterable[MemberSpec]], None]
"""Takes the members outside the genesis that this one has met, in any process of the member."""
_decoder = msgspec.json.Decoder(_Saved)
_Left = tuple[tuple[int, Configuration], ...]
_left_decoder = msgspec.json.Decoder(_Left)


def read_parts(disk: Disk, identity: Identity) -> Parts:
    """Which groups a member has.

    Raises:
        DamageError: The file is missing, damaged, or another member's.
        OSError: The disk refuses.
    """
    where = disk.where(PARTS)
    try:
        fields = read_fields(disk, PARTS)
    except FileNotFoundError as error:
        raise DamageError(f"{where} is missing: nobody knows which groups are here") from error
    expected = member_fields(identity)
    if {name: fields.get(name) for name in expected} != expected:
        raise DamageError(f"{where}: of another member")
    try:
        parts, tombstones, joined = _decoder.decode(str(fields["parts"]))
        # Not there in a file that an earlier release has written; it ignores it in ours.
        left = _left_decoder.decode(str(fields.get("left", "[]")))
        version = int(fields["version"])
    except (KeyError, ValueError, msgspec.DecodeError) as error:
        raise DamageError(f"{where}: not a list of groups ({error})") from error
    names = {each.member_id: each.name for each in joined}
    held = {part.group: part for part in parts}
    return Parts(version, held, dict(tombstones), names, dict(left))


def write_parts(disk: Disk, identity: Identity, parts: Parts) -> None:
    """Say so from here on, durably.

    Raises:
        OSError: The disk refuses; what was said before stays.
    """
    ordered = tuple(parts.parts[group] for group in sorted(parts.parts))
    saved: _Saved = (ordered, tuple(sorted(parts.tombstones.items())), _joined(parts))
    fields: Fields = {
        **member_fields(identity),
        "version": parts.version,
        "parts": msgspec.json.encode(saved).decode(),
        "left": msgspec.json.encode(sorted(parts.left.items())).decode(),
    }
    replace_fields(disk, PARTS, fields)


def _joined(parts: Parts) -> tuple[MemberSpec, ...]:
    return tuple(MemberSpec(name, member_id) for member_id, name in sorted(parts.joined.items()))


class PartsFile:
    """The file of one member, as one of its roles sees it; used by the threads of its store.

    Invariants: of what is read and what is written the later one counts: a record that was applied
    is never undone by a thread that had read the file before.

    Attributes:
        parts: As read, or written, last.
    """

    def __init__(self, disk: Disk, identity: Identity, introduce: Introduce | None = None) -> None:
        """Read it.

        Args:
            disk: The member's folder.
            identity: Whose.
            introduce: Told whom the member has met, whenever the file was read or written.

        Raises:
            DamageError: As `read_parts`.
            OSError: The disk refuses.
        """
        self._disk = disk
        self._identity = identity
        self._introduce = introduce
        self._using = threading.Lock()
        self.parts = self.read()

    def read(self) -> Parts:
        """What it says by now; raises as `read_parts`."""
        with self._using:
            return self._take(read_parts(self._disk, self._identity))

    def _take(self, parts: Parts) -> Parts:
        self.parts = parts
        if self._introduce is not None:
            self._introduce(_joined(parts))
        return parts

    def apply(self, record: PartRecord) -> None:
        """Write what comes of a record, durably; for the learner alone.

        Raises:
            OSError: The disk refuses; nothing has changed.
        """
        with self._using:
            parts = self.parts.copy()
            parts.apply(record)
            if isinstance(record, PartTaken):
                # Before it counts: what is missing later was lost.
                self._disk.make_folder(log_folder(record.group))
                self._disk.make_folder(checkpointer_folder(record.group))
            write_parts(self._disk, self._identity, parts)
            self._take(parts)


class OpenParts(Generic[Opened]):
    """What one role has open of its member's groups.

    Attributes:
        groups: What its store works with, by group. Never changed, but replaced as a whole: threads
            of the store go through it while others come and go.
    """

    def __init__(
        self, parts: PartsFile, open_part: PartOpener[Opened], close_part: Callable[[int], None]
    ) -> None:
        """Have nothing open.

        Args:
            parts: Which groups there are.
            open_part: Opens one.
            close_part: Removes what one that was left has on the disk.
        """
        self.groups: Mapping[int, Opened] = {}
        self._parts = parts
        self._open_part = open_part
        self._close_part = close_part
        self._replicas: dict[int, int] = {}

    def open(self, part: Part) -> Callable[[int], Role]:
        """Open one.

        Raises:
            CheckpointError: Its checkpoints cannot be used.
            DamageError: Its log is damaged beyond what others can mend.
            StorageError: The disk refuses.
        """
        opened, make = self._open_part(part)
        self.groups = {**self.groups, part.group: opened}
        self._replicas[part.group] = part.replica_id
        return make

    def follow(self) -> PartsOpened:
        """Open what the member has by now, and let go of what it has left.

        What fails in one group stops no other: it is told, and tried again by the next call.

        Raises:
            DamageError: The file that says what there is is damaged.
            OSError: The disk refuses to read it.
        """
        parts = self._parts.read()
        failed: dict[int, str] = {}
        for group, replica_id in list(self._replicas.items()):
            part = parts.parts.get(group)
            if part is not None and part.replica_id == replica_id:
                continue
            try:
                if part is None:
                    self._close_part(group)
                del self._replicas[group]
                self.groups = {g: each for g, each in self.groups.items() if g != group}
            except (OSError, CheckpointError, StorageError) as error:
                failed[group] = f"what it had on the disk cannot be removed: {error}"
        made: dict[int, Callable[[int], Role]] = {}
        for group, part in parts.parts.items():
            if group in self._replicas:
                continue
            try:
                made[group] = self.open(part)
            except (OSError, CheckpointError, StorageError) as error:
                failed[group] = str(error)
        return PartsOpened(parts.version, frozenset(parts.parts), made, failed)


def held_groups(disk: Disk, identity: Identity) -> tuple[int, ...]:
    """The groups that a member has, ascending; for those who look into its folder.

    Where the file that says so is damaged, those of the genesis.

    Raises:
        OSError: The disk refuses.
    """
    try:
        return tuple(sorted(read_parts(disk, identity).parts))
    except DamageError:
        return identity.groups

"""Which files of which member were damaged on purpose, and what a member holds without them.

A file is known by its content, not by its name: whatever is damaged stays so where it is moved to,
and a file that takes its place is whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from ray_paxos.core.checkpoint import MANIFEST
from ray_paxos.storage.identity import checkpointer_folder, log_folder
from ray_paxos.testing.disk import SimulatedDisk


@dataclass(frozen=True)
class HeldFile:
    """A file of the log, or of a checkpoint, of one group.

    Attributes:
        path: Where it is.
        first: Its first instance; 0 for a checkpoint.
        last: Its last instance, or the checkpoint's.
    """

    path: str
    first: int
    last: int


def held_files(disk: SimulatedDisk, group: int) -> Iterator[HeldFile]:
    """All published files of a group, whoever sees them, damaged or not."""
    log, checkpoints = log_folder(group), checkpointer_folder(group)
    published: set[str] = set()
    for path in disk.paths():
        folder, _, name = path.rpartition("/")
        if folder == log and not name.startswith("_"):
            first, _, last = name.partition(".")[0].partition("-")
            yield HeldFile(path, int(first), int(last))
        elif name == MANIFEST and folder.startswith(f"{checkpoints}/"):
            published.add(folder)
    for path in disk.paths():
        if not path.startswith(f"{checkpoints}/"):
            continue
        above = "/".join(path.split("/")[:3])
        if above in published and above.rpartition("/")[2].isdecimal():
            yield HeldFile(path, 0, int(above.rpartition("/")[2]))


class MemberDamage:
    """What was damaged at one member, by no fault of the code.

    Attributes:
        segments: (group, first, last) of each segment that ever was.
        checkpoints: (group, instance) of each checkpoint that ever was.
    """

    def __init__(self, disk: SimulatedDisk) -> None:
        """Nothing is damaged."""
        self.segments: set[tuple[int, int, int]] = set()
        self.checkpoints: set[tuple[int, int]] = set()
        self._disk = disk
        self._contents: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._contents)

    def spoil(self, group: int, file: HeldFile, random: Random) -> str:
        """Flip a bit of a file, or cut its end off; says what was done."""
        size = self._disk.size(file.path)
        if size and random.random() < 0.7:
            bit = random.randrange(8 * size)
            self._disk.flip_bit(file.path, bit)
            what = f"bit {bit} flipped"
        elif size:
            kept = random.randrange(size)
            self._disk.overwrite(file.path, self._disk.read(file.path, 0, kept))
            what = f"cut to {kept} of {size} bytes"
        else:
            self._disk.overwrite(file.path, b"\0")
            what = "not empty any more"
        self.note(group, file)
        return f"{file.path}: {what}"

    def note(self, group: int, file: HeldFile) -> None:
        """A file was damaged."""
        self._contents.add(self._disk.content_number(file.path))
        if file.first:
            self.segments.add((group, file.first, file.last))
        else:
            self.checkpoints.add((group, file.last))

    def left(self, group: int) -> list[str]:
        """Damaged files that are in use still."""
        return [file.path for file in held_files(self._disk, group) if self._is_damaged(file)]

    def _is_damaged(self, file: HeldFile) -> bool:
        return self._disk.content_number(file.path) in self._contents

    def reach(self, group: int, *, whole: bool = False, durable: bool = False) -> int:
        """Through which instance the files of a group hold everything, without a gap.

        Args:
            group: Whose.
            whole: Count only what was not damaged.
            durable: Count only what a loss of power leaves in its place.
        """
        bases, segments, damaged = {0}, [], set()
        for file in held_files(self._disk, group):
            is_lost = (whole and self._is_damaged(file)) or (
                durable and not self._disk.is_durable(file.path)
            )
            if not file.first:
                bases.add(file.last)
                if is_lost:
                    damaged.add(file.last)
            elif not is_lost:
                segments.append(file)
        # The newest is what a member goes on from.
        through = max(bases - damaged)
        for segment in sorted(segments, key=lambda file: file.first):
            if segment.first <= through + 1:
                through = max(through, segment.last)
        return through

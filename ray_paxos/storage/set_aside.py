"""Where files of a log go that are not served: damaged ones, and those behind a hole.

```
learner/set_aside/group=<g>/damaged-<name>    not what was written, or not a segment at all
learner/set_aside/group=<g>/<name>            sound, but something before it is missing
```

Nothing is read from here. A sound file goes once the log holds its instances again, fetched from
another member; until then it may be the only copy, for a person to use. Of the damaged ones the
last few stay, for whoever wants to know what became of them.
"""

from __future__ import annotations

from ray_paxos.errors import DamageError
from ray_paxos.storage.disk import Disk
from ray_paxos.storage.segments import SegmentPlace

DAMAGED = "damaged-"
DAMAGED_MAX = 4


class SetAside:
    """The files of one group that were set aside."""

    def __init__(self, place: SegmentPlace) -> None:
        """Touch nothing yet."""
        self._place = place
        self._folder = set_aside_folder(place)

    def put(self, path: str, *, is_damaged: bool) -> None:
        """Take a file out of the log; durable once the log's folder is synced.

        Args:
            path: Where it lies.
            is_damaged: Whether the file itself is.

        Raises:
            OSError: The disk refuses.
        """
        disk: Disk = self._place.disk
        disk.make_folder(self._folder)
        name = path.rpartition("/")[2]
        if is_damaged:
            name = f"{DAMAGED}{name}"
            for old in self._damaged()[: -(DAMAGED_MAX - 1)]:
                disk.unlink(f"{self._folder}/{old}")
        disk.rename(path, f"{self._folder}/{name}")

    def clean(self, through: int) -> None:
        """Remove sound files whose instances are held again: all up to that one are."""
        disk = self._place.disk
        if not disk.exists(self._folder):
            return
        for name in disk.list(self._folder):
            if name.startswith(DAMAGED):
                continue
            try:
                _, last = self._place.parse(name)
            except DamageError:
                continue
            if last <= through:
                disk.unlink(f"{self._folder}/{name}")

    def paths(self) -> tuple[str, ...]:
        """Those that are there, for a person."""
        disk = self._place.disk
        if not disk.exists(self._folder):
            return ()
        return tuple(
            disk.where(f"{self._folder}/{name}") for name in sorted(disk.list(self._folder))
        )

    def _damaged(self) -> list[str]:
        names = self._place.disk.list(self._folder)
        return [name for name in names if name.startswith(DAMAGED)]


def set_aside_folder(place: SegmentPlace) -> str:
    """Where a group's files are set aside."""
    return aside_folder(place.group)


def aside_folder(group: int) -> str:
    """As `set_aside_folder`, by the group's number."""
    return f"learner/set_aside/group={group}"

"""The chosen log of a group: segments, found by their names and footers alone.

```
learner/log/group=<g>/<first>-<last>.parquet         published, immutable
learner/log/group=<g>/_<first>-<last>.parquet        being sealed
checkpointer/group=<g>/_<first>-<last>.parquet       being merged
checkpointer/group=<g>/merged-<first>-<last>.parquet merged, synced and read back
```

Rules:

1. A file is written under a name with "_", synced, renamed, and its folder synced: a published
   segment is whole, and is durable once its folder is.
2. The Learner alone renames and deletes in `log/` (`SegmentFolder`); the Checkpointer only reads
   there (`SegmentReader`), and may find that files go while it reads: their content is then in a
   merged one.
3. A merged segment is put beside its parts, durably, before they go. So after a crash a range
   inside another file's range is what is left of a merge, and is ignored. Any other overlap, a
   hole, a foreign file, a chain that does not continue: damage, which names the file.
4. Nothing read is given out before the whole file agreed with its checksum and the values with
   the chain.
5. A log begins at its floor, which rises as it is cleaned. Whether all below it is rightly gone
   is for the own checkpoints to say: `SegmentFolder.open` holds it against them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ray_paxos.core.learner_messages import ChosenValue
from ray_paxos.core.records import SealedInstance
from ray_paxos.core.values import EMPTY_CHAIN
from ray_paxos.errors import DamageError
from ray_paxos.storage.disk import Disk
from ray_paxos.storage.segment_format import (
    SegmentCodec,
    SegmentContent,
    SegmentHeader,
    read_instances,
)

UNFINISHED = "_"
MERGED = "merged-"

_DIGITS = 16
_LISTINGS_MAX = 5


@dataclass(frozen=True, slots=True)
class SegmentPlace:
    """Where one group's segments lie, and how they are read.

    Attributes:
        disk: The member's disk.
        codec: The file format.
        genesis: Hash of the cluster's genesis.
        group: Whose log.
        log: Folder of the published ones.
        work: The checkpointer's folder.
    """

    disk: Disk
    codec: SegmentCodec
    genesis: bytes
    group: int
    log: str
    work: str

    def name(self, first: int, last: int) -> str:
        """The name of a segment's file."""
        return f"{first:0{_DIGITS}}-{last:0{_DIGITS}}{self.codec.suffix}"

    def published(self, first: int, last: int) -> str:
        """Path of a published segment."""
        return f"{self.log}/{self.name(first, last)}"

    def merged(self, first: int, last: int) -> str:
        """Path of a merged segment that waits to be published."""
        return f"{self.work}/{MERGED}{self.name(first, last)}"

    def parse(self, name: str) -> tuple[int, int]:
        """The range that a published file's name gives.

        Raises:
            DamageError: It is no name of a segment: one may have been changed or mislaid.
        """
        numbers = name.removesuffix(self.codec.suffix).split("-")
        if len(numbers) == 2 and all(number.isdecimal() for number in numbers):
            first, last = int(numbers[0]), int(numbers[1])
            if 1 <= first <= last and name == self.name(first, last):
                return first, last
        raise DamageError(f"{self.disk.where(f'{self.log}/{name}')} is no segment of the log")


@dataclass(frozen=True, slots=True)
class Segment:
    """One published segment."""

    path: str
    header: SegmentHeader

    @property
    def first(self) -> int:
        """Its first instance."""
        return self.header.first

    @property
    def last(self) -> int:
        """Its last instance."""
        return self.header.last


class SegmentReader:
    """Reads a group's published segments, also while its learner changes them.

    Invariants: `segments` adjoin each other from the floor on; every one was there when they were
    last listed.
    """

    def __init__(self, place: SegmentPlace) -> None:
        """Know of no segments until `refresh`."""
        self._place = place
        self._headers: dict[str, SegmentHeader] = {}
        self._content: tuple[str, SegmentContent] | None = None
        self.segments: tuple[Segment, ...] = ()

    @property
    def last(self) -> int:
        """The last instance in the log; 0 where it is empty."""
        return self.segments[-1].last if self.segments else 0

    @property
    def floor(self) -> int:
        """The lowest instance in the log; 1 where it is empty."""
        return self.segments[0].first if self.segments else 1

    def refresh(self) -> tuple[Segment, ...]:
        """List the segments anew.

        Returns:
            Those that lie inside others, and are ignored.

        Raises:
            DamageError: They do not add up to one log.
        """
        damage: DamageError | FileNotFoundError | None = None
        for _ in range(_LISTINGS_MAX):
            # Listing is not atomic: while the learner publishes a merged segment a listing may
            # show neither it nor its parts, or a part that is gone when it is read. Without the
            # first ones it would look as if they had been cleaned away.
            names = self.names()
            try:
                found = [self.look_at(name) for name in names]
                segments, covered = arrange(self._place, found)
            except (DamageError, FileNotFoundError) as error:
                damage = error
                continue
            self.segments = segments
            self._headers = {segment.path: segment.header for segment in found}
            if self.names() == names:
                return covered
            damage = None
        if damage is None:
            return covered
        if isinstance(damage, DamageError):
            raise damage
        raise DamageError(f"{self._place.disk.where(self._place.log)}: {damage}") from damage

    def instances(self, first: int, last: int) -> Iterator[SealedInstance]:
        """The instances of a range that the segments hold, in order, verified.

        Args:
            first: The first one wanted; at or above the floor.
            last: The last one wanted.

        Raises:
            DamageError: A segment is not what was sealed, or the floor has passed what is wanted.
        """
        wanted = first
        misses = 0
        while wanted <= min(last, self.last):
            if wanted < self.floor:
                where = self._place.disk.where(self._place.log)
                raise DamageError(f"{where}: instance {wanted} is below the floor {self.floor}")
            segment = next(s for s in self.segments if s.first <= wanted <= s.last)
            try:
                content = self._open(segment)
            except FileNotFoundError as error:
                misses += 1
                if misses > _LISTINGS_MAX:
                    where = self._place.disk.where(segment.path)
                    raise DamageError(f"{where} is missing") from error
                self.refresh()
                continue
            where = self._place.disk.where(segment.path)
            for instance in read_instances(content, wanted, where):
                if instance.chosen.instance_id > last:
                    return
                wanted = instance.chosen.instance_id + 1
                yield instance

    def read(self, from_instance: int, bytes_max: int) -> list[ChosenValue]:
        """Chosen values from one instance on: as many as fit, and at least one.

        Returns:
            Contiguous values; none where the log does not reach so far, or begins above.

        Raises:
            DamageError: A segment is not what was sealed; nothing of it is given out.
        """
        if not self._is_listed(from_instance):
            self.refresh()
        values: list[ChosenValue] = []
        byte_count = 0
        if from_instance < self.floor:
            return values
        for instance in self.instances(from_instance, self.last):
            byte_count += len(instance.chosen.value)
            if values and byte_count > bytes_max:
                break
            values.append(instance.chosen)
        return values

    def _is_listed(self, instance_id: int) -> bool:
        """Whether the segments as last listed hold an instance, and its file is still there."""
        found = (s.path for s in self.segments if s.first <= instance_id <= s.last)
        return any(self._place.disk.exists(path) for path in found)

    def chain(self, instance_id: int) -> bytes | None:
        """The value chain after an instance; None where the log does not hold it.

        Raises:
            DamageError: Its segment is not what was sealed.
        """
        if not self.floor - 1 <= instance_id <= self.last:
            self.refresh()
        for segment in self.segments:
            if instance_id == segment.first - 1:
                return segment.header.chain_before
            if instance_id == segment.last:
                return segment.header.chain_after
            if segment.first <= instance_id < segment.last:
                # The file may have gone since it was listed, and nothing have taken its place.
                found = next(self.instances(instance_id, instance_id), None)
                return found.chain if found is not None else None
        return None

    def forget_content(self) -> None:
        """Drop what is kept in memory of the file read last."""
        self._content = None

    def names(self) -> list[str]:
        """Of all files in the log that are not being written.

        Raises:
            DamageError: Its folder is missing.
        """
        place = self._place
        try:
            names = place.disk.list(place.log)
        except FileNotFoundError as error:
            message = f"{place.disk.where(place.log)} is missing; it is never made anew"
            raise DamageError(message) from error
        return [name for name in names if not name.startswith(UNFINISHED)]

    def look_at(self, name: str) -> Segment:
        """What a file's name and footer say.

        Raises:
            DamageError: They are not those of a segment of this log, or contradict each other.
            FileNotFoundError: No such file.
        """
        place = self._place
        path = f"{place.log}/{name}"
        header = self._headers.get(path)
        if header is None:
            first, last = place.parse(name)
            header = read_header(place, path)
            if (header.first, header.last) != (first, last):
                where = place.disk.where(path)
                raise DamageError(f"{where} holds instances {header.first} to {header.last}")
        return Segment(path, header)

    def _open(self, segment: Segment) -> SegmentContent:
        if self._content is not None and self._content[0] == segment.path:
            return self._content[1]
        self._content = None
        content = open_segment(self._place, segment.path)
        if content.header != segment.header:
            where = self._place.disk.where(segment.path)
            raise DamageError(f"{where} is not the file that was listed")
        self._content = (segment.path, content)
        return content


def arrange(
    place: SegmentPlace, found: Sequence[Segment]
) -> tuple[tuple[Segment, ...], tuple[Segment, ...]]:
    """Make one log of the segments found.

    Returns:
        Those that make up the log, in order; and those that lie inside them.

    Raises:
        DamageError: A hole, an overlap, or a chain that does not continue.
    """
    runs, covered, problems = find_runs(place, found)
    if problems:
        raise DamageError(problems[0])
    return (runs[0] if runs else ()), covered


def find_runs(
    place: SegmentPlace, found: Sequence[Segment]
) -> tuple[list[tuple[Segment, ...]], tuple[Segment, ...], list[str]]:
    """Find what of the segments belongs together.

    Returns:
        Runs of segments that adjoin each other, ascending; those that lie inside others; and what
        is wrong, where there is more than one run, or something contradicts it.
    """
    runs: list[list[Segment]] = []
    covered: list[Segment] = []
    problems: list[str] = []
    for segment in sorted(found, key=lambda s: (s.first, -s.last)):
        where = place.disk.where(segment.path)
        before = runs[-1][-1] if runs else None
        if before is None:
            if segment.first == 1 and segment.header.chain_before != EMPTY_CHAIN:
                problems.append(f"{where} does not begin with an empty chain")
            runs.append([segment])
        elif segment.last <= before.last:
            covered.append(segment)
        elif segment.first == before.last + 1:
            if segment.header.chain_before == before.header.chain_after:
                runs[-1].append(segment)
            else:
                problems.append(f"{where} does not continue the segment before it")
                runs.append([segment])
        elif segment.first <= before.last:
            problems.append(f"{where} overlaps {place.disk.where(before.path)}")
            runs.append([segment])
        else:
            hole = f"instances {before.last + 1} to {segment.first - 1} are missing"
            problems.append(f"{where}: {hole} before it")
            runs.append([segment])
    return [tuple(run) for run in runs], tuple(covered), problems


def read_header(place: SegmentPlace, path: str) -> SegmentHeader:
    """What a segment's footer says.

    Raises:
        DamageError: It is damaged, or of another cluster or group.
        FileNotFoundError: No such file.
    """
    disk, where = place.disk, place.disk.where(path)
    size = disk.size(path)
    tail = functools.partial(_read_tail, disk, path, size)
    header = place.codec.read_header(tail, where)
    _check_owner(place, header, where)
    return header


def open_segment(place: SegmentPlace, path: str) -> SegmentContent:
    """Read a whole file and compare it with its checksums.

    Raises:
        DamageError: It is not what was written, or of another cluster or group.
        FileNotFoundError: No such file.
    """
    where = place.disk.where(path)
    content = place.codec.open(place.disk.read(path), where)
    _check_owner(place, content.header, where)
    return content


def _check_owner(place: SegmentPlace, header: SegmentHeader, where: str) -> None:
    if header.genesis != place.genesis:
        raise DamageError(f"{where} is a segment of another cluster")
    if header.group != place.group:
        raise DamageError(f"{where} is a segment of group {header.group}")


def _read_tail(disk: Disk, path: str, size: int, byte_count: int) -> bytes:
    start = max(0, size - byte_count)
    return disk.read(path, start, size - start)
